package slack_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"threadbook/bots"
	"threadbook/bots/slack"
	"threadbook/bots/slack/slacktest"
	"threadbook/sessions"
)

// writeGolden is the flag that the golden files of package slack have, too.
var writeGolden = flag.Lookup("update")

// live is a live post in a thread that somebody has begun.
func live(t *testing.T, o slacktest.Options) (*fixture, slacktest.Message, bots.Post) {
	f, m, p := ready(t, o)
	p = bots.Post{Thread: p.Thread, Turn: 3, Part: "live", Running: true, Asker: sessions.User{ID: ada, Name: "Ada"},
		Status: "On it …", Buttons: []bots.Button{{Action: bots.ActionStop, Label: "Stop", Value: "3", Danger: true}}}
	return f, m, p
}

// ended is the last form of a live post.
func ended(p bots.Post) bots.Post {
	p.Running, p.Text, p.Status = false, "", "Done in 2.0 s · 2 cells"
	p.Buttons = []bots.Button{{Action: bots.ActionAgain, Label: "Run again", Value: "3"}}
	for i := range p.Cells {
		p.Cells[i].Status, p.Cells[i].Seconds = "ok", 1
	}
	return p
}

// the one post of a thread.
func (f *fixture) only(t *testing.T, root, id string) slacktest.Message {
	t.Helper()
	all := f.fake.Thread(general, root)[1:]
	if len(all) != 1 || all[0].TS != id {
		t.Fatalf("want one post %q in the thread, got %+v", id, all)
	}
	return all[0]
}

