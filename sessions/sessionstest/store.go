// Package sessionstest holds what every store of threads and every blob store
// must do, as tests that run on each of them.
package sessionstest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"threadbook/sessions"
)

// patience bounds every wait of a test.
const patience = 20 * time.Second

// RunStore runs the suite; open returns an empty store on a Redis (or whatever it
// keeps threads in) that the test alone uses until it ends.
func RunStore(t *testing.T, open func(t *testing.T) sessions.Store) {
	for name, test := range map[string]func(*testing.T, *bundle){
		"a message is read as it was submitted": testSubmit,
		"a key submitted twice is one message":  testKey,
		"every kind of event comes back":        testKinds,
		"reading waits for the next event":      testReadWaits,
		"reading gives up after its wait":       testReadGivesUp,
		"reading goes on from any place":        testReadPages,
		"one holder at a time":                  testLease,
		"a lost lease can't write":              testFence,
		"a release waits for what is unread":    testRelease,
		"no message falls between":              testNothingBetween,
		"unread threads are found":              testUnread,
		"threads are listed, the latest first":  testThreads,
		"activity is told":                      testActive,
		"idle threads are found":                testIdle,
		"a thread is forgotten":                 testForget,
		"what is unread is not forgotten":       testForgetUnread,
		"nothing is forgotten half":             testForgetBetween,
		"drafts reach readers":                  testDrafts,
		"the secret stays":                      testSecret,
		"workers are listed while they live":    testHosts,
		"those who live are asked to drain":     testDrain,
		"a thread has a home":                   testHome,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			t.Cleanup(cancel)
			test(t, &bundle{ctx: ctx, Store: store, thread: sessions.NewThreadID("test", fmt.Sprintf("%x", t.Name()))})
		})
	}
}

type bundle struct {
	sessions.Store
	ctx    context.Context
	thread sessions.ThreadID
}

func (b *bundle) submit(t *testing.T, text, key string) sessions.Event {
	t.Helper()
	ev, _, err := b.Submit(b.ctx, b.thread, &sessions.Message{User: sessions.User{ID: "u1", Name: "Ada"}, Text: text, Key: key})
	if err != nil {
		t.Fatalf("submitting %q: %v", text, err)
	}
	return ev
}

func (b *bundle) lease(t *testing.T) sessions.Lease {
	t.Helper()
	l, err := b.Lease(b.ctx, b.thread, "tester")
	if err != nil {
		t.Fatalf("taking the lease: %v", err)
	}
	return l
}

func (b *bundle) all(t *testing.T) []sessions.Event {
	t.Helper()
	events, err := b.Read(b.ctx, b.thread, 0, 1000, 0)
	if err != nil {
		t.Fatalf("reading: %v", err)
	}
	return events
}

func wantCode(t *testing.T, err error, want sessions.Code) {
	t.Helper()
	if got := sessions.CodeOf(err); got != want {
		t.Fatalf("got the error %v with code %q, want code %q", err, got, want)
	}
}

func testSubmit(t *testing.T, b *bundle) {
	body := &sessions.Message{User: sessions.User{ID: "u1", Name: "Ada"}, Text: "héllo\x00 {}\n", Key: "k1",
		Files: []sessions.Attachment{{Name: "a.csv", Size: 3, MIME: "text/csv", Blob: "b"}}}
	ev, added, err := b.Submit(b.ctx, b.thread, body)
	if err != nil || !added {
		t.Fatalf("added %v, error %v", added, err)
	}
	if ev.Seq != 1 || time.Since(ev.At) > patience {
		t.Errorf("got seq %d at %v", ev.Seq, ev.At)
	}
	if diff := cmp.Diff([]sessions.Event{ev}, b.all(t)); diff != "" {
		t.Error(diff)
	}
}

func testKey(t *testing.T, b *bundle) {
	first := b.submit(t, "one", "k1")
	b.submit(t, "two", "k2")
	again, added, err := b.Submit(b.ctx, b.thread, &sessions.Message{Text: "one", Key: "k1"})
	if err != nil || added || again.Seq != first.Seq {
		t.Fatalf("got seq %d, added %v, error %v; want seq %d and not added", again.Seq, added, err, first.Seq)
	}
	if n := len(b.all(t)); n != 2 {
		t.Errorf("the log has %d events, want 2", n)
	}
}

