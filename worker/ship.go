package worker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"threadbook/sandbox"
	"threadbook/sessions"
)

// A sandbox that sleeps is on its host's disk alone. Shipped, it is in the blob
// store too, and the log says so; the host that the thread moves to wakes it from
// there. That is done apart from putting it to disk, under the thread's lease
// again, and makes way for a message: so it costs nobody time, and a worker that
// died before it is made up for by the next one.
const (
	// maxShipped bounds what a sandbox is in the blob store, in bytes: S3 takes 5 GiB
	// in one request. One of a gigabyte in memory is at most a little more.
	maxShipped = 4 << 30
	// shipTimeout bounds the shipping of one sandbox; 100 MB take some seconds.
	shipTimeout = 5 * time.Minute
	// unshipTimeout bounds its way back, for which somebody waits.
	unshipTimeout = 2 * time.Minute
	// shipAllTimeout bounds the shipping of a drained host's sandboxes.
	shipAllTimeout = 15 * time.Minute
	// shipAtOnce is how many of those are shipped at once: more compress no faster.
	shipAtOnce = 2
	// shipAgain is how long after a failure it is tried again.
	shipAgain = time.Minute
	// maxSuperseded is how many earlier blobs of a thread are removed once there is
	// a later one: one, and a few more where that had failed.
	maxSuperseded = 3
)

// unshipped are threads that were put to disk and may have to be shipped, the
// longest waiting first.
type unshipped struct {
	news chan struct{}

	mu    sync.Mutex
	names []string
}

// newUnshipped makes a list, or where nothing is to be shipped one that stays empty.
func newUnshipped(ship bool) *unshipped {
	u := &unshipped{}
	if ship {
		u.news = make(chan struct{}, 1)
	}
	return u
}

func (u *unshipped) add(names ...string) {
	if u.news == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, name := range names {
		if !slices.Contains(u.names, name) {
			u.names = append(u.names, name)
		}
	}
	select {
	case u.news <- struct{}{}:
	default:
	}
}

func (u *unshipped) take() (name string, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.names) == 0 {
		return "", false
	}
	name, u.names = u.names[0], u.names[1:]
	return name, true
}

// shipAsleep ships sandboxes that were put to disk, until ctx ends: those that
// earlier processes have left, and then each as it falls asleep.
func (w *Worker) shipAsleep(ctx context.Context) {
	porter, ok := w.Sandbox.(sandbox.Porter)
	if !ok || !w.Ship {
		return
	}
	if sleeper, ok := w.Sandbox.(sandbox.Sleeper); ok {
		names, err := sleeper.Asleep(ctx)
		if err != nil && ctx.Err() == nil {
			w.Log.WarnContext(ctx, "listing the sleeping sandboxes failed; those that sleep already are not shipped", "err", err)
		}
		w.unshipped.add(names...)
	}
	for ctx.Err() == nil {
		name, ok := w.unshipped.take()
		if !ok {
			select {
			case <-w.unshipped.news:
			case <-ctx.Done():
			}
			continue
		}
		err := w.shipOne(ctx, porter, name, true)
		if err == nil || errors.Is(err, errMakeWay) || ctx.Err() != nil {
			continue // who makes way sleeps again
		}
		if sessions.CodeOf(err) == sessions.Busy { // for a turn, after which it is awake, or for a moment
			w.unshipped.add(name)
			pause(ctx, heldEvery)
			continue
		}
		again := isPassing(err)
		w.Log.WarnContext(ctx, "a sleeping sandbox was not shipped", "thread", name, "again", again, "err", err)
		if !again {
			continue
		}
		w.unshipped.add(name)
		pause(ctx, shipAgain)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// isPassing says whether shipping may succeed another time.
func isPassing(err error) bool {
	return !errors.Is(err, sandbox.ErrCantSleep) && sessions.CodeOf(err) != sessions.TooLarge
}

// shipAll ships all that sleep on this host, the latest used first, whether or not
// that is done in the normal course: the host is to go.
func (w *Worker) shipAll(ctx context.Context) {
	porter, ok := w.Sandbox.(sandbox.Porter)
	sleeper, alsoOK := w.Sandbox.(sandbox.Sleeper)
	if !ok || !alsoOK {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shipAllTimeout)
	defer cancel()
	names, err := sleeper.Asleep(ctx)
	if err != nil {
		w.Log.WarnContext(ctx, "listing the sleeping sandboxes failed; they are not shipped", "err", err)
		return
	}
	used := map[string]time.Time{}
	for _, name := range names {
		used[name], _ = w.Store.Active(ctx, sessions.ThreadID(name)) // the order matters little
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(used[b].Compare(used[a]), cmp.Compare(a, b)) })
	var g errgroup.Group
	g.SetLimit(shipAtOnce)
	for _, name := range names {
		g.Go(func() error {
			err := w.shipOne(ctx, porter, name, false)
			for late := time.Now().Add(heldPatience); sessions.CodeOf(err) == sessions.Busy && time.Now().Before(late) && ctx.Err() == nil; {
				pause(ctx, heldEvery)
				err = w.shipOne(ctx, porter, name, false)
			}
			if err != nil {
				w.Log.WarnContext(ctx, "a sleeping sandbox was not shipped", "thread", name, "err", err)
			}
			return nil
		})
	}
	_ = g.Wait()
}

// shipOne ships a thread's sleeping sandbox, unless that is done already or it does
// not sleep. The error is Busy where somebody holds the thread. It breaks off for a message if it is to
// make way, and then has the thread worked on at once.
func (w *Worker) shipOne(ctx context.Context, porter sandbox.Porter, name string, makeWay bool) error {
	thread, began := sessions.ThreadID(name), time.Now()
	if home, err := w.Store.Home(ctx, thread); err != nil || home != w.Host {
		return err // what is here is of the past
	}
	lease, err := w.Store.Lease(ctx, thread, w.Name)
	if err != nil {
		return err
	}
	h := &holder{Worker: w, thread: thread, lease: lease, log: newThreadLog(), slog: w.Log.With("thread", thread), news: make(chan struct{}, 1)}
	holding, cancel := context.WithCancelCause(ctx)
	timed, stop := context.WithTimeout(holding, shipTimeout)
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { h.renew(holding, began, cancel) })
	err = h.ship(timed, cancel, porter, makeWay)
	if cause := context.Cause(timed); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	parts.Wait()
	if !h.log.forget {
		w.kept.put(thread, h.log)
	}
	w.drop(ctx, lease, thread)
	if errors.Is(err, errMakeWay) {
		if err := w.wake.Wake(ctx, thread); err != nil && ctx.Err() == nil {
			h.slog.WarnContext(ctx, "waking a thread failed; the sweep will", "err", err)
		}
	}
	return err
}

