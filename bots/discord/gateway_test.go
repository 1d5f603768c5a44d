package discord_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"threadbook/bots/discord"
	"threadbook/bots/discord/discordtest"
	"threadbook/sessions"
)

func TestGatewayHangs(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]discordtest.GatewayFaults{
		"no hello":          {NoHello: true},
		"op 7 before READY": {Early: 7},
		"op 9 before READY": {Early: 9},
		"op 11 too early":   {Early: 11},
		"a close":           {CloseWith: 4000},
		"refused":           {Down: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, discordtest.Options{})
			f.Once = true
			r.srv.Gateway(f)
			r.listen()
			id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " hi"})
			r.messages(guildThread(id), 1)
		})
	}
}

func TestFatalCloses(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{4004: "bot token", 4010: "shard", 4011: "too many servers", 4012: "version", 4013: "intents", 4014: "intents"} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, discordtest.Options{})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r.srv.Gateway(discordtest.GatewayFaults{CloseWith: code})
			if err := r.d.Run(ctx); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
			opened, _, _ := r.srv.GatewayCounts()
			if opened > 2 { // for 4014 one with the content intent and one without
				t.Errorf("%d connections", opened)
			}
		})
	}
}

func TestFatalCloseLater(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.d.Run(ctx) }()
	r.await("a connection", r.srv.Connected)
	r.srv.CloseGateway(4004, "Authentication failed.")
	if err := <-done; err == nil || !strings.Contains(err.Error(), "4004") {
		t.Errorf("got %v", err)
	}
}

func TestBadToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{Token: "another"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.d.Run(ctx); err == nil || !strings.Contains(err.Error(), "DISCORD_BOT_TOKEN") {
		t.Errorf("got %v", err)
	}
	if n := len(r.srv.Requests()); n != 1 {
		t.Errorf("%d requests with a bad token", n)
	}
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " start"})
	thread := guildThread(id)
	r.messages(thread, 1)
	said := 1
	reconnected := func(before int) func() bool {
		return func() bool {
			_, readies, resumes := r.srv.GatewayCounts()
			return readies+resumes > before
		}
	}
	for _, step := range []struct {
		name   string
		f      discordtest.GatewayFaults
		end    func()
		resume bool
	}{
		{"op 7", discordtest.GatewayFaults{}, func() { r.srv.Op(7, nil) }, true},
		{"cut off", discordtest.GatewayFaults{}, func() { r.srv.CloseGateway(0, "") }, true},
		{"closed with 4000", discordtest.GatewayFaults{}, func() { r.srv.CloseGateway(4000, "") }, true},
		{"resume without replay", discordtest.GatewayFaults{NoReplay: true}, func() { r.srv.CloseGateway(0, "") }, true},
		{"no resume", discordtest.GatewayFaults{NoResume: true}, func() { r.srv.CloseGateway(0, "") }, false},
		{"closed with 4009", discordtest.GatewayFaults{}, func() { r.srv.CloseGateway(4009, "") }, false},
		{"op 9", discordtest.GatewayFaults{}, func() { r.srv.Op(9, false) }, false},
	} {
		_, readies, resumes := r.srv.GatewayCounts()
		r.srv.Gateway(step.f)
		step.end()
		r.await("the end of "+step.name, func() bool { return !r.srv.Connected() })
		r.srv.Say(discordtest.Message{Channel: id, Content: "meanwhile: " + step.name})
		r.await("a connection after "+step.name, reconnected(readies+resumes))
		if _, _, after := r.srv.GatewayCounts(); (after > resumes) != step.resume {
			t.Errorf("%s: resumed %d times before and %d after", step.name, resumes, after)
		}
		said++
		if m := r.messages(thread, said)[said-1]; m.Text != "meanwhile: "+step.name {
			t.Errorf("after %s came %q", step.name, m.Text)
		}
	}
	r.barrier(thread, id, said)
}

func TestMissedAcks(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{Heartbeat: 50 * time.Millisecond})
	r.srv.Gateway(discordtest.GatewayFaults{NoAcks: true, Once: true})
	r.listen()
	r.await("a resume", func() bool { _, _, n := r.srv.GatewayCounts(); return n == 1 })
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " hi"})
	r.messages(guildThread(id), 1)
}

