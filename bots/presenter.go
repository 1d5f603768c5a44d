package bots

import (
	"context"
	"io"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"threadbook/sessions"
)

// How long the presenter tries.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
	// patience is how long a post is tried while its platform is down, and
	// minTries how often at least, since whoever takes over finds an old intent.
	patience = 30 * time.Minute
	minTries = 5
	// postTimeout bounds one call of a platform, prepareTimeout one that sends
	// files.
	postTimeout    = 30 * time.Second
	prepareTimeout = 5 * time.Minute
)

// Presenter shows threads on the chat platforms that have a Poster. Showing is
// a projection of the log with a ledger in it: what should stand on the
// platform follows from the log, and what does stand there is noted in the log
// before a post is made and after. Whoever holds a thread's lease shows it.
type Presenter struct {
	Posters map[string]Poster // by platform
	Blobs   sessions.Blobs
	// HasModel says whether words are answered by a model.
	HasModel bool
	Metrics  *Metrics
	Log      *slog.Logger
}

// Open returns what shows the thread while the caller holds its lease, nil
// where the thread's platform needs no showing. append writes to the thread's
// log under the lease.
func (p *Presenter) Open(thread sessions.ThreadID, append func(ctx context.Context, turn int64, bodies ...sessions.Body) ([]sessions.Event, error)) *Show {
	if p == nil {
		return nil
	}
	poster := p.Posters[thread.Platform()]
	if poster == nil {
		return nil
	}
	return &Show{p: p, thread: thread, poster: poster, append: append, view: newView(), own: map[int64]bool{},
		log: p.Log.With("thread", thread), wake: make(chan struct{}, 1), end: make(chan struct{}), ended: make(chan struct{})}
}

// Fetch opens a file of the thread's platform; see [Fetcher].
func (p *Presenter) Fetch(ctx context.Context, thread sessions.ThreadID, ref string) (io.ReadCloser, error) {
	if p != nil {
		if f, ok := p.Posters[thread.Platform()].(Fetcher); ok {
			return f.Fetch(ctx, thread, ref)
		}
	}
	return nil, &sessions.Error{Code: sessions.Unavailable, Text: "It could not be fetched from where it was sent; please send it again."}
}

// Show is one thread's showing. Its methods may be called concurrently, and on
// nil, where they do nothing.
type Show struct {
	p      *Presenter
	thread sessions.ThreadID
	poster Poster
	append func(ctx context.Context, turn int64, bodies ...sessions.Body) ([]sessions.Event, error)
	log    *slog.Logger
	wake   chan struct{} // something is new
	end    chan struct{} // no further call should begin
	ended  chan struct{} // Run has returned
	once   sync.Once

	mu      sync.Mutex
	news    []sessions.Event // that Run has not taken
	place   int              // in the line for a turn
	waiters []waiter

	view   *view          // of Run alone, as are those below
	own    map[int64]bool // entries of the ledger that Run has written
	limits Limits
}

// waiter waits for all up to a sequence number to be shown.
type waiter struct {
	seq  int64
	done chan struct{}
}

// Saw tells of events of the log, in order and without gaps; those that were
// told of before may be among them.
func (s *Show) Saw(events []sessions.Event) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.news = append(s.news, events...)
	s.mu.Unlock()
	s.poke()
}

// Waiting tells the thread its place in the line, 0: it has its turn.
func (s *Show) Waiting(place int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.place = place
	s.mu.Unlock()
	s.poke()
}

// Settled is closed once all events up to seq have been seen and all that they
// ask for is shown, or given up.
func (s *Show) Settled(seq int64) <-chan struct{} {
	done := make(chan struct{})
	if s == nil {
		close(done)
		return done
	}
	s.mu.Lock()
	s.waiters = append(s.waiters, waiter{seq, done})
	s.mu.Unlock()
	s.poke()
	return done
}

// Stop lets the call that is under way come to its end, begins no other, and
// waits for Run.
func (s *Show) Stop() {
	if s == nil {
		return
	}
	s.once.Do(func() { close(s.end) })
	<-s.ended
}

