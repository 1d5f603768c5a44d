package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"threadbook/bots/discord"
	"threadbook/bots/discord/discordtest"
	"threadbook/bots/slack"
	"threadbook/bots/slack/slacktest"
	"threadbook/sessions"
)

// said is a message of the bot's as people see it: its words, wherever they
// stand in its payload, and its files' bytes by name.
type said struct {
	words string
	files map[string][]byte
	edits int
	id    string
	at    time.Time
}

// room is a thread on a stand-in of a chat platform, in which tests talk to
// the bot.
type room interface {
	// config is what threadbook needs to be on the platform.
	config(Config) Config
	// begin opens the thread with a mention of the bot, say continues it. They
	// return the key under which the log has the message.
	begin(text string, files map[string][]byte) string
	say(by, text string) string
	// mention is how somebody is called.
	mention(who string) string
	// press presses the button of the bot's latest message that has it.
	press(by, action string)
	// said are the bot's messages in the thread, oldest first.
	said() []said
	// until waits for a condition.
	until(ctx context.Context, ok func() bool) bool
	thread() sessions.ThreadID
	// storm makes the platform refuse the next posts, and lose answers.
	storm()
}

// rooms runs a scenario on each platform.
func rooms(t *testing.T, scenario func(t *testing.T, r room)) {
	t.Run("slack", func(t *testing.T) { t.Parallel(); scenario(t, newSlackRoom(t)) })
	t.Run("slack without streams", func(t *testing.T) {
		t.Parallel()
		scenario(t, newSlackRoom(t, func(o *slacktest.Options) { o.NoStreams = "not_allowed" }))
	})
	t.Run("discord", func(t *testing.T) { t.Parallel(); scenario(t, newDiscordRoom(t)) })
}

// await waits until the bot's messages are as they should be.
func await(t *testing.T, r room, what string, ok func([]said) bool) []said {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last []said
	if !r.until(ctx, func() bool { last = r.said(); return ok(last) }) {
		for _, m := range last {
			t.Logf("%s: %.600s %d files, %d edits", m.id, m.words, len(m.files), m.edits)
		}
		t.Fatalf("never seen: %s", what)
	}
	return last
}

// has finds the message with all of the words, nil where there is none.
func has(all []said, words ...string) *said {
	for i, m := range all {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(m.words, w) }) {
			return &all[i]
		}
	}
	return nil
}

// on starts threadbook in the room.
func on(t *testing.T, r room, c Config) *running {
	t.Helper()
	p := start(t, r.config(c))
	t.Cleanup(func() { removeSandbox(t, p.cfg, p.fleet, r.thread()) })
	return p
}

// A mention with a CSV leads to its chart, its table's file and the answer, and
// all is said once.
func TestChatAnalysis(t *testing.T) {
	t.Parallel()
	rooms(t, func(t *testing.T, r room) {
		on(t, r, withWords(t, testConfig(t)))
		csv, err := os.ReadFile(weatherCSV)
		if err != nil {
			t.Fatal(err)
		}
		code := `import pandas as pd, matplotlib.pyplot as plt, os\ndf = pd.read_csv("weather.csv")\nm = df.groupby("weather").size()\n` +
			`m.plot.bar(title="Days")\nos.makedirs("outputs", exist_ok=True)\nm.to_csv("outputs/days.csv")\nplt.show()\nprint("rows", len(df))`
		r.begin("python "+code+"\nsay The **answer** is "+r.mention("all")+" in the chart.", map[string][]byte{"weather.csv": csv})
		all := await(t, r, "chart, file and answer", func(all []said) bool {
			live := has(all, "Done in")
			return live != nil && has(all, "answer", "in the chart") != nil && len(all) >= 3
		})
		figure, file := false, false
		for _, m := range all {
			for name, data := range m.files {
				figure = figure || strings.HasSuffix(name, ".png") && bytes.HasPrefix(data, []byte("\x89PNG"))
				file = file || strings.HasSuffix(name, "days.csv") && bytes.Contains(data, []byte("drizzle,"))
			}
		}
		if !figure || !file || len(all) != 3 {
			t.Errorf("figure %v, file %v, %d messages", figure, file, len(all))
		}
		if live := has(all, "rows 1461"); live == nil {
			t.Error("what the code printed is not in the live message")
		}
		for _, m := range all {
			if strings.Contains(m.words, r.mention("all")) {
				t.Errorf("a live ping: %q", m.words)
			}
		}
	})
}

