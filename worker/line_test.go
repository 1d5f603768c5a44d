package worker_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"threadbook/bots"
	"threadbook/sessions"
	"threadbook/worker"
	"threadbook/worker/agenttest"
)

// held waits until a worker holds the threads.
func (b *bench) held(t *testing.T, threads ...sessions.ThreadID) {
	t.Helper()
	client := b.store.MakeRedisClient().(redis.UniversalClient)
	defer client.Close()
	for _, thread := range threads {
		b.wait(t, func() bool {
			n, err := client.Exists(b.ctx, "tb:{"+string(thread)+"}:lease").Result()
			if err != nil {
				t.Fatal(err)
			}
			return n == 1
		})
	}
}

// A turn that waits in line can be stopped there, and what else comes in that
// time is in it.
func TestStopInLine(t *testing.T) {
	t.Parallel()
	const first, second, third = sessions.ThreadID("test:first"), sessions.ThreadID("test:second"), sessions.ThreadID("test:third")
	b := newBench(t, agenttest.Words)
	m := b.host(t, "one", func(c *worker.Config) { c.Concurrency = 1 })
	b.send(t, first, "```\nawait go\n```")
	b.until(t, first, func(ev sessions.Event) bool { _, ok := ev.Body.(*sessions.CellStarted); return ok })
	b.send(t, second, "```\nprint second\n```")
	b.send(t, third, "say one")
	b.held(t, second, third)
	b.send(t, second, "!stop")
	if end, log := b.finished(t, second, 1); end.Status != sessions.TurnStopped || printed(log, 1) != "" {
		t.Errorf("ended as %s: %s", end.Status, kinds(log))
	}
	b.send(t, third, "say two")
	b.put(t, m, first, "go", "")
	_, log := b.finished(t, third, 1)
	for _, ev := range log {
		if start, ok := ev.Body.(*sessions.TurnStarted); ok && len(start.Messages) != 2 {
			t.Errorf("the turn took up %v", start.Messages)
		}
	}
}

// One person's many threads hold up that person alone.
func TestFlood(t *testing.T) {
	t.Parallel()
	const flood = 60
	b := newBench(t, agenttest.Words)
	m := b.host(t, "one", func(c *worker.Config) { c.Concurrency = 2 })
	send := func(user string, thread sessions.ThreadID, text string) {
		t.Helper()
		message := bots.Message{Thread: thread, User: sessions.User{ID: user, Name: user}, Text: text}
		if _, err := b.intake.Submit(b.ctx, message); err != nil {
			t.Fatal(err)
		}
	}
	var eves []sessions.ThreadID
	for i := range flood {
		eves = append(eves, sessions.NewThreadID("test", fmt.Sprintf("eve%d", i)))
		send("eve", eves[i], "```\nprint begun\nawait go\n```")
	}
	b.held(t, eves...)
	var running []string
	b.wait(t, func() bool { running, _ = m.threads(t); return len(running) == 2 })
	send("bob", "test:bob", "```\nprint hello\n```")
	b.held(t, "test:bob")
	b.put(t, m, sessions.ThreadID(running[0]), "go", "")
	if _, log := b.finished(t, "test:bob", 1); printed(log, 1) != "hello\n" {
		t.Errorf("got %s", kinds(log))
	}
	if awake, _ := m.threads(t); len(awake) > 4 { // the two, bob's, and the one after it
		t.Errorf("before bob's turn came those of %v", awake)
	}
}
