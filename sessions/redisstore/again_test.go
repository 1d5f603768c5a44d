package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"threadbook/sessions"
	"threadbook/sessions/redisstore"
	"threadbook/sessions/sessionstest"
)

// lined is a store on a private Redis, by a way that can be injured.
func lined(t *testing.T) (*redisstore.Store, *sessionstest.Line) {
	t.Helper()
	line := sessionstest.NewLine(t, start(t, t.TempDir()).URL)
	return open(t, line.URL), line
}

// What Redis has done, and whose answer was lost on the way, is not done twice,
// and is not taken for somebody else's.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:t")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store, line := lined(t)
	take := func() sessions.Lease {
		t.Helper()
		l, err := store.Lease(ctx, thread, "tester")
		if err != nil {
			t.Fatalf("taking the lease: %v", err)
		}
		return l
	}
	// losing loses the answer to a command with the word while it is done.
	losing := func(word string, do func() error) {
		t.Helper()
		lost := line.Lose(word)
		if err := do(); err != nil {
			t.Errorf("with the answer to %q lost: %v", word, err)
		}
		select {
		case <-lost:
		case <-ctx.Done():
			t.Fatalf("no answer to %q was lost", word)
		}
	}
	submit := func(key string) error {
		ev, added, err := store.Submit(ctx, thread, &sessions.Message{Text: "hi", Key: key})
		if err == nil && (!added || ev.Seq == 0 || ev.Body == nil) {
			err = fmt.Errorf("added %v, event %+v", added, ev)
		}
		return err
	}
	for _, key := range []string{"k", ""} {
		losing("{test:t}:log", func() error { return submit(key) })
	}
	if _, added, err := store.Submit(ctx, thread, &sessions.Message{Text: "hi", Key: "k"}); err != nil || added {
		t.Errorf("the platform's own repetition: added %v, %v", added, err)
	}

	var l sessions.Lease
	losing("{test:t}:lease", func() error { l = take(); return nil })
	if _, err := store.Lease(ctx, thread, "other"); sessions.CodeOf(err) != sessions.Busy {
		t.Errorf("another got the lease: %v", err)
	}
	for i := range int64(3) {
		losing("{test:t}:log", func() error {
			events, err := l.Append(ctx, 1, &sessions.Notice{Code: "a"}, &sessions.Notice{Code: "b"})
			if err == nil && (len(events) != 2 || events[0].Seq != 3+2*i) {
				err = fmt.Errorf("got %+v", events)
			}
			return err
		})
	}
	losing("{test:t}:lease", func() error { return l.Renew(ctx) })
	losing("{test:t}:lease", func() error { return l.SetHome(ctx, "here") })
	losing("{test:t}:left", func() error { return l.Drop(ctx) })
	l = take()
	losing("{test:t}:left", func() error {
		released, err := l.Release(ctx, 8)
		if err == nil && !released {
			err = fmt.Errorf("it was not released")
		}
		return err
	})
	log, err := store.Read(ctx, thread, 0, 100, 0)
	if err != nil || len(log) != 8 {
		t.Errorf("the log has %d events, %v; want 8: %+v", len(log), err, log)
	}
	l = take()
	losing("{test:t}:left", func() error {
		forgotten, err := l.Forget(ctx, 8)
		if err == nil && !forgotten {
			err = fmt.Errorf("it was not forgotten")
		}
		return err
	})
}

// Two that append to one lease at once, over a line that loses answers, get an
// event each for what they appended.
func TestLostAnswersOfTwo(t *testing.T) {
	t.Parallel()
	const thread, each = sessions.ThreadID("test:t"), 20
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store, line := lined(t)
	l, err := store.Lease(ctx, thread, "tester")
	if err != nil {
		t.Fatal(err)
	}
	appended := make(chan map[int64]string, 2)
	for _, name := range []string{"one", "two"} {
		go func() {
			mine := map[int64]string{}
			defer func() { appended <- mine }()
			for i := range each {
				if i%4 == 0 {
					line.Lose(name)
				}
				code := fmt.Sprint(name, i)
				events, err := l.Append(ctx, 1, &sessions.Notice{Code: code})
				if err != nil {
					t.Error(err)
					return
				}
				mine[events[0].Seq] = code
			}
		}()
	}
	one, two := <-appended, <-appended
	log, err := store.Read(ctx, thread, 0, 1000, 0)
	if err != nil || len(log) != 2*each {
		t.Errorf("the log has %d events, %v; want %d", len(log), err, 2*each)
	}
	for _, ev := range log {
		if code := ev.Body.(*sessions.Notice).Code; one[ev.Seq] != code && two[ev.Seq] != code {
			t.Errorf("event %d is %s; who appended it was told otherwise", ev.Seq, code)
		}
	}
}

// A Renew that gets no answer fails while the lease still lasts, so that its
// holder can stop in time.
func TestRenewFailsBeforeTheLeaseEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store, line := lined(t)
	l, err := store.Lease(ctx, "test:t", "tester")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	line.Stall()
	began := time.Now()
	err = l.Renew(ctx)
	if took := time.Since(began); err == nil || took > sessions.LeaseTTL*2/3 {
		t.Errorf("Renew ended after %v with %v; the lease lasts %v", took, err, sessions.LeaseTTL)
	}
	late, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	began = time.Now()
	err = l.Renew(late)
	if took := time.Since(began); err == nil || took > 3*time.Second {
		t.Errorf("with a second's time Renew ended after %v with %v", took, err)
	}
}

// Threads that are held don't hide those that nobody works on, however many they
// are.
func TestUnreadBehindHeld(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store := open(t, start(t, t.TempDir()).URL)
	const held, limit = 600, 5 // more than are looked at in one go
	threads := make([]sessions.ThreadID, held+limit)
	for i := range threads {
		threads[i] = sessions.NewThreadID("test", fmt.Sprint(i))
		if _, _, err := store.Submit(ctx, threads[i], &sessions.Message{Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, thread := range threads[:held] {
		if _, err := store.Lease(ctx, thread, "busy"); err != nil {
			t.Fatal(err)
		}
	}
	found, err := store.Unread(ctx, limit)
	slices.Sort(found)
	if err != nil || !slices.Equal(found, threads[held:]) {
		t.Errorf("found %v, %v; nobody works on %v", found, err, threads[held:])
	}
}
