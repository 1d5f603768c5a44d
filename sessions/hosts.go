package sessions

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Host is a worker's sign of life, or several workers' of one machine summed
// up (see [Machines]). Workers of one host share an engine, and with it all
// sandboxes; a thread's variables are on one host.
type Host struct {
	Name   string `json:"name"`   // of the machine, as operators know it
	Worker string `json:"worker"` // the process; no two have the same, ever
	// Load is how many turns run there or wait in line, Concurrency how many
	// may run at once. 0 says that the worker restarts: what is the host's
	// waits for it, and it is given nothing new.
	Load        int   `json:"load"`
	Concurrency int   `json:"concurrency"`
	FreeMemory  int64 `json:"free_memory"` // bytes
	// Draining: the worker finishes what it has, and takes nothing more.
	Draining bool `json:"draining,omitempty"`
	// At is when the store heard of it, by the store's clock.
	At time.Time `json:"at,omitzero"`
}

const (
	// BeatEvery is how often a worker gives its sign of life.
	BeatEvery = HostTTL / 3
	// HostTTL is how long a host counts as alive after its last sign of life.
	// It is shorter than LeaseTTL: once the lease of a worker that was killed
	// has run out, and not before, its thread may be taken up, and then its
	// host has to count as dead, so that the first try is made elsewhere.
	HostTTL = LeaseTTL * 2 / 3
)

// Hosts is the register of the machines that work on threads.
type Hosts interface {
	// Beat says that the worker lives, until ttl from now, and tells it
	// whether somebody has asked it to drain.
	Beat(ctx context.Context, h Host, ttl time.Duration) (drain bool, err error)
	// Leave takes the worker out of the register. One that isn't in it is no
	// error.
	Leave(ctx context.Context, h Host) error
	// Hosts lists the workers that live, by host and worker.
	Hosts(ctx context.Context) ([]Host, error)
	// Drain asks every worker that now lives on the host to drain, and says
	// which these are. One that starts later is not meant.
	Drain(ctx context.Context, host string) (workers []string, err error)
}

// Homes says on which host a thread's sandbox is. What it names may be dead, and
// the sandbox gone. [Lease] sets it.
type Homes interface {
	// Home is the thread's host, empty where it has none.
	Home(ctx context.Context, thread ThreadID) (host string, err error)
}

// Machines sums up the workers of each host, ordered by name: loads and
// concurrency are added, memory is the least that one of them has seen. A host
// drains once all its workers do; those that do don't count before.
func Machines(workers []Host) []Host {
	byName := map[string]*Host{}
	var names []string
	for _, w := range workers {
		m := byName[w.Name]
		switch {
		case m == nil:
			names = append(names, w.Name)
			w.Worker = ""
			byName[w.Name] = &w
		case m.Draining && !w.Draining:
			w.Worker = ""
			*m = w
		case m.Draining == w.Draining:
			m.Load += w.Load
			m.Concurrency += w.Concurrency
			m.FreeMemory = min(m.FreeMemory, w.FreeMemory)
			if w.At.After(m.At) {
				m.At = w.At
			}
		}
	}
	slices.Sort(names)
	machines := make([]Host, len(names))
	for i, name := range names {
		machines[i] = *byName[name]
	}
	return machines
}

// CompareHosts orders workers by host and then by worker.
func CompareHosts(a, b Host) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Worker, b.Worker))
}
