package sessionstest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"threadbook/sessions"
)

// with is the bundle for another thread of the same store.
func (b *bundle) with(thread sessions.ThreadID) *bundle {
	other := *b
	other.thread = thread
	return &other
}

func (b *bundle) idle(t *testing.T, before time.Time, limit int) []sessions.ThreadID {
	t.Helper()
	found, err := b.Idle(b.ctx, before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func testIdle(t *testing.T, b *bundle) {
	soon := time.Now().Add(time.Hour)
	if found := b.idle(t, soon, 10); len(found) != 0 {
		t.Errorf("in an empty store: %v", found)
	}
	var want []sessions.ThreadID
	for _, platform := range []string{"one", "two", "one"} {
		thread := sessions.NewThreadID(platform, fmt.Sprint(len(want)))
		b.with(thread).submit(t, "hi", "")
		want = append(want, thread)
		last, err := b.Active(b.ctx, thread)
		if err != nil {
			t.Fatal(err)
		}
		for !time.Now().After(last.Add(time.Millisecond)) { // the store's times are that coarse
		}
	}
	if diff := cmp.Diff(want, b.idle(t, soon, 10)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[:2], b.idle(t, soon, 2)); diff != "" {
		t.Errorf("the first two: %s", diff)
	}
	last, err := b.Active(b.ctx, want[2])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[:2], b.idle(t, last, 10)); diff != "" {
		t.Errorf("those before the last: %s", diff)
	}
}

func testForget(t *testing.T, b *bundle) {
	other := b.with(b.thread + "/other")
	other.submit(t, "mine", "")
	ev := b.submit(t, "hi", "k1")
	l := b.lease(t)
	if _, err := l.Append(b.ctx, 1, &sessions.TurnStarted{Messages: []int64{ev.Seq}}); err != nil {
		t.Fatal(err)
	}
	if forgotten, err := l.Forget(b.ctx, ev.Seq); err != nil || !forgotten {
		t.Fatalf("forgotten %v, %v", forgotten, err)
	}
	if at, err := b.Active(b.ctx, b.thread); err != nil || !at.IsZero() || len(b.all(t)) != 0 {
		t.Errorf("of the thread there are %d events, the last at %v, %v", len(b.all(t)), at, err)
	}
	threads, err := b.Threads(b.ctx, 10, "test")
	if err != nil || len(threads) != 1 || threads[0].ID != other.thread {
		t.Errorf("the threads are %v, %v", threads, err)
	}
	if found, err := b.Unread(b.ctx, 10); err != nil || len(found) != 1 || found[0] != other.thread {
		t.Errorf("unread are %v, %v", found, err)
	}
	_, err = l.Forget(b.ctx, ev.Seq)
	wantCode(t, err, sessions.LeaseLost)

	// The thread may begin anew, even with the same event of the platform.
	if again := b.submit(t, "hi again", "k1"); again.Seq != 1 || len(b.all(t)) != 1 {
		t.Errorf("the first event after that has the number %d", again.Seq)
	}
	if found, err := b.Unread(b.ctx, 10); err != nil || len(found) != 2 {
		t.Errorf("unread are %v, %v", found, err)
	}

	if forgotten, err := b.with("test:never").lease(t).Forget(b.ctx, 0); err != nil || !forgotten {
		t.Errorf("a thread that there isn't: forgotten %v, %v", forgotten, err)
	}
}

func testForgetUnread(t *testing.T, b *bundle) {
	first := b.submit(t, "one", "")
	l := b.lease(t)
	if forgotten, err := l.Forget(b.ctx, 0); err != nil || forgotten {
		t.Fatalf("with all unread: forgotten %v, %v", forgotten, err)
	}
	if released, err := l.Release(b.ctx, first.Seq); err != nil || !released {
		t.Fatalf("the lease did not stay: %v", err)
	}
	second := b.submit(t, "two", "")
	l = b.lease(t)
	if forgotten, err := l.Forget(b.ctx, first.Seq); err != nil || forgotten || len(b.all(t)) != 2 {
		t.Fatalf("with the second unread: forgotten %v, %v", forgotten, err)
	}
	if released, err := l.Release(b.ctx, second.Seq); err != nil || !released {
		t.Fatalf("the lease did not stay: %v", err)
	}
	// What an earlier holder has read counts as read.
	if forgotten, err := b.lease(t).Forget(b.ctx, 0); err != nil || !forgotten {
		t.Errorf("with nothing unread: forgotten %v, %v", forgotten, err)
	}
}

// testForgetBetween has one writer and a holder that forgets the thread whenever
// it may: every message is read before it is forgotten, however the two meet.
func testForgetBetween(t *testing.T, b *bundle) {
	const messages = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range messages {
			if _, _, err := b.Submit(b.ctx, b.thread, &sessions.Message{Text: fmt.Sprint(i)}); err != nil {
				t.Errorf("submitting: %v", err)
			}
		}
	})
	var texts, want []string
	for i := range messages {
		want = append(want, fmt.Sprint(i))
	}
	for len(texts) < messages && b.ctx.Err() == nil {
		found, err := b.Unread(b.ctx, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			continue
		}
		l, read := b.lease(t), int64(0)
		for forgotten := false; !forgotten; {
			events, err := b.Read(b.ctx, b.thread, read, 1000, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				read = ev.Seq
				texts = append(texts, ev.Body.(*sessions.Message).Text)
			}
			if forgotten, err = l.Forget(b.ctx, read); err != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Error(diff)
	}
}
