package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"threadbook/bots/botstest"
	"threadbook/sessions"
	"threadbook/worker/agenttest"
)

// TestShippedThread: a thread falls asleep and its machine dies for good; it goes on
// on another machine with its variables. That one is drained, and it goes on on a
// third. Nothing is answered twice, and nobody is told that anything is lost.
func TestShippedThread(t *testing.T) {
	t.Parallel()
	f := newFleet(t, agenttest.Words, []string{"THREADBOOK_SHIP=true", "THREADBOOK_HIBERNATE_AFTER=1s"}, "host-0", "host-1")
	thread := sessions.NewThreadID(botstest.Name, "shipped")
	log := func() []sessions.Event {
		events, err := f.store.Read(t.Context(), thread, 0, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	t.Cleanup(func() { f.removeSandboxes(thread, "host-0", "host-1") })
	run := func(key, code, want string) {
		t.Helper()
		f.say(botstest.Event{Thread: "shipped", User: "ada", Key: key, Text: "```python\n" + code + "\n```"})
		f.eventually(time.Minute, "it is answered with "+want, func() bool {
			for _, p := range f.posts() {
				for _, cell := range p.Post.Cells {
					if strings.Contains(cell.Output, want) {
						return true
					}
				}
			}
			return false
		})
	}
	shipped := func() {
		t.Helper()
		f.eventually(time.Minute, "it is shipped", func() bool {
			events := log()
			for i := len(events) - 1; i >= 0; i-- {
				switch events[i].Body.(type) {
				case *sessions.Checkpoint:
					return true
				case *sessions.CellStarted:
					return false
				}
			}
			return false
		})
	}
	home := func() string {
		t.Helper()
		host, err := f.store.Home(t.Context(), thread)
		if err != nil {
			t.Fatal(err)
		}
		return host
	}

	run("one", "x = 41\nopen('kept.txt', 'w').write('kept')\nprint('set', x)", "set 41")
	first := home()
	shipped()
	dead := f.workers[strings.Index("01", strings.TrimPrefix(first, "host-"))]
	dead.end(syscall.SIGKILL)
	run("two", "x += 1\nprint('still', x, open('kept.txt').read())", "still 42 kept")
	second := home()
	if second == first {
		t.Errorf("it is on the dead host %s", first)
	}

	dead.start(t, false) // the machine is back, with what is of the past
	f.eventually(time.Minute, "the dead host is back", func() bool {
		hosts, err := f.store.Hosts(t.Context())
		return err == nil && len(hosts) == 2
	})
	if _, err := f.store.Drain(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	shipped()
	run("three", "x += 1\nprint('and', x)", "and 43")
	if now := home(); now != first {
		t.Errorf("it is on %s", now)
	}
	var moved, cells int
	for _, ev := range log() {
		switch body := ev.Body.(type) {
		case *sessions.Notice:
			if body.Code == "moved" {
				moved++
			} else if body.Code == "state_lost" {
				t.Errorf("it is told that %s", body.Text)
			}
		case *sessions.CellStarted:
			cells++
		}
	}
	if moved != 2 || cells != 3 {
		t.Errorf("it moved %d times and ran %d cells", moved, cells)
	}
}

// removeSandboxes removes what a thread has on hosts of the fleet, after the
// processes' end.
func (f *fleet) removeSandboxes(thread sessions.ThreadID, hosts ...string) {
	for _, p := range f.workers {
		p.end(syscall.SIGKILL)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name, err := fleetOf(ctx, f.store)
	for _, host := range hosts {
		if err != nil {
			break
		}
		var cfg Config
		if cfg, err = loadConfig(append(os.Environ(), "THREADBOOK_HOST="+host), newCommand(nil, nil, nil).PersistentFlags()); err != nil {
			break
		}
		provider, e := openProvider(cfg, name, slog.New(slog.DiscardHandler))
		if err = e; err == nil {
			err = provider.Remove(ctx, string(thread))
			provider.Close()
		}
	}
	if err != nil {
		f.Errorf("removing what the test left: %v", err)
	}
}
