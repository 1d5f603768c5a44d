package discord_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"threadbook/bots"
	"threadbook/bots/discord"
	"threadbook/bots/discord/discordtest"
	"threadbook/sessions"
)

// chat makes a thread and returns its id.
func (r *rig) chat() (string, sessions.ThreadID) {
	id := r.srv.AddChannel(discordtest.Channel{Type: discordtest.TypeThread, GuildID: discordtest.GuildID, Parent: discordtest.ChannelID, Owner: discordtest.UserID})
	return id, guildThread(id)
}

// blob keeps bytes for a post.
func (r *rig) blob(t sessions.ThreadID, name string, data []byte) bots.Media {
	r.t.Helper()
	id, size, err := r.cfg.Blobs.Put(r.t.Context(), t, bytes.NewReader(data), 1<<30)
	if err != nil {
		r.t.Fatal(err)
	}
	return bots.Media{Name: name, Size: size, Blob: id}
}

func TestPostAndEdit(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{})
	ch, thread := r.chat()
	figure := r.blob(thread, "chart 1.png", []byte("png"))
	figure.Alt = "sales by month"
	p := bots.Post{Thread: thread, Turn: 3, Part: "live", Cells: []bots.Cell{{Number: 1, Language: "python", Code: "1+1", Output: "2"}},
		Figures: []bots.Media{figure}, Buttons: []bots.Button{{Action: bots.ActionStop, Label: "Stop", Value: "3", Danger: true}}, Running: true, Status: "running"}
	id, err := r.d.Post(t.Context(), p, "")
	if err != nil {
		t.Fatal(err)
	}
	list := r.srv.ByBot(ch)
	if len(list) != 1 || list[0].ID != id {
		t.Fatalf("got %+v", list)
	}
	m := list[0]
	if len(m.Files) != 1 || string(m.Files[0].Data) != "png" || m.Files[0].Description != "sales by month" || m.Files[0].Name != "chart_1.png" {
		t.Errorf("files %+v", m.Files)
	}
	if m.Buttons()["Stop"] != "tb:stop:3" {
		t.Errorf("buttons %v", m.Buttons())
	}
	if again, err := r.d.Post(t.Context(), p, ""); err != nil || again != id {
		t.Errorf("posted again: %q, %v", again, err)
	}
	kept := m.Files[0].ID
	p.Figures = append(p.Figures, r.blob(thread, "two.png", []byte("2")))
	p.Running, p.Buttons = false, nil
	r.srv.Change(ch, func(c *discordtest.Channel) { c.Metadata.Archived = true })
	if err := r.d.Edit(t.Context(), p, id); err != nil {
		t.Fatal(err)
	}
	m = r.srv.ByBot(ch)[0]
	if len(m.Files) != 2 || m.Files[0].ID != kept || string(m.Files[1].Data) != "2" || len(m.Sent) != 2 || len(m.Buttons()) != 0 {
		t.Errorf("after the edit %+v", m)
	}
}

func TestLostAnswerIsFound(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{})
	ch, thread := r.chat()
	since := time.Now()
	p := bots.Post{Thread: thread, Turn: 1, Part: "answer/0", Text: "Done."}
	if id, err := r.d.Find(t.Context(), p, "", since); id != "" || err != nil {
		t.Errorf("found %q, %v before it was posted", id, err)
	}
	r.srv.Fail(discordtest.Fault{Method: "POST", Path: "/messages", Times: 1, Lost: true})
	_, err := r.d.Post(t.Context(), p, "")
	if e := asPost(t, err); e.Refused || e.Permanent {
		t.Errorf("a lost answer is %+v", e)
	}
	// The same words under another key are another post.
	other := p
	other.Turn = 2
	if _, err := r.d.Post(t.Context(), other, ""); err != nil {
		t.Fatal(err)
	}
	for i, p := range []bots.Post{p, other} {
		id, err := r.d.Find(t.Context(), p, "", since)
		if err != nil || id != r.srv.ByBot(ch)[i].ID {
			t.Errorf("found %q, %v", id, err)
		}
	}
	for range 250 { // some pages back
		r.srv.Say(discordtest.Message{Channel: ch, Content: "x"})
	}
	if id, err := r.d.Find(t.Context(), p, "", since); err != nil || id != r.srv.ByBot(ch)[0].ID {
		t.Errorf("found %q, %v", id, err)
	}
	if id, err := r.d.Find(t.Context(), p, "", time.Now().Add(time.Hour)); err != nil || id != "" {
		t.Errorf("found %q, %v before the time", id, err)
	}
	r.srv.Fail(discordtest.Fault{Method: "GET", Path: "/messages", Times: 1, Status: 500})
	if _, err := r.d.Find(t.Context(), p, "", since); err == nil {
		t.Error("a failed search found nothing in silence")
	}
}

