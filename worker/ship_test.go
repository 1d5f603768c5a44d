package worker_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/redisstore"
	"threadbook/sessions/sessionstest"
	"threadbook/worker"
	"threadbook/worker/agenttest"
)

func ship(c *worker.Config) { c.Ship = true }

// crowded is a machine that has memory for one sandbox, so that a thread sleeps
// once another one gets a message.
func crowded(c *worker.Config) {
	sleeper := c.Sandbox.(sandbox.Sleeper)
	c.SandboxMemory = 1 << 30
	c.Machine = func() (worker.Machine, error) {
		awake, err := sleeper.Awake(context.Background())
		return worker.Machine{Memory: 1 << 30, FreeMemory: 8<<30 - int64(len(awake))<<30}, err
	}
}

// shipped waits until the thread's log says that it was shipped, after its last cell.
func (b *bench) shipped(t *testing.T, thread sessions.ThreadID) *sessions.Checkpoint {
	t.Helper()
	var c *sessions.Checkpoint
	b.wait(t, func() bool {
		c = nil
		events, err := b.store.Read(b.ctx, thread, 0, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			switch body := ev.Body.(type) {
			case *sessions.Checkpoint:
				c = body
			case *sessions.CellStarted:
				c = nil
			}
		}
		return c != nil
	})
	b.released(t, thread)
	return c
}

// toDisk puts a thread to disk behind its worker's back, as if that had died then.
func (m *machine) toDisk(t *testing.T, thread sessions.ThreadID) {
	t.Helper()
	if err := m.engine.Provider().(sandbox.Sleeper).Sleep(t.Context(), string(thread)); err != nil {
		t.Fatal(err)
	}
}

// told are the codes of the notices of a turn.
func told(log []sessions.Event, turn int64) (codes []string) {
	for _, ev := range log {
		if n, ok := ev.Body.(*sessions.Notice); ok && ev.Turn == turn {
			codes = append(codes, n.Code)
		}
	}
	return codes
}

// A thread sleeps, is shipped, and its machine dies for good: it goes on elsewhere
// with its variables, and again elsewhere, and nothing comes back from the past.
func TestShippedThreadOutlivesItsHost(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:shipped")
	b := newBench(t, agenttest.Words)
	way := sessionstest.NewLine(t, b.url)
	store, err := redisstore.Open(way.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	one := b.host(t, "one", ship, crowded, func(c *worker.Config) { c.Store, c.Redis = store, store })
	b.send(t, thread, "```\nset x 1\nfile kept.txt kept\n```")
	b.finished(t, thread, 1)
	b.released(t, thread)
	b.send(t, "test:another", "```\nset x 2\n```")
	first := b.shipped(t, thread)
	if first.Cell != 1 || first.Size == 0 {
		t.Errorf("shipped was %+v", first)
	}
	way.Cut()
	two := b.host(t, "two")
	b.send(t, thread, "```\nshow x\nset x 3\n```")
	_, log := b.finished(t, thread, 2)
	if printed(log, 2) != "1\n" || strings.Join(told(log, 2), " ") != "moved" || b.home(t, thread) != "two" {
		t.Errorf("on %s, printed %q, told %v: %s", b.home(t, thread), printed(log, 2), told(log, 2), kinds(log))
	}

	if _, asleep := one.threads(t); len(asleep) != 1 {
		t.Fatalf("on the dead machine sleep %v", asleep)
	}
	b.start(t, one, func(c *worker.Config) { c.Name = "again" })
	b.wait(t, func() bool { _, asleep := one.threads(t); return len(asleep) == 0 })

	// Drained, it is shipped though nobody asked for that, and the blob of before goes.
	if _, err := b.store.Drain(b.ctx, "two"); err != nil {
		t.Fatal(err)
	}
	<-two.over
	second := b.shipped(t, thread)
	if _, err := b.blobs.Get(b.ctx, thread, first.Blob); sessions.CodeOf(err) != sessions.NotFound || second.Blob == first.Blob {
		t.Errorf("the blob of before is there: %v", err)
	}
	b.send(t, thread, "```\nshow x\n```")
	if _, log = b.finished(t, thread, 3); printed(log, 3) != "3\n" || b.home(t, thread) != "one" {
		t.Errorf("on %s, printed %q: %s", b.home(t, thread), printed(log, 3), kinds(log))
	}
}

// leftAsleep is a host whose worker has ended, with a thread on its disk.
func leftAsleep(t *testing.T, thread sessions.ThreadID) (*bench, *machine) {
	b := newBench(t, agenttest.Words)
	m := b.host(t, "one")
	b.send(t, thread, "```\nset x 1\n```")
	b.finished(t, thread, 1)
	b.released(t, thread)
	m.toDisk(t, thread)
	m.stop()
	return b, m
}

// A worker dies between putting a thread to disk and shipping it: the next one
// makes up for it. And a host that has lost what it had gets it back.
func TestShippingIsMadeUpFor(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:later")
	b, m := leftAsleep(t, thread)
	b.start(t, m, ship)
	b.shipped(t, thread)
	m.engine.Kill(string(thread), sandbox.KernelDied)
	b.send(t, thread, "```\nshow x\n```")
	if _, log := b.finished(t, thread, 2); printed(log, 2) != "1\n" || len(told(log, 2)) != 0 {
		t.Errorf("printed %q, told %v: %s", printed(log, 2), told(log, 2), kinds(log))
	}
	b.released(t, thread)
	// What was shipped is of the past now.
	m.engine.Kill(string(thread), sandbox.KernelDied)
	b.send(t, thread, "```\nshow x\n```")
	if _, log := b.finished(t, thread, 3); !strings.Contains(strings.Join(told(log, 3), " "), "state_lost") {
		t.Errorf("printed %q, told %v: %s", printed(log, 3), told(log, 3), kinds(log))
	}
}

// What was shipped and can't be woken is as if it hadn't been.
func TestUselessShipment(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, b *bench, blob string, two *machine){
		"another image": func(_ *testing.T, _ *bench, _ string, two *machine) {
			two.engine.Fail("Import", sandbox.ErrCantImport)
		},
		"no room": func(_ *testing.T, _ *bench, _ string, two *machine) {
			two.engine.Fail("Import", errors.New("the disk is full"))
		},
		"the blob is gone": func(t *testing.T, _ *bench, blob string, _ *machine) {
			if err := os.Remove(blob); err != nil {
				t.Fatal(err)
			}
		},
		"the blob is cut off": func(t *testing.T, _ *bench, blob string, _ *machine) {
			if err := os.Truncate(blob, 100); err != nil {
				t.Fatal(err)
			}
		},
		"the blob is another": func(t *testing.T, b *bench, blob string, _ *machine) {
			// What a sandbox elsewhere has written, but not this one.
			f, err := os.OpenFile(blob, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("x")
			}
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		},
		"the state was forgotten since": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const thread = sessions.ThreadID("test:useless")
			b := newBench(t, agenttest.Words)
			folder := t.TempDir()
			var err error
			if b.blobs, err = blobs.NewFolder(folder); err != nil {
				t.Fatal(err)
			}
			one := b.host(t, "one")
			b.send(t, thread, "```\nset x 1\n```")
			b.finished(t, thread, 1)
			turn := int64(2)
			b.released(t, thread)
			if spoil == nil { // shipped, and used again
				one.toDisk(t, thread)
				one.stop()
				b.start(t, one, ship)
				b.shipped(t, thread)
				b.send(t, thread, "!reset")
				b.finished(t, thread, turn)
				b.released(t, thread)
				turn++
				one.stop() // and is waited for, in vain
			} else if _, err := b.store.Drain(b.ctx, "one"); err != nil {
				t.Fatal(err)
			}
			<-one.over
			two := b.host(t, "two")
			if spoil != nil {
				found, err := filepath.Glob(folder + "/*/" + b.shipped(t, thread).Blob)
				if err != nil || len(found) != 1 {
					t.Fatalf("the blob is %q, %v", found, err)
				}
				spoil(t, b, found[0], two)
			}
			b.send(t, thread, "```\nset y 1\n```")
			_, log := b.finished(t, thread, turn)
			if got := strings.Join(told(log, turn), " "); got != "moved state_lost" || b.home(t, thread) != "two" {
				t.Errorf("told %q on %s: %s", got, b.home(t, thread), kinds(log))
			}
		})
	}
}

