package main

/*
typedef void (*threadbook_info_t)(void *);
typedef void (*threadbook_function_t)(void *, void *);
void threadbook_shown_bind(void *);
void threadbook_shown_fill(void *, void *);
*/
import "C"

import (
	"fmt"
	"strings"
	"unsafe"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

const (
	maxRows    = 50        // of a result that are shown
	maxColumns = 50        // likewise
	maxValue   = 2_000     // characters of a value
	maxAll     = 128 << 10 // characters of all values, so that they fit a line of the agent's
)

// A sample is the first rows of a result and the size of all of it. The rows
// are in chunks of DuckDB's, as they came.
type sample struct {
	names   []string
	types   []duckdb.LogicalType
	chunks  []duckdb.DataChunk
	rows    int64 // of the whole result
	columns int
	next    int // the chunk that threadbook_shown_fill gives out next
}

// readSample reads a result to its end.
func readSample(result *duckdb.Result) (*sample, string) {
	s := &sample{columns: int(duckdb.ColumnCount(result))}
	for i := range duckdb.IdxT(min(s.columns, maxColumns)) {
		s.names = append(s.names, duckdb.ColumnName(result, i))
		s.types = append(s.types, duckdb.ColumnLogicalType(result, i))
	}
	for {
		chunk := duckdb.FetchChunk(*result)
		if chunk.Ptr == nil {
			return s, duckdb.ResultError(result)
		}
		before := s.rows
		s.rows += int64(duckdb.DataChunkGetSize(chunk))
		if before >= maxRows {
			duckdb.DestroyDataChunk(&chunk)
			continue
		}
		duckdb.DataChunkSetSize(chunk, min(duckdb.DataChunkGetSize(chunk), duckdb.IdxT(maxRows-before)))
		s.chunks = append(s.chunks, chunk)
	}
}

func (s *sample) close() {
	for i := range s.types {
		duckdb.DestroyLogicalType(&s.types[i])
	}
	for i := range s.chunks {
		duckdb.DestroyDataChunk(&s.chunks[i])
	}
}

// texts has DuckDB write the values of a sample. It has some forty types,
// nested ones too, and nobody writes them as text better: the rows go back into
// it, as the table that threadbook_shown() gives, to be cast there.
func (e *engine) texts(s *sample) (*table, string) {
	t := &table{names: s.names, total: s.rows, columns: s.columns}
	for _, kind := range s.types {
		t.types = append(t.types, duckdb.GetTypeId(kind))
	}
	if len(s.chunks) == 0 {
		return t, ""
	}
	e.shown = s
	defer func() { e.shown = nil }()
	most := min(maxValue, maxAll/(maxRows*len(s.types)))
	casts := make([]string, len(s.types))
	for i := range casts {
		casts[i] = fmt.Sprintf("left(c%d::VARCHAR, %d)", i, most)
	}
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	query := "SELECT " + strings.Join(casts, ", ") + " FROM threadbook_shown()"
	if duckdb.Query(e.own, query, &result) == duckdb.StateError {
		return nil, duckdb.ResultError(&result)
	}
	for {
		chunk := duckdb.FetchChunk(result)
		if chunk.Ptr == nil {
			return t, ""
		}
		for row := range duckdb.DataChunkGetSize(chunk) {
			values := make([]value, len(casts))
			for column := range values {
				values[column] = stringAt(duckdb.DataChunkGetVector(chunk, duckdb.IdxT(column)), row)
			}
			t.rows = append(t.rows, values)
		}
		duckdb.DestroyDataChunk(&chunk)
	}
}

// stringAt reads a value of a vector of strings.
func stringAt(vector duckdb.Vector, row duckdb.IdxT) value {
	validity := duckdb.VectorGetValidity(vector)
	if validity != nil && !duckdb.ValidityRowIsValid(validity, row) {
		return value{null: true}
	}
	data := (*duckdb.StringT)(duckdb.VectorGetData(vector))
	at := unsafe.Slice(data, row+1)
	return value{text: duckdb.StringTData(&at[row])}
}

// registerShown makes threadbook_shown() known to DuckDB.
func (e *engine) registerShown() error {
	return e.registerTable("threadbook_shown",
		unsafe.Pointer(C.threadbook_info_t(C.threadbook_shown_bind)),
		unsafe.Pointer(C.threadbook_function_t(C.threadbook_shown_fill)))
}

//export threadbook_shown_bind
func threadbook_shown_bind(infoPtr unsafe.Pointer) {
	info := duckdb.BindInfo{Ptr: infoPtr}
	shown := engineOf(duckdb.BindGetExtraInfo(info)).shown
	if shown == nil {
		duckdb.BindSetError(info, "threadbook_shown is not for cells")
		return
	}
	for i, kind := range shown.types {
		duckdb.BindAddResultColumn(info, fmt.Sprintf("c%d", i), kind)
	}
}

//export threadbook_shown_fill
func threadbook_shown_fill(infoPtr, outPtr unsafe.Pointer) {
	shown := engineOf(duckdb.FunctionGetExtraInfo(duckdb.FunctionInfo{Ptr: infoPtr})).shown
	out := duckdb.DataChunk{Ptr: outPtr}
	if shown.next == len(shown.chunks) {
		duckdb.DataChunkSetSize(out, 0)
		return
	}
	chunk := shown.chunks[shown.next]
	shown.next++
	for i := range duckdb.IdxT(len(shown.types)) {
		duckdb.VectorReferenceVector(duckdb.DataChunkGetVector(out, i), duckdb.DataChunkGetVector(chunk, i))
	}
	duckdb.DataChunkSetSize(out, duckdb.DataChunkGetSize(chunk))
}
