package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"threadbook/sandbox"
)

const (
	// maxCode is the most code that a cell can have: with room for JSON's
	// escapes it fits a line.
	maxCode = 256 << 10
	// ackEvery is how much output is taken before the agent is told, while
	// more is waiting.
	ackEvery = 1 << 20
)

// A session is a conn as the caller of one Open sees it.
type session struct {
	*conn
	fresh bool
	how   sandbox.How
}

var (
	_ sandbox.Session = (*session)(nil)
	_ sandbox.Opened  = (*session)(nil)
)

// Opened: see sandbox.Opened.
func (s *session) Opened() sandbox.How { return s.how }

// Fresh: see sandbox.Session.
func (s *session) Fresh() bool { return s.fresh }

// Interrupt: see sandbox.Session.
func (s *session) Interrupt(ctx context.Context) error {
	_, err := s.ask(ctx, request{Op: "interrupt"}, nil)
	return err
}

// Reset: see sandbox.Session.
func (s *session) Reset(ctx context.Context) error {
	_, err := s.ask(ctx, request{Op: "reset"}, nil)
	return err
}

// Run: see sandbox.Session.
func (s *session) Run(ctx context.Context, cell sandbox.Cell, emit func(sandbox.Output) error) (sandbox.Result, error) {
	select {
	case s.running <- struct{}{}:
		defer func() { <-s.running }()
	case <-ctx.Done():
		return sandbox.Result{}, context.Cause(ctx)
	}
	if cell.ID <= 0 || cell.Timeout <= 0 {
		return sandbox.Result{}, fmt.Errorf("cell %d with a limit of %v: both must be set", cell.ID, cell.Timeout)
	}
	if len(cell.Code) > maxCode {
		return refused("CodeTooLong", fmt.Sprintf("the code is %d bytes, %d is the most", len(cell.Code), maxCode)), nil
	}

	started := time.Now()
	backstop := time.AfterFunc(cell.Timeout+backstopGrace, func() { s.stop(errBackstop) })
	defer backstop.Stop()
	follower := newFollower()
	_, err := s.ask(ctx, request{
		Op: "execute", Cell: cell.ID, Language: cell.Language, Code: cell.Code,
		Seconds: cell.Timeout.Seconds(), Resume: cell.Resume, After: cell.After,
	}, follower)
	defer s.unfollow(follower)
	switch {
	case errors.Is(err, errUnknownCell):
		return s.notResumed(cell), nil
	case errors.Is(err, errNoLanguage):
		return refused("LanguageMissing", fmt.Sprintf("%.40s: %v", cell.Language, err)), nil
	case err != nil:
		return sandbox.Result{}, fmt.Errorf("running cell %d: %w", cell.ID, err)
	}
	s.lastCell.Store(cell.ID)
	run := &run{
		conn: s.conn, follower: follower, emit: emit,
		outputs: outputs{cell: cell.ID, number: cell.After},
	}
	result, err := run.wait(ctx)
	if err != nil {
		return sandbox.Result{}, fmt.Errorf("running cell %d: %w", cell.ID, err)
	}
	if result == nil { // the sandbox died
		result = new(s.end.result(time.Since(started).Seconds()))
	}
	return *result, nil
}

// notResumed is the result of a cell that an earlier process began and this
// sandbox has never seen. Either it is a new one, or that process died before
// the code was on its way.
func (s *session) notResumed(cell sandbox.Cell) sandbox.Result {
	result := refused("NotStarted", "the code never reached the sandbox; nothing of it was run")
	result.Status = sandbox.KernelDied
	if s.lastCell.Load() == 0 {
		result.Lost = true
		result.Error = &sandbox.CellError{Name: "SandboxDied", Value: "the sandbox that ran the cell is gone"}
	}
	return result
}

func refused(name, words string) sandbox.Result {
	return sandbox.Result{Status: sandbox.Failed, Error: &sandbox.CellError{Name: name, Value: words}}
}

// A run is one cell on its way from the agent to emit.
type run struct {
	*conn
	follower *follower
	outputs  outputs
	emit     func(sandbox.Output) error
	unacked  int // bytes taken since the agent was last told
}

// wait returns the cell's result once all of its output is emitted, nil if the
// sandbox died first, or an error if the cell runs on without us.
func (r *run) wait(ctx context.Context) (*sandbox.Result, error) {
	for {
		select {
		case <-r.follower.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-r.ended:
			// What came before the end still counts.
			result, err := r.drain(ctx)
			if err == nil && result == nil && !r.end.gone {
				err = r.end.err()
			}
			return result, err
		}
		if result, err := r.drain(ctx); result != nil || err != nil {
			return result, err
		}
	}
}

// drain takes all the events that are waiting.
func (r *run) drain(ctx context.Context) (*sandbox.Result, error) {
	for _, m := range r.follower.take() {
		output, result, err := r.outputs.take(m)
		if err != nil {
			r.stop(err)
			<-r.ended
			return nil, nil
		}
		if result != nil {
			return result, nil
		}
		if output == nil {
			continue
		}
		if err := r.emit(*output); err != nil {
			return nil, fmt.Errorf("passing on its output: %w", err)
		}
		if r.unacked += m.weight; r.unacked > ackEvery {
			r.acknowledge(m.N)
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
	}
	if !r.outputs.partial {
		r.acknowledge(r.outputs.number)
	}
	return nil, nil
}

// acknowledge lets the agent forget what has been emitted. That it fails is
// the conn's end, and noticed as that.
func (r *run) acknowledge(number int64) {
	if r.alive() {
		_ = r.send(request{Op: "ack", N: number}, nil)
	}
	r.unacked = 0
}
