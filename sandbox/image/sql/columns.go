package main

/*
typedef void (*threadbook_info_t)(void *);
typedef void (*threadbook_function_t)(void *, void *);
void threadbook_input_bind(void *);
void threadbook_input_fill(void *, void *);
*/
import "C"

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unsafe"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// Columns are how whole tables go to and from Python, for pandas to read and
// write Parquet with: exact, and as fast as memory. A line of JSON names the
// columns and their types. Then come blocks of rows: their number, in 32 bits,
// and for each column whether there are NULLs in it (a byte) and if so which
// rows are not (a byte each), then the values. These are of a fixed width, as
// in memory, or strings: their lengths in 32 bits each, then their bytes. A
// block of no rows is the end. All is little-endian.
type header struct {
	Columns []columnHeader `json:"columns"`
}

type columnHeader struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// columnTypes are the types that a column can have.
var columnTypes = []struct {
	name  string
	kind  duckdb.Type
	width int // bytes of a value, 0 for strings
}{
	{"BOOLEAN", duckdb.TypeBoolean, 1},
	{"TINYINT", duckdb.TypeTinyInt, 1},
	{"SMALLINT", duckdb.TypeSmallInt, 2},
	{"INTEGER", duckdb.TypeInteger, 4},
	{"BIGINT", duckdb.TypeBigInt, 8},
	{"UTINYINT", duckdb.TypeUTinyInt, 1},
	{"USMALLINT", duckdb.TypeUSmallInt, 2},
	{"UINTEGER", duckdb.TypeUInteger, 4},
	{"UBIGINT", duckdb.TypeUBigInt, 8},
	{"FLOAT", duckdb.TypeFloat, 4},
	{"DOUBLE", duckdb.TypeDouble, 8},
	{"DATE", duckdb.TypeDate, 4},
	{"TIMESTAMP", duckdb.TypeTimestamp, 8},
	{"TIMESTAMP_S", duckdb.TypeTimestampS, 8},
	{"TIMESTAMP_MS", duckdb.TypeTimestampMS, 8},
	{"TIMESTAMP_NS", duckdb.TypeTimestampNS, 8},
	{"TIMESTAMP WITH TIME ZONE", duckdb.TypeTimestampTZ, 8},
	{"VARCHAR", duckdb.TypeVarchar, 0},
	{"BLOB", duckdb.TypeBlob, 0},
}

// writeColumns writes a result.
func writeColumns(out io.Writer, result *duckdb.Result) error {
	w := bufio.NewWriterSize(out, 1<<20)
	var h header
	var widths []int
	for i := range duckdb.ColumnCount(result) {
		name, kind := duckdb.ColumnName(result, i), duckdb.ColumnType(result, i)
		found := false
		for _, t := range columnTypes {
			if t.kind == kind {
				h.Columns = append(h.Columns, columnHeader{name, t.name})
				widths = append(widths, t.width)
				found = true
			}
		}
		if !found {
			return fmt.Errorf("column %s: cast it first", name)
		}
	}
	if err := json.NewEncoder(w).Encode(h); err != nil {
		return err
	}
	for {
		chunk := duckdb.FetchChunk(*result)
		if chunk.Ptr == nil {
			break
		}
		rows := duckdb.DataChunkGetSize(chunk)
		if rows > 0 {
			_ = binary.Write(w, binary.LittleEndian, uint32(rows))
			for i, width := range widths {
				writeVector(w, duckdb.DataChunkGetVector(chunk, duckdb.IdxT(i)), rows, width)
			}
		}
		duckdb.DestroyDataChunk(&chunk)
	}
	if message := duckdb.ResultError(result); message != "" {
		return errors.New(plainError(message))
	}
	_ = binary.Write(w, binary.LittleEndian, uint32(0))
	return w.Flush()
}

// writeVector leaves errors to the flush at the end: they stay with the writer.
func writeVector(w *bufio.Writer, vector duckdb.Vector, rows duckdb.IdxT, width int) {
	validity := duckdb.VectorGetValidity(vector)
	valid := func(row duckdb.IdxT) bool {
		return validity == nil || duckdb.ValidityRowIsValid(validity, row)
	}
	if validity == nil {
		_ = w.WriteByte(0)
	} else {
		_ = w.WriteByte(1)
		for row := range rows {
			b := byte(0)
			if valid(row) {
				b = 1
			}
			_ = w.WriteByte(b)
		}
	}
	data := duckdb.VectorGetData(vector)
	if width > 0 {
		_, _ = w.Write(unsafe.Slice((*byte)(data), int(rows)*width))
		return
	}
	values := unsafe.Slice((*duckdb.StringT)(data), rows)
	for row := range rows {
		length := uint32(0)
		if valid(row) {
			length = duckdb.StringTLength(values[row])
		}
		_ = binary.Write(w, binary.LittleEndian, length)
	}
	for row := range rows {
		if valid(row) {
			_, _ = w.WriteString(duckdb.StringTData(&values[row]))
		}
	}
}