// Two people write at once; both are answered, once, and the thread's variables
// are shared.
func TestChatTwoPeople(t *testing.T) {
	t.Parallel()
	rooms(t, func(t *testing.T, r room) {
		on(t, r, testConfig(t))
		r.begin("```python\nx = 20\nprint('first', x)\n```", nil)
		r.say("bob", "```python\nx += 1\nprint('second', x)\n```")
		r.say("ada", "```python\nx += 1\nprint('third', x)\n```")
		r.say("bob", r.mention("ada")+" look at that") // to somebody else
		all := await(t, r, "three answers", func(all []said) bool {
			return has(all, "third 22", "Done in") != nil && has(all, "second 21", "Done in") != nil
		})
		if len(all) != 3 || !strings.Contains(all[0].words, "first 20") || !strings.Contains(all[1].words, "second 21") {
			t.Errorf("the thread has %d messages of the bot", len(all))
		}
	})
}

// A press of Stop ends a cell; the variables stay.
func TestChatStop(t *testing.T) {
	t.Parallel()
	rooms(t, func(t *testing.T, r room) {
		on(t, r, testConfig(t))
		r.begin("```python\nimport time\nx = 1\nprint('begun', flush=True)\ntime.sleep(600)\n```", nil)
		await(t, r, "the cell runs", func(all []said) bool { return has(all, "begun") != nil })
		r.press("ada", "stop")
		await(t, r, "it has stopped", func(all []said) bool { return has(all, "begun", "Stopped in") != nil })
		r.say("ada", "```python\nprint('still', x)\n```")
		await(t, r, "the variables are there", func(all []said) bool { return has(all, "still 1") != nil })
	})
}

// An output of 100,000 characters is shown head and tail, and attached whole.
func TestChatLongOutput(t *testing.T) {
	t.Parallel()
	rooms(t, func(t *testing.T, r room) {
		on(t, r, testConfig(t))
		r.begin("```python\nfor i in range(10000):\n    print(f'{i:09d}')\n```", nil)
		all := await(t, r, "the output's head, tail and file", func(all []said) bool {
			return has(all, "000000000", "000009999", "Done in") != nil && len(all) > 1
		})
		whole := false
		for _, m := range all {
			for _, data := range m.files {
				whole = whole || bytes.Contains(data, []byte("000005000\n")) && len(data) >= 100_000
			}
		}
		if !whole || len(all) != 2 {
			t.Errorf("%d messages; the whole output is attached: %v", len(all), whole)
		}
	})
}

// A restart in the middle of a turn leaves no message out and makes none twice.
func TestChatRestart(t *testing.T) {
	t.Parallel()
	rooms(t, func(t *testing.T, r room) {
		c := withWords(t, testConfig(t))
		first := on(t, r, c)
		r.begin(`python import time\nfor i in range(60):\n    print("line", i, flush=True)\n    time.sleep(0.05)`+"\nsay all done", nil)
		await(t, r, "the cell runs", func(all []said) bool { return has(all, "line 3") != nil })
		first.stop(t)
		start(t, r.config(c))
		all := await(t, r, "the answer", func(all []said) bool { return has(all, "all done") != nil && has(all, "Done in", "line 59") != nil })
		if len(all) != 2 {
			t.Errorf("the thread has %d messages of the bot, want the live one and the answer", len(all))
		}
	})
}

// On a platform that refuses and loses answers every message is made once.
func TestChatStorm(t *testing.T) {
	t.Parallel()
	rooms(t, func(t *testing.T, r room) {
		on(t, r, withWords(t, testConfig(t)))
		r.storm()
		r.begin(`python print("calm")`+"\nsay after the storm", nil)
		all := await(t, r, "the answer", func(all []said) bool {
			return has(all, "after the storm") != nil && has(all, "calm", "Done in") != nil
		})
		if len(all) != 2 {
			t.Errorf("the thread has %d messages of the bot, want the live one and the answer", len(all))
		}
	})
}

