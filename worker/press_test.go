package worker_test

import (
	"testing"

	"threadbook/bots"
	"threadbook/sessions"
	"threadbook/worker"
	"threadbook/worker/agenttest"
)

// "Run again" asks what the turn was asked: a message's last form.
func TestAgainAsksTheEdit(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:again")
	b := newBench(t, agenttest.Words)
	ada := sessions.User{ID: "ada"}
	for _, m := range []bots.Message{
		{Thread: thread, User: ada, Text: "say first", Key: "a"},
		{Thread: thread, User: ada, Text: "say second", Key: "a2", Edits: "a"}, // before a turn took it up
	} {
		if _, err := b.intake.Submit(b.ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	b.work(t)
	b.finished(t, thread, 1)
	if _, err := b.intake.Press(b.ctx, bots.Press{Thread: thread, User: ada, Action: bots.ActionAgain, Value: "1", Key: "p"}); err != nil {
		t.Fatal(err)
	}
	_, log := b.finished(t, thread, 2)
	for _, ev := range log {
		if m, ok := ev.Body.(*sessions.Message); ok && m.Key == "p" && m.Text != "say second" {
			t.Errorf("turn 1 was asked \"say second\"; Run again asked %q", m.Text)
		}
	}
}

// The Stop button under "Waiting for a free place" does what it says.
func TestStopButtonInLine(t *testing.T) {
	t.Parallel()
	const first, second = sessions.ThreadID("test:first"), sessions.ThreadID("test:second")
	b := newBench(t, agenttest.Words)
	m := b.host(t, "one", func(c *worker.Config) { c.Concurrency = 1 })
	b.send(t, first, "```\nawait go\n```")
	b.until(t, first, func(ev sessions.Event) bool { _, ok := ev.Body.(*sessions.CellStarted); return ok })
	b.send(t, second, "say hello")
	b.held(t, second)
	// The presenter's post for it is of turn 1, the next one; so is its button.
	_, err := b.intake.Press(b.ctx, bots.Press{Thread: second, User: sessions.User{ID: "ada"}, Action: bots.ActionStop, Value: "1", Key: "press"})
	if err != nil {
		t.Errorf("pressing Stop in line: %s", sessions.TextOf(err))
	}
	b.put(t, m, first, "go", "")
}
