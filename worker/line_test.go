package worker_test

import (
	"context"
	"fmt"
	"testing"

	"threadbook/bots"
	"threadbook/sessions"
	"threadbook/worker"
	"threadbook/worker/agenttest"
)

// A turn that waits in line is told its place, and can be stopped there.
func TestStopInLine(t *testing.T) {
	t.Parallel()
	const first, second, third = sessions.ThreadID("test:first"), sessions.ThreadID("test:second"), sessions.ThreadID("test:third")
	b := newBench(t, agenttest.Words)
	type news struct {
		thread sessions.ThreadID
		place  int
	}
	told := make(chan news, 10)
	m := b.host(t, "one", func(c *worker.Config) {
		c.Concurrency = 1
		c.Waiting = func(_ context.Context, thread sessions.ThreadID, place int) { told <- news{thread, place} }
	})
	b.send(t, first, "```\nawait go\n```")
	b.until(t, first, func(ev sessions.Event) bool { _, ok := ev.Body.(*sessions.CellStarted); return ok })
	want := func(w news) {
		t.Helper()
		if got := <-told; got != w {
			t.Errorf("told %v, want %v", got, w)
		}
	}
	b.send(t, second, "```\nprint second\n```")
	want(news{second, 1})
	b.send(t, third, "```\nprint third\n```")
	want(news{third, 2})
	b.send(t, second, "!stop")
	if end, log := b.finished(t, second, 1); end.Status != sessions.TurnStopped || printed(log, 1) != "" {
		t.Errorf("ended as %s: %s", end.Status, kinds(log))
	}
	want(news{third, 1})
	b.send(t, third, "```\nprint more\n```")
	b.put(t, m, first, "go", "")
	want(news{third, 0})
	b.finished(t, third, 2)
}

// One person's many threads hold up that person alone.
func TestFlood(t *testing.T) {
	t.Parallel()
	const flood = 60
	b := newBench(t, agenttest.Words)
	waiting := make(chan sessions.ThreadID, 10*flood*flood)
	m := b.host(t, "one", func(c *worker.Config) {
		c.Concurrency = 2
		c.Waiting = func(_ context.Context, thread sessions.ThreadID, place int) { waiting <- thread }
	})
	send := func(user, thread, text string) {
		t.Helper()
		m := bots.Message{Thread: sessions.ThreadID(thread), User: sessions.User{ID: user, Name: user}, Text: text}
		if _, err := b.intake.Submit(b.ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range flood {
		send("eve", fmt.Sprintf("test:eve%d", i), "```\nprint begun\nawait go\n```")
	}
	for seen := map[sessions.ThreadID]bool{}; len(seen) < flood-2; {
		seen[<-waiting] = true
	}
	var running []sessions.ThreadID
	b.wait(t, func() bool {
		awake, _ := m.threads(t)
		running = nil
		for _, name := range awake {
			running = append(running, sessions.ThreadID(name))
		}
		return len(running) == 2
	})
	send("bob", "test:bob", "```\nprint hello\n```")
	for thread := range waiting {
		if thread == "test:bob" {
			break
		}
	}
	b.put(t, m, running[0], "go", "")
	if _, log := b.finished(t, "test:bob", 1); printed(log, 1) != "hello\n" {
		t.Errorf("got %s", kinds(log))
	}
	if awake, _ := m.threads(t); len(awake) > 4 { // the two, bob's, and the one after it
		t.Errorf("before bob's turn came those of %v", awake)
	}
}
