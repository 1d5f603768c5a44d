package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"threadbook/sessions"
	"threadbook/worker/agent"
)

// bench is a thread with a scripted model and one tool.
type bench struct {
	log     []sessions.Event
	replies []sessions.Reply // what the model says, one after the other
	asked   []agent.Request
	ran     []string // arguments of the calls that were run
	tooLong int      // how many times the model finds it too long
	runErr  error
	paused  error
}

func (b *bench) Complete(_ context.Context, req agent.Request, _ func(agent.Partial)) (sessions.Reply, error) {
	if b.tooLong > 0 {
		b.tooLong--
		return sessions.Reply{}, fmt.Errorf("%w: 9000 tokens", agent.ErrTooLong)
	}
	b.asked = append(b.asked, req)
	if len(b.replies) == 0 {
		return sessions.Reply{}, errors.New("the script is at its end")
	}
	r := b.replies[0]
	b.replies = b.replies[1:]
	return r, nil
}

func (b *bench) record(turn int64) func(context.Context, ...sessions.Body) error {
	return func(_ context.Context, bodies ...sessions.Body) error {
		for _, body := range bodies {
			b.log = append(b.log, sessions.Event{Seq: int64(len(b.log) + 1), Turn: turn, Body: body})
		}
		return nil
	}
}

func (b *bench) run(t *testing.T, turn int64) (sessions.TurnStatus, error) {
	t.Helper()
	tool := agent.Tool{Name: "echo", Run: agent.Typed(func(_ context.Context, call sessions.Call, args struct{ Say string }) (agent.Result, error) {
		b.ran = append(b.ran, args.Say)
		return agent.Result{Text: "said " + args.Say, Ends: args.Say == "bye"}, b.runErr
	})}
	loop := agent.Loop{Model: b, System: "sys", Tools: []agent.Tool{tool}, Steps: 3, Record: b.record(turn), Pause: func() error { return b.paused }}
	return loop.Run(t.Context(), append([]sessions.Event(nil), b.log...), turn)
}

// say begins a turn with a message.
func (b *bench) say(t *testing.T, turn int64, text string) {
	t.Helper()
	b.record(0)(t.Context(), &sessions.Message{User: sessions.User{Name: "Ada"}, Text: text})
	b.record(turn)(t.Context(), &sessions.TurnStarted{Messages: []int64{int64(len(b.log))}})
}

func calls(says ...string) sessions.Reply {
	var r sessions.Reply
	for i, s := range says {
		r.Calls = append(r.Calls, sessions.Call{ID: fmt.Sprintf("c%d", i), Name: "echo", Arguments: fmt.Sprintf(`{"Say":%q}`, s)})
	}
	return r
}

// shape is a conversation in short: role and text of each message.
func shape(messages []agent.Message) []string {
	var lines []string
	for _, m := range messages {
		line := string(m.Role) + ": " + m.Text
		for _, c := range m.Calls {
			line += " call " + c.ID
		}
		lines = append(lines, line)
	}
	return lines
}

func TestLoop(t *testing.T) {
	b := &bench{replies: []sessions.Reply{calls("a", "b"), {Text: "done"}}}
	b.say(t, 1, "hi")
	status, err := b.run(t, 1)
	if status != sessions.TurnOK || err != nil {
		t.Fatalf("got %s, %v", status, err)
	}
	want := []string{"user: Ada: hi", "assistant:  call c0 call c1", "tool: said a", "tool: said b"}
	if diff := cmp.Diff(want, shape(b.asked[1].Messages)); diff != "" {
		t.Error(diff)
	}
	if b.asked[1].System != "sys" {
		t.Errorf("the system prompt is %q", b.asked[1].System)
	}
}

func TestSteps(t *testing.T) {
	b := &bench{replies: []sessions.Reply{calls("a"), calls("b"), calls("c"), {Text: "never"}}}
	b.say(t, 1, "hi")
	if status, err := b.run(t, 1); status != sessions.TurnOverBudget || err != nil {
		t.Errorf("got %s, %v", status, err)
	}
	if len(b.ran) != 3 {
		t.Errorf("%d calls were run, want all three", len(b.ran))
	}
}

func TestResultThatEnds(t *testing.T) {
	b := &bench{replies: []sessions.Reply{calls("bye")}}
	b.say(t, 1, "hi")
	if status, err := b.run(t, 1); status != sessions.TurnOK || err != nil || len(b.asked) != 1 {
		t.Errorf("got %s, %v after %d requests", status, err, len(b.asked))
	}
}

func TestBadCalls(t *testing.T) {
	b := &bench{replies: []sessions.Reply{{Calls: []sessions.Call{
		{ID: "1", Name: "echo", Arguments: `{"Say":`}, {ID: "2", Name: "delete_internet", Arguments: `{}`},
	}}, {Text: "sorry"}}}
	b.say(t, 1, "hi")
	if _, err := b.run(t, 1); err != nil {
		t.Fatal(err)
	}
	got := shape(b.asked[1].Messages)
	if !strings.Contains(got[2], "not the JSON") || !strings.Contains(got[3], `no tool "delete_internet"`) || len(b.ran) != 0 {
		t.Errorf("got %q, ran %q", got, b.ran)
	}
}

// Our own failure leaves the loop and records no result, so that the call is
// run again when the turn is taken up.
func TestOurFailure(t *testing.T) {
	b := &bench{replies: []sessions.Reply{calls("a"), {Text: "done"}}, runErr: errors.New("sandbox on fire")}
	b.say(t, 1, "hi")
	if _, err := b.run(t, 1); err == nil {
		t.Fatal("no error")
	}
	b.runErr = nil
	if status, err := b.run(t, 1); status != sessions.TurnOK || err != nil {
		t.Fatalf("taken up: %s, %v", status, err)
	}
	if diff := cmp.Diff([]string{"a", "a"}, b.ran); diff != "" {
		t.Error(diff)
	}
}

