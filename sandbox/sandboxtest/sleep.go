package sandboxtest

import (
	"context"
	"errors"
	"maps"
	"slices"

	"threadbook/sandbox"
)

var _ sandbox.Sleeper = (*provider)(nil)

func (p *provider) Awake(context.Context) ([]string, error) {
	if err := p.engine.fault("Awake"); err != nil {
		return nil, err
	}
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return slices.Sorted(maps.Keys(p.engine.boxes)), nil
}

func (p *provider) Asleep(context.Context) ([]string, error) {
	if err := p.engine.fault("Asleep"); err != nil {
		return nil, err
	}
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return slices.Sorted(maps.Keys(p.engine.asleep)), nil
}

func (p *provider) Sleep(_ context.Context, thread string) error {
	if err := p.engine.fault("Sleep"); err != nil {
		return err
	}
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.boxes[thread]
	if b == nil {
		return nil
	}
	if !b.sleep() {
		return sandbox.ErrBusy
	}
	delete(e.boxes, thread)
	e.asleep[thread] = b
	return nil
}

var errAsleep = errors.New("the sandbox was put to disk")

// why is what the methods of a session say once its box is gone. It needs the lock.
func (b *box) why() error {
	if b.slept {
		return errAsleep
	}
	return sandbox.ErrGone
}

// sleep ends every session of the box, unless a cell runs in it.
func (b *box) sleep() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cell != nil && b.cell.result == nil {
		return false
	}
	b.gone, b.slept = true, true
	b.change()
	return true
}

// wake makes a box of one that sleeps.
func (b *box) wake() *box {
	b.mu.Lock()
	defer b.mu.Unlock()
	woken := newBox(b.engine)
	woken.files, woken.vars, woken.number = b.files, b.vars, b.number
	if b.cell != nil {
		cell := *b.cell
		cell.box = woken
		woken.cell = &cell
	}
	return woken
}