// faultyBlobs are blobs with faults.
type faultyBlobs struct {
	*blobs.Folder
	putting chan struct{} // not nil: a put waits for its context to end, and says so here
	away    chan struct{} // holds one for each get that the store doesn't answer
}

func (f *faultyBlobs) Put(ctx context.Context, thread sessions.ThreadID, r io.Reader, limit int64) (string, int64, error) {
	if f.putting != nil {
		f.putting <- struct{}{}
		<-ctx.Done()
		return "", 0, &sessions.Error{Code: sessions.Unavailable, Text: "The file store doesn't answer.", Err: context.Cause(ctx)}
	}
	return f.Folder.Put(ctx, thread, r, limit)
}

func (f *faultyBlobs) Get(ctx context.Context, thread sessions.ThreadID, name string) (io.ReadSeekCloser, error) {
	select {
	case <-f.away:
		return nil, &sessions.Error{Code: sessions.Unavailable, Text: "The file store doesn't answer."}
	default:
		return f.Folder.Get(ctx, thread, name)
	}
}

// Nobody waits for shipping.
func TestShippingMakesWay(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:way")
	b, m := leftAsleep(t, thread)
	slow := &faultyBlobs{Folder: b.blobs.(*blobs.Folder), putting: make(chan struct{})}
	b.start(t, m, ship, func(c *worker.Config) { c.Blobs = slow })
	<-slow.putting
	b.send(t, thread, "```\nshow x\n```")
	if _, log := b.finished(t, thread, 2); printed(log, 2) != "1\n" || strings.Contains(kinds(log), "checkpoint") {
		t.Errorf("printed %q: %s", printed(log, 2), kinds(log))
	}
}

// A blob store that doesn't answer may have the variables: the turn fails with
// words, and the next one has them.
func TestShipmentOutOfReach(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:away")
	b := newBench(t, agenttest.Words)
	one := b.host(t, "one")
	b.send(t, thread, "```\nset x 1\n```")
	b.finished(t, thread, 1)
	b.released(t, thread)
	if _, err := b.store.Drain(b.ctx, "one"); err != nil {
		t.Fatal(err)
	}
	<-one.over
	b.shipped(t, thread)
	away := &faultyBlobs{Folder: b.blobs.(*blobs.Folder), away: make(chan struct{}, 1)}
	away.away <- struct{}{}
	b.host(t, "two", func(c *worker.Config) { c.Blobs = away })
	b.send(t, thread, "```\nshow x\n```")
	end, log := b.finished(t, thread, 2)
	if end.Status != sessions.TurnFailed || strings.Join(told(log, 2), " ") != "failed" {
		t.Errorf("the turn ended as %s: %s", end.Status, kinds(log))
	}
	b.send(t, thread, "```\nshow x\n```")
	if _, log = b.finished(t, thread, 3); printed(log, 3) != "1\n" || strings.Join(told(log, 3), " ") != "moved" {
		t.Errorf("printed %q, told %v: %s", printed(log, 3), told(log, 3), kinds(log))
	}
}
