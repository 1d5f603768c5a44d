package main

import (
	"encoding/json"
	"strconv"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// tableMIME is a table for programs: the agent's languages/python/tables.py
// has what is in it.
const tableMIME = "application/vnd.threadbook.table+json"

const (
	maxText     = 200     // characters of a value
	maxExactInt = 1 << 53 // integers over that aren't the same everywhere
)

type tableData struct {
	Columns []columnHeader `json:"columns"`
	Rows    [][]any        `json:"rows"`
	Shape   [2]int64       `json:"shape"`
}

// data is the table with its values as what they are.
func (t *table) data() tableData {
	d := tableData{Rows: [][]any{}, Shape: [2]int64{t.total, int64(t.columns)}}
	for i, name := range t.names {
		d.Columns = append(d.Columns, columnHeader{clipped(name), dataType(t.types[i])})
	}
	for _, row := range t.rows {
		values := make([]any, len(row))
		for i, v := range row {
			values[i] = v.data(t.types[i])
		}
		d.Rows = append(d.Rows, values)
	}
	return d
}

func (v value) data(kind duckdb.Type) any {
	if v.null {
		return nil
	}
	switch dataType(kind) {
	case "boolean":
		return v.text == "true"
	case "integer":
		n, err := strconv.ParseInt(v.text, 10, 64)
		if err == nil && -maxExactInt <= n && n <= maxExactInt {
			return n
		}
	case "number":
		if json.Valid([]byte(v.text)) { // which infinity isn't
			return json.Number(v.text)
		}
		if v.text == "nan" {
			return nil
		}
	}
	return clipped(v.text)
}

func dataType(kind duckdb.Type) string {
	switch kind {
	case duckdb.TypeTinyInt, duckdb.TypeSmallInt, duckdb.TypeInteger, duckdb.TypeBigInt, duckdb.TypeHugeInt,
		duckdb.TypeUTinyInt, duckdb.TypeUSmallInt, duckdb.TypeUInteger, duckdb.TypeUBigInt, duckdb.TypeUHugeInt:
		return "integer"
	case duckdb.TypeFloat, duckdb.TypeDouble, duckdb.TypeDecimal:
		return "number"
	case duckdb.TypeBoolean:
		return "boolean"
	case duckdb.TypeVarchar, duckdb.TypeEnum, duckdb.TypeUUID:
		return "string"
	case duckdb.TypeDate, duckdb.TypeTimestamp, duckdb.TypeTimestampS, duckdb.TypeTimestampMS,
		duckdb.TypeTimestampNS, duckdb.TypeTimestampTZ:
		return "date"
	case duckdb.TypeInterval:
		return "duration"
	}
	return "other"
}

// clipped is a text that is not too long for a cell of a table in a chat.
func clipped(s string) string {
	runes := []rune(s)
	if len(runes) <= maxText {
		return s
	}
	return string(runes[:maxText-1]) + "…"
}