// slackRoom is a thread in a channel of the stand-in Slack.
type slackRoom struct {
	t    testing.TB
	fake *slacktest.Server
	root string
}

const slackChannel = "C0GENERAL"

func newSlackRoom(t testing.TB, change ...func(*slacktest.Options)) *slackRoom {
	o := slacktest.Options{FileDelay: 300 * time.Millisecond, PostsPerSecond: 1}
	for _, c := range change {
		c(&o)
	}
	r := &slackRoom{t: t, fake: slacktest.New(o)}
	t.Cleanup(r.fake.Close)
	r.fake.AddUser(slacktest.User{ID: "U0ADA", Name: "Ada"})
	r.fake.AddUser(slacktest.User{ID: "U0BOB", Name: "Bob"})
	r.fake.AddChannel(slacktest.Channel{ID: slackChannel})
	return r
}

func (r *slackRoom) config(c Config) Config {
	c.SlackBotToken, c.SlackAppToken, c.SlackAPIURL = slacktest.BotToken, slacktest.AppToken, r.fake.URL()
	return c
}

func (r *slackRoom) user(by string) string { return "U0" + strings.ToUpper(by) }

func (r *slackRoom) mention(who string) string {
	if who == "all" {
		return "<!channel>"
	}
	return "<@" + r.user(who) + ">"
}

func (r *slackRoom) begin(text string, files map[string][]byte) string {
	m := slacktest.Message{Channel: slackChannel, User: r.user("ada"), Text: "<@" + slacktest.BotUserID + "> " + text}
	for name, data := range files {
		m.Files = append(m.Files, r.fake.AddFile(slacktest.File{Name: name, MIME: "text/csv", Bytes: data}))
	}
	m, _ = r.fake.Say(r.t.Context(), m)
	r.root = m.TS
	return r.key(m)
}

func (r *slackRoom) say(by, text string) string {
	m, _ := r.fake.Say(r.t.Context(), slacktest.Message{Channel: slackChannel, ThreadTS: r.root, User: r.user(by), Text: text})
	return r.key(m)
}

func (r *slackRoom) key(m slacktest.Message) string {
	return "slack:" + slacktest.TeamID + "/" + slackChannel + "/" + m.TS
}

func (r *slackRoom) press(by, action string) {
	r.t.Helper()
	for _, m := range slices.Backward(r.fake.Thread(slackChannel, r.root)) {
		if m.BotID != "" && bytes.Contains(m.Blocks, []byte(`"tb:`+action)) {
			r.fake.Send(r.t.Context(), slacktest.Interactive, r.fake.Press(r.user(by), slackChannel, m.TS, "tb:"+action))
			return
		}
	}
	r.t.Fatalf("no message has a button %q", action)
}

func (r *slackRoom) said() []said {
	var all []said
	for _, m := range r.fake.Thread(slackChannel, r.root) {
		if m.BotID == "" || m.Deleted || m.Hidden {
			continue
		}
		s := said{words: m.Text + plain(m.Blocks), files: map[string][]byte{}, edits: len(m.Edits), id: m.TS, at: m.At}
		ids := m.Files
		for _, word := range strings.FieldsFunc(string(m.Blocks), func(c rune) bool { return strings.ContainsRune(`":,{}[]`, c) }) {
			if strings.HasPrefix(word, "F") {
				ids = append(ids, word) // of a picture
			}
		}
		for _, id := range ids {
			if f, ok := r.fake.File(id); ok {
				s.files[f.Name] = f.Bytes
			}
		}
		all = append(all, s)
	}
	return all
}

func (r *slackRoom) until(ctx context.Context, ok func() bool) bool { return r.fake.Until(ctx, ok) }

func (r *slackRoom) thread() sessions.ThreadID {
	return sessions.NewThreadID(slack.Platform, slacktest.TeamID, slackChannel, r.root)
}

func (r *slackRoom) storm() {
	r.fake.Fail("chat.postMessage", slacktest.Fault{Status: 429, RetryAfter: 1}, slacktest.Fault{HangUp: true, Done: true},
		slacktest.Fault{Status: 500}, slacktest.Fault{Status: 429, RetryAfter: 1})
	r.fake.Fail("chat.update", slacktest.Fault{Status: 429, RetryAfter: 1}, slacktest.Fault{Status: 500})
}