// A turn that is cut off at any event goes on to the same end, and runs and
// asks nothing twice.
func TestResume(t *testing.T) {
	whole := &bench{replies: []sessions.Reply{calls("a", "b"), calls("c"), {Text: "done"}}}
	whole.say(t, 1, "hi")
	if _, err := whole.run(t, 1); err != nil {
		t.Fatal(err)
	}
	for cut := 2; cut <= len(whole.log); cut++ {
		b := &bench{log: append([]sessions.Event(nil), whole.log[:cut]...)}
		replies := []sessions.Reply{calls("a", "b"), calls("c"), {Text: "done"}}
		for _, ev := range b.log {
			if _, ok := ev.Body.(*sessions.Reply); ok {
				replies = replies[1:]
			}
		}
		b.replies = replies
		if status, err := b.run(t, 1); status != sessions.TurnOK || err != nil {
			t.Fatalf("cut after %d events: %s, %v", cut, status, err)
		}
		if diff := cmp.Diff(whole.log, b.log); diff != "" {
			t.Errorf("cut after %d events: %s", cut, diff)
		}
	}
}

func TestPause(t *testing.T) {
	b := &bench{replies: []sessions.Reply{calls("a")}, paused: errors.New("shutting down")}
	b.say(t, 1, "hi")
	if _, err := b.run(t, 1); !errors.Is(err, b.paused) || len(b.asked) != 0 {
		t.Errorf("got %v after %d requests", err, len(b.asked))
	}
}

// Calls that an earlier turn left open are answered, and what happened in
// between is told after them.
func TestOpenCallsOfEarlierTurns(t *testing.T) {
	b := &bench{replies: []sessions.Reply{{Text: "ok"}}}
	b.say(t, 1, "hi")
	one := calls("a", "b")
	b.record(1)(t.Context(), &one, &sessions.ToolResult{Call: "c0", Text: "said a"}, &sessions.Notice{Text: "the sandbox was lost"},
		&sessions.TurnFinished{Status: sessions.TurnStopped})
	b.say(t, 2, "again")
	if _, err := b.run(t, 2); err != nil {
		t.Fatal(err)
	}
	want := []string{"user: Ada: hi", "assistant:  call c0 call c1", "tool: said a", "tool: Not run: the turn had ended.",
		"user: [threadbook: the sandbox was lost]", `user: [threadbook: The turn ended as "stopped".]`, "user: Ada: again"}
	if diff := cmp.Diff(want, shape(b.asked[0].Messages)); diff != "" {
		t.Error(diff)
	}
}

func TestCellsOfPeopleAreTold(t *testing.T) {
	b := &bench{replies: []sessions.Reply{{Text: "ok"}}}
	b.record(1)(t.Context(), &sessions.CellStarted{Cell: 1, Language: "python", Code: "x = 1\nx", By: sessions.ByUser},
		&sessions.CellOutput{Cell: 1, MIME: "text/plain", Text: "1"}, &sessions.CellFinished{Cell: 1, Status: "ok"})
	b.say(t, 2, "what is x?")
	if _, err := b.run(t, 2); err != nil {
		t.Fatal(err)
	}
	if got := b.asked[0].Messages[0].Text; !strings.Contains(got, "x = 1") || !strings.Contains(got, "\n1\n") {
		t.Errorf("got %q", got)
	}
}

// A conversation that is too long loses its oldest part, never its form.
func TestTooLong(t *testing.T) {
	b := &bench{replies: []sessions.Reply{{Text: "ok"}}, tooLong: 5}
	for turn := int64(1); turn <= 40; turn++ {
		b.say(t, turn, fmt.Sprintf("question %d", turn))
		reply := calls("x")
		b.record(turn)(t.Context(), &reply, &sessions.ToolResult{Call: "c0", Text: strings.Repeat("x", 5000)}, &sessions.Reply{Text: strings.Repeat("y", 3000)})
	}
	b.say(t, 41, "now?")
	if _, err := b.run(t, 41); err != nil {
		t.Fatal(err)
	}
	messages := b.asked[0].Messages
	total := 0
	for i, m := range messages {
		total += len(m.Text)
		if m.Role == agent.ToolRole && len(messages[i-1].Calls) == 0 {
			t.Errorf("message %d is a result without a call", i)
		}
	}
	if total > 16<<10 || messages[0].Role != agent.User || messages[len(messages)-1].Text != "Ada: now?" {
		t.Errorf("%d bytes, first %q, last %q", total, messages[0].Text, messages[len(messages)-1].Text)
	}
	b = &bench{tooLong: 100}
	b.say(t, 1, "hi")
	if _, err := b.run(t, 1); sessions.CodeOf(err) != sessions.TooLarge {
		t.Errorf("got %v, want the code too_large", err)
	}
}

func TestShorten(t *testing.T) {
	for _, n := range []int{0, 1, 10, 100, 999, 1000, 1001, 5000} {
		text := strings.Repeat("é", n)
		got := agent.Shorten(text, 1000)
		if len(got) > 1000 || len(text) <= 1000 && got != text || !strings.HasPrefix(got, text[:min(len(text), 2)]) {
			t.Errorf("%d bytes became %d: %q", len(text), len(got), got)
		}
	}
}
