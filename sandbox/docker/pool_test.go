package docker

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// keep runs Keep for the length of the test, or until stop.
func keep(t *testing.T, p *Provider) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Keep(ctx); err != nil {
			t.Errorf("Keep: %v", err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

func (p *Provider) poolSize() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready)
}

// awaitPool waits until the pool has that many.
func awaitPool(t *testing.T, p *Provider, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); p.poolSize() != want; {
		select {
		case <-ctx.Done():
			t.Fatalf("the pool has %d, want %d", p.poolSize(), want)
		case <-tick.C:
		}
	}
}

// inPools are the containers of this host's pools.
func inPools(t *testing.T, p *Provider) []string {
	t.Helper()
	found, err := p.engine.ContainerList(t.Context(), container.ListOptions{All: true, Filters: p.ours()})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range found {
		if p.inPool(c) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func TestPool(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		b.config.Pool = 2
		p := b.attached(t)
		stop := keep(t, p)
		awaitPool(t, p, 2)
		wantThreads(t, p.Awake)
		pooled := inPools(t, p)

		const id = "web:A/b_1"
		th := sandboxtest.Open(t, p, id)
		if s, err := p.Open(t.Context(), id); err != nil || !slices.Contains(pooled, s.(*session).container) {
			t.Errorf("the sandbox isn't one of the pool: %v", err)
		}
		if !th.Fresh() {
			t.Error("a sandbox of the pool isn't fresh")
		}
		th.Python(t, "x = 41").Want(t, sandbox.OK)
		wantThreads(t, p.Awake, id)
		awaitPool(t, p, 2) // it is replaced

		if err := p.Sleep(t.Context(), id); err == nil {
			wantThreads(t, p.Asleep, id)
		}
		stop()
		if left := inPools(t, p); len(left) != 0 {
			t.Errorf("the pool has left %d containers", len(left))
		}
		th.Provider = b.attached(t) // another process finds it
		th.Reopen(t)
		if got := th.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "41\n" || th.Fresh() {
			t.Errorf("x is %q, fresh %v", got, th.Fresh())
		}
		long := strings.Repeat("é", maxName) // its name doesn't tell it, so it isn't of the pool
		sandboxtest.Open(t, p, long)
		wantThreads(t, p.Awake, id, long)
	})
}

// TestPoolAfterACrash: the next process takes over what is left, but for what a
// process claimed as it died.
func TestPoolAfterACrash(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	b.config.Pool = 2
	dead := b.provider(t)
	plan, err := dead.plan(t.Context())
	if err == nil {
		err = dead.fill(t.Context(), plan)
	}
	if err != nil {
		t.Fatal(err)
	}
	claimed := dead.ready[0].conn
	if _, err := claimed.ask(t.Context(), request{Op: "claim", Owner: "somebody"}, nil); err != nil {
		t.Fatal(err)
	}
	left := inPools(t, dead)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}

	p := b.attached(t)
	if err := p.adopt(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if n := p.poolSize(); n != 2 {
		t.Errorf("adopted %d", n)
	}
	// Both threads get a sandbox of their own, whatever they find.
	for _, id := range []string{"a", "b"} {
		th := sandboxtest.Open(t, p, id)
		th.Python(t, "x = 41").Want(t, sandbox.OK)
		s, err := p.Open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if c := s.(*session).container; c == claimed.container || id == "a" && !slices.Contains(left, c) && !slices.Contains(left, claimed.container) {
			t.Errorf("thread %s has container %s", id, c)
		}
	}
	wantThreads(t, p.Awake, "a", "b")
}

// TestPoolOfTwoProcesses: both take from what they think is theirs.
func TestPoolOfTwoProcesses(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	b.config.Pool = 1
	one, two := b.attached(t), b.attached(t)
	plan, err := one.plan(t.Context())
	if err == nil {
		err = one.fill(t.Context(), plan)
	}
	if err == nil {
		err = two.adopt(t.Context(), plan)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, c := sandboxtest.Open(t, one, "a"), sandboxtest.Open(t, two, "c")
	a.Python(t, "x = 1").Want(t, sandbox.OK)
	c.Python(t, "x = 2").Want(t, sandbox.OK)
	if got := a.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "1\n" {
		t.Errorf("x is %q", got)
	}
	wantThreads(t, one.Awake, "a", "c")
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", "slack:T1/C_1.5", "é_5F", "-", "__"} {
		if got, ok := unspell(spell(text)); !ok || got != text {
			t.Errorf("%q is spelt %q, which is %q, %v", text, spell(text), got, ok)
		}
	}
	for _, spelt := range []string{"", "_", "_5", "_zz", "_61", "__" + digest("x")[:40]} {
		if got, ok := unspell(spelt); ok {
			t.Errorf("%q is the spelling of %q", spelt, got)
		}
	}
}