// ship copies the sleeping sandbox of the thread that is held into the blob store,
// and writes that down. Earlier ones are removed.
func (h *holder) ship(ctx context.Context, cancel context.CancelCauseFunc, porter sandbox.Porter, makeWay bool) error {
	if err := h.readLog(ctx); err != nil {
		return err
	}
	switch {
	case h.log.checkpoint != nil || h.log.cells == 0 || h.log.forget:
		return nil
	case makeWay && (h.log.turn != nil || len(h.log.unread) > 0):
		return errMakeWay
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	copying, done := context.WithCancel(ctx)
	defer done()
	if makeWay {
		after := h.log.read
		parts.Go(func() { h.untilMessage(copying, after, cancel) })
	}
	began := time.Now()
	r, w := io.Pipe()
	parts.Go(func() { w.CloseWithError(porter.Export(copying, string(h.thread), w)) })
	blob, size, err := h.Blobs.Put(copying, h.thread, r, maxShipped)
	r.CloseWithError(errors.New("the blob store reads no more"))
	if errors.Is(err, sandbox.ErrNotAsleep) {
		return nil
	}
	if err != nil {
		return err
	}
	superseded := slices.DeleteFunc(slices.Clone(h.log.shipped), func(name string) bool { return name == blob })
	if err := h.recordAs(ctx, 0, &sessions.Checkpoint{Blob: blob, Size: size, Cell: h.log.cells}); err != nil {
		h.dropBlobs(ctx, blob) // nobody knows of it
		return err
	}
	h.dropBlobs(ctx, superseded...)
	h.slog.InfoContext(ctx, "shipped a sleeping sandbox", "bytes", size, "seconds", time.Since(began).Seconds())
	return nil
}

// untilMessage ends shipping when somebody writes.
func (h *holder) untilMessage(ctx context.Context, after int64, cancel context.CancelCauseFunc) {
	for ctx.Err() == nil {
		events, err := h.Store.Read(ctx, h.thread, after, readPage, renewEvery)
		if err != nil { // it was to be a help
			return
		}
		for _, ev := range events {
			after = ev.Seq
			if _, ok := ev.Body.(*sessions.Message); ok {
				cancel(errMakeWay)
				return
			}
		}
	}
}

// dropBlobs removes blobs of the thread, where the store can.
func (h *holder) dropBlobs(ctx context.Context, names ...string) {
	keeper, ok := h.Blobs.(sessions.BlobKeeper)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	for _, name := range names {
		if err := keeper.Drop(ctx, h.thread, name); err != nil {
			h.slog.WarnContext(ctx, "a sandbox that was shipped earlier was not removed from the blobs; it goes with the thread", "blob", name, "err", err)
		}
	}
}

// unship makes what was shipped last the thread's sleeping sandbox here, where it is
// still of use, and says whether it has. What can't be had or can't be woken here
// leaves the thread as one that was not shipped; but a blob store that doesn't
// answer is an error, for it may have it.
func (h *holder) unship(ctx context.Context) (came bool, err error) {
	porter, ok := h.Sandbox.(sandbox.Porter)
	c := h.log.checkpoint
	if !ok || c == nil {
		return false, nil
	}
	began := time.Now()
	timed, cancel := context.WithTimeout(ctx, unshipTimeout)
	defer cancel()
	blob, err := h.Blobs.Get(timed, h.thread, c.Blob)
	if err == nil {
		err = porter.Import(timed, string(h.thread), &verified{r: blob, hash: sha256.New(), name: c.Blob})
		blob.Close()
	}
	switch {
	case err == nil:
		h.slog.InfoContext(ctx, "the thread's sandbox has come from another machine", "bytes", c.Size, "seconds", time.Since(began).Seconds())
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case sessions.CodeOf(err) == sessions.Unavailable:
		return false, err
	}
	h.slog.WarnContext(ctx, "a sandbox that was shipped can't be woken here; its variables are lost", "err", err)
	return false, nil
}

// verified reads a blob and fails at its end where it isn't what was put: the log
// names a blob by its content, and what runs as a thread's sandbox is to be what
// the log says.
type verified struct {
	r    io.Reader
	hash hash.Hash
	name string
}

func (v *verified) Read(b []byte) (int, error) {
	n, err := v.r.Read(b)
	v.hash.Write(b[:n])
	if errors.Is(err, io.EOF) {
		if sum := hex.EncodeToString(v.hash.Sum(nil)); sum != v.name {
			err = fmt.Errorf("the blob %s has changed: it is %s", v.name, sum)
		}
	}
	return n, err
}
