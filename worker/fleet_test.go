package worker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/sessions/redisstore"
	"threadbook/sessions/sessionstest"
	"threadbook/worker"
	"threadbook/worker/agenttest"
)

// A thread's variables are on its home, so its messages go there; new threads
// are shared out.
func TestHome(t *testing.T) {
	t.Parallel()
	b := newBench(t, agenttest.Words)
	one, two := b.host(t, "one"), b.host(t, "two")
	var threads []sessions.ThreadID
	for i := range 12 {
		threads = append(threads, sessions.NewThreadID("test", fmt.Sprintf("home%d", i)))
		b.send(t, threads[i], fmt.Sprintf("```\nset x %d\n```", i))
	}
	homes := map[string]int{}
	for i, thread := range threads {
		b.finished(t, thread, 1)
		homes[b.home(t, thread)]++
		b.send(t, thread, "```\nshow x\n```")
		_, log := b.finished(t, thread, 2)
		if got := printed(log, 2); got != fmt.Sprintf("%d\n", i) {
			t.Errorf("%s printed %q: %s", thread, got, kinds(log))
		}
	}
	if homes["one"] < 3 || homes["two"] < 3 || len(homes) != 2 {
		t.Errorf("new threads went to %v", homes)
	}
	awakeOne, _ := one.threads(t)
	awakeTwo, _ := two.threads(t)
	if len(awakeOne)+len(awakeTwo) != len(threads) {
		t.Errorf("sandboxes: %v and %v", awakeOne, awakeTwo)
	}
}

// Two workers of one host see the same sandboxes, and either serves its threads.
func TestTwoWorkersOneHost(t *testing.T) {
	t.Parallel()
	b := newBench(t, agenttest.Words)
	m := b.host(t, "one")
	const thread = sessions.ThreadID("test:shared")
	b.send(t, thread, "```\nset x 1\n```")
	b.finished(t, thread, 1)
	first := m.stop
	b.start(t, m, func(c *worker.Config) { c.Name = "second" })
	first()
	b.send(t, thread, "```\nshow x\n```")
	if _, log := b.finished(t, thread, 2); printed(log, 2) != "1\n" {
		t.Errorf("printed %q: %s", printed(log, 2), kinds(log))
	}
}

// A host dies in the middle of a cell. Its thread goes on elsewhere within 15
// seconds, with the files of its last turn, and without variables and knows it.
func TestHostDies(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:dies")
	b := newBench(t, agenttest.Words)
	way := sessionstest.NewLine(t, b.url)
	store, err := redisstore.Open(way.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	dying := b.host(t, "dying", func(c *worker.Config) { c.Store, c.Redis = store, store })
	b.send(t, thread, "```\nset x 1\nfile model.pkl weights\nfile gone.txt x\nfile outputs/chart.txt bars\n```", "data.csv")
	b.finished(t, thread, 1)
	b.put(t, dying, thread, "go", "")
	b.send(t, thread, "```\nshow x\n```\n```\nfile data.csv changed\n```")
	b.finished(t, thread, 2)
	b.until(t, thread, func(ev sessions.Event) bool { // the workspace is kept
		f, ok := ev.Body.(*sessions.File)
		return ok && f.Path == "data.csv" && f.Saved
	})
	other := b.host(t, "other")
	b.send(t, thread, "python print one\\nawait never\\nprint two\nsay {result}")
	b.until(t, thread, func(ev sessions.Event) bool {
		out, ok := ev.Body.(*sessions.CellOutput)
		return ok && ev.Turn == 3 && out.Text == "one\n"
	})
	way.Cut()
	died := time.Now()
	end, log := b.finished(t, thread, 3)
	if took := time.Since(died); took > 15*time.Second || end.Status != sessions.TurnOK {
		t.Errorf("the turn ended as %s after %v: %s", end.Status, took, kinds(log))
	}
	if home := b.home(t, thread); home != "other" {
		t.Errorf("the thread is on %q", home)
	}
	var told []string
	for _, ev := range log {
		switch body := ev.Body.(type) {
		case *sessions.Notice:
			told = append(told, body.Code)
		case *sessions.CellFinished:
			if ev.Turn == 3 && (body.State != sessions.StateLost || body.Status != string(sandbox.KernelDied)) {
				t.Errorf("the cell that was cut off ended as %+v", body)
			}
		}
	}
	if diff := cmp.Diff([]string{"resumed", "moved", "state_lost"}, slices.Compact(told)[:min(3, len(told))]); diff != "" {
		t.Errorf("told %v: %s", told, diff)
	}
	s, err := other.engine.Provider().Open(b.ctx, string(thread))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"model.pkl": "weights", "outputs/chart.txt": "bars", "data.csv": "changed"} {
		var got strings.Builder
		if err := s.Get(b.ctx, path, &got, 100); err != nil || got.String() != want {
			t.Errorf("%s has %q, %v; want %q", path, got.String(), err, want)
		}
	}
	given := 0
	b.send(t, thread, "!rerun")
	b.finished(t, thread, 4)
	b.send(t, thread, "```\nshow x\n```")
	_, log = b.finished(t, thread, 5)
	for _, ev := range log {
		if f, ok := ev.Body.(*sessions.File); ok && f.Path == "outputs/chart.txt" && !f.Saved {
			given++
		}
	}
	if got := printed(log, 4) + printed(log, 5); got != "1\n1\n" || given != 2 { // the cell wrote it once more
		t.Errorf("printed %q; the output was given out %d times: %s", got, given, kinds(log))
	}

	// What the dead machine had is of the past, and goes when it is back.
	if awake, _ := dying.threads(t); len(awake) != 1 {
		t.Fatalf("the dead machine has %v", awake)
	}
	b.start(t, dying, func(c *worker.Config) { c.Name = "again" })
	b.wait(t, func() bool { awake, _ := dying.threads(t); return len(awake) == 0 })
}

