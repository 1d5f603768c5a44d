package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"threadbook/sandbox"
	"threadbook/sessions"
)

const (
	// memoryReserve is memory that is left to the machine: to Redis, to the
	// engine, and to the sandboxes that are small now and may grow.
	memoryReserve = 512 << 20
	// roomTimeout is how long a thread waits for memory. Another's turn may
	// end meanwhile, and its sandbox be put to disk.
	roomTimeout = 30 * time.Second
	// roomEvery is how often it is looked whether one has.
	roomEvery = 500 * time.Millisecond
	// awakeFresh is how old the count of sandboxes in memory may be. Listing
	// them is a call of the engine, too slow to be made before every turn; the
	// clock does it twice as often.
	awakeFresh = 2 * clockEvery
)

// room is the memory for sandboxes.
type room struct {
	mu      sync.Mutex
	opening int64 // sandboxes on their way into memory
	awake   int64 // at the last count, and opened since
	counted time.Time
}

// makeRoom sees to it that the machine has memory for one more sandbox, the
// thread's, if that isn't in memory now: it puts idle ones to disk, the least
// recently used first. The sandboxes' limits may come to no more than all of
// the machine's memory as long as others can be put to disk; but one is refused
// only when the memory that is really free is too little for it. done is to be
// called after the sandbox was opened, or wasn't; more says that there is one
// more in memory now.
func (w *Worker) makeRoom(ctx context.Context, thread string) (done func(more bool), err error) {
	if w.Machine == nil {
		return func(bool) {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel()
	w.room.begin()
	for {
		free, roomy, err := w.hasRoom()
		if err != nil {
			w.Log.WarnContext(ctx, "reading the machine's memory failed; a sandbox is opened all the same", "err", err)
		}
		if roomy || err != nil {
			return w.room.end, nil
		}
		slept, enough := w.sleepOne(ctx, thread)
		if enough || !slept && free {
			return w.room.end, nil
		}
		if slept {
			continue
		}
		select {
		case <-time.After(roomEvery):
		case <-ctx.Done():
			w.room.end(false)
			if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
				return nil, cause
			}
			return nil, &sessions.Error{Code: sessions.Unavailable,
				Text: "There is no memory for another sandbox just now: all that run are busy. Please try again in a few minutes.",
				Err:  errors.New("the machine's free memory, less a reserve, is below a sandbox's limit, and no sandbox is idle")}
		}
	}
}

func (r *room) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening++
}

func (r *room) end(more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening--
	if more {
		r.awake++
	}
}

// count takes a new count of the sandboxes in memory.
func (r *room) count(awake int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.awake, r.counted = int64(awake), time.Now()
}

// hasRoom says whether the free memory suffices for those that are being
// opened, and whether the machine's does for the limits of all as well.
func (w *Worker) hasRoom() (free, roomy bool, err error) {
	m, err := w.Machine()
	if err != nil {
		return false, false, err
	}
	w.room.mu.Lock()
	defer w.room.mu.Unlock()
	free = m.FreeMemory-memoryReserve >= w.room.opening*w.SandboxMemory
	counted := time.Since(w.room.counted) < awakeFresh
	return free, free && counted && (w.room.awake+w.room.opening)*w.SandboxMemory <= m.Memory, nil
}

// sleepOne counts the sandboxes in memory and, if those are too many, puts the
// one to disk that has been idle for longest. enough says that nothing need be
// done: the thread's own is in memory, or there is room after all.
func (w *Worker) sleepOne(ctx context.Context, thread string) (slept, enough bool) {
	sleeper, ok := w.Sandbox.(sandbox.Sleeper)
	if !ok {
		return false, false
	}
	names, err := sleeper.Awake(ctx)
	if err != nil {
		w.Log.WarnContext(ctx, "listing the sandboxes failed", "err", err)
		return false, false
	}
	w.room.count(len(names))
	if slices.Contains(names, thread) {
		return false, true
	}
	if _, roomy, err := w.hasRoom(); roomy || err != nil {
		return false, roomy
	}
	used := map[string]time.Time{}
	for _, name := range names {
		if used[name], err = w.Store.Active(ctx, sessions.ThreadID(name)); err != nil {
			return false, false
		}
	}
	slices.SortFunc(names, func(a, b string) int { return used[a].Compare(used[b]) })
	for _, name := range names {
		switch err := w.underLease(ctx, name, w.sleep); {
		case err == nil:
			w.Log.InfoContext(ctx, "put an idle sandbox to disk for want of memory", "thread", name)
			return true, false
		case errors.Is(err, sandbox.ErrCantSleep):
			return false, false // none can
		}
	}
	return false, false
}