func (s *Show) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run shows the thread until ctx ends, or Stop.
func (s *Show) Run(ctx context.Context) {
	if s == nil {
		return
	}
	defer close(s.ended)
	signs := newSigns(s)
	go signs.run(ctx)
	defer signs.close()
	s.limits = s.poster.Limits(ctx, s.thread)
	for {
		place := s.takeNews(signs)
		pause, busy := s.step(ctx, place)
		if busy {
			if s.ending(ctx) {
				return
			}
			continue
		}
		if pause == 0 {
			s.settle()
		}
		if !s.rest(ctx, pause) {
			return
		}
	}
}

func (s *Show) ending(ctx context.Context) bool {
	select {
	case <-s.end:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// rest waits for news, at most for the pause if there is one. It is false at
// the end.
func (s *Show) rest(ctx context.Context, pause time.Duration) bool {
	var late <-chan time.Time
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-s.end:
		return false
	case <-ctx.Done():
		return false
	case <-s.wake:
	case <-late:
	}
	return true
}

// takeNews folds what is new into the view.
func (s *Show) takeNews(signs *signs) (place int) {
	s.mu.Lock()
	news := s.news
	s.news, place = nil, s.place
	s.mu.Unlock()
	for _, ev := range news {
		if s.own[ev.Seq] {
			s.view.read = max(s.view.read, ev.Seq) // known already, and perhaps gone beyond
			delete(s.own, ev.Seq)
			continue
		}
		s.view.take(ev)
	}
	signs.look(s.view)
	return place
}

// settle lets those go who waited for what has been shown.
func (s *Show) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.news) > 0 {
		return
	}
	rest := s.waiters[:0]
	for _, w := range s.waiters {
		if w.seq <= s.view.read {
			close(w.done)
		} else {
			rest = append(rest, w)
		}
	}
	s.waiters = rest
}

// step does the first thing that there is to do. It returns busy when it did
// one, else how long to wait for the next, 0 when there is none before news.
func (s *Show) step(ctx context.Context, place int) (pause time.Duration, busy bool) {
	for _, t := range s.view.shown(place) {
		next := s.stepTurn(ctx, t, place)
		if next.over {
			s.forget(t)
		}
		if next.pause > 0 && (pause == 0 || next.pause < pause) {
			pause = next.pause
		}
		if next.busy || next.blocked {
			return pause, next.busy
		}
	}
	return pause, false
}

// next is what a look at a turn has led to.
type next struct {
	busy    bool          // something was done
	over    bool          // all of the turn stands on the platform for good
	blocked bool          // what comes after must stand below what could not be posted
	pause   time.Duration // until there is something to do, 0: not before news
}

func (n *next) at(at time.Time) {
	if d := max(time.Until(at), time.Millisecond); n.pause == 0 || d < n.pause {
		n.pause = d
	}
}

// stepTurn does the first thing that there is to do for a turn. One that we
// can't show for a fault of ours is left as it is, and the thread goes on.
func (s *Show) stepTurn(ctx context.Context, t *turnView, place int) (n next) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "showing a turn failed, it stays as it is", "turn", t.id, "panic", p, "stack", string(debug.Stack()))
			s.count("failed")
			n = next{over: true}
		}
	}()
	n.over = t.finished != nil || t.offer != 0
	for _, post := range s.view.plan(t, s.thread, s.limits, s.p.HasModel, place) {
		part := s.view.part(post.key())
		if part.over() {
			continue
		}
		n.over = false
		if time.Now().Before(part.notUntil) {
			n.at(part.notUntil)
			if part.state != sessions.PostSent {
				n.blocked = true
				return n
			}
			continue
		}
		switch {
		case part.record != nil:
			s.note(ctx, post, part)
			return next{busy: true}
		case part.state != sessions.PostSent:
			s.publish(ctx, t, post, part)
			return next{busy: true}
		case !post.edited || !post.final && part.shown != nil && reflect.DeepEqual(*part.shown, post.Post):
			continue
		}
		if at := part.editedAt.Add(s.limits.Edits); !part.editedAt.IsZero() && time.Now().Before(at) {
			n.at(at)
			continue
		}
		s.edit(ctx, post, part)
		return next{busy: true}
	}
	return n
}

// forget drops what is known of a turn that stands on the platform for good.
func (s *Show) forget(t *turnView) {
	s.view.turns = slices.DeleteFunc(s.view.turns, func(u *turnView) bool { return u == t })
	for key := range s.view.ledger {
		if key.turn == t.id && (t.id != 0 || key.name == "edit/"+decimal(t.offer)) {
			delete(s.view.ledger, key)
		}
	}
}
