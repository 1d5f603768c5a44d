package slack_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"threadbook/bots/slack"
	"threadbook/bots/slack/slacktest"
)

func TestAMentionIsOneMessage(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]string{
		"mention first": {"app_mention", "message"}, "message first": {"message", "app_mention"}, "mention alone": {"app_mention"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, slacktest.Options{}, nil)
			id := f.fake.AddFile(slacktest.File{Name: "sales.csv", MIME: "text/csv", Bytes: []byte("a,b\n1,2\n")})
			m := f.fake.Write(slacktest.Message{Channel: general, User: ada, Text: mention("what is &lt;in&gt; it?"), Files: []string{id}})
			for _, kind := range order {
				for range 2 { // each comes twice
					f.event(t, f.fake.Event(kind, m))
				}
			}
			f.wantTexts(t, general, m.TS, "what is <in> it? [sales.csv]")
			got := f.heard(t, general, m.TS)[0]
			if got.User.Name != "Ada" || got.Key != "slack:"+f.team+"/"+general+"/"+m.TS || got.Files[0].Size != 8 {
				t.Errorf("got %+v", got)
			}
			if n := f.fake.Calls("download"); n != 1 {
				t.Errorf("the file was fetched %d times", n)
			}
			if f.woken.Load() != 1 {
				t.Errorf("woken %d times", f.woken.Load())
			}
		})
	}
}

func TestRetriesAtOnceFetchAFileOnce(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	id := f.fake.AddFile(slacktest.File{Name: "a.csv", MIME: "text/csv", Bytes: []byte("1")})
	m := f.fake.Write(slacktest.Message{Channel: direct, User: ada, Files: []string{id}})
	envelope := f.fake.Envelope(f.fake.Event("message", m), nil)
	var wg sync.WaitGroup
	for retry := range 4 {
		wg.Go(func() {
			if status, body, err := f.fake.Post(f.ctx, f.web, slacktest.EventsAPI, envelope, retry); status != http.StatusOK {
				t.Errorf("retry %d: %d %s %v", retry, status, body, err)
			}
		})
	}
	wg.Wait()
	f.wantTexts(t, direct, m.TS, " [a.csv]")
	if n := f.fake.Calls("download"); n != 1 {
		t.Errorf("the file was fetched %d times", n)
	}
	// Another process knows only the log.
	other, err := slack.New(f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Slack = other
	f.event(t, f.fake.Event("message", m))
	f.wantTexts(t, direct, m.TS, " [a.csv]")
}

func TestWhoIsAddressed(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	known := f.say(t, slacktest.Message{Channel: general, User: ada, Text: mention("hello")})
	for name, c := range map[string]struct {
		m    slacktest.Message
		want string // what its thread has then, save what is known
	}{
		"nobody":                     {slacktest.Message{Channel: general, Text: "just chatting"}, ""},
		"a mention in the middle":    {slacktest.Message{Channel: general, Text: "hey <@U0BOT|threadbook> look"}, "hey  look"},
		"a mention with a comma":     {slacktest.Message{Channel: general, Text: "<@U0BOT>, look"}, "look"},
		"a mention and nothing else": {slacktest.Message{Channel: general, Text: "<@U0BOT>"}, "!help"},
		"a direct message":           {slacktest.Message{Channel: direct, Text: "sum it"}, "sum it"},
		"a group without a mention":  {slacktest.Message{Channel: group, Text: "lunch?"}, ""},
		"a group with one":           {slacktest.Message{Channel: group, Text: mention("lunch?")}, "lunch?"},
		"a foreign thread":           {slacktest.Message{Channel: general, ThreadTS: "strange", Text: "hm"}, ""},
		"the bot itself":             {slacktest.Message{Channel: direct, User: slacktest.BotUserID, BotID: slacktest.BotID, Text: "me"}, ""},
		"another bot":                {slacktest.Message{Channel: general, User: robot, BotID: "B1", Subtype: "bot_message", Text: mention("beep")}, ""},
		"a join":                     {slacktest.Message{Channel: direct, Subtype: "channel_join", Text: "joined"}, ""},
		"code":                       {slacktest.Message{Channel: general, Text: mention("```print(\"&lt;&amp;\")\nx = <http://a.b|a.b>```")}, "```print(\"<&\")\nx = a.b```"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.m.User == "" {
				c.m.User = ada
			}
			m := f.say(t, c.m)
			root := m.TS
			if m.ThreadTS != "" {
				root = m.ThreadTS
			}
			f.wantTexts(t, m.Channel, root, c.want)
		})
	}
	for _, c := range []struct{ text, want string }{
		{"and the mean?", "hello | and the mean?"},
		{"<@U0BOB> what do you think?", "hello | and the mean?"},
		{"<@U0BOB> and <@U0BOT>: both of you", "hello | and the mean? | @U0BOB and : both of you"},
	} {
		f.say(t, slacktest.Message{Channel: general, User: ada, ThreadTS: known.TS, Text: c.text})
		f.wantTexts(t, general, known.TS, c.want)
	}
}