// An input is a table that comes from stdin: what threadbook_input() gives.
type input struct {
	*bufio.Reader
	bound  bool
	ended  bool
	widths []int // of the columns' values
}

// registerInput makes threadbook_input() known to DuckDB: the table that is
// read from there.
func (e *engine) registerInput(from io.Reader) error {
	e.input = &input{Reader: bufio.NewReaderSize(from, 1<<20)}
	return e.registerTable("threadbook_input",
		unsafe.Pointer(C.threadbook_info_t(C.threadbook_input_bind)),
		unsafe.Pointer(C.threadbook_function_t(C.threadbook_input_fill)))
}

// bind reads the head of the table and tells DuckDB its columns.
func (in *input) bind(info duckdb.BindInfo) error {
	if in.bound {
		return errors.New("it can be read once")
	}
	in.bound = true
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return err
	}
	for _, column := range h.Columns {
		for _, t := range columnTypes {
			if t.name == column.Type {
				kind := duckdb.CreateLogicalType(t.kind)
				duckdb.BindAddResultColumn(info, column.Name, kind)
				duckdb.DestroyLogicalType(&kind)
				in.widths = append(in.widths, t.width)
			}
		}
	}
	if len(in.widths) != len(h.Columns) {
		return errors.New("a column of a type that doesn't exist")
	}
	return nil
}

// fill reads one block of rows.
func (in *input) fill(out duckdb.DataChunk) error {
	if in.ended {
		duckdb.DataChunkSetSize(out, 0)
		return nil
	}
	rows, err := in.length()
	if err != nil {
		return err
	}
	in.ended = rows == 0
	if rows > int(duckdb.VectorSize()) {
		return fmt.Errorf("%d rows in a block", rows)
	}
	for i, width := range in.widths {
		if rows == 0 {
			break
		}
		if err := in.fillVector(duckdb.DataChunkGetVector(out, duckdb.IdxT(i)), rows, width); err != nil {
			return err
		}
	}
	duckdb.DataChunkSetSize(out, duckdb.IdxT(rows))
	return nil
}

func (in *input) fillVector(vector duckdb.Vector, rows, width int) error {
	nulls, err := in.ReadByte()
	if err != nil {
		return err
	}
	if nulls == 1 {
		duckdb.VectorEnsureValidityWritable(vector)
		validity := duckdb.VectorGetValidity(vector)
		for row := range rows {
			valid, err := in.ReadByte()
			if err != nil {
				return err
			}
			if valid == 0 {
				duckdb.ValiditySetRowInvalid(validity, duckdb.IdxT(row))
			}
		}
	}
	if width > 0 {
		data := unsafe.Slice((*byte)(duckdb.VectorGetData(vector)), rows*width)
		_, err := io.ReadFull(in, data)
		return err
	}
	lengths := make([]int, rows)
	for row := range lengths {
		if lengths[row], err = in.length(); err != nil {
			return err
		}
	}
	for row, length := range lengths {
		text := make([]byte, length)
		if _, err := io.ReadFull(in, text); err != nil {
			return err
		}
		duckdb.VectorAssignStringElementLen(vector, duckdb.IdxT(row), text)
	}
	return nil
}

func (in *input) length() (int, error) {
	var n uint32
	err := binary.Read(in, binary.LittleEndian, &n)
	return int(n), err
}

//export threadbook_input_bind
func threadbook_input_bind(infoPtr unsafe.Pointer) {
	info := duckdb.BindInfo{Ptr: infoPtr}
	e := engineOf(duckdb.BindGetExtraInfo(info))
	if err := e.input.bind(info); err != nil {
		duckdb.BindSetError(info, err.Error())
	}
}

//export threadbook_input_fill
func threadbook_input_fill(infoPtr, outPtr unsafe.Pointer) {
	info := duckdb.FunctionInfo{Ptr: infoPtr}
	e := engineOf(duckdb.FunctionGetExtraInfo(info))
	if err := e.input.fill(duckdb.DataChunk{Ptr: outPtr}); err != nil {
		duckdb.FunctionSetError(info, err.Error())
	}
}
