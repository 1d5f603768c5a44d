package worker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"threadbook/sessions"
)

const (
	// retainEvery is how often the fleet looks for what has expired, and
	// retainCheck how often each worker looks whether that is due.
	retainEvery = time.Hour
	retainCheck = retainEvery / 4
	// retainPage is how many idle threads are listed at once, beside those that
	// can't be removed now; maxStuck is how many of these there may be.
	retainPage = 100
	maxStuck   = 10_000
	// expireSlack is how much later than its sandbox a thread expires, at most:
	// until then the clock of the host that has the sandbox has removed it.
	expireSlack = 10 * time.Minute
	// orphanAge is how long a blob is kept whose thread the store doesn't know.
	// It is put before the message that makes the thread known.
	orphanAge = 24 * time.Hour
	// maxOrphans bounds the threads without a log that one pass sees to.
	maxOrphans = 10_000
)

// retention is a thread that nobody can write to: its lease is the right to
// clean up, its activity when that was last done, and its one blob names the
// fleet whose blobs these are.
const retention sessions.ThreadID = "fleet:retention"

// retained is what one pass did and found.
type retained struct {
	threads int // that expired
	orphans int // threads without a log whose blobs were pruned
	blobs   int64
	bytes   int64 // of all blobs, as listed before the orphans went
	queues  int   // of hosts that are gone
}

