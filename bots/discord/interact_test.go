package discord_test

import (
	"fmt"
	"strings"
	"testing"

	"threadbook/bots/discord/discordtest"
	"threadbook/sessions"
)

const (
	byCommand = 2
	byPress   = 3
	byForm    = 5
)

func slash(name string, options ...any) map[string]any {
	return map[string]any{"id": "1", "name": name, "type": 1, "options": options}
}

// answered waits for the answer to an interaction.
func (r *rig) answered(id string) discordtest.Interaction {
	r.t.Helper()
	r.await("an answer", func() bool {
		it := r.srv.Interaction(id)
		return len(it.Answers) > 0 || it.Deleted
	})
	return r.srv.Interaction(id)
}

func TestAsk(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Interact(byCommand, discordtest.ChannelID, discordtest.UserID, "0", slash("ask", map[string]any{"name": "question", "type": 3, "value": "how @everyone?"}))
	it := r.answered(id)
	threads := r.srv.Threads()
	if it.Type != 5 || len(threads) != 1 || it.Answers[0] != "Here: <#"+threads[0].ID+">" {
		t.Fatalf("got %+v, threads %+v", it, threads)
	}
	m := r.messages(guildThread(threads[0].ID), 1)[0]
	if m.Text != "how @everyone?" || m.User.Name != "Ada" || m.Key != "discord:"+threads[0].ID {
		t.Errorf("got %+v", m)
	}
	shown := r.srv.ByBot(discordtest.ChannelID)[0]
	if !strings.Contains(shown.Content, "**Ada** asks: how @\u200beveryone?") || len(shown.Pings) != 0 {
		t.Errorf("shown %+v", shown)
	}
	// In a thread it stays there.
	id = r.srv.Interact(byCommand, threads[0].ID, discordtest.OtherID, "0", slash("ask", map[string]any{"name": "question", "type": 3, "value": "and?"}))
	if it := r.answered(id); !it.Deleted {
		t.Errorf("got %+v", it)
	}
	if m := r.messages(guildThread(threads[0].ID), 2)[1]; m.Text != "and?" || m.User.Name != "Bob" {
		t.Errorf("got %+v", m)
	}
}

func TestWordCommands(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	for _, name := range []string{"files", "help"} {
		id := r.srv.Interact(byCommand, discordtest.ChannelID, discordtest.UserID, "0", slash(name))
		if it := r.answered(id); len(it.Answers) != 1 {
			t.Errorf("%s in a channel: %+v", name, it)
		}
	}
	first := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " hi"})
	r.messages(guildThread(first), 1)
	for i, name := range []string{"files", "export", "stop", "reset", "usage", "help"} {
		id := r.srv.Interact(byCommand, first, discordtest.UserID, "0", slash(name))
		if it := r.answered(id); !it.Deleted {
			t.Errorf("%s: %+v", name, it)
		}
		if m := r.messages(guildThread(first), i+2)[i+1]; m.Text != "!"+name {
			t.Errorf("%s said %q", name, m.Text)
		}
	}
}

func TestRunForm(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Interact(byCommand, discordtest.DMID, discordtest.UserID, "", slash("run"))
	r.await("the form", func() bool { return r.srv.Interaction(id).Type == 9 })
	id = r.srv.Interact(byForm, discordtest.DMID, discordtest.UserID, "", map[string]any{"custom_id": "tb:run", "components": []any{
		map[string]any{"type": 18, "id": 1, "component": map[string]any{"type": 3, "id": 2, "custom_id": "language", "values": []string{"r"}}},
		map[string]any{"type": 18, "id": 3, "component": map[string]any{"type": 4, "id": 4, "custom_id": "code", "value": "x <- 1\nx"}},
	}})
	if it := r.answered(id); !it.Deleted {
		t.Errorf("got %+v", it)
	}
	if m := r.messages("discord:@me/"+discordtest.DMID, 1)[0]; m.Text != "```r\nx <- 1\nx\n```" {
		t.Errorf("got %q", m.Text)
	}
}

func TestMessageCommands(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{NoContent: true}).listen()
	target := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: "try\n```py\n1+1\n```\nor `this`", Files: []discordtest.File{{Name: "a.csv", Data: []byte("x")}}})
	plain := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: "nothing here"})
	on := func(name, target string) discordtest.Interaction {
		return r.answered(r.srv.Interact(byCommand, discordtest.ChannelID, discordtest.OtherID, "0", map[string]any{"id": "1", "name": name, "type": 3, "target_id": target}))
	}
	for _, name := range []string{"Run this code", "Analyse these files"} {
		if it := on(name, plain); !strings.Contains(it.Answers[0], "no ") {
			t.Errorf("%s: %+v", name, it)
		}
		if it := on(name, target); it.Answers[0] != "Here: <#"+target+">" {
			t.Errorf("%s: %+v", name, it)
		}
	}
	list := r.messages(guildThread(target), 2)
	if list[0].Text != "```py\n1+1\n```" || len(list[0].Files) != 0 || len(list[1].Files) != 1 || list[1].Files[0].Error != "" || list[1].User.Name != "Bob" {
		t.Errorf("got %+v, %+v", list[0], list[1])
	}
}