func testKinds(t *testing.T, b *bundle) {
	l := b.lease(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	want, err := l.Append(b.ctx, 7,
		&sessions.TurnStarted{Messages: []int64{1, 2}},
		&sessions.Reply{Text: "hi", Calls: []sessions.Call{{ID: "c", Name: "run_code", Arguments: `{"a":1}`}}, Model: "m", FinishReason: "stop", Tokens: sessions.Tokens{In: 1, Out: 2, Cached: 3}},
		&sessions.CellStarted{Cell: 1, Language: "python", Code: "1+1", By: sessions.ByModel, Call: "c"},
		&sessions.CellOutput{Cell: 1, Stream: "stdout", Text: "2\n", N: 9, Truncated: 4},
		&sessions.CellOutput{Cell: 1, MIME: "image/png", Blob: "b", Size: 5, Display: 2},
		&sessions.CellFinished{Cell: 1, Status: "error", Seconds: 0.5, State: sessions.StateKept, Error: &sessions.CellError{Name: "E", Value: "v", Traceback: "t"}},
		&sessions.File{Path: "outputs/x", Size: 1, SHA256: "s", MIME: "m", Blob: "b", Cell: 1, ModTime: at},
		&sessions.ToolResult{Call: "c", Text: "2", Ends: true},
		&sessions.Question{ID: "q", Text: "which?", Options: []string{"a", "b"}},
		&sessions.Question{ID: "q", Answer: "a", By: &sessions.User{ID: "u", Name: "n"}},
		&sessions.Notice{Code: "lost", Text: "gone"},
		&sessions.TurnFinished{Status: sessions.TurnOK, Seconds: 1.5, Tokens: sessions.Tokens{In: 3}, CostUSD: 0.25},
	)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.all(t)); diff != "" {
		t.Error(diff)
	}
}

func testReadWaits(t *testing.T, b *bundle) {
	b.submit(t, "old", "")
	got := make(chan []sessions.Event, 1)
	go func() {
		events, err := b.Read(b.ctx, b.thread, 1, 10, patience)
		if err != nil {
			t.Errorf("reading: %v", err)
		}
		got <- events
	}()
	b.submit(t, "new", "")
	if events := <-got; len(events) != 1 || events[0].Seq != 2 {
		t.Errorf("got %v, want event 2", events)
	}
}