// discordRoom is a thread on the stand-in Discord.
type discordRoom struct {
	t    testing.TB
	fake *discordtest.Server
	root string
}

func newDiscordRoom(t testing.TB) *discordRoom {
	r := &discordRoom{t: t, fake: discordtest.New(discordtest.Options{Rate: 5})}
	t.Cleanup(r.fake.Close)
	return r
}

func (r *discordRoom) config(c Config) Config {
	c.DiscordBotToken, c.DiscordAPIURL = "token", r.fake.URL()
	return c
}

func (r *discordRoom) user(by string) discordtest.User {
	if by == "ada" {
		return discordtest.User{}
	}
	return discordtest.User{ID: "200000000000000009", Username: by}
}

func (r *discordRoom) mention(who string) string {
	if who == "all" {
		return "@everyone"
	}
	return "<@" + discordtest.UserID + ">"
}

func (r *discordRoom) begin(text string, files map[string][]byte) string {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if err := r.fake.Await(ctx, r.fake.Connected); err != nil {
		r.t.Fatal("the bot does not connect")
	}
	m := discordtest.Message{Channel: discordtest.ChannelID, Content: "<@" + discordtest.BotID + "> " + text}
	for name, data := range files {
		m.Files = append(m.Files, discordtest.File{Name: name, MIME: "text/csv", Data: data})
	}
	r.root = r.fake.Say(m)
	if err := r.fake.Await(ctx, func() bool { return r.fake.Channel(r.root).ID != "" }); err != nil {
		r.t.Fatal("the mention opened no thread")
	}
	return "discord:" + r.root
}

func (r *discordRoom) say(by, text string) string {
	return "discord:" + r.fake.Say(discordtest.Message{Channel: r.root, Author: r.user(by), Content: text})
}

func (r *discordRoom) press(by, action string) {
	r.t.Helper()
	for _, m := range slices.Backward(r.fake.ByBot(r.root)) {
		i := bytes.Index(m.Components, []byte(`"tb:`+action+":"))
		if i < 0 {
			continue
		}
		id, _, _ := strings.Cut(string(m.Components[i+1:]), `"`)
		user := r.user(by).ID
		if user == "" {
			user = discordtest.UserID
		}
		r.fake.Interact(3, r.root, user, "0", map[string]any{"custom_id": id, "component_type": 2})
		return
	}
	r.t.Fatalf("no message has a button %q", action)
}

func (r *discordRoom) said() []said {
	var all []said
	for _, m := range r.fake.ByBot(r.root) {
		s := said{words: m.Content + plain(m.Components), files: map[string][]byte{}, edits: len(m.Sent) - 1, id: m.ID, at: m.At}
		for _, f := range m.Files {
			s.files[f.Name] = f.Data
		}
		all = append(all, s)
	}
	return all
}

func (r *discordRoom) until(ctx context.Context, ok func() bool) bool {
	return r.fake.Await(ctx, ok) == nil
}

func (r *discordRoom) thread() sessions.ThreadID {
	return sessions.NewThreadID(discord.Platform, discordtest.GuildID, r.root)
}

func (r *discordRoom) storm() {
	path := "/messages"
	r.fake.Fail(discordtest.Fault{Method: "POST", Path: path, Times: 1, Status: 429, After: time.Second})
	r.fake.Fail(discordtest.Fault{Method: "POST", Path: path, Times: 1, Lost: true})
	r.fake.Fail(discordtest.Fault{Method: "POST", Path: path, Times: 1, Status: 500})
	r.fake.Fail(discordtest.Fault{Method: "PATCH", Path: path, Times: 2, Status: 502})
}

// plain are all strings in a payload, as people read them.
func plain(payload json.RawMessage) string {
	var v any
	if len(payload) == 0 || json.Unmarshal(payload, &v) != nil {
		return ""
	}
	var b strings.Builder
	var walk func(any)
	walk = func(v any) {
		switch x := v.(type) {
		case string:
			fmt.Fprintf(&b, "\n%s", x)
		case []any:
			for _, e := range x {
				walk(e)
			}
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(x)) {
				walk(x[key])
			}
		}
	}
	walk(v)
	return b.String()
}

