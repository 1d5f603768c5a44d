package main

import (
	"bytes"
	"strings"
	"testing"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// columnsOfQuery is what a query gives, as columns.
func (b *bench) columnsOfQuery(t *testing.T, query string) []byte {
	t.Helper()
	var out bytes.Buffer
	c := cell{engine: b.engine, show: func(event) {}, raw: func(r *duckdb.Result) error { return writeColumns(&out, r) }}
	if f := c.run(query); f != nil {
		t.Fatal(f.Traceback)
	}
	return out.Bytes()
}

func TestColumnsComeBackAsTheyWere(t *testing.T) {
	b := newBench(t, nil)
	var columns []string
	for _, kind := range columnTypes {
		value := "n"
		switch kind.name {
		case "DATE":
			value = "DATE '2024-01-02' + n::INT"
		case "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE":
			value = "TIMESTAMP '2024-01-02 03:04:05' + INTERVAL 1 DAY * n::INT"
		case "VARCHAR", "BLOB":
			value = "repeat('x', n::INT)"
		}
		value = "(" + value + ")::" + kind.name
		columns = append(columns, "CASE WHEN n % 3 > 0 THEN "+value+" END, "+value)
	}
	code := "SELECT " + strings.Join(columns, ", ") + " FROM (SELECT range % 100 AS n FROM range(5000))"
	sent := b.columnsOfQuery(t, code)
	if err := b.registerInput(bytes.NewReader(sent)); err != nil {
		t.Fatal(err)
	}
	if got := b.columnsOfQuery(t, "FROM threadbook_input()"); !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, other ones", len(got), len(sent))
	}
	if f := b.run("FROM threadbook_input()"); f == nil || !strings.Contains(f.Value, "once") {
		t.Errorf("fault %+v", f)
	}
}

func TestColumnsOfOtherTypesAreRefused(t *testing.T) {
	b := newBench(t, nil)
	var out bytes.Buffer
	c := cell{engine: b.engine, raw: func(r *duckdb.Result) error { return writeColumns(&out, r) }}
	if f := c.run("SELECT [1] AS list"); f == nil || f.Value != "column list: cast it first" {
		t.Errorf("fault %+v", f)
	}
}

func TestBrokenColumnsAreAnError(t *testing.T) {
	for name, sent := range map[string]string{
		"Nothing":  "",
		"NoHeader": "what?\n",
		"NoType":   `{"columns":[{"name":"a","type":"NOSUCH"}]}` + "\n",
		"CutOff":   `{"columns":[{"name":"a","type":"BIGINT"}]}` + "\n\x02\x00\x00\x00\x00\x01",
		"TooMany":  `{"columns":[{"name":"a","type":"BIGINT"}]}` + "\n\xff\xff\xff\xff",
		"NoEnd":    `{"columns":[{"name":"a","type":"TINYINT"}]}` + "\n\x01\x00\x00\x00\x00\x01",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			if err := b.registerInput(strings.NewReader(sent)); err != nil {
				t.Fatal(err)
			}
			if f := b.run("FROM threadbook_input()"); f == nil {
				t.Error("it succeeded")
			}
		})
	}
}