func testReadGivesUp(t *testing.T, b *bundle) {
	if events, err := b.Read(b.ctx, b.thread, 0, 10, 10*time.Millisecond); err != nil || len(events) != 0 {
		t.Errorf("got %v, %v; want nothing and no error", events, err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.Read(ctx, b.thread, 0, 10, patience); err == nil {
		t.Error("reading with a context that has ended gave no error")
	}
}

func testReadPages(t *testing.T, b *bundle) {
	for i := range 10 {
		b.submit(t, fmt.Sprint(i), "")
	}
	var seqs []int64
	for after := int64(0); ; {
		events, err := b.Read(b.ctx, b.thread, after, 3, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		for _, ev := range events {
			seqs = append(seqs, ev.Seq)
		}
		after = seqs[len(seqs)-1]
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, seqs); diff != "" {
		t.Error(diff)
	}
}

func testLease(t *testing.T, b *bundle) {
	l := b.lease(t)
	_, err := b.Lease(b.ctx, b.thread, "other")
	wantCode(t, err, sessions.Busy)
	if err := l.Renew(b.ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Drop(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.lease(t)
}

func testFence(t *testing.T, b *bundle) {
	old := b.lease(t)
	if err := old.Drop(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.lease(t)
	_, err := old.Append(b.ctx, 1, &sessions.Notice{Code: "x"})
	wantCode(t, err, sessions.LeaseLost)
	wantCode(t, old.Renew(b.ctx), sessions.LeaseLost)
	wantCode(t, old.Drop(b.ctx), sessions.LeaseLost)
	_, err = old.Release(b.ctx, 0)
	wantCode(t, err, sessions.LeaseLost)
	if n := len(b.all(t)); n != 0 {
		t.Errorf("the log has %d events, want none", n)
	}
}

func testRelease(t *testing.T, b *bundle) {
	l := b.lease(t)
	ev := b.submit(t, "hi", "")
	if released, err := l.Release(b.ctx, ev.Seq-1); err != nil || released {
		t.Fatalf("with a message unread: released %v, %v", released, err)
	}
	if _, err := l.Append(b.ctx, 1, &sessions.TurnStarted{Messages: []int64{ev.Seq}}); err != nil {
		t.Fatalf("the lease did not stay: %v", err)
	}
	if released, err := l.Release(b.ctx, ev.Seq); err != nil || !released {
		t.Fatalf("with all read: released %v, %v", released, err)
	}
}

// testNothingBetween has one writer and a holder that lets go as soon as it
// may: whatever the writer submitted last is either read by a holder or is
// found by a sweep.
func testNothingBetween(t *testing.T, b *bundle) {
	const messages = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range messages {
			if _, _, err := b.Submit(b.ctx, b.thread, &sessions.Message{Text: fmt.Sprint(i)}); err != nil {
				t.Errorf("submitting: %v", err)
			}
		}
	})
	read := int64(0)
	for read < messages && b.ctx.Err() == nil {
		found, err := b.Unread(b.ctx, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			continue
		}
		l := b.lease(t)
		for {
			events, err := b.Read(b.ctx, b.thread, read, 1000, 0)
			if err != nil {
				t.Fatal(err)
			}
			if len(events) > 0 {
				read = events[len(events)-1].Seq
			}
			released, err := l.Release(b.ctx, read)
			if err != nil {
				t.Fatal(err)
			}
			if released {
				break
			}
		}
	}
	wg.Wait()
	if read != messages {
		t.Errorf("%d messages were read, want %d", read, messages)
	}
}

func testUnread(t *testing.T, b *bundle) {
	find := func() int {
		t.Helper()
		found, err := b.Unread(b.ctx, 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	ev := b.submit(t, "hi", "")
	if find() != 1 {
		t.Fatal("the thread was not found")
	}
	l := b.lease(t)
	if find() != 0 {
		t.Error("a thread that somebody holds was found")
	}
	if err := l.Drop(b.ctx); err != nil {
		t.Fatal(err)
	}
	if find() != 1 {
		t.Error("a thread whose holder gave up was not found")
	}
	l = b.lease(t)
	if released, err := l.Release(b.ctx, ev.Seq); err != nil || !released {
		t.Fatalf("released %v, %v", released, err)
	}
	if find() != 0 {
		t.Error("a thread that is read was found")
	}
}

func testThreads(t *testing.T, b *bundle) {
	b.submit(t, "first line\nsecond", "")
	other := *b
	other.thread += "/other"
	other.submit(t, "later", "")
	threads, err := b.Threads(b.ctx, 10, "test", "none")
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) != 2 || threads[0].ID != other.thread || threads[1].Title != "first line" || threads[1].Events != 1 {
		t.Errorf("got %+v", threads)
	}
}

func testActive(t *testing.T, b *bundle) {
	active := func() time.Time {
		t.Helper()
		at, err := b.Active(b.ctx, b.thread)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := active(); !at.IsZero() {
		t.Errorf("a thread that there isn't was active at %v", at)
	}
	ev := b.submit(t, "hi", "")
	first := active()
	if d := ev.At.Sub(first).Abs(); d > time.Second {
		t.Errorf("active %v from its message", d)
	}
	if released, err := b.lease(t).Release(b.ctx, ev.Seq); err != nil || !released {
		t.Fatalf("released %v, %v", released, err)
	}
	if active().Before(first) {
		t.Error("activity went back")
	}
}

func testDrafts(t *testing.T, b *bundle) {
	ctx, cancel := context.WithCancel(b.ctx)
	drafts, err := b.Drafts(ctx, b.thread)
	if err != nil {
		t.Fatal(err)
	}
	want := sessions.Draft{Turn: 3, Text: "so far", Code: "x ="}
	if err := b.lease(t).Draft(b.ctx, want); err != nil {
		t.Fatal(err)
	}
	if got := <-drafts; got != want {
		t.Errorf("got %+v", got)
	}
	cancel()
	if _, open := <-drafts; open {
		t.Error("the channel did not close")
	}
}

func testSecret(t *testing.T, b *bundle) {
	one, err := b.Secret(b.ctx)
	if err != nil || len(one) < 32 {
		t.Fatalf("got %d bytes, %v", len(one), err)
	}
	two, err := b.Secret(b.ctx)
	if err != nil || string(one) != string(two) {
		t.Errorf("the second secret differs, %v", err)
	}
}
