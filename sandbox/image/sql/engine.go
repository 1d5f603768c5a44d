package main

/*
typedef void (*threadbook_info_t)(void *);
void threadbook_one_thread(void *);
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/cgo"
	"strings"
	"sync/atomic"
	"unsafe"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// leastMemory is what DuckDB gets however little is left: with less it can't
// read a file. The agent's watchdog stands behind it.
const leastMemory = 96 << 20

// settings are those of the database, for a sandbox without a network.
var settings = map[string]string{
	// Errors come with their position that way, see fault.go.
	"errors_as_json": "true",
	// An extension would have to be downloaded. Without these an attempt
	// fails at once and says which extension it wanted.
	"autoinstall_known_extensions": "false",
	"autoload_known_extensions":    "false",
}

// An engine is DuckDB with the thread's tables. Cells run on conn. The other
// connection is for what we ourselves ask: it works while a result of conn is
// being read, and where a cell has left a failed transaction open.
type engine struct {
	db       duckdb.Database
	conn     duckdb.Connection
	own      duckdb.Connection
	stopping atomic.Bool // an interrupt of the running cell has come

	// What the table functions of ours give out. Only the running cell uses them.
	shown *sample
	input *input

	handle *cgo.Handle // this engine, as C knows it
	pinner runtime.Pinner
}

// open opens the file that holds the tables, making it if there is none; an
// empty path keeps them in memory.
func open(tables string) (*engine, error) {
	var config duckdb.Config
	if duckdb.CreateConfig(&config) == duckdb.StateError {
		return nil, errors.New("DuckDB has no memory to start")
	}
	defer duckdb.DestroyConfig(&config)
	for name, value := range settings {
		if duckdb.SetConfig(config, name, value) == duckdb.StateError {
			return nil, fmt.Errorf("DuckDB refuses %s=%s", name, value)
		}
	}
	e := &engine{}
	var message string
	if duckdb.OpenExt(tables, &e.db, config, &message) == duckdb.StateError {
		return nil, fmt.Errorf("the thread's tables can't be opened: %s", plainError(message))
	}
	if duckdb.Connect(e.db, &e.conn) == duckdb.StateError || duckdb.Connect(e.db, &e.own) == duckdb.StateError {
		return nil, errors.New("DuckDB refuses a connection")
	}
	duckdb.AddReplacementScan(e.db, replacementScan(), nil, nil)
	// C keeps the address of the handle, so it must not move.
	handle := cgo.NewHandle(e)
	e.handle = &handle
	e.pinner.Pin(e.handle)
	if err := e.registerShown(); err != nil {
		return nil, err
	}
	// Each thread takes memory of its own, of which a sandbox has little.
	return e, e.set(fmt.Sprintf("SET threads = %d", min(runtime.NumCPU(), 4)))
}

func (e *engine) close() {
	duckdb.Disconnect(&e.own)
	duckdb.Disconnect(&e.conn)
	duckdb.Close(&e.db)
	e.pinner.Unpin()
	e.handle.Delete()
}

// limit makes DuckDB use no more than that, beyond which it writes what it is
// working on to disk or, where it can't, refuses the query.
func (e *engine) limit(memory int64) error {
	return e.set(fmt.Sprintf("SET memory_limit = '%d bytes'", max(memory, leastMemory)))
}

func (e *engine) set(statement string) error {
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	if duckdb.Query(e.own, statement, &result) == duckdb.StateError {
		return errors.New(plainError(duckdb.ResultError(&result)))
	}
	return nil
}

// registerTable makes a table function of ours known to DuckDB. It takes no
// arguments, and is run by one thread.
func (e *engine) registerTable(name string, bind, fill unsafe.Pointer) error {
	f := duckdb.CreateTableFunction()
	defer duckdb.DestroyTableFunction(&f)
	duckdb.TableFunctionSetName(f, name)
	duckdb.TableFunctionSetExtraInfo(f, unsafe.Pointer(e.handle), nil)
	duckdb.TableFunctionSetBind(f, bind)
	duckdb.TableFunctionSetInit(f, unsafe.Pointer(C.threadbook_info_t(C.threadbook_one_thread)))
	duckdb.TableFunctionSetFunction(f, fill)
	if duckdb.RegisterTableFunction(e.own, f) == duckdb.StateError {
		return fmt.Errorf("DuckDB refuses the function %s", name)
	}
	return nil
}

func engineOf(handle unsafe.Pointer) *engine {
	return (*cgo.Handle)(handle).Value().(*engine)
}

//export threadbook_one_thread
func threadbook_one_thread(info unsafe.Pointer) {
	duckdb.InitSetMaxThreads(duckdb.InitInfo{Ptr: info}, 1)
}

// memoryTotal is how much memory the machine has, which is the sandbox in one.
func memoryTotal() int64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 4 * leastMemory
	}
	_, rest, _ := strings.Cut(string(info), "MemTotal:")
	var kilobytes int64
	_, _ = fmt.Sscan(rest, &kilobytes)
	return kilobytes << 10
}
