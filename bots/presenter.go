package bots

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
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

// publish makes a post that the platform does not have, or that it may have.
func (s *Show) publish(ctx context.Context, t *turnView, post planned, p *part) {
	call, cancel := s.call(ctx, postTimeout)
	defer cancel()
	if p.lookFirst() {
		id, err := s.poster.Find(call, post.Post, p.handle, p.since)
		if err != nil && !postError(err).Permanent {
			s.failed(ctx, post, p, err)
			return
		}
		p.ours, p.unsure = true, false
		if id != "" {
			s.count("found")
			p.shown = nil
			s.sent(ctx, post, p, id, false)
			return
		}
	}
	preparing, done := s.call(ctx, prepareTimeout)
	defer done()
	err := s.keep(preparing, post)
	handle := ""
	if err == nil {
		handle, err = s.poster.Prepare(preparing, post.Post)
	}
	if err != nil {
		s.failed(ctx, post, p, err)
		return
	}
	if p.state != sessions.PostIntended || p.handle != handle {
		if err := s.write(preparing, post.Turn, &sessions.Post{Part: post.Part, Platform: s.thread.Platform(),
			State: sessions.PostIntended, Handle: handle}); err != nil {
			s.failed(ctx, post, p, &PostError{Refused: true, Err: err})
			return
		}
		p.state, p.handle, p.ours = sessions.PostIntended, handle, true
		if p.since.IsZero() {
			p.since = time.Now()
		}
	}
	if s.ending(ctx) {
		return
	}
	posting, stop := s.call(ctx, postTimeout)
	defer stop()
	id, err := s.poster.Post(posting, post.Post, handle)
	if err != nil {
		p.unsure = p.unsure || !postError(err).Refused
		s.failed(ctx, post, p, err)
		return
	}
	s.count("sent")
	if len(t.asked) > 0 && (post.Part == livePart || post.Part == "answer/0" && t.quiet(s.p.HasModel)) {
		s.p.Metrics.first.WithLabelValues(s.thread.Platform()).Observe(time.Since(t.asked[0].at).Seconds())
	}
	p.shown = &post.Post
	s.sent(ctx, post, p, id, post.final)
}

// sent notes that the platform has the post. final says that it has its last
// form; one that was found gets that by an edit.
func (s *Show) sent(ctx context.Context, post planned, p *part, id string, final bool) {
	p.state, p.id, p.final = sessions.PostSent, id, final || !post.edited
	p.worked()
	p.record = &sessions.Post{Part: post.Part, Platform: s.thread.Platform(), MessageID: id, State: sessions.PostSent, Final: p.final}
	s.note(ctx, post, p)
}

// edit brings a live post up to date.
func (s *Show) edit(ctx context.Context, post planned, p *part) {
	call, cancel := s.call(ctx, postTimeout)
	defer cancel()
	p.editedAt = time.Now()
	err := s.poster.Edit(call, post.Post, p.id)
	e := postError(err)
	switch {
	case err == nil:
		s.count("edited")
		p.shown = &post.Post
		p.worked()
	case e.Permanent || e.Gone:
		s.log.WarnContext(ctx, "a post can't be edited", "part", post.Part, "err", err)
		s.count("failed")
		p.shown = &post.Post
	default:
		s.failed(ctx, post, p, err)
		return
	}
	if post.final || e.Gone {
		p.final = true
		p.record = &sessions.Post{Part: post.Part, Platform: s.thread.Platform(), MessageID: p.id, State: sessions.PostSent, Final: true}
		s.note(ctx, post, p)
	}
}

// keep puts the text that a post has as a file into the blob store.
func (s *Show) keep(ctx context.Context, post planned) error {
	if post.long == "" {
		return nil
	}
	_, _, err := s.p.Blobs.Put(ctx, s.thread, strings.NewReader(post.long), int64(len(post.long)))
	return err
}

// write appends to the ledger.
func (s *Show) write(ctx context.Context, turn int64, entry *sessions.Post) error {
	events, err := s.append(ctx, turn, entry)
	for _, ev := range events {
		s.own[ev.Seq] = true
	}
	return err
}

// note writes what is to be noted of the part into the ledger.
func (s *Show) note(ctx context.Context, post planned, p *part) {
	call, cancel := s.call(ctx, postTimeout)
	defer cancel()
	if err := s.write(call, post.Turn, p.record); err != nil {
		s.pause(p, 0)
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "noting a post failed; it will be tried again", "part", post.Part, "err", err)
		}
		return
	}
	p.record = nil
	p.worked()
}

// failed puts off the next try, or gives the post up.
func (s *Show) failed(ctx context.Context, post planned, p *part, err error) {
	if ctx.Err() != nil {
		s.pause(p, 0)
		return
	}
	e := postError(err)
	if p.failing.IsZero() {
		p.failing = time.Now()
		if p.state != sessions.PostSent && !p.since.IsZero() {
			p.failing = p.since
		}
	}
	if !e.Permanent && (time.Since(p.failing) < patience || p.failures < minTries) {
		s.count("retried")
		s.log.WarnContext(ctx, "the platform did not take a post; it will be tried again", "part", post.Part, "err", err, "after", e.After)
		s.pause(p, e.After)
		return
	}
	s.count("failed")
	s.log.ErrorContext(ctx, "a post was given up", "part", post.Part, "err", err)
	p.worked()
	if p.state == sessions.PostSent { // an edit: the post stays as it is
		p.final = true
		p.record = &sessions.Post{Part: post.Part, Platform: s.thread.Platform(), MessageID: p.id, State: sessions.PostSent, Final: true, Error: err.Error()}
	} else {
		p.state = sessions.PostFailed
		p.record = &sessions.Post{Part: post.Part, Platform: s.thread.Platform(), State: sessions.PostFailed, Error: err.Error()}
	}
	s.note(ctx, post, p)
}

// pause puts off the part's next try: as long as the platform asks, or twice
// as long as the last time, give or take a half, so that not all come at once.
func (s *Show) pause(p *part, after time.Duration) {
	pause := min(firstPause<<min(p.failures, 10), maxPause)
	pause = pause/2 + rand.N(pause)
	p.failures++
	p.notUntil = time.Now().Add(max(after, pause))
}

// call is the context of one call. It outlives Stop, so that a call under way
// is seen to its end, and no lost lease: that ends ctx.
func (s *Show) call(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, timeout)
}

func (s *Show) count(result string) {
	s.p.Metrics.posts.WithLabelValues(s.thread.Platform(), result).Inc()
}
