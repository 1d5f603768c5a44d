package worker

import (
	"context"
	"time"

	"threadbook/sessions"
	"threadbook/worker/agent"
	"threadbook/worker/tools"
)

// draftEvery is how often what the model writes is shown: as fast as people
// can see, and no more.
const draftEvery = 80 * time.Millisecond

// partial shows what the model is writing.
func (h *holder) partial(ctx context.Context) func(agent.Partial) {
	turn := h.log.turn.id
	var last time.Time
	return func(p agent.Partial) {
		d := sessions.Draft{Turn: turn, Text: p.Text}
		if n := len(p.Calls); n > 0 {
			d.Code = tools.PartialCode(p.Calls[n-1].Arguments)
		}
		takenBack := d.Text == "" && d.Code == ""
		if !takenBack && time.Since(last) < draftEvery {
			return
		}
		last = time.Now()
		if err := h.lease.Draft(ctx, d); err != nil {
			h.slog.DebugContext(ctx, "a draft was not shown", "err", err)
		}
	}
}
