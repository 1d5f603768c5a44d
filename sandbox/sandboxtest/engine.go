// Package sandboxtest stands in for an engine in tests, and holds the suite
// that every sandbox.Provider has to pass.
//
// An [Engine] is a sandbox engine in memory. Its providers take code in a
// language of their own, a word a line, that does what cells do: print, draw,
// wait, fail, run out of memory, die (script.go has the words). It keeps the
// contract of package sandbox where it is subtle, so that what is tested on it
// holds on the real one: a cell runs on when its provider lets go, outputs are
// numbered and seen once, a sandbox outlives its provider.
//
// [Suite] is that contract as a test; it runs here on the fake and in
// sandbox/docker on real engines.
package sandboxtest

import (
	"context"
	"sync"
	"testing"

	"threadbook/sandbox"
)

// An Engine keeps sandboxes in memory, like a machine that several processes
// share: each Provider is one of them.
type Engine struct {
	mu     sync.Mutex
	boxes  map[string]*box
	asleep map[string]*box
	faults map[string]error
	cells  sync.WaitGroup
}

// NewEngine makes an engine that ends with the test, and fails the test if a
// cell doesn't.
func NewEngine(t testing.TB) *Engine {
	e := &Engine{boxes: map[string]*box{}, asleep: map[string]*box{}, faults: map[string]error{}}
	t.Cleanup(func() {
		e.mu.Lock()
		for _, b := range e.boxes {
			b.kill(sandbox.KernelDied)
		}
		e.mu.Unlock()
		e.cells.Wait()
	})
	return e
}

// Fail makes the next call of that name ("Open", "Run", "Put", "Get", "List",
// "Interrupt", "Reset", "Remove", "Probe", "Sleep", "Awake", "Asleep", "Export", "Import") fail, on whichever provider it is.
func (e *Engine) Fail(call string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults[call] = err
}

// fault is the error that a call is to fail with, if it is.
func (e *Engine) fault(call string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.faults[call]
	delete(e.faults, call)
	return err
}

// Kill ends a thread's sandbox as if its machine had, with a status for the
// cell that runs in it.
func (e *Engine) Kill(thread string, status sandbox.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.boxes[thread]; b != nil {
		b.kill(status)
		delete(e.boxes, thread)
	}
	delete(e.asleep, thread)
}

// Provider returns one process's view of the engine.
func (e *Engine) Provider() sandbox.Provider { return &provider{engine: e} }

type provider struct{ engine *Engine }

func (p *provider) Open(ctx context.Context, thread string) (sandbox.Session, error) {
	if err := p.engine.fault("Open"); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	b, how := e.boxes[thread], sandbox.Live
	if slept := e.asleep[thread]; slept != nil {
		delete(e.asleep, thread)
		b, how = slept.wake(), sandbox.Resumed
		e.boxes[thread] = b
	}
	if b == nil || b.isGone() {
		b, how = newBox(e), sandbox.Cold
		e.boxes[thread] = b
	}
	return &session{box: b, engine: e, fresh: b.isFresh(), how: how}, nil
}

func (p *provider) Remove(_ context.Context, thread string) error {
	if err := p.engine.fault("Remove"); err != nil {
		return err
	}
	p.engine.Kill(thread, sandbox.KernelDied)
	return nil
}

func (p *provider) Probe(context.Context) (sandbox.Info, error) {
	if err := p.engine.fault("Probe"); err != nil {
		return sandbox.Info{}, err
	}
	return sandbox.Info{
		Engine: "memory", Runtime: "script", Isolated: true, Image: "none",
	}, nil
}

func (p *provider) Close() error { return nil }

// A session is a thread's box and the process's own lock on its cells.
type session struct {
	*box
	engine  *Engine
	fresh   bool
	how     sandbox.How
	running sync.Mutex
}

func (s *session) Opened() sandbox.How { return s.how }

func (s *session) Fresh() bool { return s.fresh }

func (s *session) Run(ctx context.Context, cell sandbox.Cell, emit func(sandbox.Output) error) (sandbox.Result, error) {
	if err := s.engine.fault("Run"); err != nil {
		return sandbox.Result{}, err
	}
	s.running.Lock()
	defer s.running.Unlock()
	c, result, err := s.begin(ctx, cell)
	if c == nil {
		return result, err
	}
	return c.follow(ctx, cell.After, emit)
}

func (s *session) Interrupt(context.Context) error {
	if err := s.engine.fault("Interrupt"); err != nil {
		return err
	}
	return s.interrupt()
}

func (s *session) Reset(context.Context) error {
	if err := s.engine.fault("Reset"); err != nil {
		return err
	}
	return s.reset()
}
