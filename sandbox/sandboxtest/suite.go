package sandboxtest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"threadbook/sandbox"
)

// A Suite is the contract of package sandbox as a test.
type Suite struct {
	// New returns a provider. All that a test makes share one engine, as
	// processes on one machine do.
	New func(t *testing.T) sandbox.Provider
	// Elsewhere returns a provider of another machine.
	Elsewhere func(t *testing.T) sandbox.Provider
	// Code is what does the things that the suite needs done.
	Code Code
}

// Code is code for the same things in the languages of an engine. Python stands
// for the language with figures and tables, Bash for another with a state of
// its own.
type Code struct {
	Hello    string // prints "hello"
	Streams  string // prints "one", warns "two", prints "three"
	SetX     string // sets x to 41
	ShowX    string // prints x; fails if it isn't set
	BashSetX string // the same in Bash
	BashX    string
	Gates    string // prints "1", awaits the file go1, prints "2", awaits go2, prints "3"
	Sleep    string // prints "begun" and never ends
	Fail     string // raises ValueError("boom")
	Figure   string // shows a figure
	Table    string // shows a table
	Write    string // writes "made here" to outputs/made.txt
	Flood    string // prints 3,000,000 bytes
	Memory   string // runs out of memory and keeps its variables
	Disk     string // fills the disk, and makes room again
	Die      string // ends its kernel
}

// Script is Code for the fake engine.
func Script() Code {
	return Code{
		Hello:    "print hello",
		Streams:  "print one\nwarn two\nprint three",
		SetX:     "set x 41",
		ShowX:    "show x",
		BashSetX: "set x 43",
		BashX:    "show x",
		Gates:    "print 1\nawait go1\nprint 2\nawait go2\nprint 3",
		Sleep:    "print begun\nsleep",
		Fail:     "fail boom",
		Figure:   "figure",
		Table:    "table",
		Write:    "file outputs/made.txt made here",
		Flood:    "flood 3000000",
		Memory:   "oom",
		Disk:     "full",
		Die:      "die",
	}
}

// patience is how long anything in the suite may take: far longer than it
// does, on a machine that does ten other things.
const patience = 3 * time.Minute

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	for _, group := range []struct {
		name string
		run  func(*testing.T, Suite)
	}{
		{"Cells", testCells},
		{"Stopping", testStopping},
		{"Failures", testFailures},
		{"Files", testFiles},
		{"Resume", testResume},
		{"Life", testLife},
		{"Threads", testThreads},
		{"Sleep", testSleep},
		{"Port", testPort},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			group.run(t, s)
		})
	}
}

// A Thread drives one thread's sandbox through a test.
type Thread struct {
	sandbox.Session
	Provider sandbox.Provider
	ID       string

	t    *testing.T
	cell int64
}

// Open opens a thread of that name and removes it with the test.
func Open(t *testing.T, p sandbox.Provider, id string) *Thread {
	t.Helper()
	s, err := p.Open(t.Context(), id)
	if err != nil {
		t.Fatalf("opening the sandbox: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.Remove(ctx, id); err != nil {
			t.Errorf("removing the sandbox: %v", err)
		}
	})
	return &Thread{Session: s, Provider: p, ID: id, t: t}
}

// Reopen opens the thread again, as the next turn does.
func (th *Thread) Reopen(t *testing.T) {
	t.Helper()
	s, err := th.Provider.Open(t.Context(), th.ID)
	if err != nil {
		t.Fatalf("opening the sandbox again: %v", err)
	}
	th.Session = s
}

// Next is the thread's next cell.
func (th *Thread) Next(language sandbox.Language, code string) sandbox.Cell {
	th.cell++
	return sandbox.Cell{ID: th.cell, Language: language, Code: code, Timeout: patience}
}

// Python runs code to its end.
func (th *Thread) Python(t *testing.T, code string) *Ran {
	t.Helper()
	return th.Do(t, th.Next(sandbox.Python, code))
}

// Bash runs code to its end.
func (th *Thread) Bash(t *testing.T, code string) *Ran {
	t.Helper()
	return th.Do(t, th.Next(sandbox.Bash, code))
}

// Do runs a cell to its end.
func (th *Thread) Do(t *testing.T, cell sandbox.Cell) *Ran {
	t.Helper()
	ran := th.Start(t.Context(), cell)
	<-ran.done
	if ran.err != nil {
		t.Fatalf("cell %d: %v", cell.ID, ran.err)
	}
	ran.checkNumbers(t, cell.After)
	return ran
}

// Start begins to run a cell; Wait ends it.
func (th *Thread) Start(ctx context.Context, cell sandbox.Cell) *Ran {
	ran := &Ran{done: make(chan struct{}), changed: make(chan struct{}, 1)}
	go func() {
		defer close(ran.done)
		ran.Result, ran.err = th.Run(ctx, cell, ran.take)
	}()
	return ran
}

// A Ran is a cell that was run: its outputs, and in the end its result.
type Ran struct {
	sandbox.Result

	err     error
	done    chan struct{}
	changed chan struct{}

	mu      sync.Mutex
	outputs []sandbox.Output
}

func (r *Ran) take(o sandbox.Output) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outputs = append(r.outputs, o)
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return nil
}

// Outputs are those so far.
func (r *Ran) Outputs() []sandbox.Output {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outputs[:len(r.outputs):len(r.outputs)]
}

// Text is the text so far of a stream, or of both where stream is empty.
func (r *Ran) Text(stream string) string {
	var b strings.Builder
	for _, o := range r.Outputs() {
		if o.Stream != "" && (stream == "" || o.Stream == stream) {
			b.WriteString(o.Text)
		}
	}
	return b.String()
}

// Data is what was shown of a type.
func (r *Ran) Data(mime string) [][]byte {
	var found [][]byte
	for _, o := range r.Outputs() {
		if o.MIME == mime {
			found = append(found, o.Data)
		}
	}
	return found
}

// Seen waits until stdout has that text, while the cell runs.
func (r *Ran) Seen(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(r.Text("stdout"), text) {
		select {
		case <-r.changed:
		case <-r.done:
			if strings.Contains(r.Text("stdout"), text) {
				return
			}
			t.Fatalf("the cell ended with %v %+v and never printed %q, only %q", r.err, r.Result, text, r.Text(""))
		}
	}
}

// Wait returns once Run has, with its error.
func (r *Ran) Wait() error {
	<-r.done
	return r.err
}

// Want fails the test unless the cell ended with that status.
func (r *Ran) Want(t *testing.T, status sandbox.Status) *Ran {
	t.Helper()
	if r.err != nil {
		t.Fatalf("Run: %v", r.err)
	}
	if r.Status != status {
		t.Fatalf("status %s, want %s; error %+v, output %.2000q", r.Status, status, r.Error, r.Text(""))
	}
	return r
}

func (r *Ran) checkNumbers(t *testing.T, after int64) {
	t.Helper()
	for _, o := range r.Outputs() {
		if o.N <= after {
			t.Errorf("output %d came after output %d", o.N, after)
		}
		after = o.N
	}
}
