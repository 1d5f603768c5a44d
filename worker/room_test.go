package worker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
	"threadbook/sessions"
	"threadbook/sessions/redisstore"
)

const gigabyte = 1 << 30

// crowd is a machine whose free memory is what its sandboxes leave.
type crowd struct {
	*Worker
	sandbox.Sleeper
	memory, used int64 // of the machine; of a sandbox
}

func newCrowd(t *testing.T, memory, used int64) *crowd {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	private, err := redisstore.StartPrivate(t.Context(), t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { private.Close() })
	store, err := redisstore.Open(private.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	provider := sandboxtest.NewEngine(t).Provider()
	c := &crowd{Sleeper: provider.(sandbox.Sleeper), memory: memory, used: used}
	c.Worker = New(Config{Name: "tester", Store: store, Sandbox: provider, SandboxMemory: gigabyte, Machine: c.machine,
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: log})
	return c
}

func (c *crowd) machine() (Machine, error) {
	awake, err := c.Awake(context.Background())
	return Machine{Memory: c.memory, FreeMemory: c.memory - int64(len(awake))*c.used}, err
}

// open opens a thread's sandbox after a message, as a holder does, and lets go.
func (c *crowd) open(t *testing.T, thread string) error {
	t.Helper()
	if _, _, err := c.Store.Submit(t.Context(), sessions.ThreadID(thread), &sessions.Message{Text: "hi"}); err != nil {
		t.Fatal(err)
	}
	for at := time.Now().UnixMilli(); time.Now().UnixMilli() == at; { // the store's clock is no finer
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*roomEvery)
	defer cancel()
	done, err := c.makeRoom(ctx, thread)
	if err != nil {
		return err
	}
	_, err = c.Sandbox.Open(t.Context(), thread)
	done(err == nil)
	return err
}

func (c *crowd) want(t *testing.T, awake, asleep []string) {
	t.Helper()
	a, err := c.Awake(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Asleep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(awake, a) + cmp.Diff(asleep, s); diff != "" {
		t.Errorf("awake, then asleep: %s", diff)
	}
}

// The one that was used least recently is put to disk, when memory is short or
// the limits of all come to more than there is.
func TestRoomIsMade(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*crowd{
		"memory is short": newCrowd(t, gigabyte*15/4, gigabyte*5/4),
		"limits":          newCrowd(t, 2*gigabyte, 1),
	} {
		for _, thread := range []string{"t:a", "t:b", "t:a", "t:c", "t:c"} {
			if err := c.open(t, thread); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		c.want(t, []string{"t:a", "t:c"}, []string{"t:b"})
	}
}

// Busy ones are left alone. While memory is really free that is no reason to
// refuse one more; when it isn't, the thread is told.
func TestRoomIsRefused(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, gigabyte*15/4, gigabyte*5/4)
	var leases []sessions.Lease
	for _, thread := range []string{"t:a", "t:b"} {
		if err := c.open(t, thread); err != nil {
			t.Fatal(err)
		}
		lease, err := c.Store.Lease(t.Context(), sessions.ThreadID(thread), "busy")
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, lease)
	}
	if err := c.open(t, "t:c"); sessions.CodeOf(err) != sessions.Unavailable || sessions.TextOf(err) == sessions.TextOf(errors.New("")) {
		t.Errorf("got %v", err)
	}
	freed := make(chan error, 1)
	time.AfterFunc(roomEvery/2, func() { freed <- leases[0].Drop(context.Background()) })
	if err := c.open(t, "t:c"); err != nil {
		t.Errorf("a turn has ended, and still: %v", err)
	}
	if err := <-freed; err != nil {
		t.Fatal(err)
	}
	c.want(t, []string{"t:b", "t:c"}, []string{"t:a"})
	c.used = 1
	c.memory = gigabyte * 5 / 2
	if err := c.open(t, "t:a"); err != nil {
		t.Errorf("memory is free, and still: %v", err)
	}
}

func TestReadMachine(t *testing.T) {
	t.Parallel()
	m, err := ReadMachine(t.TempDir())
	if err != nil || m.FreeMemory <= 0 || m.FreeMemory > m.Memory || m.FreeDisk <= 0 || m.FreeDisk > m.Disk {
		t.Errorf("got %+v, %v", m, err)
	}
	if m, err := ReadMachine(""); err != nil || m.Disk != 0 {
		t.Errorf("without a folder: %+v, %v", m, err)
	}
}