func asPost(t *testing.T, err error) bots.PostError {
	t.Helper()
	var e *bots.PostError
	if !errors.As(err, &e) {
		t.Fatalf("%v is no PostError", err)
	}
	return *e
}

func TestPostErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault discordtest.Fault
		want  bots.PostError
	}{
		"429":          {discordtest.Fault{Status: 429, After: 20 * time.Second}, bots.PostError{Refused: true, After: 20 * time.Second}},
		"500":          {discordtest.Fault{Status: 500}, bots.PostError{}},
		"503":          {discordtest.Fault{Status: 503}, bots.PostError{}},
		"no answer":    {discordtest.Fault{}, bots.PostError{}},
		"400":          {discordtest.Fault{Status: 400, Code: 50035}, bots.PostError{Refused: true, Permanent: true}},
		"401":          {discordtest.Fault{Status: 401}, bots.PostError{Refused: true, Permanent: true}},
		"403":          {discordtest.Fault{Status: 403, Code: 50013}, bots.PostError{Refused: true, Permanent: true}},
		"gone channel": {discordtest.Fault{Status: 404, Code: 10003}, bots.PostError{Refused: true, Permanent: true, Gone: true}},
		"gone message": {discordtest.Fault{Status: 404, Code: 10008}, bots.PostError{Refused: true, Permanent: true, Gone: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, discordtest.Options{})
			_, thread := r.chat()
			c.fault.Path = "/messages"
			r.srv.Fail(c.fault)
			p := bots.Post{Thread: thread, Turn: 1, Part: "a", Text: "x"}
			_, err := r.d.Post(t.Context(), p, "")
			got := asPost(t, err)
			if got.Err = nil; got.After > c.want.After || got.After < c.want.After-time.Second || got.Refused != c.want.Refused || got.Permanent != c.want.Permanent || got.Gone != c.want.Gone {
				t.Errorf("got %+v", got)
			}
			_ = asPost(t, r.d.Edit(t.Context(), p, "1500000000000000001"))
		})
	}
	r := newRig(t, discordtest.Options{})
	_, thread := r.chat()
	r.srv.Close()
	_, err := r.d.Post(t.Context(), bots.Post{Thread: thread, Text: "x"}, "")
	if e := asPost(t, err); e.Permanent {
		t.Errorf("without a Discord: %+v", e)
	}
}

// TestRefusalsAreRemembered keeps invalid requests few: Discord bans an
// address after 10,000.
func TestRefusalsAreRemembered(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{})
	ch, thread := r.chat()
	_, free := r.chat()
	r.srv.Change(ch, func(c *discordtest.Channel) { c.Denied = 1 << 38 })
	post := func(t *testing.T, thread sessions.ThreadID, n int64) error {
		_, err := r.d.Post(t.Context(), bots.Post{Thread: thread, Turn: n, Text: "x"}, "")
		return err
	}
	for n := range int64(10) {
		if e := asPost(t, post(t, thread, n)); !e.Permanent {
			t.Errorf("got %+v", e)
		}
	}
	if err := post(t, free, 1); err != nil {
		t.Errorf("another channel: %v", err)
	}
	refused := 0
	for _, q := range r.srv.Requests() {
		if q.Status == 403 {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d refused requests", refused)
	}
	r.srv.Fail(discordtest.Fault{Times: 1, Status: 401})
	for n := range int64(5) {
		if err := post(t, free, 10+n); err == nil {
			t.Error("posted with a refused token")
		}
	}
	unauthorized := 0
	for _, q := range r.srv.Requests() {
		if q.Status == 401 {
			unauthorized++
		}
	}
	if unauthorized != 1 {
		t.Errorf("%d requests with a refused token", unauthorized)
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{Rate: 3, RateWindow: 300 * time.Millisecond})
	slow, slowThread := r.chat()
	fast, fastThread := r.chat()
	done := make(chan error, 2)
	send := func(thread sessions.ThreadID, n int64) {
		var errs []error
		for i := range n {
			_, err := r.d.Post(t.Context(), bots.Post{Thread: thread, Turn: i, Text: "x"}, "")
			errs = append(errs, err)
		}
		done <- errors.Join(errs...)
	}
	go send(slowThread, 10)
	go send(fastThread, 3)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if a, b := len(r.srv.ByBot(slow)), len(r.srv.ByBot(fast)); a != 10 || b != 3 {
		t.Errorf("%d and %d posts", a, b)
	}
	for _, q := range r.srv.Requests() {
		if q.Status == 429 {
			t.Error("a request over the limit")
		}
	}
	// So does the limit for all.
	many := make(chan error, 120)
	for i := range cap(many) {
		go func() { many <- r.d.Working(t.Context(), slowThread, "words", fmt.Sprint(i)) }()
	}
	for range cap(many) {
		if err := <-many; err != nil {
			t.Error(err)
		}
	}
	for _, q := range r.srv.Requests() {
		if q.Status == 429 {
			t.Fatal("a request over the global limit")
		}
	}
	// A global limit holds everywhere, and a long one is not waited for.
	r.srv.Fail(discordtest.Fault{Method: "POST", Path: fast, Times: 1, Status: 429, Global: true, After: 30 * time.Second})
	_, err := r.d.Post(t.Context(), bots.Post{Thread: fastThread, Turn: 100, Text: "x"}, "")
	if e := asPost(t, err); e.After < 29*time.Second || !e.Refused {
		t.Errorf("got %+v", e)
	}
	before := len(r.srv.Requests())
	_, err = r.d.Post(t.Context(), bots.Post{Thread: slowThread, Turn: 100, Text: "x"}, "")
	if e := asPost(t, err); e.After < 25*time.Second || !e.Refused || e.Permanent {
		t.Errorf("got %+v", e)
	}
	if len(r.srv.Requests()) != before {
		t.Error("a request during a global limit")
	}
}

func TestLargeFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}, func(c *discord.Config) {
		c.Link = func(_ sessions.ThreadID, _, name string) string { return "https://example.org/" + name }
	})
	ch, thread := r.chat()
	if got := r.d.Limits(t.Context(), thread); got.FileSize != 10<<20 || got.Media != 10 {
		t.Errorf("limits %+v", got)
	}
	big := r.blob(thread, "big.bin", make([]byte, 11<<20))
	small := r.blob(thread, "small.txt", []byte("s"))
	if _, err := r.d.Post(t.Context(), bots.Post{Thread: thread, Turn: 1, Files: []bots.Media{big, small}}, ""); err != nil {
		t.Fatal(err)
	}
	m := r.srv.ByBot(ch)[0]
	if len(m.Files) != 1 || !strings.Contains(m.Text(), "<https://example.org/big.bin>") || !strings.Contains(m.Text(), "11.0 MiB") {
		t.Errorf("got %+v %s", m.Files, m.Text())
	}
	// The server allows less than it says.
	big.Size = 1 << 20
	if _, err := r.d.Post(t.Context(), bots.Post{Thread: thread, Turn: 2, Files: []bots.Media{big}}, ""); err != nil {
		t.Fatal(err)
	}
	if m := r.srv.ByBot(ch)[1]; len(m.Files) != 0 || !strings.Contains(m.Text(), "<https://example.org/big.bin>") {
		t.Errorf("got %+v %s", m.Files, m.Text())
	}
	boosted := newRig(t, discordtest.Options{Tier: 2})
	if got := boosted.d.Limits(t.Context(), thread); got.FileSize != 50<<20 {
		t.Errorf("limits %+v", got)
	}
	if got := boosted.d.Limits(t.Context(), "discord:@me/"+discordtest.DMID); got.FileSize != 10<<20 {
		t.Errorf("limits %+v", got)
	}
}

func TestSigns(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " hi"})
	thread := guildThread(id)
	r.messages(thread, 1)
	reply := r.srv.Say(discordtest.Message{Channel: id, Content: "more"})
	post := r.srv.AddChannel(discordtest.Channel{Type: discordtest.TypeThread, GuildID: discordtest.GuildID, Parent: discordtest.ForumID})
	// A forum's first post has its thread's id.
	for _, c := range []struct {
		thread sessions.ThreadID
		key    string
		busy   bool
	}{{thread, "discord:" + id, false}, {thread, "discord:" + reply, true}, {thread, "discord:" + reply, true}, {thread, "discord:i123", false}, {thread, "discord:" + id + "#x", false}} {
		if err := r.d.Received(t.Context(), c.thread, c.key, c.busy); err != nil {
			t.Errorf("%s: %v", c.key, err)
		}
	}
	if got := r.srv.Messages(discordtest.ChannelID)[0].Reactions; len(got) != 1 || got[0] != "👀" {
		t.Errorf("got %v", got)
	}
	if got := r.srv.Messages(id)[0].Reactions; len(got) != 1 || got[0] != "⏳" {
		t.Errorf("got %v", got)
	}
	if err := r.d.Received(t.Context(), guildThread(post), "discord:"+post, false); err == nil {
		t.Error("a reaction to no message")
	}
	for _, words := range []string{"thinking", "", "running"} {
		if err := r.d.Working(t.Context(), thread, words, "title"); err != nil {
			t.Error(err)
		}
	}
	if n := r.srv.Channel(id).Typing; n != 2 {
		t.Errorf("typed %d times", n)
	}
}
