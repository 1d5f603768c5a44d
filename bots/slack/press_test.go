package slack_test

import (
	"encoding/json"
	"strings"
	"testing"

	"threadbook/bots"
	"threadbook/bots/slack/slacktest"
	"threadbook/sessions"
)

// turn puts a running turn into a thread, and its live post into Slack.
func (f *fixture) turn(t *testing.T, root string, bodies ...sessions.Body) (ts string) {
	t.Helper()
	thread := f.thread(general, root)
	lease, err := f.store.Lease(f.ctx, thread, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lease.Drop(f.ctx) }()
	all := append([]sessions.Body{&sessions.TurnStarted{Messages: []int64{1}}}, bodies...)
	if _, err := lease.Append(f.ctx, 1, all...); err != nil {
		t.Fatal(err)
	}
	ts, err = f.Post(f.ctx, bots.Post{Thread: thread, Turn: 1, Part: "live", Status: "running", Buttons: []bots.Button{
		{Action: bots.ActionStop, Label: "Stop", Value: "1", Danger: true}, {Action: bots.ActionCode, Label: "Show code", Value: "1"},
		{Action: bots.ActionAnswer, Label: "yes", Value: "1/0"}, {Action: bots.ActionAnswer, Label: "no", Value: "1/1"},
	}}, "")
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func TestPresses(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	m := f.say(t, slacktest.Message{Channel: general, User: ada, Text: mention("sum")})
	code := "print(1)\n" + strings.Repeat("x = 1 < 2\n", 1500)
	post := f.turn(t, m.TS, &sessions.CellStarted{Cell: 1, Language: "python", Code: code},
		&sessions.Question{ID: "q", Text: "which?", Options: []string{"yes", "no"}})

	stop := f.fake.Press(ada, general, post, "tb:stop")
	f.send(t, slacktest.Interactive, stop)
	f.send(t, slacktest.Interactive, stop) // twice is once
	f.wantTexts(t, general, m.TS, "sum | !stop")
	f.send(t, slacktest.Interactive, f.fake.Press(ada, general, post, "tb:answer:1"))
	f.wantTexts(t, general, m.TS, "sum | !stop | no")

	f.send(t, slacktest.Interactive, f.fake.Press(ada, general, post, "tb:code"))
	told := f.fake.Ephemerals()
	all := ""
	for _, e := range told {
		all += string(e.Blocks)
		if e.User != ada || e.ThreadTS != m.TS {
			t.Errorf("told %+v", e)
		}
	}
	if len(told) < 2 || strings.Count(all, "x = 1") != 1500 {
		t.Errorf("the code came in %d parts with %d lines", len(told), strings.Count(all, "x = 1"))
	}

	for user, want := range map[string]string{guest: "guests", alien: "another"} {
		before := len(f.fake.Ephemerals())
		f.send(t, slacktest.Interactive, f.fake.Press(user, general, post, "tb:stop"))
		told := f.fake.Ephemerals()[before:]
		if len(told) != 1 || told[0].User != user || !strings.Contains(told[0].Text, want) {
			t.Errorf("%s was told %+v", user, told)
		}
	}
	f.wantTexts(t, general, m.TS, "sum | !stop | no")

	f.turn(t, m.TS, &sessions.TurnFinished{Status: sessions.TurnStopped})
	before := len(f.fake.Ephemerals())
	f.send(t, slacktest.Interactive, f.fake.Press(ada, general, post, "tb:stop"))
	if told := f.fake.Ephemerals()[before:]; len(told) != 1 || !strings.Contains(told[0].Text, "ended") {
		t.Errorf("a stale press was told %+v", told)
	}
}

func TestSlacksOwnStop(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	m := f.say(t, slacktest.Message{Channel: direct, User: ada, Text: "sum"})
	stop := f.fake.Envelope(map[string]any{"type": "agent_session_stopped", "channel": direct, "thread_ts": m.TS, "user": ada}, nil)
	f.send(t, slacktest.EventsAPI, stop)
	f.send(t, slacktest.EventsAPI, stop)
	f.wantTexts(t, direct, m.TS, "sum | !stop")
}

func TestShortcuts(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	id := f.fake.AddFile(slacktest.File{Name: "a.csv", MIME: "text/csv", Bytes: []byte("1")})
	m := f.fake.Write(slacktest.Message{Channel: general, User: guest, Text: "try ```python\nprint(1 &lt; 2)\n``` please"})
	f.send(t, slacktest.Interactive, f.fake.Shortcut(ada, general, m.TS, "run_code"))
	f.wantTexts(t, general, m.TS, "```python\nprint(1 < 2)\n```")
	m = f.fake.Write(slacktest.Message{Channel: general, User: ada, Text: "print(2)"})
	f.send(t, slacktest.Interactive, f.fake.Shortcut(ada, general, m.TS, "run_code"))
	f.wantTexts(t, general, m.TS, "```\nprint(2)\n```")
	m = f.fake.Write(slacktest.Message{Channel: general, User: ada, Text: "our sales", Files: []string{id}})
	f.send(t, slacktest.Interactive, f.fake.Shortcut(ada, general, m.TS, "analyse_files"))
	f.wantTexts(t, general, m.TS, "Please analyse these files.\n\nour sales [a.csv]")
	for _, c := range []struct{ user, channel, want string }{{ada, general, "no files"}, {guest, general, "guests"}, {ada, "C0OUT", "invite"}, {ada, "C0SHARED", "shared"}} {
		m = f.fake.Write(slacktest.Message{Channel: c.channel, User: ada, Text: "nothing"})
		f.send(t, slacktest.Interactive, f.fake.Shortcut(c.user, c.channel, m.TS, "analyse_files"))
		f.wantTexts(t, c.channel, m.TS, "")
		replies := f.fake.Replies()
		if last := replies[len(replies)-1]; last.Type != "ephemeral" || !strings.Contains(last.Text, c.want) {
			t.Errorf("%+v was told %+v", c, last)
		}
	}
}

func TestSlashCommand(t *testing.T) {
	t.Parallel()
	f := startOn(t, ownRedis(t), slacktest.Options{}, withSocket)
	ask := func(user, channel, text string) string {
		var got struct {
			Type string `json:"response_type"`
			Text string `json:"text"`
		}
		body := f.send(t, slacktest.SlashCommands, f.fake.Command(user, channel, text))
		if len(body) == 0 {
			return ""
		}
		if json.Unmarshal(body, &got) != nil || got.Type != "ephemeral" {
			t.Errorf("%q was answered %s", text, body)
		}
		return got.Text
	}
	for _, c := range []struct{ user, channel, text, want string }{
		{ada, general, "", "!files"}, {ada, general, "help", "!files"}, {ada, general, "recent", "no threads yet"}, {ada, general, "usage", "0 turns"},
		{guest, general, "sum", "guests"}, {ada, "C0OUT", "sum", "invite"}, {ada, "C0SHARED", "sum", "shared"},
	} {
		if got := ask(c.user, c.channel, c.text); !strings.Contains(got, c.want) {
			t.Errorf("%q of %s in %s was answered %q", c.text, c.user, c.channel, got)
		}
	}
	if got := ask(ada, general, "what is 1 &lt; 2? <!channel>"); got != "" {
		t.Errorf("a question was answered %q", got)
	}
	posts := f.fake.Channel(general)
	if len(posts) != 1 || strings.Contains(posts[0].Text, "<!") || posts[0].Unfurls {
		t.Fatalf("posted %+v", posts)
	}
	f.wantTexts(t, general, posts[0].TS, "what is 1 < 2? @channel")
	if got := ask(ada, general, "recent"); !strings.Contains(got, "archives/"+general+"/p"+strings.ReplaceAll(posts[0].TS, ".", "")) {
		t.Errorf("recent is %q", got)
	}
	if got := ask(robot, general, "recent"); strings.Contains(got, "1 &lt; 2") {
		t.Errorf("others see %q", got)
	}
	// Over the socket the answer comes with the acknowledgement.
	f.run(t)
	d := f.fake.Deliver(slacktest.SlashCommands, f.fake.Command(ada, general, "help"))
	f.wantAcked(t, d)
	if !strings.Contains(string(d.Reply), "!files") {
		t.Errorf("the socket's answer is %s", d.Reply)
	}
}

func TestHome(t *testing.T) {
	t.Parallel()
	f := startOn(t, ownRedis(t), slacktest.Options{}, nil)
	f.say(t, slacktest.Message{Channel: direct, User: ada, Text: "my <https://a.b|title>"})
	for user, want := range map[string]string{ada: "title", guest: "guests"} {
		f.event(t, map[string]any{"type": "app_home_opened", "user": user, "tab": "home", "channel": direct})
		if home := string(f.fake.Home(user)); !strings.Contains(home, want) || strings.Contains(home, "title") != (user == ada) {
			t.Errorf("%s sees %s", user, home)
		}
	}
}
