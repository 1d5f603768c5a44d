package worker_test

import (
	"strings"
	"testing"

	"threadbook/sessions"
	"threadbook/worker/agenttest"
)

// A thread that its people want forgotten is, with its files, and begins anew
// with the next message.
func TestForget(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:forget")
	b := newBench(t, agenttest.Words)
	b.work(t)
	b.send(t, thread, "say hello", "a.csv")
	_, log := b.finished(t, thread, 1)
	blob := log[0].Body.(*sessions.Message).Files[0].Blob
	b.send(t, thread, "!forget")
	_, log = b.finished(t, thread, 2)
	if n := log[len(log)-2].Body.(*sessions.Notice); !strings.Contains(n.Text, "`!forget yes`") {
		t.Errorf("a bare !forget says %q", n.Text)
	}
	b.send(t, thread, "!forget yes")
	for b.ctx.Err() == nil {
		left, err := b.store.Read(b.ctx, thread, 0, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
	}
	for b.ctx.Err() == nil { // the blobs go last
		if r, err := b.blobs.Get(b.ctx, thread, blob); sessions.CodeOf(err) == sessions.NotFound {
			break
		} else if err == nil {
			r.Close()
		}
	}
	b.send(t, thread, "say again")
	if _, log = b.finished(t, thread, 1); log[0].Seq != 1 || log[0].Body.(*sessions.Message).Text != "say again" {
		t.Errorf("the thread did not begin anew: %+v", log[0])
	}
	if b.ctx.Err() != nil {
		t.Error("the thread was not forgotten")
	}
}
