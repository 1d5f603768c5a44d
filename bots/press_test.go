package bots_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"threadbook/bots"
	"threadbook/sessions"
	"threadbook/sessions/redisstore"
)

// pressed is an intake on a real store whose thread has one turn that has
// ended, with a cell and a question, and one that runs.
func pressed(t *testing.T) *bots.Intake {
	private, err := redisstore.StartPrivate(t.Context(), t.TempDir(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { private.Close() })
	store, err := redisstore.Open(private.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	in := &bots.Intake{Store: store, Wake: func(context.Context, sessions.ThreadID) error { return nil }, Log: slog.New(slog.DiscardHandler)}
	lease, err := store.Lease(t.Context(), thread, "test")
	if err != nil {
		t.Fatal(err)
	}
	write := func(turn int64, bodies ...sessions.Body) {
		if _, err := lease.Append(t.Context(), turn, bodies...); err != nil {
			t.Fatal(err)
		}
	}
	say := func(m bots.Message) {
		m.Thread, m.User = thread, sessions.User{ID: "ada"}
		if _, err := in.Submit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	say(bots.Message{Text: "plot it", Key: "1"})
	write(1, &sessions.TurnStarted{Messages: []int64{1}},
		&sessions.CellStarted{Cell: 1, Language: "python", Code: "s = '```'"},
		&sessions.CellFinished{Cell: 1, Status: "ok"},
		&sessions.Question{ID: "q", Text: "Which?", Options: []string{"left", "right"}},
		&sessions.TurnFinished{Status: sessions.TurnOK})
	say(bots.Message{Text: "and now", Key: "2"})
	say(bots.Message{Text: "and then", Key: "2a", Edits: "2"})
	write(2, &sessions.TurnStarted{Messages: []int64{7}})
	say(bots.Message{Text: "plot that", Key: "3", Edits: "1"})
	say(bots.Message{Text: "later", Key: "4"})
	return in
}

func TestPress(t *testing.T) {
	in := pressed(t)
	for _, c := range []struct {
		action bots.Action
		value  string
		want   string // what is submitted
		says   string // to who pressed, or as the error
	}{
		{bots.ActionStop, "2", "!stop", ""},
		{bots.ActionStop, "1", "", "ended already"},
		{bots.ActionStop, "9", "", "ended already"},
		{bots.ActionStop, "3", "!stop", ""}, // it stands in line
		{bots.ActionAgain, "1", "plot it", ""},
		{bots.ActionAgain, "9", "", "nothing of that run"},
		{bots.ActionEdit, "0/10", "plot that", ""},
		{bots.ActionAgain, "2", "and then", ""},
		{bots.ActionEdit, "0/3", "", "nothing of that run"},
		{bots.ActionRerun, "1", "!rerun", ""},
		{bots.ActionNotebook, "1", "!export", ""},
		{bots.ActionFiles, "1", "!files", ""},
		{bots.ActionAnswer, "1/1", "right", ""},
		{bots.ActionAnswer, "1/2", "", "not there any more"},
		{bots.ActionCode, "1", "", "````python\ns = '```'\n````"},
		{"dance", "1", "", "not there any more"},
		{bots.ActionAgain, "one", "", "nothing that threadbook knows"},
	} {
		key := string(c.action) + c.value
		got, err := in.Press(t.Context(), bots.Press{Thread: thread, User: sessions.User{ID: "bob"}, Action: c.action, Value: c.value, Key: key})
		if said := got + sessions.TextOf(err); !strings.Contains(said, c.says) || c.says == "" && said != "" {
			t.Errorf("%s %s: it says %q, want %q", c.action, c.value, said, c.says)
		}
		log, err := in.Store.Read(t.Context(), thread, 0, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		submitted := ""
		for _, ev := range log {
			if m, ok := ev.Body.(*sessions.Message); ok && m.Key == key {
				submitted = m.Text
			}
		}
		if submitted != c.want {
			t.Errorf("%s %s: it submitted %q, want %q", c.action, c.value, submitted, c.want)
		}
	}
	for _, value := range []string{"1", "0/10"} { // a turn, and the offer to run an edit
		authors, err := in.Authors(t.Context(), thread, value)
		if err != nil || len(authors) != 1 || authors[0].ID != "ada" {
			t.Errorf("the authors of %s are %v, %v", value, authors, err)
		}
	}
}
