// Command threadbook-sql runs the SQL cells of a thread, inside its sandbox:
// DuckDB over the files of /workspace and over tables that the thread keeps.
//
//	threadbook-sql kernel FD TABLES    cells from stdin, what they show to FD
//	threadbook-sql run SQL             SQL on a table from stdin, results to stdout
//	threadbook-sql version             DuckDB's
//
// It is a module and a program of its own because DuckDB is C++, while
// threadbook itself builds without a C compiler. It uses DuckDB's own
// interface, not the database/sql driver around it: only there can a result be
// read as a stream, so that `select * from` a large file takes no memory.
//
// It runs as the sandbox's user. Nothing here is a safeguard, and what it
// says is believed only as far as it concerns the output of the cell's author.
//
//	kernel   the agent's side: cells in, events out
//	cell     the statements of a cell, one by one
//	engine   the database: how it is opened, how much it may use
//	names    tables that are files
//	shown    the first rows of a result, as text
//	table    these as an aligned table and as HTML
//	data     and for programs
//	columns  whole tables, to and from Python
//	fault    errors, with where they are
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func command(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "kernel":
		fd, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return serve(os.Stdin, os.NewFile(uintptr(fd), "events"), args[2])
	case len(args) == 2 && args[0] == "run":
		return runOnce(args[1])
	case len(args) == 1 && args[0] == "version":
		fmt.Println(duckdb.LibraryVersion())
		return nil
	}
	return errors.New("usage: threadbook-sql kernel FD TABLES | run SQL | version")
}

// runOnce runs SQL on no tables of its own but threadbook_input(), which comes
// from stdin, and writes results to stdout, both as columns.go has it.
func runOnce(code string) error {
	e, err := open("")
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.registerInput(os.Stdin); err != nil {
		return err
	}
	if err := e.limit(memoryTotal() / 4); err != nil {
		return err
	}
	c := cell{
		engine: e,
		show:   func(event) {},
		raw:    func(result *duckdb.Result) error { return writeColumns(os.Stdout, result) },
	}
	if f := c.run(code); f != nil {
		return errors.New(f.Name + ": " + f.Value)
	}
	return nil
}
