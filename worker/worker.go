// Package worker works on threads: it is woken, takes a thread's lease, makes
// turns of what is unread, and lets go when nothing is left.
//
// A wake-up carries a thread's id and nothing more, so one too many, too late
// or on another machine does no harm: whoever finds the thread held goes home.
// The holder lets go only if nothing is unread, in one step with the check. A
// sweep wakes threads whose wake-up was lost or whose holder died; the queue's
// own retries are the second line.
//
// Workers of one Redis are a fleet. A thread's variables are on one host, its
// home, and its wake-ups go to that host's queue while the host lives, and to
// the least loaded one else (route.go, host.go). A thread whose home has died
// goes on elsewhere, with its files as they were at the end of its last turn
// (keep.go) and, where its sleeping sandbox was shipped, with its variables
// (ship.go), else without them. A sandbox that is not on its thread's
// home is of the past, and is removed before anything can see it.
//
// A worker holds many threads, and a gate lets so many of their turns run at
// once, the users by turns (gate.go). Before a sandbox is opened that the
// machine's memory has no room for, an idle one is put to disk (room.go).
//
// Everything that a turn does is appended to the log before anybody sees it,
// under the lease, and where a turn stands is read from the log alone. A
// holder that finds a turn without an end goes on with it: what is finished
// stays finished, a running cell is taken up where its last recorded output
// left it, and the model is asked only for the reply that was lost. A turn
// that was taken up maxResumes times without getting on is given up, since it
// may be what kills the workers.
//
// Three contexts bound the work. The worker's own ends at shutdown, after a
// grace in which turns may reach their next step. The holder's ends with the
// lease as well: nothing may be done for the thread any more. The turn's ends
// when a person stops it or its time is up: what runs is interrupted, and then
// recorded as such.
package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"threadbook/bots"
	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/worker/agent"
)

const (
	// sweepEvery is how often threads are looked for that nobody works on.
	sweepEvery = 2 * time.Second
	// sweepLimit bounds the threads woken in one sweep.
	sweepLimit = 500
	// renewEvery leaves a holder three chances to renew its lease.
	renewEvery = sessions.LeaseTTL / 4
	// leaseMargin is how long before its lease may run out a holder ends that
	// can't renew it: for what then still has to end, and for clocks.
	leaseMargin = time.Second
	// cleanupTimeout bounds what is done after a context has ended.
	cleanupTimeout = 5 * time.Second
	// maxResumes is how often a turn is taken up again without getting on.
	maxResumes = 3
)

// Config is what a worker needs. All fields must be set but those that say what
// their zero value is.
type Config struct {
	Name string // of this worker, in leases and logs
	// Host is the machine whose engine runs the sandboxes; workers that share
	// an engine name the same. Empty: Name.
	Host    string
	Store   sessions.Store
	Blobs   sessions.Blobs
	Sandbox sandbox.Provider
	Redis   asynq.RedisConnOpt
	Model   agent.Model // nil: direct mode, cells only
	// Machine reads what the machine has; nil: it is not asked, and has room
	// for every sandbox.
	Machine func() (Machine, error)
	// SandboxMemory is the limit of one sandbox, in bytes.
	SandboxMemory int64
	// NoModel is what people are told in direct mode.
	NoModel string

	Concurrency int           // turns at once
	CellTimeout time.Duration // until a cell is interrupted
	TurnTimeout time.Duration // until a turn is
	TurnSteps   int           // replies of the model in a turn
	// Grace is what running turns get at shutdown to reach their next step.
	Grace time.Duration
	// HibernateAfter is how long a thread is idle until its sandbox is put to
	// disk, ExpireAfter until it is removed.
	HibernateAfter, ExpireAfter time.Duration
	// Ship has every sandbox that was put to disk copied into the blob store as
	// well, so that its variables outlive the host. A drained host's are in any case.
	Ship bool

	// Show shows threads on chat platforms; nil: on none.
	Show *bots.Presenter

	Metrics *Metrics
	Log     *slog.Logger
}

// Worker works on threads until its Run ends.
type Worker struct {
	Config
	id   string // of this run, in the register of hosts
	wake *Waker
	gate *gate
	kept *kept
	room room

	unshipped *unshipped

	// stopping is closed when no further step should begin, draining when no
	// further turn should.
	stopping, draining chan struct{}
	// holding is read-locked by whoever holds a thread.
	holding sync.RWMutex
}

// New returns a worker, which does nothing until Run.
func New(c Config) *Worker {
	if c.Host == "" {
		c.Host = c.Name
	}
	return &Worker{Config: c, id: c.Host + "/" + c.Name + "/" + rand.Text(), gate: newGate(c.Concurrency), kept: newKept(), unshipped: newUnshipped(c.Ship),
		stopping: make(chan struct{}), draining: make(chan struct{})}
}

// Run takes wake-ups until ctx ends, then gives running turns the grace to
// reach their next step, and returns once all leases are given back. Asked to
// drain, it lets running turns come to their end, puts this host's sandboxes to
// disk, ships them and returns. It is to be called once.
func (w *Worker) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	w.wake = NewWaker(w.Redis, w.Store)
	defer w.wake.Close()
	w.beat(ctx, sessions.HostTTL) // before wake-ups are sent to us
	server := w.newServer()
	if err := server.Start(w.handler(work)); err != nil {
		return errors.Join(err, w.leave(work))
	}
	var g errgroup.Group
	living, die := context.WithCancel(work)
	defer die()
	g.Go(func() error { w.live(living); return nil })
	working, rest := context.WithCancel(ctx)
	defer rest()
	g.Go(func() error { w.sweep(working); return nil })
	g.Go(func() error { w.clock(working); return nil })
	g.Go(func() error { w.retain(working); return nil })
	g.Go(func() error { w.shipAsleep(working); return nil })
	drained := false
	select {
	case <-ctx.Done():
	case <-w.draining:
		server.Stop()
		var idle sync.WaitGroup
		idle.Go(func() { w.allAway(ctx, false) }) // before anybody asks for them elsewhere
		drained = w.finish(ctx)
		idle.Wait()
	}
	rest()
	close(w.stopping)
	server.Stop() // takes no more wake-ups
	grace := time.AfterFunc(w.Grace, cancel)
	defer grace.Stop()
	late := time.After(w.holdersEnd())
	server.Shutdown() // waits for the holders, but for those whose tasks it has given up
	select {
	case <-w.unheld():
	case <-late:
		w.Log.WarnContext(ctx, "threads are still held; their leases will run out")
	}
	grace.Stop()
	if drained {
		w.allAway(ctx, true)
	}
	die()
	err := g.Wait()
	if drained {
		return errors.Join(err, w.leave(ctx))
	}
	w.beat(context.WithoutCancel(ctx), awayTTL)
	return err
}

// sweep wakes threads that have something unread and no holder.
func (w *Worker) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		w.wake.forgetSwept()
		threads, err := w.Store.Unread(ctx, sweepLimit)
		if err != nil && ctx.Err() == nil {
			w.Log.WarnContext(ctx, "looking for unread threads failed", "err", err)
		}
		for _, t := range threads {
			if err := w.wake.again(ctx, t); err != nil && ctx.Err() == nil {
				w.Log.WarnContext(ctx, "waking a thread failed", "thread", t, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
