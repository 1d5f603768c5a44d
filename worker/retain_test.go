package worker

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"threadbook/sandbox/sandboxtest"
	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/redisstore"
)

// keeping is a worker that has only what retention needs.
type keeping struct {
	*Worker
	folder string // of the blobs
	store  *redisstore.Store
	redis  redis.UniversalClient
	engine *sandboxtest.Engine
	keeper sessions.BlobKeeper
	said   bytes.Buffer // what it logged; of one goroutine
}

// newKeeping has a Redis of its own and blobs in the folder.
func newKeeping(t *testing.T, folder string) *keeping {
	t.Helper()
	k := &keeping{folder: folder, engine: sandboxtest.NewEngine(t)}
	private, err := redisstore.StartPrivate(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { private.Close() })
	if k.store, err = redisstore.Open(private.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.store.Close() })
	k.redis = k.store.MakeRedisClient().(redis.UniversalClient)
	t.Cleanup(func() { k.redis.Close() })
	b, err := blobs.NewFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	k.keeper = b
	k.Worker = New(Config{Name: "tester", Store: k.store, Blobs: b, Sandbox: k.engine.Provider(), Redis: k.store,
		ExpireAfter: 10 * time.Hour, Log: slog.New(slog.NewTextHandler(&k.said, nil))})
	return k
}

// put keeps a blob of the thread.
func (k *keeping) put(t *testing.T, thread sessions.ThreadID, content string) {
	t.Helper()
	if _, _, err := k.Blobs.Put(t.Context(), thread, strings.NewReader(content), 1<<10); err != nil {
		t.Fatal(err)
	}
}

