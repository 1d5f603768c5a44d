package discord_test

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"threadbook/bots"
	"threadbook/bots/discord"
	"threadbook/bots/discord/discordtest"
	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/redisstore"
)

// patience bounds every wait of a test.
const patience = 15 * time.Second

// rig is an adapter on a stand-in Discord and a real Redis.
type rig struct {
	t     *testing.T
	srv   *discordtest.Server
	cfg   discord.Config
	d     *discord.Discord
	store *redisstore.Store
	woken chan sessions.ThreadID
	stop  func() error
}

// newRig makes everything; listen starts it.
func newRig(t *testing.T, opts discordtest.Options, change ...func(*discord.Config)) *rig {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	private, err := redisstore.StartPrivate(t.Context(), t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.Open(private.URL)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := blobs.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, srv: discordtest.New(opts), store: store, woken: make(chan sessions.ThreadID, 1000)}
	r.cfg = discord.Config{
		Token: "Bot token", APIURL: r.srv.URL(), Store: store, Blobs: folder, Marks: &marks{}, Log: log,
		Intake: &bots.Intake{Store: store, Blobs: folder, Log: log, Wake: func(_ context.Context, t sessions.ThreadID) error {
			r.woken <- t
			return nil
		}},
		FirstPause: 10 * time.Millisecond, OpenLimit: time.Second,
	}
	for _, c := range change {
		c(&r.cfg)
	}
	r.d = r.adapter()
	t.Cleanup(func() {
		r.halt()
		r.srv.Close()
		store.Close()
		private.Close()
	})
	return r
}

func (r *rig) adapter() *discord.Discord {
	r.t.Helper()
	d, err := discord.New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// listen runs the adapter and waits until it is connected.
func (r *rig) listen() *rig {
	r.t.Helper()
	r.start()
	r.await("a connection", r.srv.Connected)
	return r
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	d := r.d
	go func() { done <- d.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			r.t.Error("the adapter does not end")
			return nil
		}
	})
}

func (r *rig) halt() {
	if r.stop != nil {
		if err := r.stop(); err != nil {
			r.t.Errorf("the adapter ended: %v", err)
		}
		r.stop = nil
	}
}

// await waits for something at the stand-in.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if err := r.srv.Await(ctx, ok); err != nil {
		r.t.Fatalf("waiting for %s: %v", what, err)
	}
}

// messages waits for n messages in a thread's log.
func (r *rig) messages(thread sessions.ThreadID, n int) []*sessions.Message {
	r.t.Helper()
	var found []*sessions.Message
	after := int64(0)
	for deadline := time.Now().Add(patience); len(found) < n; {
		page, err := r.store.Read(r.t.Context(), thread, after, 1000, time.Until(deadline))
		if err != nil || len(page) == 0 {
			r.t.Fatalf("%s has %d messages of %d: %v", thread, len(found), n, err)
		}
		for _, ev := range page {
			if m, ok := ev.Body.(*sessions.Message); ok {
				found = append(found, m)
			}
			after = ev.Seq
		}
	}
	if len(found) != n {
		r.t.Fatalf("%s has %d messages, not %d", thread, len(found), n)
	}
	return found
}

// barrier is a message that is taken after all that came before it in its
// channel.
func (r *rig) barrier(thread sessions.ThreadID, channel string, before int) []*sessions.Message {
	r.t.Helper()
	r.srv.Say(discordtest.Message{Channel: channel, Content: "<@" + discordtest.BotID + "> barrier"})
	list := r.messages(thread, before+1)
	return list[:before]
}

func guildThread(id string) sessions.ThreadID {
	return sessions.NewThreadID("discord", discordtest.GuildID, id)
}

const mention = "<@" + discordtest.BotID + ">"

// marks keep marks in memory.
type marks struct {
	mu sync.Mutex
	m  map[string]string
}

func (m *marks) Marks(context.Context) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.m), nil
}

func (m *marks) SetMarks(_ context.Context, set map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = map[string]string{}
	}
	for ch, id := range set {
		if id == "" {
			delete(m.m, ch)
		} else {
			m.m[ch] = id
		}
	}
	return nil
}