// turn appends a turn to a thread's log.
func (r *rig) turn(thread sessions.ThreadID, ends bool) {
	r.t.Helper()
	lease, err := r.store.Lease(r.t.Context(), thread, "test")
	if err != nil {
		r.t.Fatal(err)
	}
	bodies := []sessions.Body{&sessions.TurnStarted{Messages: []int64{1}}, &sessions.CellStarted{Cell: 1, Language: "python", Code: "print('" + strings.Repeat("long ", 600) + "')"}}
	if ends {
		bodies = append(bodies, &sessions.TurnFinished{Status: sessions.TurnOK})
	}
	if _, err := lease.Append(r.t.Context(), 1, bodies...); err != nil {
		r.t.Fatal(err)
	}
	if err := lease.Drop(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func TestPresses(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	first := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " plot"})
	thread := guildThread(first)
	r.messages(thread, 1)
	r.turn(thread, false)
	press := func(by, permissions, id string) string {
		return r.srv.Interact(byPress, first, by, permissions, map[string]any{"custom_id": id, "component_type": 2})
	}
	logged := 1
	for i, c := range []struct {
		by, permissions, id string
		text                string // what it says in the thread
		answer              string // what the presser is told
	}{
		{discordtest.OtherID, "0", "tb:stop:1", "", "Only who asked"},
		{discordtest.OtherID, "garbage", "tb:stop:1", "", "Only who asked"},
		{discordtest.OtherID, fmt.Sprint(1 << 13), "tb:stop:1", "!stop", ""},
		{discordtest.OtherID, fmt.Sprint(1 << 34), "tb:stop:1", "!stop", ""},
		{discordtest.OtherID, fmt.Sprint(1 << 3), "tb:rerun:1", "!rerun", ""},
		{discordtest.UserID, "0", "tb:stop:1", "!stop", ""},
		{discordtest.UserID, "0", "tb:again:1", "plot", ""},
		{discordtest.OtherID, "0", "tb:again:1", "", "Only who asked"},
		{discordtest.OtherID, "0", "tb:files:1", "!files", ""},
		{discordtest.OtherID, "0", "tb:notebook:1", "!export", ""},
		{discordtest.OtherID, "0", "tb:code:1", "", "Cell 1"},
		{discordtest.UserID, "0", "tb:stop:7", "", "has ended already"},
		{discordtest.UserID, "0", "tb:nonsense:1", "", "not there any more"},
		{discordtest.UserID, "0", "else:1", "", "not there any more"},
		{discordtest.UserID, "0", "tb:stop:", "", "nothing that threadbook knows"},
	} {
		id := press(c.by, c.permissions, c.id)
		if c.text != "" {
			logged++
			if m := r.messages(thread, logged)[logged-1]; m.Text != c.text {
				t.Errorf("%d: said %q, want %q", i, m.Text, c.text)
			}
		}
		if c.answer != "" {
			it := r.answered(id)
			if !strings.Contains(it.Answers[0], c.answer) {
				t.Errorf("%d: told %q", i, it.Answers)
			}
			if strings.HasPrefix(c.id, "tb:code") && (len(it.Files) != 1 || !strings.Contains(string(it.Files[0].Data), strings.Repeat("long ", 600))) {
				t.Errorf("%d: the whole code is not there: %+v", i, it.Files)
			}
		} else if it := r.srv.Interaction(id); it.Type != 6 {
			t.Errorf("%d: answered with %d", i, it.Type)
		}
	}
	r.barrier(thread, first, logged)
}

// TestLateAcknowledgements loses the answers to acknowledgements, and refuses
// them: the work is done all the same.
func TestLateAcknowledgements(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	first := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " plot"})
	thread := guildThread(first)
	r.messages(thread, 1)
	r.srv.Fail(discordtest.Fault{Path: "/callback", Times: 1, Lost: true}) // the second try gets 40060
	id := r.srv.Interact(byCommand, first, discordtest.UserID, "0", slash("usage"))
	r.messages(thread, 2)
	if it := r.answered(id); !it.Deleted {
		t.Errorf("got %+v", it)
	}
	r.srv.Fail(discordtest.Fault{Path: "/callback", Times: 1, Status: 404, Code: 10062})
	r.srv.Interact(byCommand, first, discordtest.UserID, "0", slash("files"))
	r.messages(thread, 3)
}

func TestAskWithoutPermission(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	r.srv.Change(discordtest.ChannelID, func(c *discordtest.Channel) { c.Denied = 1 << 11 })
	id := r.srv.Interact(byCommand, discordtest.ChannelID, discordtest.UserID, "0", slash("ask", map[string]any{"name": "question", "type": 3, "value": "x"}))
	if it := r.answered(id); !strings.Contains(it.Answers[0], "permissions") {
		t.Errorf("got %+v", it)
	}
}
