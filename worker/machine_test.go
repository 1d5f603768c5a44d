package worker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
	"threadbook/sessions"
	"threadbook/worker"
)

// machine is a host of the fleet: an engine, and a way to Redis that can be cut.
type machine struct {
	name   string
	engine *sandboxtest.Engine
	stop   func() // of its latest worker
	over   <-chan struct{}
}

// host starts a machine with a worker on it.
func (b *bench) host(t *testing.T, name string, change ...func(*worker.Config)) *machine {
	t.Helper()
	m := &machine{name: name, engine: sandboxtest.NewEngine(t)}
	b.start(t, m, change...)
	return m
}

// start starts a worker on the machine, and returns once the fleet knows it.
func (b *bench) start(t *testing.T, m *machine, change ...func(*worker.Config)) {
	t.Helper()
	m.stop, m.over = b.workAs(t, func(c *worker.Config) {
		c.Name, c.Host, c.Sandbox = m.name, m.name, m.engine.Provider()
		for _, f := range change {
			f(c)
		}
	})
	b.wait(t, func() bool {
		hosts, err := b.store.Hosts(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(hosts, func(h sessions.Host) bool { return h.Name == m.name && h.Concurrency > 0 && !h.Draining })
	})
}

// wait polls what gives no signal of itself.
func (b *bench) wait(t *testing.T, until func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !until() {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			t.Fatal("waited in vain")
		}
	}
}

// threads are those with a sandbox on the machine, in memory or on disk.
func (m *machine) threads(t *testing.T) (awake, asleep []string) {
	t.Helper()
	s := m.engine.Provider().(sandbox.Sleeper)
	awake, err := s.Awake(t.Context())
	if err == nil {
		asleep, err = s.Asleep(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return awake, asleep
}

func (b *bench) home(t *testing.T, thread sessions.ThreadID) string {
	t.Helper()
	home, err := b.store.Home(b.ctx, thread)
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// put writes a file into a thread's sandbox, as code beside the cell might.
func (b *bench) put(t *testing.T, m *machine, thread sessions.ThreadID, path, text string) {
	t.Helper()
	s, err := m.engine.Provider().Open(b.ctx, string(thread))
	if err == nil {
		err = s.Put(b.ctx, path, strings.NewReader(text), int64(len(text)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// printed is what the cells of the turn wrote.
func printed(log []sessions.Event, turn int64) string {
	var b strings.Builder
	for _, ev := range log {
		if out, ok := ev.Body.(*sessions.CellOutput); ok && ev.Turn == turn {
			b.WriteString(out.Text)
		}
	}
	return b.String()
}
