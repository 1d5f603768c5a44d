package main

import (
	"encoding/json"
	"io"
	"path/filepath"
	"syscall"
	"testing"
)

// A pipe is a kernel that is being served, as the agent has it.
type pipe struct {
	requests *json.Encoder
	events   *json.Decoder
}

func newPipe(t *testing.T) *pipe {
	t.Helper()
	t.Chdir(t.TempDir())
	requests, toKernel := io.Pipe()
	fromKernel, events := io.Pipe()
	served := make(chan error, 1)
	tables := filepath.Join(t.TempDir(), "tables.duckdb")
	go func() { served <- serve(requests, events, tables) }()
	t.Cleanup(func() {
		toKernel.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &pipe{json.NewEncoder(toKernel), json.NewDecoder(fromKernel)}
}

func (p *pipe) send(t *testing.T, r request) {
	t.Helper()
	if err := p.requests.Encode(r); err != nil {
		t.Fatal(err)
	}
}

func (p *pipe) next(t *testing.T) event {
	t.Helper()
	var e event
	if err := p.events.Decode(&e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestServe(t *testing.T) {
	p := newPipe(t)
	p.send(t, request{Code: "CREATE TABLE t AS SELECT 1 AS n; INSERT INTO t VALUES (2)", Word: "w1", Memory: 200 << 20})
	if e := p.next(t); e.Text != "1 row inserted\n" {
		t.Errorf("event %+v", e)
	}
	if e := p.next(t); e.End != "w1" || e.Fail != nil {
		t.Errorf("event %+v", e)
	}
	p.send(t, request{Code: "SELECT sum(n) AS n FROM t; SELECT nosuch", Word: "w2"})
	if e := p.next(t); e.Data["text/plain"] != "n\n-\n3\n(1 row × 1 column)" {
		t.Errorf("event %+v", e)
	}
	if e := p.next(t); e.End != "w2" || e.Fail == nil || e.Fail.Name != "BinderError" {
		t.Errorf("event %+v", e)
	}
}

func TestAnInterruptKeepsTheState(t *testing.T) {
	p := newPipe(t)
	p.send(t, request{Code: "CREATE TEMP TABLE kept AS SELECT 41 AS n; SELECT 'begun'; " +
		"SELECT count(*) FROM range(1000000000000) WHERE range % 7 = 8; SELECT 'not this'", Word: "w1"})
	if e := p.next(t); e.Data == nil {
		t.Fatalf("event %+v", e)
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if e := p.next(t); e.End != "w1" || e.Fail == nil {
		t.Fatalf("event %+v", e)
	}
	p.send(t, request{Code: "SELECT n + 1 AS n FROM kept", Word: "w2"})
	if e := p.next(t); e.Data["text/plain"] != " n\n--\n42\n(1 row × 1 column)" {
		t.Errorf("event %+v", e)
	}
	if e := p.next(t); e.End != "w2" || e.Fail != nil {
		t.Errorf("event %+v", e)
	}
}

func TestTablesThatCannotBeOpened(t *testing.T) {
	requests, toKernel := io.Pipe()
	fromKernel, events := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(requests, events, "/nosuch/tables.duckdb") }()
	p := &pipe{json.NewEncoder(toKernel), json.NewDecoder(fromKernel)}
	p.send(t, request{Code: "SELECT 1", Word: "w"})
	if e := p.next(t); e.End != "w" || e.Fail == nil {
		t.Errorf("event %+v", e)
	}
	toKernel.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
