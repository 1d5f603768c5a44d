package sandboxtest

import (
	"context"
	"sync"
	"time"

	"threadbook/sandbox"
)

// A box is a thread's sandbox: its files, its variables, its last cell.
type box struct {
	engine *Engine

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	files   map[string]file
	vars    map[sandbox.Language]map[string]string
	cell    *cell
	number  int64 // of the last output
	gone    bool
	slept   bool // gone to disk
}

// A cell is one run of a script. Its fields are under the box's lock.
type cell struct {
	box     *box
	id      int64
	outputs []sandbox.Output
	result  *sandbox.Result
	stop    sandbox.Status // why it is to end, if it is
	started time.Time
}

func newBox(e *Engine) *box {
	return &box{
		engine:  e,
		changed: make(chan struct{}),
		files:   map[string]file{},
		vars:    map[sandbox.Language]map[string]string{},
	}
}

// change tells everybody who waits that something has. It needs the lock.
func (b *box) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *box) isFresh() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cell == nil
}

func (b *box) isGone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone
}

// kill ends the box; its cell, if one runs, gets the status.
func (b *box) kill(status sandbox.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = true
	if c := b.cell; c != nil && c.result == nil {
		c.end(sandbox.Result{
			Status: status, Lost: true, Gone: true,
			Error: &sandbox.CellError{Name: "SandboxDied", Value: "it was killed"},
		})
	}
	b.change()
}

func (b *box) interrupt() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return b.why()
	}
	if b.cell != nil && b.cell.result == nil {
		b.cell.halt(sandbox.Interrupted)
	}
	return nil
}

func (b *box) reset() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return b.why()
	}
	b.vars = map[sandbox.Language]map[string]string{}
	if c := b.cell; c != nil && c.result == nil {
		c.end(sandbox.Result{
			Status: sandbox.Interrupted, Lost: true,
			Error: &sandbox.CellError{Name: "Interrupted", Value: "the sandbox was reset"},
		})
	}
	return nil
}

// begin returns the cell to follow, or a result where there is nothing to.
func (b *box) begin(ctx context.Context, wanted sandbox.Cell) (*cell, sandbox.Result, error) {
	b.mu.Lock()
	for {
		switch c := b.cell; {
		case b.gone:
			b.mu.Unlock()
			return nil, sandbox.Result{}, b.why()
		case c != nil && c.id == wanted.ID:
			b.mu.Unlock()
			return c, sandbox.Result{}, nil
		case wanted.Resume:
			b.mu.Unlock()
			return nil, sandbox.Result{
				Status: sandbox.KernelDied, Lost: c == nil,
				Error: &sandbox.CellError{Name: "NotStarted", Value: "the cell is not known"},
			}, nil
		case c != nil && c.result == nil && c.stop == "":
			b.mu.Unlock()
			return nil, sandbox.Result{}, sandbox.ErrBusy
		case c != nil && c.result == nil: // it is about to end
			changed := b.changed
			b.mu.Unlock()
			select {
			case <-changed:
			case <-ctx.Done():
				return nil, sandbox.Result{}, context.Cause(ctx)
			}
			b.mu.Lock()
			continue
		}
		break
	}
	defer b.mu.Unlock()
	b.cell = &cell{box: b, id: wanted.ID, started: time.Now()}
	b.engine.cells.Add(1)
	go func(c *cell) {
		defer b.engine.cells.Done()
		c.run(wanted)
	}(b.cell)
	return b.cell, sandbox.Result{}, nil
}

// put adds an output. It needs the lock.
func (c *cell) put(o sandbox.Output) {
	c.box.number++
	o.N = c.box.number
	c.outputs = append(c.outputs, o)
	c.box.change()
}

// end ends the cell, if nothing has yet. It needs the lock.
func (c *cell) end(r sandbox.Result) {
	if c.result == nil {
		r.Seconds = time.Since(c.started).Seconds()
		c.result = &r
		c.box.change()
	}
}

// halt asks the cell to end with that status. It needs the lock.
func (c *cell) halt(status sandbox.Status) {
	if c.stop == "" {
		c.stop = status
		c.box.change()
	}
}

// follow emits the outputs after that number, to the cell's end.
func (c *cell) follow(ctx context.Context, after int64, emit func(sandbox.Output) error) (sandbox.Result, error) {
	seen := 0
	for {
		if err := context.Cause(ctx); err != nil {
			return sandbox.Result{}, err
		}
		c.box.mu.Lock()
		outputs, result, changed := c.outputs[seen:], c.result, c.box.changed
		c.box.mu.Unlock()
		for _, o := range outputs {
			seen++
			if o.N <= after {
				continue
			}
			if err := emit(o); err != nil {
				return sandbox.Result{}, err
			}
		}
		if result != nil {
			return *result, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
