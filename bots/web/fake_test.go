package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// fakeStore is a store in memory, of which a test plays the worker.
type fakeStore struct {
	mu      sync.Mutex
	logs    map[sessions.ThreadID][]sessions.Event
	keys    map[string]int64
	titles  map[sessions.ThreadID]string
	drafts  map[chan sessions.Draft]sessions.ThreadID
	changed chan struct{} // closed at each change
	now     func() time.Time
	broken  error // what every call answers while it is set
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		logs: map[sessions.ThreadID][]sessions.Event{}, keys: map[string]int64{}, titles: map[sessions.ThreadID]string{},
		drafts: map[chan sessions.Draft]sessions.ThreadID{}, changed: make(chan struct{}), now: time.Now,
	}
}

func (f *fakeStore) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
	close(f.changed)
	f.changed = make(chan struct{})
}

// append adds events, as a worker does under its lease.
func (f *fakeStore) append(thread sessions.ThreadID, turn int64, bodies ...sessions.Body) []sessions.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	var evs []sessions.Event
	for _, b := range bodies {
		evs = append(evs, sessions.Event{Seq: int64(len(f.logs[thread]) + 1), At: f.now().UTC(), Thread: thread, Turn: turn, Body: b})
		f.logs[thread] = append(f.logs[thread], evs[len(evs)-1])
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return evs
}

func (f *fakeStore) Submit(ctx context.Context, thread sessions.ThreadID, body sessions.Body) (sessions.Event, bool, error) {
	m := body.(*sessions.Message)
	if err := ctx.Err(); err != nil {
		return sessions.Event{}, false, err
	}
	f.mu.Lock()
	broken, seq, had := f.broken, f.keys[string(thread)+" "+m.Key], f.titles[thread] != ""
	f.mu.Unlock()
	if broken != nil {
		return sessions.Event{}, false, broken
	}
	if seq > 0 {
		return sessions.Event{Seq: seq}, false, nil
	}
	ev := f.append(thread, 0, body)[0]
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[string(thread)+" "+m.Key] = ev.Seq
	if !had {
		f.titles[thread], _, _ = strings.Cut(m.Text, "\n")
	}
	return ev, true, nil
}

func (f *fakeStore) Read(ctx context.Context, thread sessions.ThreadID, after int64, limit int, wait time.Duration) ([]sessions.Event, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		f.mu.Lock()
		log, changed, broken := f.logs[thread], f.changed, f.broken
		f.mu.Unlock()
		if broken != nil {
			return nil, broken
		}
		if int64(len(log)) > after {
			return log[after:min(int64(len(log)), after+int64(limit))], nil
		}
		if wait == 0 {
			return nil, nil
		}
		select {
		case <-changed:
		case <-deadline.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fakeStore) Drafts(ctx context.Context, thread sessions.ThreadID) (<-chan sessions.Draft, error) {
	ch := make(chan sessions.Draft, 8)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drafts[ch] = thread
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.drafts, ch)
		close(ch)
	})
	return ch, f.broken
}

// draft shows every reader a draft; a slow one misses it.
func (f *fakeStore) draft(thread sessions.ThreadID, d sessions.Draft) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch, t := range f.drafts {
		if t != thread {
			continue
		}
		select {
		case ch <- d:
		default:
		}
	}
}

func (f *fakeStore) Threads(_ context.Context, limit int, platforms ...string) ([]sessions.Thread, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []sessions.Thread
	for id, log := range f.logs {
		if len(platforms) == 1 && id.Platform() == platforms[0] {
			list = append(list, sessions.Thread{ID: id, Title: f.titles[id], Active: log[len(log)-1].At, Events: int64(len(log))})
		}
	}
	for i := range list {
		for j := i; j > 0 && list[j].Active.After(list[j-1].Active); j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
	return list[:min(limit, len(list))], f.broken
}

func (f *fakeStore) Secret(context.Context) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []byte("a key for tests, thirty-two bytes"), f.broken
}

// fakeBlobs keeps blobs in memory.
type fakeBlobs struct {
	mu    sync.Mutex
	blobs map[string][]byte
}

func (f *fakeBlobs) Put(_ context.Context, thread sessions.ThreadID, r io.Reader, limit int64) (string, int64, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return "", 0, err
	}
	if int64(len(data)) > limit {
		return "", 0, &sessions.Error{Code: sessions.TooLarge, Text: "The file is too large."}
	}
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blobs == nil {
		f.blobs = map[string][]byte{}
	}
	f.blobs[string(thread)+" "+name] = data
	return name, int64(len(data)), nil
}

func (f *fakeBlobs) Get(_ context.Context, thread sessions.ThreadID, name string) (io.ReadSeekCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.blobs[string(thread)+" "+name]
	if !ok {
		return nil, &sessions.Error{Code: sessions.NotFound, Text: "There is no such file."}
	}
	return readSeekNopCloser{bytes.NewReader(data)}, nil
}

func (f *fakeBlobs) Delete(context.Context, sessions.ThreadID) error { return nil }

func (f *fakeBlobs) put(t *testing.T, thread sessions.ThreadID, data []byte) string {
	t.Helper()
	name, _, err := f.Put(t.Context(), thread, bytes.NewReader(data), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

type readSeekNopCloser struct{ io.ReadSeeker }

func (readSeekNopCloser) Close() error { return nil }

// fixture is a server on fakes, listening on a loopback address.
type fixture struct {
	*Server
	store *fakeStore
	blobs *fakeBlobs
	http  *httptest.Server
}

// serve starts a server. The change may alter its configuration.
func serve(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{store: newFakeStore(), blobs: &fakeBlobs{}}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := Config{Store: f.store, Blobs: f.blobs, Version: "test", Log: log, Submit: f.intake(log)}
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	f.http = httptest.NewUnstartedServer(f.Server)
	f.http.Config.RegisterOnShutdown(f.Close)
	f.http.Start()
	t.Cleanup(func() {
		f.Close()
		f.http.Close()
	})
	return f
}

// intake is the real one, on a store that knows no leases.
func (f *fixture) intake(log *slog.Logger) func(context.Context, bots.Message) (sessions.Event, error) {
	in := &bots.Intake{
		Store: wholeStore{fakeStore: f.store},
		Blobs: f.blobs,
		Wake:  func(context.Context, sessions.ThreadID) error { return nil },
		Log:   log,
	}
	return in.Submit
}

// wholeStore has the methods that nobody calls here.
type wholeStore struct {
	*fakeStore
	sessions.Store
}

func (w wholeStore) Submit(ctx context.Context, thread sessions.ThreadID, body sessions.Body) (sessions.Event, bool, error) {
	return w.fakeStore.Submit(ctx, thread, body)
}

func (w wholeStore) Read(ctx context.Context, thread sessions.ThreadID, after int64, limit int, wait time.Duration) ([]sessions.Event, error) {
	return w.fakeStore.Read(ctx, thread, after, limit, wait)
}

func (w wholeStore) Drafts(ctx context.Context, thread sessions.ThreadID) (<-chan sessions.Draft, error) {
	return w.fakeStore.Drafts(ctx, thread)
}

func (w wholeStore) Threads(ctx context.Context, limit int, platforms ...string) ([]sessions.Thread, error) {
	return w.fakeStore.Threads(ctx, limit, platforms...)
}

func (w wholeStore) Secret(ctx context.Context) ([]byte, error) { return w.fakeStore.Secret(ctx) }
