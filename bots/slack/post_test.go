package slack_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"threadbook/bots"
	"threadbook/bots/slack"
	"threadbook/bots/slack/slacktest"
)

// png is enough of a picture for its kind to be told.
var png = []byte("\x89PNG\r\n\x1a\n and so on")

func (f *fixture) media(t *testing.T, p *bots.Post, name, mime string, data []byte) bots.Media {
	t.Helper()
	blob, size, err := f.blobs.Put(f.ctx, p.Thread, bytes.NewReader(data), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return bots.Media{Name: name, MIME: mime, Size: size, Blob: blob, Alt: "what " + name + " shows"}
}

// ready is a thread and a post in it.
func ready(t *testing.T, o slacktest.Options) (*fixture, slacktest.Message, bots.Post) {
	f := start(t, o, nil)
	m := f.fake.Write(slacktest.Message{Channel: general, User: ada, Text: "question"})
	return f, m, bots.Post{Thread: f.thread(general, m.TS), Turn: 3, Part: "answer/0", Text: "It is **two**, <!channel> & <https://evil.example|innocent>."}
}

func TestPostEditFind(t *testing.T) {
	t.Parallel()
	f, m, p := ready(t, slacktest.Options{})
	began := time.Now()
	if id, err := f.Find(f.ctx, p, "", began); id != "" || err != nil {
		t.Errorf("found %q before it was made, %v", id, err)
	}
	id, err := f.Post(f.ctx, p, "")
	if err != nil {
		t.Fatal(err)
	}
	p.Text = "It is three."
	if err := f.Edit(f.ctx, p, id); err != nil {
		t.Fatal(err)
	}
	posts := f.fake.Thread(general, m.TS)[1:]
	if len(posts) != 1 || posts[0].TS != id || posts[0].Unfurls || len(posts[0].Edits) != 1 || posts[0].Text != "It is three." {
		t.Fatalf("the thread has %+v", posts)
	}
	first := string(posts[0].Edits[0].Blocks) + posts[0].Edits[0].Text
	if strings.Contains(first, "<!") || strings.Contains(first, "<http") || strings.Contains(first, `\u003c!`) || strings.Contains(first, `\u003chttp`) {
		t.Errorf("a token of Slack's is live: %s", first)
	}
	if found, err := f.Find(f.ctx, p, "", began); found != id || err != nil {
		t.Errorf("found %q, want %q, %v", found, id, err)
	}
	other := p
	other.Part = "answer/1"
	if found, err := f.Find(f.ctx, other, "", began); found != "" || err != nil {
		t.Errorf("found %q for another part, %v", found, err)
	}
	// Somebody else's message with the same metadata is not ours.
	forged := f.fake.Write(slacktest.Message{Channel: general, User: ada, ThreadTS: m.TS, Text: "x",
		Metadata: []byte(`{"event_type":"threadbook_post","event_payload":{"key":"` + other.Key() + `"}}`)})
	if found, err := f.Find(f.ctx, other, "", began); found != "" || err != nil {
		t.Errorf("took the forged %s for its own, %v", forged.TS, err)
	}
	f.fake.Remove(general, id)
	var pe *bots.PostError
	if err := f.Edit(f.ctx, p, id); !errors.As(err, &pe) || !pe.Gone {
		t.Errorf("editing what is gone: %v", err)
	}
	f.fake.Remove(general, m.TS)
	if found, err := f.Find(f.ctx, p, "", began); found != "" || err != nil {
		t.Errorf("in a thread that is gone: %q, %v", found, err)
	}
}

func TestPostErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault slacktest.Fault
		want  bots.PostError
	}{
		"too many":            {slacktest.Fault{Status: 429, RetryAfter: 7}, bots.PostError{After: 7 * time.Second, Refused: true}},
		"too many, unsaid":    {slacktest.Fault{Status: 429}, bots.PostError{After: 5 * time.Second, Refused: true}},
		"ratelimited":         {slacktest.Fault{Error: "ratelimited"}, bots.PostError{After: 5 * time.Second, Refused: true}},
		"server error":        {slacktest.Fault{Status: 502}, bots.PostError{}},
		"server error, done":  {slacktest.Fault{Status: 500, Done: true}, bots.PostError{}},
		"lost answer":         {slacktest.Fault{HangUp: true, Done: true}, bots.PostError{}},
		"internal error":      {slacktest.Fault{Error: "internal_error"}, bots.PostError{}},
		"fatal error":         {slacktest.Fault{Error: "fatal_error"}, bots.PostError{}},
		"archived":            {slacktest.Fault{Error: "is_archived"}, bots.PostError{Refused: true, Permanent: true}},
		"not in the channel":  {slacktest.Fault{Error: "not_in_channel"}, bots.PostError{Refused: true, Permanent: true}},
		"too long":            {slacktest.Fault{Error: "msg_too_long"}, bots.PostError{Refused: true, Permanent: true}},
		"revoked":             {slacktest.Fault{Error: "token_revoked"}, bots.PostError{Refused: true, Permanent: true}},
		"unauthorised status": {slacktest.Fault{Status: 403}, bots.PostError{Refused: true, Permanent: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, p := ready(t, slacktest.Options{})
			began := time.Now()
			f.fake.Fail("chat.postMessage", c.fault)
			id, err := f.Post(f.ctx, p, "")
			var got *bots.PostError
			if id != "" || !errors.As(err, &got) {
				t.Fatalf("got %q, %v", id, err)
			}
			if want := c.want; got.After != want.After || got.Refused != want.Refused || got.Permanent != want.Permanent || got.Gone != want.Gone {
				t.Errorf("got %+v, want %+v", *got, want)
			}
			found, err := f.Find(f.ctx, p, "", began)
			if err != nil || (found != "") != c.fault.Done {
				t.Errorf("found %q afterwards, %v", found, err)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		f, _, p := ready(t, slacktest.Options{})
		f.fake.Close()
		_, err := f.Post(f.ctx, p, "")
		var got *bots.PostError
		if !errors.As(err, &got) || !got.Refused || got.Permanent {
			t.Errorf("got %+v", err)
		}
	})
	t.Run("no scope", func(t *testing.T) {
		t.Parallel()
		f, _, p := ready(t, slacktest.Options{Scopes: []string{"users:read"}})
		_, err := f.Post(f.ctx, p, "")
		var got *bots.PostError
		if !errors.As(err, &got) || !got.Permanent {
			t.Errorf("got %+v", err)
		}
	})
	t.Run("no thread of Slack", func(t *testing.T) {
		t.Parallel()
		f, _, p := ready(t, slacktest.Options{})
		p.Thread = "web:abc"
		if _, err := f.Post(f.ctx, p, ""); err == nil {
			t.Error("posted")
		}
	})
}

func TestARetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	f, _, p := ready(t, slacktest.Options{})
	f.fake.Fail("chat.postMessage", slacktest.Fault{Status: 429, RetryAfter: 60})
	if _, err := f.Post(f.ctx, p, ""); err == nil {
		t.Fatal("posted")
	}
	_, err := f.Post(f.ctx, p, "")
	var got *bots.PostError
	if !errors.As(err, &got) || !got.Refused || got.After < 50*time.Second || f.fake.Calls("chat.postMessage") != 1 {
		t.Errorf("got %+v after %d calls", err, f.fake.Calls("chat.postMessage"))
	}
}

