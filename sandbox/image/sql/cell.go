package main

import (
	"fmt"
	"strings"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// A cell runs statements and shows what each of them gives.
type cell struct {
	engine *engine
	show   func(event)
	// raw, where it is set, takes the results instead, see columns.go.
	raw  func(*duckdb.Result) error
	code string
}

// changes says what became of rows, by the kind of the statement.
var changes = map[duckdb.StatementType]string{
	duckdb.StatementTypeInsert: "inserted",
	duckdb.StatementTypeUpdate: "updated",
	duckdb.StatementTypeDelete: "deleted",
	duckdb.StatementTypeCopy:   "copied",
}

// run runs all statements of the code, up to the first that fails.
func (c *cell) run(code string) *fault {
	c.code = code
	conn := c.engine.conn
	var statements duckdb.ExtractedStatements
	count := duckdb.ExtractStatements(conn, code, &statements)
	defer duckdb.DestroyExtracted(&statements)
	if count == 0 {
		if message := duckdb.ExtractStatementsError(statements); message != "" {
			return c.fault(message)
		}
		return nil // nothing but comments
	}
	for i := range count {
		if c.engine.stopping.Load() {
			return &fault{Name: "Interrupted", Value: "the statements from here on were not run"}
		}
		var prepared duckdb.PreparedStatement
		state := duckdb.PrepareExtractedStatement(conn, statements, i, &prepared)
		f := c.statement(prepared, state)
		duckdb.DestroyPrepare(&prepared)
		if f != nil {
			return f
		}
	}
	return nil
}

func (c *cell) statement(prepared duckdb.PreparedStatement, state duckdb.State) *fault {
	if state == duckdb.StateError {
		return c.fault(duckdb.PrepareError(prepared))
	}
	var pending duckdb.PendingResult
	state = duckdb.PendingPreparedStreaming(prepared, &pending)
	defer duckdb.DestroyPending(&pending)
	if state == duckdb.StateError {
		return c.fault(duckdb.PendingError(pending))
	}
	var result duckdb.Result
	state = duckdb.ExecutePending(pending, &result)
	defer duckdb.DestroyResult(&result)
	if state == duckdb.StateError {
		return c.fault(duckdb.ResultError(&result))
	}
	kind := duckdb.PreparedStatementType(prepared)
	switch duckdb.ResultReturnType(result) {
	case duckdb.ResultTypeChangedRows:
		changed := int64(duckdb.RowsChanged(&result))
		c.show(event{Text: fmt.Sprintf("%s %s\n", plural(changed, "row"), changes[kind])})
	case duckdb.ResultTypeQueryResult:
		return c.rows(&result, kind)
	}
	return nil
}

// rows reads a whole result, to know its size, and shows its beginning.
func (c *cell) rows(result *duckdb.Result, kind duckdb.StatementType) *fault {
	if c.raw != nil {
		if err := c.raw(result); err != nil {
			return &fault{Name: "IOError", Value: err.Error()}
		}
		return nil
	}
	sample, err := readSample(result)
	defer sample.close()
	if err != "" {
		return c.fault(err)
	}
	t, err := c.engine.texts(sample)
	if err != "" {
		return c.fault(err)
	}
	if kind == duckdb.StatementTypeExplain {
		// A drawing in one field.
		for _, row := range t.rows {
			c.show(event{Text: strings.TrimRight(row[len(row)-1].text, "\n") + "\n"})
		}
		return nil
	}
	c.show(event{Data: map[string]any{"text/plain": t.text(), "text/html": t.html(), tableMIME: t.data()}})
	return nil
}

// plural is a number of things, in words.
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}

// grouped writes a number with commas: 1,234,567.
func grouped(n int64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
