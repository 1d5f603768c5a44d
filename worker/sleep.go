package worker

import (
	"context"
	"errors"
	"time"

	"threadbook/sandbox"
	"threadbook/sessions"
)

// clockEvery is how often idle threads are looked for.
const clockEvery = 15 * time.Second

// clock puts the sandboxes of idle threads to disk, and removes those of
// threads that have been idle for so long that they have expired.
func (w *Worker) clock(ctx context.Context) {
	sleeper, ok := w.Sandbox.(sandbox.Sleeper)
	if !ok {
		return
	}
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		w.settle(ctx, sleeper.Awake, w.HibernateAfter, sleeper.Sleep)
		w.settle(ctx, sleeper.Awake, w.ExpireAfter, w.Sandbox.Remove) // that can't sleep
		w.settle(ctx, sleeper.Asleep, w.ExpireAfter, w.Sandbox.Remove)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// settle does something to the sandbox of each listed thread that has been
// idle for that long. It holds the thread's lease meanwhile, so that no turn
// can begin.
func (w *Worker) settle(ctx context.Context, list func(context.Context) ([]string, error), idle time.Duration, do func(context.Context, string) error) {
	names, err := list(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.Log.WarnContext(ctx, "listing the sandboxes failed", "err", err)
		}
		return
	}
	for _, name := range names {
		thread := sessions.ThreadID(name)
		last, err := w.Store.Active(ctx, thread)
		if err != nil || time.Since(last) < idle {
			continue
		}
		lease, err := w.Store.Lease(ctx, thread, w.Name)
		if err != nil {
			continue // somebody works on it
		}
		err = do(ctx, name)
		if err != nil && !errors.Is(err, sandbox.ErrCantSleep) && !errors.Is(err, sandbox.ErrBusy) && ctx.Err() == nil {
			w.Log.WarnContext(ctx, "putting away an idle sandbox failed", "thread", name, "err", err)
		}
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		if err := lease.Drop(late); err != nil {
			w.Log.WarnContext(ctx, "giving back a lease failed; it will run out", "thread", name, "err", err)
		}
		cancel()
	}
}
