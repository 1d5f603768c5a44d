package worker

import (
	"context"
	"time"

	"threadbook/sandbox"
	"threadbook/sessions"
)

const (
	// awayTTL is how long a host's threads wait for a worker that was told to
	// stop: a restart takes seconds, and moving a thread costs it its
	// variables. A machine that is to go for longer is drained first.
	awayTTL = 15 * time.Second
	// beatTimeout bounds one heartbeat.
	beatTimeout = sessions.BeatEvery
	// allToDiskTimeout bounds putting a drained host's sandboxes to disk; one
	// takes a second or so.
	allToDiskTimeout = 5 * time.Minute
	// heldPatience is how long a thread is waited for that somebody holds, where
	// that is not for a turn: a lease that was lost runs out before. heldEvery is
	// how often it is looked.
	heldPatience = sessions.LeaseTTL + 3*time.Second
	heldEvery    = 500 * time.Millisecond
)

// live gives signs of life until ctx ends, and hears in their answer that the
// worker is to drain.
func (w *Worker) live(ctx context.Context) {
	tick := time.NewTicker(sessions.BeatEvery)
	defer tick.Stop()
	asked := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if w.beat(ctx, sessions.HostTTL) && !asked {
			asked = true
			w.Log.InfoContext(ctx, "asked to drain: running turns end here, all else goes elsewhere")
			close(w.draining)
			w.beat(ctx, sessions.HostTTL) // so that others know at once
		}
	}
}

// beat gives one sign of life and says whether the worker is to drain.
func (w *Worker) beat(ctx context.Context, ttl time.Duration) (drain bool) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	running, waiting := w.gate.load()
	h := sessions.Host{Name: w.Host, Worker: w.id, Load: running + waiting, Concurrency: w.Concurrency}
	if w.Machine != nil {
		m, err := w.Machine()
		if err != nil {
			w.Log.WarnContext(ctx, "reading the machine's memory failed", "err", err)
		}
		h.FreeMemory = m.FreeMemory
	}
	h.Draining = isClosed(w.draining)
	if isClosed(w.stopping) {
		h.Concurrency = 0
	}
	drain, err := w.Store.Beat(ctx, h, ttl)
	if err != nil && ctx.Err() == nil {
		w.Log.WarnContext(ctx, "giving a sign of life failed", "err", err)
	}
	return drain
}

// leave takes the worker out of the register, so that its host's threads need
// not wait for it.
func (w *Worker) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
	defer cancel()
	return w.Store.Leave(ctx, sessions.Host{Name: w.Host, Worker: w.id})
}

// finish waits for the running turns to end, for as long as a turn may take,
// and says whether they have. A worker told to stop waits no longer.
func (w *Worker) finish(ctx context.Context) bool {
	late := time.NewTimer(w.TurnTimeout)
	defer late.Stop()
	select {
	case <-w.unheld():
		return true
	case <-late.C:
		w.Log.WarnContext(ctx, "draining: turns that did not end are cut off")
		return true
	case <-ctx.Done():
		return false
	}
}

// unheld is closed once nobody holds a thread. Nobody takes one up meanwhile.
func (w *Worker) unheld() <-chan struct{} {
	none := make(chan struct{})
	go func() {
		w.holding.Lock()
		defer w.holding.Unlock()
		close(none)
	}()
	return none
}

// allAway puts the sandboxes of the host to disk and ships all that sleep. If it is
// patient, it waits a moment for those that somebody holds: another host may be
// removing what it has of the thread from earlier times.
func (w *Worker) allAway(ctx context.Context, patient bool) {
	sleeper, ok := w.Sandbox.(sandbox.Sleeper)
	if !ok {
		return
	}
	toDisk, cancel := context.WithTimeout(ctx, allToDiskTimeout)
	defer cancel()
	for late := time.Now().Add(heldPatience); w.settle(toDisk, sleeper.Awake, 0, w.sleep) && patient && time.Now().Before(late); {
		pause(toDisk, heldEvery)
	}
	w.shipAll(ctx)
}

// sendHome wakes the thread's home, if that is another host that lives, and
// says whether it has: the thread's variables are there.
func (w *Worker) sendHome(ctx context.Context, thread sessions.ThreadID) (bool, error) {
	home, err := w.Store.Home(ctx, thread)
	if err != nil || home == "" || home == w.Host {
		return false, err
	}
	if lives, err := w.wake.lives(ctx, home); err != nil || !lives {
		return false, err
	}
	return true, w.wake.Wake(ctx, thread)
}

// openHere opens the thread's sandbox on this host, makes that its home, and
// says from which other host it has moved. What this host has of a thread that
// has been elsewhere since is of the past; what was shipped from there may not be.
func (h *holder) openHere(ctx context.Context) (s sandbox.Session, from string, err error) {
	home, err := h.Store.Home(ctx, h.thread)
	if err != nil {
		return nil, "", err
	}
	if home != "" && home != h.Host {
		from = home
		h.slog.InfoContext(ctx, "the thread moves here", "from", from)
		if err := h.Sandbox.Remove(ctx, string(h.thread)); err != nil {
			return nil, "", err
		}
	}
	if from != "" {
		if _, err := h.unship(ctx); err != nil {
			return nil, "", err
		}
	}
	done, err := h.makeRoom(ctx, string(h.thread))
	if err != nil {
		return nil, "", err
	}
	s, err = h.Sandbox.Open(ctx, string(h.thread))
	if err == nil && s.Fresh() && home == h.Host { // what it had here is gone
		var came bool
		if came, err = h.unship(ctx); came && err == nil {
			s, err = h.Sandbox.Open(ctx, string(h.thread))
		}
	}
	done(err == nil && howOpened(s) != sandbox.Live)
	if err == nil && home != h.Host {
		err = h.lease.SetHome(ctx, h.Host)
	}
	return s, from, err
}

// howOpened is what the session says of it, or else what can be told from it.
func howOpened(s sandbox.Session) sandbox.How {
	if o, ok := s.(sandbox.Opened); ok {
		return o.Opened()
	}
	if s.Fresh() {
		return sandbox.Cold
	}
	return sandbox.Live
}

// strays removes the sandboxes on this host of threads that have moved to
// another.
func (w *Worker) strays(ctx context.Context, list func(context.Context) ([]string, error)) {
	isStray := func(ctx context.Context, name string) (bool, error) {
		home, err := w.Store.Home(ctx, sessions.ThreadID(name))
		return home != "" && home != w.Host, err
	}
	someStray := func(ctx context.Context) ([]string, error) {
		names, err := list(ctx)
		if err != nil {
			return nil, err
		}
		var found []string
		for _, name := range names {
			stray, err := isStray(ctx, name)
			if err != nil {
				return nil, err
			}
			if stray {
				found = append(found, name)
			}
		}
		return found, nil
	}
	w.settle(ctx, someStray, 0, func(ctx context.Context, _ sessions.Lease, name string) error {
		// It may have come back before we had its lease.
		if stray, err := isStray(ctx, name); err != nil || !stray {
			return err
		}
		return w.Sandbox.Remove(ctx, name)
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
