package bots_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// The store did what it said had failed, or did it twice, since its answer was
// lost and the client asked again: an entry of the ledger turns up in the log
// after the post was made. That is no reason to make it again.
func TestLateIntent(t *testing.T) {
	for _, how := range []string{"appended twice", "failed, but appended"} {
		t.Run(how, func(t *testing.T) {
			s := newScene(t)
			s.turn()
			var done atomic.Bool
			var late []sessions.Event // the follower hears of it only after the post
			write := func(ctx context.Context, turn int64, bodies ...sessions.Body) ([]sessions.Event, error) {
				p := bodies[0].(*sessions.Post)
				if p.Part == "live" && p.State == sessions.PostIntended && done.CompareAndSwap(false, true) {
					if how == "appended twice" {
						s.log(ctx, turn, bodies...)
						return s.log(ctx, turn, bodies...)
					}
					s.mu.Lock()
					ev := sessions.Event{Seq: int64(len(s.events) + 1), At: time.Now(), Thread: thread, Turn: turn, Body: p}
					s.events = append(s.events, ev)
					late = append(late, ev)
					s.mu.Unlock()
					return nil, errors.New("redis: EOF")
				}
				if len(late) > 0 {
					if p.State == sessions.PostIntended { // follow pauses 1 s after an error
						s.mu.Lock()
						defer s.mu.Unlock()
						ev := sessions.Event{Seq: int64(len(s.events) + 1), At: time.Now(), Thread: thread, Turn: turn, Body: p}
						s.events = append(s.events, ev)
						late = append(late, ev)
						return []sessions.Event{ev}, nil
					}
					s.show.Saw(late)
					late = nil
				}
				return s.log(ctx, turn, bodies...)
			}
			s.run(t.Context(), s.client, write)
			s.check(how)
		})
	}
}

// stumbles is a platform one of whose edits fails, as when it says 500.
type stumbles struct {
	bots.Poster
	armed atomic.Bool
}

func (p *stumbles) Edit(ctx context.Context, post bots.Post, id string) error {
	if p.armed.CompareAndSwap(true, false) {
		return &bots.PostError{Err: errors.New("503"), After: 10 * time.Millisecond}
	}
	return p.Poster.Edit(ctx, post, id)
}

// One failed note in the ledger and one failed edit don't end the showing.
func TestPatienceBegins(t *testing.T) {
	s := newScene(t)
	s.open = true
	s.add(0, &sessions.Message{Text: "```python\nx\n```", Key: "k1"})
	s.add(1, &sessions.TurnStarted{Messages: []int64{1}})
	var failed, noted atomic.Bool
	write := func(ctx context.Context, turn int64, bodies ...sessions.Body) ([]sessions.Event, error) {
		if bodies[0].(*sessions.Post).State == sessions.PostSent && failed.CompareAndSwap(false, true) {
			return nil, errors.New("redis: LOADING")
		}
		events, err := s.log(ctx, turn, bodies...)
		if bodies[0].(*sessions.Post).State == sessions.PostSent {
			noted.Store(true)
		}
		return events, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	p := &stumbles{Poster: s.client}
	p.armed.Store(true)
	go func() { s.run(ctx, p, write); close(done) }()
	s.eventually(func() bool { return noted.Load() })
	s.add(1, &sessions.CellStarted{Cell: 1, Language: "python", Code: "x", By: sessions.ByUser}, &sessions.CellFinished{Cell: 1, Status: "ok"},
		&sessions.TurnFinished{Status: sessions.TurnOK})
	defer func() { cancel(); <-done }()
	s.eventually(func() bool { return !s.platform.Posts("t")[0].Post.Running })
}

// A message that its author takes back while it stands in line leaves no post
// behind that says it does.
func TestTakenBackInLine(t *testing.T) {
	s := newScene(t)
	s.open = true
	s.add(0, &sessions.Message{Text: "plot it", Key: "k1"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.run(ctx, s.client, s.log); close(done) }()
	defer func() { cancel(); <-done }()
	var show *bots.Show
	s.eventually(func() bool { s.mu.Lock(); show = s.show; s.mu.Unlock(); return show != nil })
	show.Waiting(2)
	s.eventually(func() bool { return len(s.platform.Posts("t")) == 1 })
	s.add(0, &sessions.Message{Key: "k2", Edits: "k1", Deleted: true})
	show.Waiting(0) // it got its place, found nothing to do and let go
	s.mu.Lock()
	last := int64(len(s.events))
	s.mu.Unlock()
	select {
	case <-show.Settled(last):
	case <-time.After(10 * time.Second):
		t.Fatal("not settled")
	}
	if p := s.platform.Posts("t"); len(p) > 0 && strings.HasPrefix(p[0].Post.Status, "Waiting") {
		t.Errorf("all is shown, and the thread still says %q, with the button %q", p[0].Post.Status, p[0].Post.Buttons[0].Label)
	}
}

func (s *scene) eventually(ok func() bool) {
	t := s.t
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(late) {
			t.Fatal("it did not come to that in 20 s")
		}
		select {
		case <-s.platform.Changed():
		case <-time.After(50 * time.Millisecond): // the ledger has no signal
		}
	}
}
