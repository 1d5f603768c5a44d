package sessionstest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"threadbook/sessions"
)

func (b *bundle) beat(t *testing.T, h sessions.Host, ttl time.Duration) (drain bool) {
	t.Helper()
	drain, err := b.Beat(b.ctx, h, ttl)
	if err != nil {
		t.Fatalf("the heartbeat of %s: %v", h.Worker, err)
	}
	return drain
}

// workers are those that live, without when they were last heard of.
func (b *bundle) workers(t *testing.T) []sessions.Host {
	t.Helper()
	hosts, err := b.Hosts(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hosts {
		if d := time.Since(h.At).Abs(); d > patience {
			t.Errorf("%s was heard of %v from now", h.Worker, d)
		}
		hosts[i].At = time.Time{}
	}
	return hosts
}

func testHosts(t *testing.T, b *bundle) {
	if got := b.workers(t); len(got) != 0 {
		t.Errorf("at first there are %+v", got)
	}
	two := sessions.Host{Name: "b", Worker: "b/1", Load: 3, Concurrency: 4, FreeMemory: 5 << 30}
	one := sessions.Host{Name: "a", Worker: "a/1", Draining: true}
	b.beat(t, two, time.Minute)
	b.beat(t, one, time.Minute)
	if diff := cmp.Diff([]sessions.Host{one, two}, b.workers(t)); diff != "" {
		t.Error(diff)
	}
	two.Load = 1
	b.beat(t, two, 50*time.Millisecond)
	for range 2 { // the second time it isn't there
		if err := b.Leave(b.ctx, one); err != nil {
			t.Fatal(err)
		}
	}
	for hosts := b.workers(t); len(hosts) > 0; hosts = b.workers(t) { // until the other is dead
		if diff := cmp.Diff([]sessions.Host{two}, hosts); diff != "" {
			t.Fatal(diff)
		}
	}
	b.beat(t, two, time.Minute)
	if diff := cmp.Diff([]sessions.Host{two}, b.workers(t)); diff != "" {
		t.Error("it has come back: ", diff)
	}
}

func testDrain(t *testing.T, b *bundle) {
	ask := func(host string, want ...string) {
		t.Helper()
		asked, err := b.Drain(b.ctx, host)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Fatalf("of %s: %s", host, diff)
		}
	}
	first, second, other := sessions.Host{Name: "a", Worker: "1"}, sessions.Host{Name: "a", Worker: "2"}, sessions.Host{Name: "b", Worker: "3"}
	ask("a")
	for _, h := range []sessions.Host{first, second, other} {
		if b.beat(t, h, time.Minute) {
			t.Errorf("%s is to drain and nobody asked", h.Worker)
		}
	}
	ask("a", "1", "2")
	ask("none")
	later := sessions.Host{Name: "a", Worker: "4"}
	for h, want := range map[sessions.Host]bool{first: true, second: true, other: false, later: false} {
		if b.beat(t, h, time.Minute) != want {
			t.Errorf("worker %s of %s is to drain: %v, want %v", h.Worker, h.Name, !want, want)
		}
	}
	if err := b.Leave(b.ctx, first); err != nil {
		t.Fatal(err)
	}
	if b.beat(t, first, time.Minute) {
		t.Error("who has left and come back is to drain still")
	}
}

func testHome(t *testing.T, b *bundle) {
	want := ""
	check := func() {
		t.Helper()
		if home, err := b.Home(b.ctx, b.thread); err != nil || home != want {
			t.Fatalf("the home is %q, %v; want %q", home, err, want)
		}
	}
	check()
	l := b.lease(t)
	for _, want = range []string{"a", "b", "", "c"} {
		for range 2 {
			if err := l.SetHome(b.ctx, want); err != nil {
				t.Fatal(err)
			}
			check()
		}
	}
	if err := l.Drop(b.ctx); err != nil {
		t.Fatal(err)
	}
	wantCode(t, l.SetHome(b.ctx, "d"), sessions.LeaseLost)
	check()
}
