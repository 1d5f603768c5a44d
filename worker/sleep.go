package worker

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"

	"threadbook/sandbox"
	"threadbook/sessions"
)

const (
	// clockEvery is how often idle threads are looked for.
	clockEvery = 15 * time.Second
	// strayTicks is after how many of those it is looked for what lies on disk
	// and is of the past. It does no harm there: it is removed before its
	// thread is opened here.
	strayTicks = int(time.Hour / clockEvery)
)

// clock puts the sandboxes of idle threads to disk, and removes those of
// threads that have been idle for so long that they have expired, or that have
// moved to another host. It measures what there is.
func (w *Worker) clock(ctx context.Context) {
	inspector := asynq.NewInspector(w.Redis)
	defer inspector.Close()
	sleeper, ok := w.Sandbox.(sandbox.Sleeper)
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		w.measure(ctx, inspector)
		if ok {
			w.strays(ctx, sleeper.Awake)
			if n%strayTicks == 0 {
				w.strays(ctx, sleeper.Asleep)
			}
			w.settle(ctx, sleeper.Awake, w.HibernateAfter, w.sleep)
			w.settle(ctx, sleeper.Awake, w.ExpireAfter, w.expire) // that can't sleep
			w.settle(ctx, sleeper.Asleep, w.ExpireAfter, w.expire)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sleep puts a sandbox to disk.
func (w *Worker) sleep(ctx context.Context, _ sessions.Lease, name string) error {
	sleeper, ok := w.Sandbox.(sandbox.Sleeper)
	if !ok {
		return sandbox.ErrCantSleep
	}
	return sleeper.Sleep(ctx, name)
}

// expire removes a thread's sandbox, after which it is at home nowhere.
func (w *Worker) expire(ctx context.Context, lease sessions.Lease, name string) error {
	if err := w.Sandbox.Remove(ctx, name); err != nil {
		return err
	}
	return lease.SetHome(ctx, "")
}

// settle does something to the sandbox of each listed thread that has been
// idle for that long. held says that of some others have the lease.
func (w *Worker) settle(ctx context.Context, list func(context.Context) ([]string, error), idle time.Duration,
	do func(context.Context, sessions.Lease, string) error) (held bool) {
	names, err := list(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.Log.WarnContext(ctx, "listing the sandboxes failed", "err", err)
		}
		return false
	}
	for _, name := range names {
		last, err := w.Store.Active(ctx, sessions.ThreadID(name))
		if err != nil || time.Since(last) < idle {
			continue
		}
		err = w.underLease(ctx, name, do) // it has logged why
		held = held || sessions.CodeOf(err) == sessions.Busy
	}
	return held
}

// underLease does something to a thread's sandbox. It holds the thread's lease
// meanwhile, so that no turn can begin; where somebody else has it the error is
// Busy, and nothing is done.
func (w *Worker) underLease(ctx context.Context, name string, do func(context.Context, sessions.Lease, string) error) error {
	lease, err := w.Store.Lease(ctx, sessions.ThreadID(name), w.Name)
	if err != nil {
		return err
	}
	err = do(ctx, lease, name)
	if err != nil && !errors.Is(err, sandbox.ErrCantSleep) && !errors.Is(err, sandbox.ErrBusy) && ctx.Err() == nil {
		w.Log.WarnContext(ctx, "putting away an idle sandbox failed", "thread", name, "err", err)
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := lease.Drop(late); err != nil {
		w.Log.WarnContext(ctx, "giving back a lease failed; it will run out", "thread", name, "err", err)
	}
	if err == nil { // now that the lease can be had; one that doesn't sleep is passed over
		w.unshipped.add(name)
	}
	return err
}
