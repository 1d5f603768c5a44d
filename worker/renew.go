package worker

import (
	"context"
	"fmt"
	"time"

	"threadbook/sessions"
)

// renew keeps the lease until ctx ends, and ends ctx when it can't. One failed
// try may be Redis restarting, so it goes on until the lease is about to run out,
// counted from before it was last asked for. began is when that first was.
func (h *holder) renew(ctx context.Context, began time.Time, cancel context.CancelCauseFunc) {
	end := began.Add(sessions.LeaseTTL - leaseMargin)
	late := time.AfterFunc(time.Until(end), func() { cancel(errLeaseLost) }) // whatever hangs below
	defer late.Stop()
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		at := time.Now()
		try, done := context.WithDeadline(ctx, end)
		err := h.lease.Renew(try)
		done()
		switch {
		case err == nil && ctx.Err() == nil:
			end = at.Add(sessions.LeaseTTL - leaseMargin)
			late.Reset(time.Until(end))
		case sessions.CodeOf(err) == sessions.LeaseLost:
			cancel(fmt.Errorf("%w: %w", errLeaseLost, err))
			return
		}
	}
}
