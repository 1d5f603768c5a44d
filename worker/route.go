package worker

import (
	"cmp"
	"context"
	"sync"
	"time"

	"threadbook/sessions"
)

// hostPrefix begins the name of a host's own queue.
const hostPrefix = "host:"

// hostsFresh is how old what is known of the fleet may be: a wake-up should not
// cost a listing of it each, and a host that has just died is found by the sweep.
const hostsFresh = 250 * time.Millisecond

// Fleet is what the store knows of hosts and of what is on them.
type Fleet interface {
	sessions.Hosts
	sessions.Homes
}

// router chooses the queue of a wake-up.
type router struct {
	fleet Fleet

	mu       sync.Mutex
	machines []sessions.Host
	asked    time.Time
	sent     map[string]sent // by host
}

// sent counts the new threads that a host was given since its heartbeat, which
// can't know of them yet: else all that come within one go to the same host.
type sent struct {
	beat    time.Time
	threads int
}

// queueOf is the thread's home's own queue while that lives, else the own queue
// of the host that has least to do, else the one that all share.
func (r *router) queueOf(ctx context.Context, t sessions.ThreadID) (string, error) {
	home, err := r.fleet.Home(ctx, t)
	if err != nil {
		return "", err
	}
	lives, err := r.lives(ctx, home)
	if err != nil {
		return "", err
	}
	if lives {
		return hostPrefix + home, nil
	}
	machines, err := r.hosts(ctx, hostsFresh)
	if err != nil {
		return "", err
	}
	if name := r.leastLoaded(machines); name != "" {
		return hostPrefix + name, nil
	}
	return queue, nil
}

// lives says whether wake-ups for the host's threads are for that host. It may
// take a dead one for alive for a moment, and never one that lives for dead: a
// thread that is moved loses its variables.
func (r *router) lives(ctx context.Context, host string) (bool, error) {
	if host == "" {
		return false, nil
	}
	for _, age := range []time.Duration{hostsFresh, 0} {
		machines, err := r.hosts(ctx, age)
		if err != nil {
			return false, err
		}
		for _, m := range machines {
			if m.Name == host && !m.Draining {
				return true, nil
			}
		}
	}
	return false, nil
}

// hosts lists the fleet as it was at most so long ago. Redis is asked without
// the lock: one call that hangs should not hold up every wake-up.
func (r *router) hosts(ctx context.Context, age time.Duration) ([]sessions.Host, error) {
	r.mu.Lock()
	machines, fresh := r.machines, time.Since(r.asked) < age
	r.mu.Unlock()
	if fresh {
		return machines, nil
	}
	began := time.Now()
	workers, err := r.fleet.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	machines = sessions.Machines(workers)
	r.mu.Lock()
	defer r.mu.Unlock()
	if began.After(r.asked) {
		r.machines, r.asked = machines, began
	}
	return machines, nil
}

// leastLoaded picks a host for a thread that has none, "" where none takes it:
// by turns for each that may run at once, then by free memory.
func (r *router) leastLoaded(machines []sessions.Host) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent == nil {
		r.sent = map[string]sent{}
	}
	var best *sessions.Host
	var least float64
	for _, m := range machines {
		if m.Draining || m.Concurrency == 0 {
			continue
		}
		s := r.sent[m.Name]
		if !s.beat.Equal(m.At) {
			s = sent{beat: m.At}
			r.sent[m.Name] = s
		}
		load := float64(m.Load+s.threads) / float64(m.Concurrency)
		if best == nil || cmp.Or(cmp.Compare(load, least), cmp.Compare(best.FreeMemory, m.FreeMemory)) < 0 {
			best, least = &m, load
		}
	}
	if best == nil {
		return ""
	}
	s := r.sent[best.Name]
	s.threads++
	r.sent[best.Name] = s
	return best.Name
}