func TestFiguresAreReadyBeforeTheyAreShown(t *testing.T) {
	t.Parallel()
	f, m, p := ready(t, slacktest.Options{FileDelay: 300 * time.Millisecond})
	f.cfg.Link = nil
	p.Figures = []bots.Media{f.media(t, &p, "a.svg", "image/svg+xml", []byte("<svg/>")), f.media(t, &p, "b.png", "image/png", png)}
	handle, err := f.Prepare(f.ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	id, err := f.Post(f.ctx, p, handle)
	if err != nil {
		t.Fatal(err)
	}
	wantFigure := func() {
		t.Helper()
		post := f.fake.Thread(general, m.TS)[1]
		var blocks []struct {
			Type, Alt string
			AltText   string              `json:"alt_text"`
			File      struct{ ID string } `json:"slack_file"`
		}
		if err := json.Unmarshal(post.Blocks, &blocks); err != nil {
			t.Fatal(err)
		}
		file, _ := f.fake.File(blocks[2].File.ID)
		if blocks[1].Type != "context" || blocks[2].Type != "image" || blocks[2].AltText != "what b.png shows" || !bytes.Equal(file.Bytes, png) {
			t.Errorf("the post is %s", post.Blocks)
		}
	}
	wantFigure()
	// The ids of figures are in no post's content; an edit keeps them.
	p.Text = "changed"
	if err := f.Edit(f.ctx, p, id); err != nil {
		t.Fatal(err)
	}
	wantFigure()
}

func TestAFigureThatIsNotReady(t *testing.T) {
	t.Parallel()
	f, _, p := ready(t, slacktest.Options{FileDelay: time.Minute})
	p.Figures = []bots.Media{{Name: "b.png", MIME: "image/png"}}
	id := f.fake.AddFile(slacktest.File{Name: "b.png", MIME: "image/png", Bytes: png})
	f.fake.Age(id, -time.Minute)
	_, err := f.Post(f.ctx, p, `{"figures":["`+id+`"]}`)
	var got *bots.PostError
	if !errors.As(err, &got) || !got.Refused || got.Permanent || got.After == 0 {
		t.Errorf("got %v", err)
	}
	f.fake.Age(id, time.Minute)
	// That was no refusal of pictures, nor of newer blocks.
	if _, err := f.Post(f.ctx, p, `{"figures":["`+id+`"]}`); err != nil || f.fake.Calls("chat.postMessage") != 2 {
		t.Errorf("got %v after %d calls", err, f.fake.Calls("chat.postMessage"))
	}
	if _, err := f.Post(f.ctx, p, "no JSON"); err == nil {
		t.Error("a broken handle was taken")
	}
}

func TestFilesAreOneUpload(t *testing.T) {
	t.Parallel()
	f, m, p := ready(t, slacktest.Options{FileDelay: 100 * time.Millisecond})
	p.Text = ""
	p.Files = []bots.Media{f.media(t, &p, "a.csv", "text/csv", []byte("1,2")), f.media(t, &p, "empty.txt", "text/plain", nil)}
	began := time.Now()
	handle, err := f.Prepare(f.ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.fake.Thread(general, m.TS)) != 1 {
		t.Error("preparing shows something")
	}
	if id, err := f.Find(f.ctx, p, handle, began); id != "" || err != nil {
		t.Errorf("found %q before it was posted, %v", id, err)
	}
	// The answer is lost, and the files are there.
	f.fake.Fail("files.completeUploadExternal", slacktest.Fault{HangUp: true, Done: true})
	_, err = f.Post(f.ctx, p, handle)
	var got *bots.PostError
	if !errors.As(err, &got) || got.Refused {
		t.Fatalf("got %v", err)
	}
	var id string
	if !f.fake.Until(f.ctx, func() bool { return len(f.fake.Thread(general, m.TS)) == 2 }) {
		t.Fatal("no files appeared")
	}
	if id, err = f.Find(f.ctx, p, handle, began); id == "" || err != nil {
		t.Fatalf("not found, %v", err)
	}
	post := f.fake.Thread(general, m.TS)[1]
	if post.TS != id || len(post.Files) != 2 {
		t.Errorf("the thread has %+v", post)
	}
	// And without a fault.
	p.Part = "files/1"
	if handle, err = f.Prepare(f.ctx, p); err != nil {
		t.Fatal(err)
	}
	if id, err = f.Post(f.ctx, p, handle); err != nil {
		t.Fatal(err)
	}
	// Slack says where it shared the files a moment before they are seen.
	if !f.fake.Until(f.ctx, func() bool { return len(f.fake.Thread(general, m.TS)) == 3 }) || f.fake.Thread(general, m.TS)[2].TS != id {
		t.Errorf("the thread has %+v", f.fake.Thread(general, m.TS))
	}
	if err := f.Edit(f.ctx, p, id); err != nil {
		t.Errorf("files can't be edited, which is no error: %v", err)
	}
}

func TestPrepareErrorsLeaveNothing(t *testing.T) {
	t.Parallel()
	f, _, p := ready(t, slacktest.Options{})
	p.Figures = []bots.Media{f.media(t, &p, "b.png", "image/png", png)}
	for _, method := range []string{"files.getUploadURLExternal", "upload", "files.completeUploadExternal", "files.info"} {
		f.fake.Fail(method, slacktest.Fault{Status: http.StatusBadGateway})
		_, err := f.Prepare(f.ctx, p)
		var got *bots.PostError
		if !errors.As(err, &got) || !got.Refused || got.Permanent {
			t.Errorf("%s: %v", method, err)
		}
	}
	p.Figures[0].Blob = strings.Repeat("0", 64)
	_, err := f.Prepare(f.ctx, p)
	var got *bots.PostError
	if !errors.As(err, &got) || !got.Permanent {
		t.Errorf("a blob that is gone: %v", err)
	}
}

func TestOlderBlocksAreLearnt(t *testing.T) {
	t.Parallel()
	f, m, p := ready(t, slacktest.Options{UnknownBlocks: []string{"container", "markdown", "data_table"}})
	p.Cells = []bots.Cell{{Number: 1, Language: "python", Code: "1", Output: "2", Status: "ok"}}
	p.Tables = []bots.Table{{Caption: "t", Header: []string{"a"}, Rows: [][]string{{"1"}}}}
	for i := range 2 {
		p.Turn = int64(i)
		if _, err := f.Post(f.ctx, p, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.fake.Calls("chat.postMessage"); n != 3 {
		t.Errorf("%d calls for two posts, the first of them twice", n)
	}
	if n := len(f.fake.Thread(general, m.TS)); n != 3 {
		t.Errorf("the thread has %d messages", n)
	}
}

func TestSigns(t *testing.T) {
	t.Parallel()
	f, m, p := ready(t, slacktest.Options{Agent: true})
	key := "slack:" + f.team + "/" + general + "/" + m.TS
	for range 2 {
		for _, key := range []string{key, key + "#1.2", "slack:press/1", "other"} {
			if err := f.Received(f.ctx, p.Thread, key, false); err != nil {
				t.Error(err)
			}
		}
	}
	if err := f.Received(f.ctx, p.Thread, key, true); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"eyes", "hourglass_flowing_sand"}, f.fake.Thread(general, m.TS)[0].Reactions); diff != "" {
		t.Error(diff)
	}
	working := func(f *fixture, p bots.Post) {
		for _, words := range []string{"thinking", "thinking", "running", "", "", "thinking"} {
			if err := f.Working(f.ctx, p.Thread, words, "question"); err != nil {
				t.Error(err)
			}
		}
	}
	working(f, p)
	session := func(status string) slacktest.Status {
		return slacktest.Status{Channel: general, ThreadTS: m.TS, Status: status, Title: "question", Session: true}
	}
	if diff := cmp.Diff([]slacktest.Status{session("processing"), session("active"), session("processing")}, f.fake.Statuses()); diff != "" {
		t.Error(diff)
	}
	// Not an agent: learnt at once, and the older status shows the words.
	f, m, p = ready(t, slacktest.Options{})
	working(f, p)
	var words []string
	for _, s := range f.fake.Statuses() {
		words = append(words, s.Status)
	}
	if diff := cmp.Diff([]string{"thinking", "running", "", "thinking"}, words); diff != "" || f.fake.Calls("agents.sessions.setStatus") != 1 {
		t.Error(diff, f.fake.Calls("agents.sessions.setStatus"))
	}
	// Neither: nothing, and no error.
	f, _, p = ready(t, slacktest.Options{NoAssistant: true})
	working(f, p)
	if n := f.fake.Calls("assistant.threads.setStatus"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestTheStandInsLimitIsKept(t *testing.T) {
	t.Parallel()
	f, m, p := ready(t, slacktest.Options{PostsPerSecond: 1.2})
	for i := range 5 {
		p.Turn = int64(i)
		if _, err := f.Post(f.ctx, p, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.fake.Thread(general, m.TS)); n != 6 || f.fake.Calls("chat.postMessage") != 5 {
		t.Errorf("%d messages after %d calls", n, f.fake.Calls("chat.postMessage"))
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	find := func(found []slack.Finding, name string) slack.Finding {
		for _, f := range found {
			if f.Name == name {
				return f
			}
		}
		return slack.Finding{}
	}
	f := startOn(t, ownRedis(t), slacktest.Options{}, withSocket)
	found := slack.Check(f.ctx, f.cfg)
	for _, name := range []string{"bot token", "scopes", "one app", "socket", "signing secret", "events"} {
		if !find(found, name).OK {
			t.Errorf("%s: %+v", name, find(found, name))
		}
	}
	if text := find(found, "events").Text; !strings.Contains(text, "app_mention") || !strings.Contains(text, "message.im") {
		t.Errorf("events: %s", text)
	}
	f.say(t, slacktest.Message{Channel: direct, User: ada, Text: "hello"})
	for text := "message.im"; strings.Contains(text, "message.im"); { // it is noted in the background
		if text = find(slack.Check(f.ctx, f.cfg), "events").Text; f.ctx.Err() != nil {
			t.Fatalf("events after a direct message: %s", text)
		}
	}
	for name, change := range map[string]func(*slack.Config, *slacktest.Options){
		"bot token":      func(c *slack.Config, _ *slacktest.Options) { c.BotToken = "xoxb-other" },
		"scopes":         func(_ *slack.Config, o *slacktest.Options) { o.Scopes = []string{"chat:write", "users:read"} },
		"one app":        func(_ *slack.Config, o *slacktest.Options) { o.AppID = "A0OTHER" },
		"socket":         func(c *slack.Config, _ *slacktest.Options) { c.AppToken = "xapp-1-A0STANDIN-1-wrong" },
		"ways in":        func(c *slack.Config, _ *slacktest.Options) { c.AppToken, c.SigningSecret = "", "" },
		"signing secret": func(c *slack.Config, _ *slacktest.Options) { c.SigningSecret = "short" },
		"configuration":  func(c *slack.Config, _ *slacktest.Options) { c.BotToken = "" },
	} {
		o := slacktest.Options{}
		c := f.cfg
		change(&c, &o)
		fake := slacktest.New(o)
		defer fake.Close()
		c.APIURL = fake.URL()
		if got := find(slack.Check(f.ctx, c), name); got.Name == "" || got.OK {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
