package discord_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"threadbook/bots/discord"
	"threadbook/bots/discord/discordtest"
	"threadbook/sessions"
)

func TestMentionOpensThread(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " plot this, <@" + discordtest.OtherID + "> says <@&77> <:smile:123>\n```py\n<@" + discordtest.OtherID + ">\n```",
		Files: []discordtest.File{{Name: "sales.csv", MIME: "text/csv; charset=utf-8", Data: []byte("a,b\n1,2\n")}}})
	thread := guildThread(id)
	m := r.messages(thread, 1)[0]
	if want := "plot this, @Bob says @role :smile:\n```py\n<@" + discordtest.OtherID + ">\n```"; m.Text != want {
		t.Errorf("text %q, want %q", m.Text, want)
	}
	if m.Key != "discord:"+id || m.User != (sessions.User{ID: discordtest.UserID, Name: "Ada"}) {
		t.Errorf("key %q, user %v", m.Key, m.User)
	}
	if len(m.Files) != 1 || m.Files[0].Name != "sales.csv" || m.Files[0].MIME != "text/csv" || m.Files[0].Error != "" {
		t.Fatalf("files %+v", m.Files)
	}
	blob, err := r.cfg.Blobs.Get(t.Context(), thread, m.Files[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if data, _ := io.ReadAll(blob); string(data) != "a,b\n1,2\n" {
		t.Errorf("the file holds %q", data)
	}
	if got := r.srv.Threads(); len(got) != 1 || got[0].ID != id || !strings.HasPrefix(got[0].Name, "plot this, @Bob") {
		t.Errorf("threads %+v", got)
	}
	if woken := <-r.woken; woken != thread {
		t.Errorf("woken %s", woken)
	}
}

func TestWhatIsForTheBot(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	say := func(m discordtest.Message) string { return r.srv.Say(m) }
	post := r.srv.AddChannel(discordtest.Channel{Type: discordtest.TypeThread, GuildID: discordtest.GuildID, Parent: discordtest.ForumID, Owner: discordtest.UserID})

	say(discordtest.Message{Channel: discordtest.ChannelID, Content: "not for the bot"})
	say(discordtest.Message{Channel: post, Content: "nor this"})
	say(discordtest.Message{Channel: post, Content: mention + " but this"})
	say(discordtest.Message{Channel: post, Content: "and this, as the bot is in"})
	say(discordtest.Message{Channel: post, Content: "<@" + discordtest.OtherID + "> not this"})
	say(discordtest.Message{Channel: post, Content: "a bot's", Author: discordtest.User{ID: "999", Username: "bot", Bot: true}})
	say(discordtest.Message{Channel: post, Type: 18, Content: "a system message"})
	say(discordtest.Message{Channel: post, Content: "<@" + discordtest.OtherID + "> but this, with " + mention})
	var texts []string
	for _, m := range r.barrier(guildThread(post), post, 3) {
		texts = append(texts, m.Text)
	}
	if got := strings.Join(texts, "|"); got != "but this|and this, as the bot is in|@Bob but this, with" {
		t.Errorf("got %s", got)
	}
	if n := len(r.srv.Threads()); n != 1 {
		t.Errorf("%d threads", n)
	}

	say(discordtest.Message{Channel: discordtest.DMID, Content: "hello"})
	if m := r.messages("discord:@me/"+discordtest.DMID, 1)[0]; m.Text != "hello" {
		t.Errorf("got %+v", m)
	}
	bare := say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention})
	if m := r.messages(guildThread(bare), 1)[0]; m.Text != "!help" {
		t.Errorf("a bare mention asks %q", m.Text)
	}
}

func TestReplyBringsFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	file := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: "here", Files: []discordtest.File{{Name: "a.csv", Data: []byte("x")}}})
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " what is in it?", Reference: file})
	if m := r.messages(guildThread(id), 1)[0]; len(m.Files) != 1 || m.Files[0].Name != "a.csv" || m.Files[0].Error != "" {
		t.Errorf("got %+v", m)
	}
}

func TestWithoutContentIntent(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{NoContent: true}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " one"})
	r.messages(guildThread(id), 1)
	r.srv.Say(discordtest.Message{Channel: id, Content: "unheard"})
	r.barrier(guildThread(id), id, 1)
	r.srv.Say(discordtest.Message{Channel: discordtest.DMID, Content: "direct"})
	r.messages("discord:@me/"+discordtest.DMID, 1)
}

func TestEditsAndDeletions(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " one"})
	thread := guildThread(id)
	r.messages(thread, 1)
	r.srv.Rewrite(discordtest.ChannelID, id, mention+" two")
	edit := r.messages(thread, 2)[1]
	if edit.Text != "two" || edit.Edits != "discord:"+id || !strings.HasPrefix(edit.Key, "discord:"+id+"#") {
		t.Errorf("got %+v", edit)
	}
	aside := r.srv.Say(discordtest.Message{Channel: id, Content: "<@" + discordtest.OtherID + "> aside"})
	r.srv.Rewrite(id, aside, "not ours")
	r.srv.Delete(id, aside)
	more := r.srv.Say(discordtest.Message{Channel: id, Content: "three"})
	r.messages(thread, 3)
	r.srv.Delete(id, more)
	gone := r.messages(thread, 4)[3]
	if !gone.Deleted || gone.Edits != "discord:"+more {
		t.Errorf("got %+v", gone)
	}
	r.barrier(thread, id, 4)
}