// wantLast checks that a live post has the form that it has without streams.
func (f *fixture) wantLast(t *testing.T, root, id string, p bots.Post) {
	t.Helper()
	got := f.only(t, root, id)
	plain, m, q := live(t, slacktest.Options{NoStreams: "unknown_method"})
	p.Thread = q.Thread
	other, err := plain.Post(plain.ctx, q, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Edit(plain.ctx, p, other); err != nil {
		t.Fatal(err)
	}
	want := plain.only(t, m.TS, other)
	if got.Text != want.Text || !bytes.Equal(got.Blocks, want.Blocks) || got.Streaming || len(got.Metadata) == 0 {
		t.Errorf("the last form is %s %s %s, streaming %v; want %s %s", got.Text, got.Blocks, got.Metadata, got.Streaming, want.Text, want.Blocks)
	}
}

func TestAStreamedTurn(t *testing.T) {
	t.Parallel()
	f, m, p := live(t, slacktest.Options{})
	s, c := recorded(t, f)
	id, err := s.Post(f.ctx, p, "")
	if err != nil {
		t.Fatal(err)
	}
	edit := func(change func()) {
		t.Helper()
		change()
		q := p
		q.Cells = append([]bots.Cell(nil), p.Cells...)
		if err := s.Edit(f.ctx, q, id); err != nil {
			t.Fatal(err)
		}
	}
	edit(func() {}) // nothing new is no call
	edit(func() {
		p.Text = "I look at <!channel>, see https://evil.example/?d=secret and [this](http://evil.example)."
	})
	edit(func() {
		p.Status = "Running cell 1 (python) …"
		p.Cells = []bots.Cell{{Number: 1, Language: "python", Code: "import pandas as pd\nprint(1 < 2, '```')"}}
	})
	edit(func() { p.Cells[0].Output = "begun" })
	if !f.only(t, m.TS, id).Streaming || !strings.Contains(string(f.only(t, m.TS, id).Blocks), "begun") {
		t.Error("what the cell printed is not there while it runs")
	}
	edit(func() { p.Cells[0].Output = "begun\nTrue" })
	edit(func() {
		p.Cells[0].Status, p.Cells[0].Seconds = "ok", 1
		p.Cells = append(p.Cells, bots.Cell{Number: 2, Language: "sql"})
	})
	// What is shortened later was shown whole.
	edit(func() { p.Cells[0].Output, p.Cells[1].Output = "b … e", "http://evil.example" })
	edit(func() { p.Cells[1].Status = "error" })
	shown := string(f.only(t, m.TS, id).Blocks) + f.only(t, m.TS, id).Text
	for _, bad := range []string{"<!", "://", "](", "evil.example", `\u003c`} {
		if strings.Contains(shown, bad) {
			t.Errorf("%q is in the stream: %s", bad, shown)
		}
	}
	p = ended(p)
	edit(func() {})
	f.wantLast(t, m.TS, id, p)

	got, err := json.MarshalIndent(c.list, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const path = "testdata/stream.json"
	if writeGolden.Value.String() == "true" {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestStreamsAreRefused(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"unknown_method", "not_allowed", "channel_type_not_supported", "missing_recipient_user_id"} {
		f, m, p := live(t, slacktest.Options{NoStreams: word})
		var ids []string
		for turn := range 2 {
			p.Turn = int64(turn)
			id, err := f.Post(f.ctx, p, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Edit(f.ctx, ended(p), id); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if n := len(f.fake.Thread(general, m.TS)); n != 3 || ids[0] == ids[1] {
			t.Errorf("%s: the thread has %d messages", word, n)
		}
		if f.fake.Calls("chat.startStream") != 1 || f.fake.Calls("chat.stopStream") != 0 || f.fake.Calls("chat.postMessage") != 2 {
			t.Errorf("%s: %d starts, %d stops, %d posts", word, f.fake.Calls("chat.startStream"), f.fake.Calls("chat.stopStream"), f.fake.Calls("chat.postMessage"))
		}
	}
	// Too many is no refusal for good, and a channel that takes no post has
	// taught nothing of streams.
	f, m, p := live(t, slacktest.Options{})
	f.fake.Fail("chat.startStream", slacktest.Fault{Error: "ratelimited"})
	id, err := f.Post(f.ctx, p, "")
	if err != nil || f.only(t, m.TS, id).Streaming {
		t.Fatalf("not posted: %v", err)
	}
	f, m, p = live(t, slacktest.Options{})
	f.fake.Fail("chat.startStream", slacktest.Fault{Error: "is_archived"})
	f.fake.Fail("chat.postMessage", slacktest.Fault{Error: "is_archived"})
	if _, err := f.Post(f.ctx, p, ""); err == nil {
		t.Error("posted")
	}
	if id, err = f.Post(f.ctx, p, ""); err != nil || !f.only(t, m.TS, id).Streaming {
		t.Errorf("not streamed: %v", err)
	}
}

func TestAStreamIsRolled(t *testing.T) {
	t.Parallel()
	grow := func(p *bots.Post, bytes int) {
		if len(p.Cells) == 0 {
			p.Cells = []bots.Cell{{Number: 1, Language: "python", Code: "run()"}}
		}
		p.Cells[0].Output += strings.Repeat(strings.Repeat("x", 99)+"\n", bytes/100)
	}
	t.Run("at 9,000 bytes", func(t *testing.T) {
		t.Parallel()
		f, m, p := live(t, slacktest.Options{})
		s, c := recorded(t, f)
		id, err := s.Post(f.ctx, p, "")
		if err != nil {
			t.Fatal(err)
		}
		for range 6 { // of 1,000 bytes, which count twice
			grow(&p, 1000)
			if err := s.Edit(f.ctx, p, id); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.methods(); got != "startStream appendStream appendStream appendStream appendStream stopStream update update" {
			t.Errorf("called %s", got)
		}
		if got := f.only(t, m.TS, id); strings.Count(string(got.Blocks), strings.Repeat("x", 99)) != 60 {
			t.Errorf("the output is not whole: %s", got.Blocks)
		}
		p = ended(p)
		if err := s.Edit(f.ctx, p, id); err != nil {
			t.Fatal(err)
		}
		f.wantLast(t, m.TS, id, p)
	})
	t.Run("before it begins", func(t *testing.T) {
		t.Parallel()
		f, m, p := live(t, slacktest.Options{})
		grow(&p, 5000)
		id, err := f.Post(f.ctx, p, "")
		if err != nil || f.only(t, m.TS, id).Streaming {
			t.Errorf("not posted: %v", err)
		}
	})
	t.Run("at 50 cells", func(t *testing.T) {
		t.Parallel()
		f, m, p := live(t, slacktest.Options{})
		id, err := f.Post(f.ctx, p, "")
		if err != nil {
			t.Fatal(err)
		}
		for n := range 52 {
			p.Cells = []bots.Cell{{Number: int64(n), Language: "python", Code: fmt.Sprint(n), Status: "ok"}}
			if err := f.Edit(f.ctx, p, id); err != nil {
				t.Fatal(err)
			}
			if got := f.only(t, m.TS, id).Streaming; got != (n < 50) {
				t.Fatalf("streaming %v after %d cells", got, n+1)
			}
		}
	})
	t.Run("at 4 minutes, with nothing new", func(t *testing.T) {
		t.Parallel()
		f, m, p := live(t, slacktest.Options{StreamLife: time.Minute})
		f.SetStreamLife(100 * time.Millisecond)
		id, err := f.Post(f.ctx, p, "")
		if err != nil {
			t.Fatal(err)
		}
		if !f.fake.Until(f.ctx, func() bool { return len(f.only(t, m.TS, id).Edits) == 1 }) {
			t.Fatal("the stream was not ended")
		}
		if got := f.only(t, m.TS, id); got.Streaming || !strings.Contains(string(got.Blocks), "On it") || !strings.Contains(string(got.Blocks), "tb:stop") {
			t.Errorf("the message is %s", got.Blocks)
		}
		grow(&p, 100)
		if err := f.Edit(f.ctx, p, id); err != nil || f.fake.Calls("chat.stopStream") != 1 || f.fake.Calls("chat.appendStream") != 0 {
			t.Errorf("then %v", err)
		}
		f.wantLast(t, m.TS, id, p)
	})
	t.Run("where more can't show it", func(t *testing.T) {
		t.Parallel()
		f, m, p := live(t, slacktest.Options{})
		grow(&p, 300)
		id, err := f.Post(f.ctx, p, "")
		if err != nil {
			t.Fatal(err)
		}
		p.Cells[0].Output = "… its tail"
		if err := f.Edit(f.ctx, p, id); err != nil {
			t.Fatal(err)
		}
		f.wantLast(t, m.TS, id, p)
	})
}

func TestARestartInMidStream(t *testing.T) {
	t.Parallel()
	f, m, p := live(t, slacktest.Options{})
	began := time.Now()
	id, err := f.Post(f.ctx, p, "")
	if err != nil {
		t.Fatal(err)
	}
	f.SetStreamLife(time.Hour)
	s, c := recorded(t, f) // which knows nothing
	// The answer reached nobody either.
	if found, err := s.Find(f.ctx, p, "", began); found != id || err != nil {
		t.Fatalf("found %q, want %q, %v", found, id, err)
	}
	p.Cells = []bots.Cell{{Number: 1, Language: "python", Code: "1", Output: "2"}}
	// Slack is too busy to end the stream, so it takes no edit.
	f.fake.Fail("chat.stopStream", slacktest.Fault{Status: 503})
	var pe *bots.PostError
	if err := s.Edit(f.ctx, p, id); !errors.As(err, &pe) || pe.Permanent {
		t.Fatalf("got %v", err)
	}
	for range 2 {
		if err := s.Edit(f.ctx, p, id); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.methods(); got != "stopStream update stopStream update update" {
		t.Errorf("called %s", got)
	}
	if found, err := s.Find(f.ctx, p, "", began); found != id || err != nil {
		t.Errorf("found %q by the metadata, want %q, %v", found, id, err)
	}
	f.wantLast(t, m.TS, id, p)
	// The first process, should it come to itself.
	p.Cells[0].Output = "2\n3"
	if err := f.Edit(f.ctx, p, id); err != nil {
		t.Fatal(err)
	}
	f.wantLast(t, m.TS, id, p)
}

func TestALostStart(t *testing.T) {
	t.Parallel()
	f, m, p := live(t, slacktest.Options{})
	began := time.Now()
	// Other messages of ours stand there: an answer, files, and the stream of
	// the turn before, which is open.
	before := p
	before.Turn, before.Buttons = 2, []bots.Button{{Action: bots.ActionStop, Label: "Stop", Value: "2"}}
	if _, err := f.Post(f.ctx, before, ""); err != nil {
		t.Fatal(err)
	}
	answer := before
	answer.Part, answer.Running = "answer/0", false
	if _, err := f.Post(f.ctx, answer, ""); err != nil {
		t.Fatal(err)
	}
	f.fake.Write(slacktest.Message{Channel: general, ThreadTS: m.TS, User: slacktest.BotUserID, BotID: slacktest.BotID,
		Files: []string{f.fake.AddFile(slacktest.File{Name: "a.csv"})}})
	f.fake.Write(slacktest.Message{Channel: general, ThreadTS: m.TS, User: ada, Text: "meanwhile"})
	restarted, _ := recorded(t, f)
	for _, s := range []*slack.Slack{f.Slack, restarted} {
		if id, err := s.Find(f.ctx, p, "", began); id != "" || err != nil {
			t.Errorf("found %q before it was made, %v", id, err)
		}
	}
	f.fake.Fail("chat.startStream", slacktest.Fault{HangUp: true, Done: true})
	id, err := f.Post(f.ctx, p, "")
	var pe *bots.PostError
	if id != "" || !errors.As(err, &pe) || pe.Refused {
		t.Fatalf("got %q, %v", id, err)
	}
	all := f.fake.Thread(general, m.TS)
	id = all[len(all)-1].TS
	for _, s := range []*slack.Slack{f.Slack, restarted} {
		if found, err := s.Find(f.ctx, p, "", began); found != id || err != nil {
			t.Errorf("found %q, want %q, %v", found, id, err)
		}
	}
	if err := f.Edit(f.ctx, ended(p), id); err != nil {
		t.Fatal(err)
	}
	if got := f.fake.Thread(general, m.TS); len(got) != len(all) || got[len(got)-1].Streaming || len(got[len(got)-1].Metadata) == 0 {
		t.Errorf("the thread has %+v", got)
	}
	// One that was not made is posted, in case what is between us and Slack
	// knows no streams.
	p.Turn = 4
	f.fake.Fail("chat.startStream", slacktest.Fault{Status: 502})
	if _, err := f.Post(f.ctx, p, ""); !errors.As(err, &pe) || pe.Refused {
		t.Fatalf("got %v", err)
	}
	if found, err := f.Find(f.ctx, p, "", began); found != "" || err != nil {
		t.Errorf("found %q, %v", found, err)
	}
	if id, err = f.Post(f.ctx, p, ""); err != nil || f.fake.Calls("chat.startStream") != 3 {
		t.Errorf("got %q, %v", id, err)
	}
}

func TestSlackEndsAStream(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o      slacktest.Options
		faults []slacktest.Fault
		err    bool // of the edit, which comes again
		later  bool // streams are still used
	}{
		"its time is over":      {o: slacktest.Options{StreamLife: time.Nanosecond}, later: true},
		"the chunk is too much": {faults: []slacktest.Fault{{Error: "msg_too_long"}}, later: true},
		"somebody stopped it":   {faults: []slacktest.Fault{{Error: "stopped_by_user"}}, later: true},
		"rows are not known":    {faults: []slacktest.Fault{{Error: "invalid_chunks"}}},
		"the answer is lost":    {faults: []slacktest.Fault{{HangUp: true, Done: true}}, later: true},
		"too many":              {faults: []slacktest.Fault{{Error: "ratelimited"}}, err: true, later: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, m, p := live(t, c.o)
			id, err := f.Post(f.ctx, p, "")
			if err != nil {
				t.Fatal(err)
			}
			f.fake.Fail("chat.appendStream", c.faults...)
			p.Cells = []bots.Cell{{Number: 1, Language: "python", Code: "1", Output: "2"}}
			if err := f.Edit(f.ctx, p, id); (err != nil) != c.err {
				t.Fatal(err)
			}
			if got := f.only(t, m.TS, id); got.Streaming != c.err {
				t.Errorf("streaming %v", got.Streaming)
			}
			p = ended(p)
			if err := f.Edit(f.ctx, p, id); err != nil {
				t.Fatal(err)
			}
			f.wantLast(t, m.TS, id, p)
			p.Turn, p.Running = 4, true
			if _, err := f.Post(f.ctx, p, ""); err != nil || (f.fake.Calls("chat.startStream") == 2) != c.later {
				t.Errorf("%d starts, %v", f.fake.Calls("chat.startStream"), err)
			}
		})
	}
}
