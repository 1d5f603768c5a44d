package slack_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"threadbook/bots"
	"threadbook/bots/slack"
	"threadbook/bots/slack/slacktest"
	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/redisstore"
)

const (
	ada   = "U0ADA" // of the workspace
	guest = "U0GUEST"
	alien = "U0ALIEN" // of another organisation
	gone  = "U0GONE"
	robot = "U0ROBOT"

	general = "C0GENERAL"
	direct  = "D0ADA"
	group   = "G0GROUP"

	patience = 15 * time.Second
)

// redisURL is one Redis for all tests; each has a workspace of its own in it.
var redisURL string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "slack-test")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		p, err := redisstore.StartPrivate(context.Background(), dir, slog.New(slog.DiscardHandler))
		if err != nil {
			panic(err)
		}
		defer p.Close()
		redisURL = p.URL
		return m.Run()
	}())
}

var workspaces atomic.Int64

// fixture is an adapter between a stand-in Slack and a real store.
type fixture struct {
	*slack.Slack
	cfg   slack.Config
	fake  *slacktest.Server
	store *redisstore.Store
	blobs *blobs.Folder
	team  string
	web   string // the address of the adapter's handler
	ctx   context.Context
	woken atomic.Int64
}

func start(t *testing.T, o slacktest.Options, change func(*slack.Config)) *fixture {
	t.Helper()
	return startOn(t, redisURL, o, change)
}

// ownRedis is a Redis for one test, for what lists all threads.
func ownRedis(t *testing.T) string {
	t.Helper()
	p, err := redisstore.StartPrivate(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p.URL
}

func startOn(t *testing.T, redisURL string, o slacktest.Options, change func(*slack.Config)) *fixture {
	t.Helper()
	o.TeamID = fmt.Sprintf("T%d", workspaces.Add(1))
	f := &fixture{fake: slacktest.New(o), team: o.TeamID}
	t.Cleanup(f.fake.Close)
	for _, u := range []slacktest.User{
		{ID: ada, Name: "Ada"}, {ID: guest, Name: "Gus", Restricted: true}, {ID: alien, Name: "Zoe", TeamID: "T0OTHER", IsStranger: true},
		{ID: gone, Name: "Gone", Deleted: true}, {ID: robot, Name: "Robot", Bot: true},
	} {
		f.fake.AddUser(u)
	}
	f.fake.AddChannel(slacktest.Channel{ID: general})
	f.fake.AddChannel(slacktest.Channel{ID: direct, IM: true})
	f.fake.AddChannel(slacktest.Channel{ID: group, MPIM: true})
	f.fake.AddChannel(slacktest.Channel{ID: "C0OUT", Outside: true})
	f.fake.AddChannel(slacktest.Channel{ID: "C0SHARED", ExtShared: true})
	var err error
	if f.store, err = redisstore.Open(redisURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.store.Close() })
	if f.blobs, err = blobs.NewFolder(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	f.cfg = slack.Config{
		BotToken: slacktest.BotToken, SigningSecret: slacktest.SigningSecret, APIURL: f.fake.URL(),
		Store: f.store, Blobs: f.blobs, Log: log, Seen: f.store.Marks(o.TeamID),
		Intake: &bots.Intake{Store: f.store, Blobs: f.blobs, Log: log, Wake: func(context.Context, sessions.ThreadID) error {
			f.woken.Add(1)
			return nil
		}},
	}
	if change != nil {
		change(&f.cfg)
	}
	if f.Slack, err = slack.New(f.cfg); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(f.Handler())
	t.Cleanup(web.Close)
	f.web = web.URL
	var cancel context.CancelFunc
	f.ctx, cancel = context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return f
}

// send posts an event over HTTP and wants it acknowledged.
func (f *fixture) send(t *testing.T, kind string, payload any) []byte {
	t.Helper()
	status, body, err := f.fake.Post(f.ctx, f.web, kind, payload, 0)
	if err != nil || status != http.StatusOK {
		t.Fatalf("the event was answered %d %s, %v", status, body, err)
	}
	return body
}

// event sends an inner event.
func (f *fixture) event(t *testing.T, inner any) {
	t.Helper()
	f.send(t, slacktest.EventsAPI, f.fake.Envelope(inner, nil))
}

// say lets somebody write, sends the message event alone, and returns it.
func (f *fixture) say(t *testing.T, m slacktest.Message) slacktest.Message {
	t.Helper()
	m = f.fake.Write(m)
	f.event(t, f.fake.Event("message", m))
	return m
}

func (f *fixture) thread(channel, root string) sessions.ThreadID {
	return sessions.NewThreadID(slack.Platform, f.team, channel, root)
}

// heard are the messages in a thread's log.
func (f *fixture) heard(t *testing.T, channel, root string) []*sessions.Message {
	t.Helper()
	events, err := f.store.Read(f.ctx, f.thread(channel, root), 0, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []*sessions.Message
	for _, ev := range events {
		if m, ok := ev.Body.(*sessions.Message); ok {
			list = append(list, m)
		}
	}
	return list
}

// texts are those messages in short.
func (f *fixture) texts(t *testing.T, channel, root string) string {
	t.Helper()
	var list []string
	for _, m := range f.heard(t, channel, root) {
		s := m.Text
		for _, a := range m.Files {
			s += " [" + a.Name
			if a.Error != "" {
				s += ": " + a.Error
			}
			s += "]"
		}
		if m.Edits != "" {
			s += " (edit)"
		}
		if m.Deleted {
			s += " (deleted)"
		}
		list = append(list, s)
	}
	return strings.Join(list, " | ")
}

func (f *fixture) wantTexts(t *testing.T, channel, root, want string) {
	t.Helper()
	if got := f.texts(t, channel, root); got != want {
		t.Errorf("the thread has %q, want %q", got, want)
	}
}

func mention(text string) string { return "<@" + slacktest.BotUserID + "> " + text }
