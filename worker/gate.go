package worker

import (
	"context"
	"errors"
	"slices"
	"sync"

	"threadbook/sessions"
)

// gate lets turns run, so many at once. Those over it wait in line: one user's
// in the order in which they came, and the users by turns, so that fifty
// messages of one person in fifty threads hold up that person alone. While
// others wait a user has no more than half of the slots; while nobody does, all.
type gate struct {
	slots int

	mu      sync.Mutex
	running int
	byUser  map[string]int // running
	line    []*lane        // users for whom something waits, the next one first
	changed chan struct{}  // closed and replaced when the line moves
}

// lane is what waits for one user, the oldest first.
type lane struct {
	user    string
	waiters []chan struct{} // each closed when it may run
}

func newGate(slots int) *gate {
	return &gate{slots: slots, byUser: map[string]int{}, changed: make(chan struct{})}
}

// enter waits for a slot until ctx ends, with ctx's cause as the error. Whoever
// has entered must leave. place is told the waiter's place in line, 1 for the
// next, at first and at each change; it is not told of a wait that is none. A
// place is what it would be if nobody were over their half.
func (g *gate) enter(ctx context.Context, user string, place func(int)) error {
	g.mu.Lock()
	l := g.laneOf(user)
	me := make(chan struct{})
	l.waiters = append(l.waiters, me)
	g.move() // those behind it have one more before them
	g.admit()
	for last := 0; ; {
		at, changed := g.place(l, me), g.changed
		g.mu.Unlock()
		if at > 0 && at != last {
			last = at
			place(at)
		}
		select {
		case <-me:
			return nil
		case <-changed:
		case <-ctx.Done():
			g.giveUp(l, me)
			return context.Cause(ctx)
		}
		g.mu.Lock()
	}
}

// laneOf is the user's lane, a new one at the end of the line where there is
// none. It needs the lock.
func (g *gate) laneOf(user string) *lane {
	for _, l := range g.line {
		if l.user == user {
			return l
		}
	}
	l := &lane{user: user}
	g.line = append(g.line, l)
	return l
}

// admit lets in whom it can. It needs the lock.
func (g *gate) admit() {
	moved := false
	for g.running < g.slots && len(g.line) > 0 {
		next := slices.IndexFunc(g.line, func(l *lane) bool { return g.byUser[l.user] < max(1, g.slots/2) })
		next = max(next, 0) // all who wait have their half: a free slot helps nobody else
		l := g.line[next]
		g.line = slices.Delete(g.line, next, next+1)
		close(l.waiters[0])
		if l.waiters = l.waiters[1:]; len(l.waiters) > 0 {
			g.line = append(g.line, l)
		}
		g.running++
		g.byUser[l.user]++
		moved = true
	}
	if moved {
		g.move()
	}
}

// move tells those who wait that their place may be another. It needs the lock.
func (g *gate) move() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// place is the waiter's place in line, 0 once it is let in: before it come, of
// every other user, as many as of its own, and one more of those who are
// before its own in line. It needs the lock.
func (g *gate) place(l *lane, me chan struct{}) int {
	before := slices.Index(l.waiters, me)
	if before < 0 {
		return 0
	}
	place, ahead := before+1, 1
	for _, other := range g.line {
		if other == l {
			ahead = 0
			continue
		}
		place += min(len(other.waiters), before+ahead)
	}
	return place
}

// giveUp takes a waiter out of the line, or gives back the slot that it has
// just got.
func (g *gate) giveUp(l *lane, me chan struct{}) {
	g.mu.Lock()
	at := slices.Index(l.waiters, me)
	if at < 0 {
		g.mu.Unlock()
		g.leave(l.user)
		return
	}
	defer g.mu.Unlock()
	if l.waiters = slices.Delete(l.waiters, at, at+1); len(l.waiters) == 0 {
		g.line = slices.DeleteFunc(g.line, func(other *lane) bool { return other == l })
	}
	g.move()
}

// leave gives the slot of a turn of the user's to the next in line.
func (g *gate) leave(user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.byUser[user]--; g.byUser[user] == 0 {
		delete(g.byUser, user)
	}
	g.admit()
}

// load is how many turns run and how many wait.
func (g *gate) load() (running, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.line {
		waiting += len(l.waiters)
	}
	return g.running, waiting
}

// enter waits until the gate lets the thread's next turn run, and returns how to
// leave it. A turn that somebody stops meanwhile needs no slot to end.
func (h *holder) enter(ctx context.Context) (leave func(), err error) {
	messages := h.log.next()
	if h.log.turn != nil {
		messages = h.log.turn.messages
	}
	nothing := func() {}
	if len(messages) == 0 || h.log.stop > messages[len(messages)-1].Seq {
		return nothing, nil
	}
	user := h.thread.Platform() + ":" + string(h.thread)
	if m, ok := messages[0].Body.(*sessions.Message); ok && m.User.ID != "" {
		user = h.thread.Platform() + ":" + m.User.ID
	}
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	last := messages[len(messages)-1].Seq
	h.onStop(func(seq int64) {
		if seq > last {
			cancel(errStopped)
		}
	})
	defer h.onStop(nil)
	watched := false
	err = h.gate.enter(waiting, user, func(place int) {
		if !watched { // it is not let in at once
			watched = true
			go h.untilPaused(waiting, cancel)
		}
		h.show.Waiting(place)
	})
	switch {
	case errors.Is(err, errStopped):
		return nothing, nil
	case err != nil:
		return nil, err
	}
	h.show.Waiting(0)
	return func() { h.gate.leave(user) }, nil
}

// untilPaused ends a wait when no turn is to begin any more.
func (h *holder) untilPaused(ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-h.stopping:
		cancel(errPaused)
	case <-h.draining:
		cancel(errPaused)
	case <-ctx.Done():
	}
}