// thread makes a thread with a message, a blob and a sandbox. A holder has read it.
func (k *keeping) thread(t *testing.T, id sessions.ThreadID) sessions.ThreadID {
	t.Helper()
	k.put(t, id, "file")
	ev, _, err := k.store.Submit(t.Context(), id, &sessions.Message{Text: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := k.store.Lease(t.Context(), id, "tester")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sandbox.Open(t.Context(), string(id)); err != nil {
		t.Fatal(err)
	}
	if released, err := lease.Release(t.Context(), ev.Seq); err != nil || !released {
		t.Fatal(released, err)
	}
	return id
}

// age puts a thread's last activity back.
func (k *keeping) age(t *testing.T, id sessions.ThreadID, by time.Duration) {
	t.Helper()
	err := k.redis.ZIncrBy(t.Context(), "tb:threads:"+id.Platform(), -float64(by.Milliseconds()), string(id)).Err()
	if err != nil {
		t.Fatal(err)
	}
}

// ageBlobs makes all blobs older.
func (k *keeping) ageBlobs(t *testing.T, by time.Duration) {
	t.Helper()
	err := filepath.WalkDir(k.folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		at := time.Now().Add(-by)
		return os.Chtimes(path, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// has says what is left of a thread: "log sandbox blobs:1", or "" for nothing.
func (k *keeping) has(t *testing.T, id sessions.ThreadID) string {
	t.Helper()
	var left []string
	events, err := k.store.Read(t.Context(), id, 0, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) > 0 {
		left = append(left, "log")
	}
	awake, err := k.Sandbox.(interface {
		Awake(context.Context) ([]string, error)
	}).Awake(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range awake {
		if name == string(id) {
			left = append(left, "sandbox")
		}
	}
	for kept, err := range k.keeper.Kept(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if kept.Thread == id {
			left = append(left, "blobs:"+strings.Repeat("I", int(kept.Blobs)))
		}
	}
	return strings.Join(left, " ")
}

// pass makes a pass, which must be due.
func (k *keeping) pass(t *testing.T) retained {
	t.Helper()
	did, due, err := k.retainOnce(t.Context(), k.keeper)
	if err != nil || !due {
		t.Fatalf("due %v, %v", due, err)
	}
	return did
}

const whole = "log sandbox blobs:I"

// Threads that have been idle for long go with all they have, and no others.
func TestExpire(t *testing.T) {
	t.Parallel()
	k := newKeeping(t, t.TempDir())
	old, again := k.thread(t, "test:old"), k.thread(t, "test:again")
	young, held := k.thread(t, "test:young"), k.thread(t, "test:held")
	unread, stuck := k.thread(t, "test:unread"), k.thread(t, "test:stuck")
	if _, _, err := k.store.Submit(t.Context(), unread, &sessions.Message{Text: "more"}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []sessions.ThreadID{old, again, held, unread, stuck} {
		k.age(t, id, 12*time.Hour)
	}
	k.age(t, stuck, time.Hour) // the first
	k.age(t, young, 9*time.Hour)
	k.ageBlobs(t, 12*time.Hour)
	k.put(t, again, "on its way") // of a message that is not in the log yet
	lease, err := k.store.Lease(t.Context(), held, "other")
	if err != nil {
		t.Fatal(err)
	}
	k.engine.Fail("Remove", errors.New("no engine"))

	if did := k.pass(t); did.threads != 2 || did.blobs != 5 {
		t.Errorf("did %+v", did)
	}
	for id, want := range map[sessions.ThreadID]string{old: "", again: "blobs:I", young: whole, held: whole, stuck: whole} {
		if got := k.has(t, id); got != want {
			t.Errorf("%s has %q, want %q", id, got, want)
		}
	}
	if got := k.has(t, unread); !strings.HasPrefix(got, "log") || !strings.HasSuffix(got, "blobs:I") {
		t.Errorf("the thread with something unread has %q", got)
	}
	if !strings.Contains(k.said.String(), "no engine") {
		t.Errorf("the log does not say what failed: %s", &k.said)
	}

	if _, due, err := k.retainOnce(t.Context(), k.keeper); due || err != nil {
		t.Errorf("at once again: due %v, %v", due, err)
	}
	if err := lease.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.age(t, retention, 2*time.Hour)
	if did := k.pass(t); did.threads != 2 || k.has(t, held) != "" || k.has(t, stuck) != "" {
		t.Errorf("an hour later: did %+v; %q and %q are left", did, k.has(t, held), k.has(t, stuck))
	}
}

// Threads that can't be removed don't keep the others from it, however many they are.
func TestExpireBehindHeld(t *testing.T) {
	t.Parallel()
	k := newKeeping(t, t.TempDir())
	for i := range retainPage + 5 {
		id := k.thread(t, sessions.NewThreadID("test", strconv.Itoa(i)))
		k.age(t, id, 12*time.Hour)
		if _, err := k.store.Lease(t.Context(), id, "other"); err != nil {
			t.Fatal(err)
		}
	}
	free := k.thread(t, "test:free")
	k.age(t, free, 11*time.Hour)
	k.ageBlobs(t, 12*time.Hour)
	if did := k.pass(t); did.threads != 1 || k.has(t, free) != "" {
		t.Errorf("did %+v; %q is left", did, k.has(t, free))
	}
}

// Queues of hosts that are gone go, with what is in them.
func TestDropQueues(t *testing.T) {
	t.Parallel()
	k := newKeeping(t, t.TempDir())
	client, inspector := asynq.NewClient(k.store), asynq.NewInspector(k.store)
	t.Cleanup(func() { client.Close(); inspector.Close() })
	if _, err := k.store.Beat(t.Context(), sessions.Host{Name: "lives", Worker: "w"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{queue, "host:lives", "host:gone", "host:away", "host:killed"} {
		for range 3 {
			if _, err := client.Enqueue(asynq.NewTask(wakeType, []byte("test:t")), asynq.Queue(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// As asynq notes it when a host is at work, and when it has done it.
	if err := k.redis.LMove(t.Context(), "asynq:{host:killed}:pending", "asynq:{host:killed}:active", "RIGHT", "LEFT").Err(); err != nil {
		t.Fatal(err)
	}
	yesterday := time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	if err := k.redis.Set(t.Context(), "asynq:{host:away}:processed:"+yesterday, 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if did := k.pass(t); did.queues != 1 {
		t.Errorf("did %+v", did)
	}
	left := map[string]int{}
	names, err := inspector.Queues()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := inspector.GetQueueInfo(name)
		if err != nil {
			t.Fatal(err)
		}
		left[name] = info.Size
	}
	if diff := cmp.Diff(map[string]int{queue: 3, "host:lives": 3, "host:away": 3, "host:killed": 1}, left); diff != "" {
		t.Error(diff)
	}
}

// Blobs that no thread can name go, if this fleet has kept them.
func TestOrphans(t *testing.T) {
	t.Parallel()
	k := newKeeping(t, t.TempDir())
	known := k.thread(t, "test:known")
	const old, young sessions.ThreadID = "test:old", "test:young"
	k.put(t, old, "a")
	k.put(t, young, "b")
	k.ageBlobs(t, 2*orphanAge)
	k.put(t, young, "c")
	rest := filepath.Join(k.folder, "tmp", "REST")
	if err := os.WriteFile(rest, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if did := k.pass(t); did.orphans != 0 || k.has(t, old) == "" {
		t.Errorf("before the blobs are marked: %+v", did)
	}
	k.age(t, retention, 2*time.Hour)
	if err := os.Chtimes(rest, time.Now(), time.Now().Add(-2*orphanAge)); err != nil {
		t.Fatal(err)
	}
	if did := k.pass(t); did.orphans != 1 {
		t.Errorf("did %+v", did)
	}
	for id, want := range map[sessions.ThreadID]string{known: whole, old: "", young: "blobs:II"} {
		if got := k.has(t, id); got != want {
			t.Errorf("%s has %q, want %q", id, got, want)
		}
	}
	if _, err := os.Stat(rest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the rest of a put is there: %v", err)
	}

	// A fleet with another Redis knows none of these threads.
	stranger := newKeeping(t, k.folder)
	k.ageBlobs(t, 2*orphanAge)
	if did := stranger.pass(t); did.orphans != 0 || stranger.has(t, known) != "blobs:I" || !strings.Contains(stranger.said.String(), "REDIS_URL") {
		t.Errorf("another fleet did %+v and said %s", did, &stranger.said)
	}
	k.age(t, retention, 2*time.Hour)
	if did := k.pass(t); did.orphans != 1 || k.has(t, known) != whole || k.has(t, young) != "" {
		t.Errorf("did %+v", did)
	}
}

// A worker cleans up by itself, when nobody else in the fleet is about it.
func TestRetain(t *testing.T) {
	t.Parallel()
	k := newKeeping(t, t.TempDir())
	old := k.thread(t, "test:old")
	k.age(t, old, 12*time.Hour)
	other, err := k.store.Lease(t.Context(), retention, "other")
	if err != nil {
		t.Fatal(err)
	}
	if _, due, err := k.retainOnce(t.Context(), k.keeper); due || err != nil {
		t.Errorf("while another does it: due %v, %v", due, err)
	}
	if err := other.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.retain(ctx)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if last, err := k.store.Active(ctx, retention); err == nil && !last.IsZero() {
			break
		}
		<-tick.C
	}
	cancel()
	<-done
	if got := k.has(t, old); got != "blobs:I" { // which are young
		t.Errorf("left is %q", got)
	}
	k.ExpireAfter = 0
	k.retain(t.Context()) // returns, since nothing expires
}