// A worker that is told to stop is waited for: a restart costs no variables.
func TestRestartIsWaitedFor(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:restart")
	b := newBench(t, agenttest.Words)
	m := b.host(t, "one")
	b.send(t, thread, "```\nset x 1\n```")
	b.finished(t, thread, 1)
	b.host(t, "two")
	m.stop()
	b.send(t, thread, "```\nshow x\n```")
	b.start(t, m)
	if _, log := b.finished(t, thread, 2); printed(log, 2) != "1\n" {
		t.Errorf("printed %q: %s", printed(log, 2), kinds(log))
	}
}

// A host that drains ends its turns, puts its sandboxes to disk, ships them and is
// left alone. Threads that get a message go on elsewhere with their variables; when
// it is back, the others are as they were.
func TestDrain(t *testing.T) {
	t.Parallel()
	const busy, idle, quiet = sessions.ThreadID("test:busy"), sessions.ThreadID("test:idle"), sessions.ThreadID("test:quiet")
	b := newBench(t, agenttest.Words)
	m := b.host(t, "drained")
	for _, thread := range []sessions.ThreadID{busy, idle, quiet} {
		b.send(t, thread, "```\nset x 1\n```")
		b.finished(t, thread, 1)
	}
	b.send(t, busy, "```\nprint begun\nawait go\nshow x\n```")
	b.until(t, busy, func(ev sessions.Event) bool {
		out, ok := ev.Body.(*sessions.CellOutput)
		return ok && out.Text == "begun\n"
	})
	b.host(t, "other")
	if asked, err := b.store.Drain(b.ctx, "drained"); err != nil || len(asked) != 1 {
		t.Fatalf("asked %v, %v", asked, err)
	}
	b.wait(t, func() bool {
		hosts, err := b.store.Hosts(b.ctx)
		return err == nil && slices.ContainsFunc(hosts, func(h sessions.Host) bool { return h.Name == "drained" && h.Draining })
	})
	b.shipped(t, idle) // while a turn goes on
	b.send(t, idle, "```\nshow x\n```")
	if _, log := b.finished(t, idle, 2); b.home(t, idle) != "other" || printed(log, 2) != "1\n" ||
		!strings.Contains(kinds(log), "notice:moved") || strings.Contains(kinds(log), "state_lost") {
		t.Errorf("on %s, printed %q: %s", b.home(t, idle), printed(log, 2), kinds(log))
	}
	select {
	case <-m.over:
		t.Fatal("the worker ended before its turn")
	default:
	}
	b.put(t, m, busy, "go", "")
	if _, log := b.finished(t, busy, 2); printed(log, 2) != "begun\n1\n" {
		t.Errorf("printed %q: %s", printed(log, 2), kinds(log))
	}
	<-m.over
	if awake, asleep := m.threads(t); len(awake) != 0 || len(asleep) != 3 {
		t.Errorf("awake: %v, asleep: %v", awake, asleep)
	}
	if hosts, err := b.store.Hosts(b.ctx); err != nil || len(hosts) != 1 {
		t.Errorf("the register has %+v, %v", hosts, err)
	}
	b.start(t, m) // which isn't meant by the old wish
	b.send(t, quiet, "```\nshow x\n```")
	if _, log := b.finished(t, quiet, 2); printed(log, 2) != "1\n" {
		t.Errorf("printed %q: %s", printed(log, 2), kinds(log))
	}
}

// The gauges tell what a dashboard shows of a worker.
func TestGauges(t *testing.T) {
	t.Parallel()
	b := newBench(t, agenttest.Words)
	m := b.host(t, "one")
	for _, thread := range []sessions.ThreadID{"test:a", "test:b"} {
		b.send(t, thread, "```\nset x 1\n```")
		b.finished(t, thread, 1)
		b.released(t, thread)
	}
	if err := m.engine.Provider().(sandbox.Sleeper).Sleep(b.ctx, "test:b"); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	b.start(t, m, func(c *worker.Config) {
		c.Metrics = worker.NewMetrics(registry)
		c.Machine = func() (worker.Machine, error) {
			return worker.Machine{Memory: 8 << 30, FreeMemory: 6 << 30, Disk: 100, FreeDisk: 30}, nil
		}
	})
	want := map[string]float64{"threadbook_sandboxes live": 1, "threadbook_sandboxes hibernated": 1, "threadbook_queue_depth": 0,
		"threadbook_machine_bytes memory": 8 << 30, "threadbook_machine_bytes memory_used": 2 << 30,
		"threadbook_machine_bytes disk": 100, "threadbook_machine_bytes disk_used": 70}
	got := map[string]float64{}
	b.wait(t, func() bool {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		for _, f := range families {
			for _, metric := range f.Metric {
				if metric.Gauge == nil {
					continue
				}
				name := f.GetName()
				for _, l := range metric.Label {
					name += " " + l.GetValue()
				}
				got[name] = metric.Gauge.GetValue()
			}
		}
		return got["threadbook_sandboxes hibernated"] == 1
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