func TestFilesThatCantBeHad(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " x"})
	r.messages(guildThread(id), 1)

	// Its address expires between the event and the download.
	r.srv.Fail(discordtest.Fault{Method: "GET", Path: "channels/" + discordtest.DMID, Times: 1, Status: 500})
	expired := r.srv.Say(discordtest.Message{Channel: discordtest.DMID, Content: "late", Files: []discordtest.File{{Name: "a.txt", Data: []byte("late")}}})
	r.srv.ExpireFiles()
	if m := r.messages("discord:@me/"+discordtest.DMID, 1)[0]; m.Key != "discord:"+expired || m.Files[0].Error != "" {
		t.Errorf("got %+v", m)
	}
	// Elsewhere, or too large, or gone.
	event := func(id, url string, size int64) {
		r.srv.Dispatch("MESSAGE_CREATE", map[string]any{"id": id, "channel_id": discordtest.DMID, "type": 0, "content": "f",
			"author":      map[string]any{"id": discordtest.UserID, "username": "ada"},
			"attachments": []any{map[string]any{"id": "5", "filename": "a.txt", "size": size, "url": url}}})
	}
	event("1500000000000000001", "http://169.254.169.254/secret", 1)
	event("1500000000000000002", r.srv.URL()+"x", 600<<20)
	event("1500000000000000003", strings.TrimSuffix(r.srv.URL(), "/api/v9/")+"/attachments/1/2/a.txt?ex=0", 1)
	list := r.messages("discord:@me/"+discordtest.DMID, 4)
	for i, want := range []string{"not on Discord's own servers", "larger than 512 MiB", "does not give the file any more"} {
		if got := list[i+1].Files[0].Error; !strings.Contains(got, want) {
			t.Errorf("file %d: %q, want %q", i, got, want)
		}
	}
}

func TestNoThreadAllowed(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	r.srv.Change(discordtest.ChannelID, func(c *discordtest.Channel) { c.Denied = 1 << 35 })
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " hi"})
	r.await("a reason", func() bool { return len(r.srv.ByBot(discordtest.ChannelID)) == 1 })
	if m := r.srv.ByBot(discordtest.ChannelID)[0]; m.Reference != id || !strings.Contains(m.Content, "Create Public Threads") {
		t.Errorf("got %+v", m)
	}
}

func TestTroubleOnTheWayIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	// The thread is opened, but the answer is lost; then it is there already.
	r.srv.Fail(discordtest.Fault{Method: "POST", Path: "/threads", Times: 1, Lost: true})
	r.srv.Fail(discordtest.Fault{Method: "POST", Path: "/threads", Times: 2, Status: 502})
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " hi"})
	r.messages(guildThread(id), 1)
	long := r.srv.Say(discordtest.Message{Channel: id, Content: strings.Repeat("x", 300<<10)})
	r.await("a refusal", func() bool { return len(r.srv.ByBot(id)) == 1 })
	if got := r.srv.ByBot(id)[0].Content; !strings.Contains(got, "limit") {
		t.Errorf("%s was refused with %q", long, got)
	}
}

func TestBotsAllowed(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}, func(c *discord.Config) { c.AllowBots = true }).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " hi", Author: discordtest.User{ID: "999", Username: "helper", Bot: true}})
	if m := r.messages(guildThread(id), 1)[0]; m.User.ID != "999" {
		t.Errorf("got %+v", m)
	}
}

// flaky is a store that refuses for a while.
type flaky struct {
	sessions.Store
	refuse atomic.Int32
}

func (f *flaky) Submit(ctx context.Context, t sessions.ThreadID, b sessions.Body) (sessions.Event, bool, error) {
	if f.refuse.Add(-1) >= 0 {
		return sessions.Event{}, false, &sessions.Error{Code: sessions.Unavailable, Text: "not now"}
	}
	return f.Store.Submit(ctx, t, b)
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	f := &flaky{}
	r := newRig(t, discordtest.Options{}, func(c *discord.Config) { f.Store = c.Store; c.Intake.Store = f }).listen()
	f.refuse.Store(5)
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " one"})
	r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " two"})
	if m := r.messages(guildThread(id), 1)[0]; m.Text != "one" {
		t.Errorf("got %+v", m)
	}
	r.await("the other thread", func() bool { return len(r.srv.Threads()) == 2 })
	if n := len(r.srv.ByBot(discordtest.ChannelID)); n != 0 {
		t.Errorf("%d words of it in the channel", n)
	}
}

// What people write in a new thread while its first message is not in the
// store yet is taken after that, in order, and not for somebody else's talk.
func TestReplyBeforeTheFirstIsIn(t *testing.T) {
	t.Parallel()
	f := &flaky{}
	r := newRig(t, discordtest.Options{}, func(c *discord.Config) { f.Store = c.Store; c.Intake.Store = f }).listen()
	f.refuse.Store(1 << 30)
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " one"})
	r.await("the thread", func() bool { return len(r.srv.Threads()) == 1 })
	want := []string{"one", "two", "three", "four"}
	for _, text := range want[1:] {
		r.srv.Say(discordtest.Message{Channel: id, Content: text})
		tried := f.refuse.Load()
		r.await("another try at the first", func() bool { return f.refuse.Load() < tried })
	}
	f.refuse.Store(0)
	for i, m := range r.messages(guildThread(id), len(want)) {
		if m.Text != want[i] {
			t.Errorf("message %d is %q", i, m.Text)
		}
	}
}

// TestCountedIDs has ids that say nothing of their time, as a proxy may make them.
func TestCountedIDs(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{CountedIDs: true}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " one"})
	r.messages(guildThread(id), 1)
	r.halt()
	r.srv.Say(discordtest.Message{Channel: id, Content: "two"})
	other := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " three"})
	r.d = r.adapter()
	r.listen()
	r.messages(guildThread(id), 2)
	r.messages(guildThread(other), 1)
}