func TestMentionOnlyAndAllowedBots(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, func(c *slack.Config) {
		c.AllowBots = true
		c.MentionOnly = func(_, channel string) bool { return channel == general }
	})
	m := f.say(t, slacktest.Message{Channel: general, User: robot, BotID: "B1", Subtype: "bot_message", Text: mention("beep")})
	f.say(t, slacktest.Message{Channel: general, User: ada, ThreadTS: m.TS, Text: "no mention"})
	f.wantTexts(t, general, m.TS, "beep")
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	for _, c := range []struct{ user, say string }{{guest, "guests"}, {alien, "another one"}, {gone, "deactivated"}} {
		m := f.fake.Write(slacktest.Message{Channel: general, User: c.user, Text: mention("hello")})
		before := len(f.fake.Ephemerals())
		f.event(t, f.fake.Event("app_mention", m))
		f.event(t, f.fake.Event("message", m))
		f.wantTexts(t, general, m.TS, "")
		told := f.fake.Ephemerals()[before:]
		if len(told) != 1 || told[0].User != c.user || !strings.Contains(told[0].Text, c.say) || told[0].ThreadTS != m.TS {
			t.Errorf("%s was told %+v", c.user, told)
		}
	}
	m := f.fake.Write(slacktest.Message{Channel: general, User: ada, Text: mention("hello")})
	f.send(t, slacktest.EventsAPI, f.fake.Envelope(f.fake.Event("message", m), map[string]any{"is_ext_shared_channel": true}))
	f.wantTexts(t, general, m.TS, "")
	// Where Slack doesn't say who it is, nothing is taken, and it comes again.
	f.fake.AddUser(slacktest.User{ID: "U0NEW", Name: "New"})
	f.fake.Fail("users.info", slacktest.Fault{Status: http.StatusServiceUnavailable})
	m = f.fake.Write(slacktest.Message{Channel: general, User: "U0NEW", Text: mention("hello")})
	envelope := f.fake.Envelope(f.fake.Event("message", m), nil)
	for retry, want := range []int{http.StatusServiceUnavailable, http.StatusOK} {
		if status, _, err := f.fake.Post(f.ctx, f.web, slacktest.EventsAPI, envelope, retry); status != want || err != nil {
			t.Errorf("try %d was answered %d, %v", retry, status, err)
		}
	}
	f.wantTexts(t, general, m.TS, "hello")

	all := start(t, slacktest.Options{}, func(c *slack.Config) { c.AllowOutsiders = true })
	m = all.say(t, slacktest.Message{Channel: general, User: guest, Text: mention("hello")})
	all.wantTexts(t, general, m.TS, "hello")
}