// The doctor tries a platform's tokens for real, and the manifests are there
// before anything is set.
func TestDoctorOfChats(t *testing.T) {
	t.Parallel()
	slackFake, discordFake := newSlackRoom(t).fake, newDiscordRoom(t).fake
	out, errs, code := command(t, "", "doctor", "slack", "discord", "--slack-bot-token="+slacktest.BotToken, "--slack-app-token="+slacktest.AppToken,
		"--slack-api-url="+slackFake.URL(), "--discord-bot-token=token", "--discord-api-url="+discordFake.URL())
	if code != 0 || !strings.Contains(out, "ok     slack") || !strings.Contains(out, "ok     discord") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	out, errs, code = command(t, "", "doctor", "slack", "discord", "--slack-bot-token=xoxb-wrong", "--slack-app-token="+slacktest.AppToken,
		"--slack-api-url="+slackFake.URL(), "--discord-bot-token=wrong", "--discord-api-url="+discordFake.URL())
	if code != exitFailed || !strings.Contains(out, "WRONG  slack") || !strings.Contains(out, "WRONG  discord") {
		t.Errorf("with wrong tokens exit %d: %s%s", code, out, errs)
	}
	if out, errs, code = command(t, "", "manifest", "slack"); code != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, `"socket_mode_enabled": true`) {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if out, errs, code = command(t, "", "manifest", "slack", "--public-url=https://t.example"); code != 0 || !strings.Contains(out, "https://t.example/slack/events") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if out, errs, code = command(t, "", "manifest", "discord", "--discord-bot-token=MTIzNDU2Nzg5MDEyMzQ1Njc4.x.y"); code != 0 || !strings.Contains(out, "client_id=123456789012345678") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if _, errs, code = command(t, "", "manifest", "teams"); code != exitUsage {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// Slack's events over HTTP are served beside the page, and a retried one is one.
func TestChatOverHTTP(t *testing.T) {
	t.Parallel()
	r := newSlackRoom(t)
	c := r.config(testConfig(t))
	c.SlackAppToken, c.SlackSigningSecret = "", slacktest.SigningSecret
	p := start(t, c)
	m := r.fake.Write(slacktest.Message{Channel: slackChannel, User: "U0ADA", Text: "<@" + slacktest.BotUserID + "> ```print(6 * 7)```"})
	r.root = m.TS
	t.Cleanup(func() { removeSandbox(t, p.cfg, p.fleet, r.thread()) })
	event := r.fake.Envelope(r.fake.Event("app_mention", m), nil)
	for retry := range 3 {
		status, body, err := r.fake.Post(t.Context(), "http://"+p.Addr(), slacktest.EventsAPI, event, retry)
		if err != nil || status != 200 {
			t.Fatalf("the event was answered %d %s, %v", status, body, err)
		}
	}
	all := await(t, r, "the output", func(all []said) bool { return has(all, "42", "Done in") != nil })
	if len(all) != 1 {
		t.Errorf("the thread has %d messages of the bot", len(all))
	}
}

// A message whose file comes slowly is acknowledged all the same, and its turn
// has the file.
func TestChatSlowFile(t *testing.T) {
	t.Parallel()
	r := newSlackRoom(t)
	p := on(t, r, testConfig(t))
	gate := make(chan struct{})
	id := r.fake.AddFile(slacktest.File{Name: "slow.csv", MIME: "text/csv", Bytes: []byte("a,b\n1,2\n"), Gate: gate})
	m, sent := r.fake.Say(t.Context(), slacktest.Message{Channel: slackChannel, User: "U0ADA", Files: []string{id},
		Text: "<@" + slacktest.BotUserID + "> ```print(open('slow.csv').read())```"})
	r.root = m.TS
	for _, d := range sent {
		select {
		case <-d.Acked:
		case <-time.After(patience):
			t.Fatal("the message was not acknowledged while its file was on its way")
		}
	}
	log, err := p.store.Read(t.Context(), r.thread(), 0, 1, 0)
	if err != nil || len(log) != 1 || log[0].Body.(*sessions.Message).Files[0].Ref != id {
		t.Fatalf("the log has %+v, %v; want a message with the file's reference", log, err)
	}
	close(gate)
	await(t, r, "the file's lines", func(all []said) bool { return has(all, "1,2", "Done in") != nil })
}