// TestDownForAMinute is a minute in which the gateway takes no connections,
// scaled down, with a restart of the adapter within.
func TestDownForAMinute(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	first := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " start"})
	r.messages(guildThread(first), 1)
	r.srv.Say(discordtest.Message{Channel: discordtest.DMID, Content: "start"})
	r.messages("discord:@me/"+discordtest.DMID, 1)

	r.srv.Gateway(discordtest.GatewayFaults{Down: true})
	r.srv.CloseGateway(0, "")
	r.await("the end", func() bool { return !r.srv.Connected() })
	const many = 230 // more than two pages
	for i := range many / 2 {
		r.srv.Say(discordtest.Message{Channel: first, Content: fmt.Sprint(i)})
	}
	r.halt()
	for i := range many / 2 {
		r.srv.Say(discordtest.Message{Channel: first, Content: fmt.Sprint(many/2 + i)})
	}
	r.srv.Say(discordtest.Message{Channel: discordtest.DMID, Content: "missed"})
	second := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " a new thread"})
	quiet := r.srv.AddChannel(discordtest.Channel{Type: discordtest.TypeText, GuildID: discordtest.GuildID, Name: "quiet"})
	third := r.srv.Say(discordtest.Message{Channel: quiet, Content: mention + " where it never was"})
	r.srv.Gateway(discordtest.GatewayFaults{})
	r.d = r.adapter()
	r.listen()

	for i, m := range r.messages(guildThread(first), many+1)[1:] {
		if m.Text != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Text)
		}
	}
	r.messages("discord:@me/"+discordtest.DMID, 2)
	r.messages(guildThread(second), 1)
	r.messages(guildThread(third), 1)
	r.barrier(guildThread(first), first, many+1)
	if n := len(r.srv.Threads()); n != 3 {
		t.Errorf("%d threads", n)
	}
}

func TestHostileEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " start"})
	r.messages(guildThread(id), 1)
	author := map[string]any{"id": discordtest.UserID, "username": "ada"}
	odd := []any{
		nil, 5, "text", []any{}, map[string]any{}, map[string]any{"id": "x"}, map[string]any{"id": id, "channel_id": "../../users/@me"},
		map[string]any{"id": "1500000000000000001", "channel_id": id},
		map[string]any{"id": "1500000000000000002", "channel_id": id, "author": nil, "content": nil},
		map[string]any{"id": "1500000000000000003", "channel_id": id, "author": map[string]any{"id": "../x"}, "content": "y"},
		map[string]any{"id": "1500000000000000004", "channel_id": id, "author": author, "content": "odd but whole", "type": 0,
			"components": []any{map[string]any{"type": 20}, nil, 7}, "mentions": 5, "embeds": "?", "edited_timestamp": 12, "attachments": []any{nil}},
		map[string]any{"guilds": []any{nil}, "id": discordtest.GuildID, "channels": []any{nil, 5, map[string]any{"id": nil}}, "threads": []any{nil}, "members": []any{nil}, "voice_states": []any{nil}},
		map[string]any{"id": "1500000000000000005", "application_id": discordtest.AppID, "token": "a/../b", "channel_id": id, "type": 2},
		map[string]any{"id": "1500000000000000006", "application_id": discordtest.AppID, "token": "t", "channel_id": id, "type": 3, "data": nil},
		map[string]any{"id": "1500000000000000007", "application_id": discordtest.AppID, "token": "t", "channel_id": id, "type": 99, "member": map[string]any{"user": author}, "data": []any{}},
		map[string]any{"ids": []any{nil, 5, "x"}, "channel_id": id},
	}
	frames := []string{"null", "[]", "5", `""`, "{", `{"op":null}`, `{"op":"0"}`, `{"op":0}`, `{"op":0,"t":null,"s":"x","d":null}`, `{"op":10,"d":{"heartbeat_interval":0}}`,
		`{"op":10,"d":null}`, `{"op":11}`, `{"op":1,"d":{}}`, `{"op":99,"d":5}`, "\xff\xfe", strings.Repeat("[", 20000), `{"op":0,"t":"X","s":1,"d":"` + strings.Repeat("x", 2<<20) + `"}`}
	for range 20 { // a round for every three minutes of an hour
		for _, name := range []string{"MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK", "GUILD_CREATE", "GUILD_UPDATE", "THREAD_LIST_SYNC",
			"CHANNEL_UPDATE", "THREAD_UPDATE", "INTERACTION_CREATE", "VOICE_STATE_UPDATE", "VOICE_SERVER_UPDATE", "READY", "GUILD_MEMBER_ADD", "", "NO_SUCH_EVENT"} {
			for _, d := range odd {
				r.srv.Dispatch(name, d)
			}
		}
		for _, f := range frames {
			r.srv.Raw(f)
		}
	}
	r.srv.Say(discordtest.Message{Channel: id, Content: "still here"})
	var texts []string // but those of deletions, one of which is of a message that was had
	for after := int64(0); !slices.Contains(texts, "still here"); after++ {
		page, err := r.store.Read(t.Context(), guildThread(id), after, 1, 4*patience)
		if err != nil || len(page) == 0 {
			t.Fatalf("got %q and no more: %v", texts, err)
		}
		if m, ok := page[0].Body.(*sessions.Message); ok && !m.Deleted {
			texts = append(texts, m.Text)
		}
	}
	if want := []string{"start", "odd but whole", "still here"}; !slices.Equal(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
}

