package bots_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"threadbook/bots"
	"threadbook/bots/botstest"
	"threadbook/sessions"
	"threadbook/sessions/blobs"
)

const thread = sessions.ThreadID(botstest.Name + ":t")

// scene is a thread's log, shown on a recording platform.
type scene struct {
	t        *testing.T
	platform *botstest.Platform
	client   *botstest.Client
	blobs    sessions.Blobs

	mu     sync.Mutex
	events []sessions.Event
	show   *bots.Show
	open   bool // run goes on until its context ends
}

func newScene(t *testing.T) *scene {
	store, err := blobs.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, platform: botstest.New(1), blobs: store}
	server := httptest.NewServer(s.platform.Handler())
	t.Cleanup(server.Close)
	s.client = &botstest.Client{URL: server.URL, Blobs: store}
	return s
}

// log appends events of a turn, and tells the show of them.
func (s *scene) log(_ context.Context, turn int64, bodies ...sessions.Body) ([]sessions.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []sessions.Event
	for _, b := range bodies {
		events = append(events, sessions.Event{Seq: int64(len(s.events) + 1), At: time.Now(), Thread: thread, Turn: turn, Body: b})
		s.events = append(s.events, events[len(events)-1])
	}
	s.show.Saw(events)
	return events, nil
}

func (s *scene) add(turn int64, bodies ...sessions.Body) {
	s.t.Helper()
	if _, err := s.log(s.t.Context(), turn, bodies...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) blob(text string) string {
	s.t.Helper()
	name, _, err := s.blobs.Put(s.t.Context(), thread, strings.NewReader(text), 1<<20)
	if err != nil {
		s.t.Fatal(err)
	}
	return name
}

// run shows the thread until all is settled or ctx ends.
func (s *scene) run(ctx context.Context, poster bots.Poster, write func(context.Context, int64, ...sessions.Body) ([]sessions.Event, error)) {
	s.t.Helper()
	p := &bots.Presenter{Posters: map[string]bots.Poster{botstest.Name: poster}, Blobs: s.blobs, HasModel: true,
		Metrics: bots.NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewTextHandler(s.t.Output(), nil))}
	show := p.Open(thread, write)
	s.mu.Lock()
	s.show = show
	show.Saw(s.events)
	last := int64(len(s.events))
	if s.open {
		last = math.MaxInt64
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { show.Run(ctx); close(done) }()
	select {
	case <-show.Settled(last):
	case <-ctx.Done():
	case <-time.After(time.Minute):
		s.t.Fatal("the thread was not shown within a minute")
	}
	show.Stop()
	<-done
	s.mu.Lock()
	s.show = nil
	s.mu.Unlock()
}

// turn is a turn with a bit of everything.
func (s *scene) turn() {
	s.add(0, &sessions.Message{Text: "plot it", Key: "k1", User: sessions.User{ID: "u"}})
	s.add(1, &sessions.TurnStarted{Messages: []int64{int64(len(s.events))}})
	s.add(1, &sessions.Reply{Text: "I'll plot.", Calls: []sessions.Call{{ID: "c", Name: "run_code"}}})
	s.add(1, &sessions.CellStarted{Cell: 1, Language: "python", Code: "plt.plot(x)", By: sessions.ByModel, Call: "c"})
	s.add(1, &sessions.CellOutput{Cell: 1, Stream: "stdout", Text: strings.Repeat("line of output\n", 300)})
	s.add(1, &sessions.CellOutput{Cell: 1, MIME: "image/png", Blob: s.blob("png"), Size: 3, Display: 1})
	s.add(1, &sessions.CellOutput{Cell: 1, MIME: "text/plain", Text: "A line chart of x", Display: 1})
	s.add(1, &sessions.File{Path: "outputs/data.csv", MIME: "text/csv", Size: 4, Blob: s.blob("a,b\n"), Cell: 1})
	s.add(1, &sessions.File{Path: "model.pkl", Size: 7, Blob: s.blob("weights"), Saved: true})
	s.add(1, &sessions.CellFinished{Cell: 1, Status: "ok", Seconds: 0.2, State: sessions.StateKept})
	s.add(1, &sessions.Reply{Text: "Here it is. " + strings.Repeat("Many words. ", 300)})
	s.add(1, &sessions.TurnFinished{Status: sessions.TurnOK, Seconds: 1})
}

// check says that every post is there once, in order, in its last form.
func (s *scene) check(note string) {
	s.t.Helper()
	posts := s.platform.Posts("t")
	var parts []string
	for _, p := range posts {
		parts = append(parts, p.Post.Part)
	}
	want := "live answer/0 answer/1 files/0"
	if got := strings.Join(parts, " "); got != want {
		s.t.Fatalf("%s: the platform has %q, want %q", note, got, want)
	}
	live := posts[0].Post
	if live.Running || !strings.HasPrefix(live.Status, "Done in 1.0 s") || len(live.Cells) != 1 || live.Cells[0].Code != "plt.plot(x)" {
		s.t.Errorf("%s: the live post's last form is %+v", note, live)
	}
	if figures := posts[2].Post.Figures; len(figures) != 1 || figures[0].Alt != "A line chart of x" || posts[2].Files["cell-1.png"] != 3 {
		s.t.Errorf("%s: the last piece of the answer has the figures %+v, files %v", note, figures, posts[2].Files)
	}
	if f := posts[3].Files; f["data.csv"] != 4 || f["output-1.txt"] < 4000 || len(f) != 2 {
		s.t.Errorf("%s: the files are %v", note, f)
	}
}

func TestShow(t *testing.T) {
	s := newScene(t)
	s.turn()
	s.run(t.Context(), s.client, s.log)
	s.check("at once")
	calls := s.platform.Calls()
	s.run(t.Context(), s.client, s.log)
	if more := s.platform.Calls() - calls; more != 0 {
		t.Errorf("showing a thread that stands there took %d calls", more)
	}
}

// crasher is a process that dies at its n-th step: before it, or when it is
// done and nobody has been told.
type crasher struct {
	bots.Poster
	log   func(context.Context, int64, ...sessions.Body) ([]sessions.Event, error)
	n     int
	after bool
	die   context.CancelFunc
	died  string
}

func (c *crasher) step(name string, do func() error) error {
	if c.died != "" {
		return context.Canceled
	}
	c.n--
	if c.n == 0 && !c.after {
		c.died = "before " + name
	}
	if c.died == "" {
		err := do()
		if c.n != 0 {
			return err
		}
		c.died = "after " + name
	}
	c.die()
	return context.Canceled
}

func (c *crasher) Prepare(ctx context.Context, p bots.Post) (h string, err error) {
	return h, c.step("prepare", func() error { h, err = c.Poster.Prepare(ctx, p); return err })
}

func (c *crasher) Post(ctx context.Context, p bots.Post, h string) (id string, err error) {
	return id, c.step("post "+p.Part, func() error { id, err = c.Poster.Post(ctx, p, h); return err })
}

func (c *crasher) Edit(ctx context.Context, p bots.Post, id string) error {
	return c.step("edit", func() error { return c.Poster.Edit(ctx, p, id) })
}

func (c *crasher) Find(ctx context.Context, p bots.Post, h string, since time.Time) (id string, err error) {
	return id, c.step("find", func() error { id, err = c.Poster.Find(ctx, p, h, since); return err })
}

func (c *crasher) append(ctx context.Context, turn int64, bodies ...sessions.Body) (events []sessions.Event, err error) {
	return events, c.step("append", func() error { events, err = c.log(ctx, turn, bodies...); return err })
}

// A crash before or after any step leads to the same posts, each once.
func TestCrashAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			s := newScene(t)
			s.turn()
			ctx, die := context.WithCancel(t.Context())
			c := &crasher{Poster: s.client, log: s.log, n: n, after: after, die: die}
			s.run(ctx, c, c.append)
			die()
			if c.died == "" {
				break // it came to the end
			}
			s.run(t.Context(), s.client, s.log)
			s.check(fmt.Sprintf("step %d, died %s", n, c.died))
		}
	}
}

