package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// interruptEvery is how often a running statement is told to end once the cell
// has been interrupted. Once is not enough: DuckDB forgets an interrupt that
// comes between two statements.
const interruptEvery = 20 * time.Millisecond

// A request is a cell to run: a line of JSON on stdin.
type request struct {
	Code   string `json:"code"`
	Memory int64  `json:"memory"` // bytes that DuckDB may use; 0 leaves it as it is
	Word   string `json:"word"`   // comes back with the end of the cell
}

// An event is a line of JSON for the agent: text, a result, or the end of the
// cell.
type event struct {
	Text string         `json:"text,omitempty"`
	Data map[string]any `json:"data,omitempty"` // by MIME type
	End  string         `json:"end,omitempty"`  // the request's word
	Fail *fault         `json:"fail,omitempty"` // what went wrong, at the end
}

// serve runs cells until stdin ends. The tables are opened with the first
// cell, so that what is wrong with them can be said there.
func serve(requests io.Reader, events io.Writer, tables string) error {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	out := json.NewEncoder(events)
	out.SetEscapeHTML(false)
	lines := json.NewDecoder(bufio.NewReader(requests))
	var e *engine
	for {
		var r request
		if err := lines.Decode(&r); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		drain(interrupts)
		end := event{End: r.Word}
		if e == nil {
			var err error
			if e, err = open(tables); err != nil {
				end.Fail = &fault{Name: "IOError", Value: err.Error()}
			}
		}
		if e != nil {
			end.Fail = e.runInterruptibly(r, interrupts, func(ev event) { _ = out.Encode(ev) })
		}
		if err := out.Encode(end); err != nil {
			return err
		}
	}
	if e != nil {
		e.close()
	}
	return nil
}

func (e *engine) runInterruptibly(r request, interrupts <-chan os.Signal, show func(event)) *fault {
	done, stopped := make(chan struct{}), make(chan struct{})
	e.stopping.Store(false)
	go func() {
		defer close(stopped)
		e.interruptOn(interrupts, done)
	}()
	defer func() {
		close(done)
		<-stopped
	}()
	if r.Memory > 0 {
		_ = e.limit(r.Memory) // refused where more is in use already, and rightly so
	}
	c := cell{engine: e, show: show}
	return c.run(r.Code)
}

// interruptOn interrupts the running statement, and those after it, from the
// first signal on until done.
func (e *engine) interruptOn(interrupts <-chan os.Signal, done <-chan struct{}) {
	select {
	case <-interrupts:
	case <-done:
		return
	}
	e.stopping.Store(true)
	again := time.NewTicker(interruptEvery)
	defer again.Stop()
	for {
		duckdb.Interrupt(e.conn)
		select {
		case <-again.C:
		case <-done:
			return
		}
	}
}

// drain forgets an interrupt that came when no cell ran.
func drain(interrupts <-chan os.Signal) {
	select {
	case <-interrupts:
	default:
	}
}