func TestEditsAndDeletes(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	m := f.say(t, slacktest.Message{Channel: general, User: ada, Text: mention("sum")})
	key := f.heard(t, general, m.TS)[0].Key
	edit := f.fake.EditEvent(general, m.TS, mention("mean"))
	f.event(t, edit)
	f.event(t, edit)
	f.wantTexts(t, general, m.TS, "sum | mean (edit)")
	got := f.heard(t, general, m.TS)[1]
	if got.Edits != key || !strings.HasPrefix(got.Key, key+"#") {
		t.Errorf("the edit is %+v of %s", got, key)
	}
	// A link preview changes a message and edits nothing.
	preview := f.fake.EditEvent(general, m.TS, mention("mean"))
	f.event(t, preview)
	f.wantTexts(t, general, m.TS, "sum | mean (edit)")
	f.event(t, f.fake.DeleteEvent(general, m.TS))
	f.wantTexts(t, general, m.TS, "sum | mean (edit) |  (edit) (deleted)")
	if got := f.heard(t, general, m.TS)[2]; got.Edits != key {
		t.Errorf("the deletion is of %s", got.Edits)
	}
	// A first message whose thread stays leaves a stone behind.
	stone := f.say(t, slacktest.Message{Channel: general, User: ada, Text: mention("sum")})
	ev := f.fake.EditEvent(general, stone.TS, "This message was deleted.")
	ev["message"] = map[string]any{"type": "message", "subtype": "tombstone", "user": "USLACKBOT", "ts": stone.TS, "thread_ts": stone.TS}
	f.event(t, ev)
	f.wantTexts(t, general, stone.TS, "sum |  (edit) (deleted)")
	// A message that was not for the bot, and now is.
	m = f.say(t, slacktest.Message{Channel: general, User: ada, Text: "sum"})
	f.event(t, f.fake.EditEvent(general, m.TS, mention("sum")))
	f.wantTexts(t, general, m.TS, "sum")
	// And one that never was.
	m = f.say(t, slacktest.Message{Channel: general, User: ada, Text: "lunch?"})
	f.event(t, f.fake.EditEvent(general, m.TS, "dinner?"))
	f.event(t, f.fake.DeleteEvent(general, m.TS))
	f.wantTexts(t, general, m.TS, "")
}

func TestFilesOfTheThread(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	add := func(name string, change func(*slacktest.File)) string {
		file := slacktest.File{Name: name, MIME: "text/csv", Bytes: []byte(name)}
		if change != nil {
			change(&file)
		}
		return f.fake.AddFile(file)
	}
	root := f.say(t, slacktest.Message{Channel: general, User: ada, Text: "our data", Files: []string{add("root.csv", nil)}})
	f.say(t, slacktest.Message{Channel: general, User: ada, ThreadTS: root.TS, Text: "more", Files: []string{
		add("connect.csv", func(f *slacktest.File) { f.Connect = true }),
		add("secret.csv", func(f *slacktest.File) { f.SignIn = true }),
		add("remote.csv", func(f *slacktest.File) { f.External = "https://example.com/remote.csv" }),
		add("evil.csv", func(f *slacktest.File) { f.External = "http://169.254.169.254/" }),
		add("notes", func(f *slacktest.File) { f.Mode = "canvas" }),
	}})
	f.wantTexts(t, general, root.TS, "")
	call := f.fake.Write(slacktest.Message{Channel: general, User: ada, ThreadTS: root.TS, Text: mention("look"), Files: []string{add("own.csv", nil)}})
	f.event(t, f.fake.Event("app_mention", call))
	f.event(t, f.fake.Event("message", call))
	got := f.texts(t, general, root.TS)
	for _, want := range []string{
		"[own.csv]", "[root.csv]", "[connect.csv]", "[secret.csv: Slack does not let threadbook read it",
		"[remote.csv: It is a link to another service", "[evil.csv: It is a link", "[notes: It is a canvas",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the thread lacks %q: %s", want, got)
		}
	}
	if strings.Contains(got, "|") {
		t.Errorf("more than one message: %s", got)
	}
	// Only the first call reads what came before.
	calls := f.fake.Calls("conversations.replies")
	f.say(t, slacktest.Message{Channel: general, User: ada, ThreadTS: root.TS, Text: "next"})
	if n := f.fake.Calls("conversations.replies"); n != calls {
		t.Errorf("the thread was read again")
	}
}