// retain removes what has expired, once an hour in the whole fleet, until ctx
// ends: threads that have been idle for ExpireAfter, with their sandboxes, logs
// and blobs; the blobs of threads that the store doesn't know; and the queues of
// hosts that are gone. A store of
// blobs that can't be listed, or no ExpireAfter, and nothing expires.
func (w *Worker) retain(ctx context.Context) {
	keeper, ok := w.Blobs.(sessions.BlobKeeper)
	if !ok || w.ExpireAfter <= 0 {
		return
	}
	tick := time.NewTicker(retainCheck)
	defer tick.Stop()
	for {
		did, due, err := w.retainOnce(ctx, keeper)
		switch {
		case err != nil && ctx.Err() == nil:
			w.Log.WarnContext(ctx, "removing what has expired failed; it will be tried again", "err", err)
		case err == nil && due:
			w.Log.InfoContext(ctx, "looked for what has expired", "removed_threads", did.threads, "removed_orphans", did.orphans,
				"removed_queues", did.queues, "kept_blobs", did.blobs, "kept_bytes", did.bytes)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// retainOnce makes a pass if one is due and nobody else is about it. Where two
// workers do it at once, since one lost its lease, no harm is done.
func (w *Worker) retainOnce(ctx context.Context, keeper sessions.BlobKeeper) (did retained, due bool, err error) {
	lease, err := w.Store.Lease(ctx, retention, w.Name)
	if sessions.CodeOf(err) == sessions.Busy {
		return did, false, nil
	}
	if err != nil {
		return did, false, err
	}
	last, err := w.Store.Active(ctx, retention)
	if due = err == nil && time.Since(last) > retainEvery; due {
		p := pass{Worker: w, keeper: keeper, lease: lease, renewed: time.Now()}
		if err = p.expire(ctx); err == nil {
			err = p.prune(ctx)
		}
		if err == nil {
			p.did.queues, err = w.dropQueues(ctx)
		}
		did = p.did
	}
	if due && err == nil {
		_, err = lease.Release(ctx, 0) // which notes the time
		return did, due, err
	}
	w.drop(ctx, lease, retention)
	return did, due, err
}

// drop gives a lease back whatever came before.
func (w *Worker) drop(ctx context.Context, lease sessions.Lease, thread sessions.ThreadID) {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := lease.Drop(late); err != nil {
		w.Log.WarnContext(ctx, "giving back a lease failed; it will run out", "thread", thread, "err", err)
	}
}

// pass is one pass.
type pass struct {
	*Worker
	keeper  sessions.BlobKeeper
	lease   sessions.Lease // of retention
	renewed time.Time
	did     retained
}

// step keeps the lease through a long pass.
func (p *pass) step(ctx context.Context) error {
	if time.Since(p.renewed) < renewEvery {
		return nil
	}
	p.renewed = time.Now()
	return p.lease.Renew(ctx)
}

// expire removes idle threads, the longest idle first, until none is left that
// can be removed now.
func (p *pass) expire(ctx context.Context) error {
	before := time.Now().Add(-p.ExpireAfter - min(expireSlack, p.ExpireAfter/10))
	stuck := map[sessions.ThreadID]bool{retention: true}
	for {
		limit := retainPage + len(stuck)
		idle, err := p.Store.Idle(ctx, before, limit)
		if err != nil {
			return err
		}
		for _, t := range idle {
			if stuck[t] {
				continue
			}
			if err := p.step(ctx); err != nil {
				return err
			}
			expired, err := p.expireThread(ctx, t, before)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // which may be this thread's own fault
				p.Log.WarnContext(ctx, "removing an expired thread failed; it will be tried again", "thread", t, "err", err)
			}
			if expired {
				p.did.threads++
			} else {
				stuck[t] = true
			}
		}
		if len(idle) < limit || len(stuck) > maxStuck {
			return nil
		}
	}
}

// expireThread removes a thread, unless somebody holds it or it has got a message.
// The blobs go last, and are orphans if this ends before that. Those that were
// put just now stay: they may belong to a message on its way, with which the
// thread begins anew.
func (p *pass) expireThread(ctx context.Context, t sessions.ThreadID, before time.Time) (expired bool, err error) {
	lease, err := p.Store.Lease(ctx, t, p.Name)
	if sessions.CodeOf(err) == sessions.Busy {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() {
		if !expired && sessions.CodeOf(err) != sessions.LeaseLost {
			p.drop(ctx, lease, t)
		}
	}()
	last, err := p.Store.Active(ctx, t)
	if err != nil || !last.Before(before) {
		return false, err
	}
	if err := p.Sandbox.Remove(ctx, string(t)); err != nil {
		return false, fmt.Errorf("removing its sandbox: %w", err)
	}
	if expired, err = lease.Forget(ctx, 0); !expired || err != nil {
		return expired, err
	}
	return true, p.keeper.Prune(ctx, t, 0)
}

// forget removes the thread that is held, as its people have asked, unless there
// is something new. In that order, as in expireThread.
func (h *holder) forget(ctx context.Context) (forgotten bool, err error) {
	if err := h.Sandbox.Remove(ctx, string(h.thread)); err != nil {
		return false, unavailableSandbox(err)
	}
	h.session = nil
	if forgotten, err = h.lease.Forget(ctx, h.log.read); !forgotten || err != nil {
		return forgotten, err
	}
	return true, h.Blobs.Delete(ctx, h.thread)
}

// prune removes the blobs of threads that the store doesn't know, and the rests of
// puts. It does so only where the blobs bear this fleet's mark: a Redis that was
// lost, or a wrong REDIS_URL, must not cost every thread its files. The first pass
// of a fleet leaves the mark.
func (p *pass) prune(ctx context.Context) error {
	ours, err := p.marked(ctx)
	if err != nil {
		return err
	}
	theirs := false
	var orphans []sessions.ThreadID
	for k, err := range p.keeper.Kept(ctx) {
		if err == nil {
			err = p.step(ctx)
		}
		if err != nil {
			return err
		}
		p.did.blobs += k.Blobs
		p.did.bytes += k.Bytes
		if k.Thread == retention {
			theirs = !ours
			continue
		}
		if time.Since(k.Newest) < orphanAge || len(orphans) == maxOrphans {
			continue
		}
		switch known, err := p.Store.Active(ctx, k.Thread); {
		case err != nil:
			return err
		case known.IsZero():
			orphans = append(orphans, k.Thread)
		}
	}
	switch {
	case theirs:
		p.Log.WarnContext(ctx, "the blobs were kept by a fleet with another Redis, so those of unknown threads are left; "+
			"check REDIS_URL, and keep each fleet's blobs in a place of its own (THREADBOOK_DATA)", "threads", len(orphans))
		return nil
	case !ours:
		mark, err := p.mark(ctx)
		if err != nil {
			return err
		}
		_, _, err = p.Blobs.Put(ctx, retention, strings.NewReader(mark), int64(len(mark)))
		return err
	}
	for _, t := range orphans {
		if err := p.step(ctx); err != nil {
			return err
		}
		if err := p.keeper.Prune(ctx, t, orphanAge); err != nil {
			return fmt.Errorf("thread %s: %w", t, err)
		}
		p.did.orphans++
	}
	return p.keeper.Prune(ctx, "", orphanAge)
}

// mark is what marks the fleet's blobs: it comes with the Redis, and tells nothing.
func (p *pass) mark(ctx context.Context) (string, error) {
	secret, err := p.Store.Secret(ctx)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("blobs"))
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// marked says whether the mark is there.
func (p *pass) marked(ctx context.Context) (bool, error) {
	mark, err := p.mark(ctx)
	if err != nil {
		return false, err
	}
	name := sha256.Sum256([]byte(mark))
	blob, err := p.Blobs.Get(ctx, retention, hex.EncodeToString(name[:]))
	switch {
	case err == nil:
		return true, blob.Close()
	case sessions.CodeOf(err) == sessions.NotFound:
		return false, nil
	}
	return false, err
}