// On a platform that loses answers, fails and asks to wait, every post is made
// once.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.platform.SetFaults(botstest.Faults{Lost: 0.2, Failed: 0.1, Limited: 0.05})
	s.turn()
	s.run(t.Context(), s.client, s.log)
	s.check("with faults")
}

// What happens while a turn runs is seen in its live post.
func TestLive(t *testing.T) {
	s := newScene(t)
	s.open = true
	s.add(0, &sessions.Message{Text: "```python\nx\n```", Key: "k1"})
	s.add(1, &sessions.TurnStarted{Messages: []int64{1}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.run(ctx, s.client, s.log); close(done) }()
	see := func(what string, ok func([]botstest.Posted) bool) {
		t.Helper()
		for late := time.After(20 * time.Second); ; {
			changed := s.platform.Changed()
			if ok(s.platform.Posts("t")) {
				return
			}
			select {
			case <-changed:
			case <-late:
				t.Fatalf("never seen: %s; the posts are %+v", what, s.platform.Posts("t"))
			}
		}
	}
	see("the first post with a Stop button", func(p []botstest.Posted) bool {
		return len(p) == 1 && p[0].Post.Running && p[0].Post.Buttons[0].Action == bots.ActionStop
	})
	s.add(1, &sessions.CellStarted{Cell: 1, Language: "python", Code: "x", By: sessions.ByUser})
	s.add(1, &sessions.CellOutput{Cell: 1, Stream: "stdout", Text: "hello\n"})
	see("output", func(p []botstest.Posted) bool {
		return len(p[0].Post.Cells) == 1 && p[0].Post.Cells[0].Output == "hello"
	})
	s.add(0, &sessions.Message{Text: "and then", Key: "k2"})
	for late := time.After(20 * time.Second); s.platform.Signs("k2") == 0; {
		select {
		case <-s.platform.Changed():
		case <-late:
			t.Fatal("the message that came meanwhile got no sign")
		}
	}
	s.add(1, &sessions.CellFinished{Cell: 1, Status: "ok", State: sessions.StateKept}, &sessions.TurnFinished{Status: sessions.TurnOK})
	see("the end", func(p []botstest.Posted) bool {
		return !p[0].Post.Running && p[0].Post.Buttons[0].Action == bots.ActionAgain
	})
	cancel()
	<-done
	if posts := s.platform.Posts("t"); len(posts) != 1 {
		t.Errorf("a cell that only prints made %d posts", len(posts))
	}
}

// An edit of what was worked on already is offered to run; of what was not, not.
func TestEdits(t *testing.T) {
	s := newScene(t)
	s.add(0, &sessions.Message{Text: "!help", Key: "a"}, &sessions.Message{Text: "!usage", Key: "a2", Edits: "a"})
	s.add(1, &sessions.TurnStarted{Messages: []int64{1}}, &sessions.Notice{Code: "usage", Text: "none"}, &sessions.TurnFinished{Status: sessions.TurnOK})
	s.add(0, &sessions.Message{Text: "!files", Key: "a3", Edits: "a"})
	s.run(t.Context(), s.client, s.log)
	posts := s.platform.Posts("t")
	if len(posts) != 2 || posts[0].Post.Text != "none" || posts[1].Post.Buttons[0].Value != "0/6" {
		t.Errorf("got %+v; want the answer and one offer for event 6", posts)
	}
}