func TestFilesThatCanNotBeHad(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	file := func(name string, more map[string]any) map[string]any {
		o := map[string]any{"id": "F9", "name": name, "mimetype": "text/csv", "mode": "hosted", "url_private": strings.TrimSuffix(f.fake.URL(), "api/") + "files-pri/F9/x"}
		for k, v := range more {
			o[k] = v
		}
		return o
	}
	m := f.fake.Write(slacktest.Message{Channel: direct, User: ada, Text: "look"})
	ev := f.fake.Event("message", m)
	ev["subtype"] = "file_share"
	ev["files"] = []any{
		file("deleted.csv", map[string]any{"mode": "tombstone"}), file("hidden.csv", map[string]any{"mode": "hidden_by_limit"}),
		file("large.csv", map[string]any{"size": 1 << 40}), file("gone.csv", nil),
		file("elsewhere.csv", map[string]any{"url_private": "https://evil.example/x"}),
		file("unknown.csv", map[string]any{"file_access": "check_file_info", "url_private": ""}),
	}
	f.event(t, ev)
	got := f.texts(t, direct, m.TS)
	for _, want := range []string{
		"[deleted.csv: It was deleted", "[hidden.csv: Slack hides it", "[large.csv: It is larger than 512 MiB",
		"[gone.csv: It is not in Slack any more", "[elsewhere.csv: It is not kept by Slack", "[unknown.csv: Slack does not let",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the thread lacks %q: %s", want, got)
		}
	}
}

func TestTooManyFilesAreNamed(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	root := f.fake.Write(slacktest.Message{Channel: general, User: ada, Text: "data"})
	for range 3 {
		var ids []string
		for range 9 {
			ids = append(ids, f.fake.AddFile(slacktest.File{Name: "x.csv", MIME: "text/csv", Bytes: []byte("x")}))
		}
		f.fake.Write(slacktest.Message{Channel: general, User: ada, ThreadTS: root.TS, Files: ids})
	}
	f.say(t, slacktest.Message{Channel: general, User: ada, ThreadTS: root.TS, Text: mention("look")})
	got := f.heard(t, general, root.TS)
	if len(got) != 1 || len(got[0].Files) != 20 || !strings.Contains(got[0].Files[19].Name, "8 more files") || got[0].Files[19].Error == "" {
		t.Errorf("got %s", f.texts(t, general, root.TS))
	}
}

func TestOddFields(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	stamp := f.fake.Write(slacktest.Message{Channel: direct, User: ada, Text: "sum"}).TS
	odd := map[string]any{
		"type": "message", "channel": direct, "channel_type": "im", "user": ada, "text": "sum", "ts": stamp,
		"thread_ts": nil, "files": []any{"odd", map[string]any{"id": 7, "size": "large"}}, "blocks": "no", "edited": 3, "bot_id": false, "hidden": "x",
	}
	f.event(t, odd)
	if got := f.heard(t, direct, stamp); len(got) != 1 || got[0].Text != "sum" || len(got[0].Files) != 1 {
		t.Errorf("got %s", f.texts(t, direct, stamp))
	}
	for _, body := range []any{nil, 3, "x", []int{}, map[string]any{}, map[string]any{"type": "message"}, map[string]any{"type": "unheard_of"}} {
		f.event(t, body)
	}
}

func TestOrderIsThatOfArrival(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	gate := make(chan struct{})
	id := f.fake.AddFile(slacktest.File{Name: "a.csv", MIME: "text/csv", Bytes: []byte("1"), Gate: gate})
	root := f.say(t, slacktest.Message{Channel: direct, User: ada, Text: "hello"})
	var wg sync.WaitGroup
	say := func(text string, files ...string) {
		m := f.fake.Write(slacktest.Message{Channel: direct, User: ada, ThreadTS: root.TS, Text: text, Files: files})
		inner := f.fake.Event("message", m)
		wg.Go(func() { f.event(t, inner) })
	}
	say("one", id)
	if !f.fake.Until(f.ctx, func() bool { return f.fake.Calls("download") > 0 }) {
		t.Fatal("the file was not fetched")
	}
	say("two")
	// A thread that waits holds up no other.
	other := f.say(t, slacktest.Message{Channel: direct, User: ada, Text: "elsewhere"})
	f.wantTexts(t, direct, other.TS, "elsewhere")
	f.wantTexts(t, direct, root.TS, "hello")
	close(gate)
	wg.Wait()
	f.wantTexts(t, direct, root.TS, "hello | one [a.csv] | two")
}