func TestFlood(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	id := r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + " start"})
	r.messages(guildThread(id), 1)
	const many = 600 // over a lane's room
	for i := range many {
		r.srv.Say(discordtest.Message{Channel: id, Content: fmt.Sprint(i)})
	}
	for i, m := range r.messages(guildThread(id), many+1)[1:] {
		if m.Text != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Text)
		}
	}
}

func TestCommandsAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	r.await("the commands", func() bool { _, n := r.srv.Commands(); return n == 1 })
	r.halt()
	before := len(r.srv.Requests())
	r.d = r.adapter()
	r.listen()
	r.await("a look at the commands", func() bool {
		for _, q := range r.srv.Requests()[before:] {
			if strings.HasSuffix(q.Path, "/commands") {
				return true
			}
		}
		return false
	})
	r.halt()
	if list, n := r.srv.Commands(); n != 1 || !strings.Contains(string(list), "Run this code") {
		t.Errorf("put %d times: %s", n, list)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{NoContent: true})
	lines := func() string {
		var all []string
		for _, f := range discord.Check(t.Context(), r.cfg) {
			all = append(all, fmt.Sprint(f.OK, " ", f.Text))
		}
		return strings.Join(all, "\n")
	}
	r.srv.Change(discordtest.ChannelID, func(c *discordtest.Channel) { c.Denied = 1<<35 | 1<<15 })
	got := lines()
	for _, want := range []string{"true the token is good: the bot is threadbook", "false the message content intent is off", "true the gateway is ws://",
		"false Test, #general: the bot lacks Create Public Threads, Attach Files"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	r.cfg.Token = "wrong"
	if got := lines(); !strings.Contains(got, "DISCORD_BOT_TOKEN") {
		t.Errorf("got %s", got)
	}
}

// TestLostMarks is a crash before the first mark was kept.
func TestLostMarks(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{}).listen()
	r.srv.Say(discordtest.Message{Channel: discordtest.DMID, Content: "one"})
	r.messages("discord:@me/"+discordtest.DMID, 1)
	r.halt()
	r.cfg.Marks = &marks{}
	r.srv.Say(discordtest.Message{Channel: discordtest.DMID, Content: "two"})
	r.d = r.adapter()
	r.listen()
	r.messages("discord:@me/"+discordtest.DMID, 2)
}

// TestOldMessages are not answered: nobody waits for them any more.
func TestOldMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t, discordtest.Options{})
	ask := func(text string, age time.Duration) string {
		return r.srv.Say(discordtest.Message{Channel: discordtest.ChannelID, Content: mention + text, At: time.Now().Add(-age)})
	}
	ask("before it was there", 0)
	r.listen()
	id := ask("first", 0)
	r.messages(guildThread(id), 1)
	r.halt()
	ask("a month old", 30*24*time.Hour)
	id = ask("a day old", 24*time.Hour)
	r.d = r.adapter()
	r.listen()
	r.messages(guildThread(id), 1)
	if n := len(r.srv.Threads()); n != 2 {
		t.Errorf("%d threads", n)
	}
}
