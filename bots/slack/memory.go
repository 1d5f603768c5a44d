package slack

import (
	"context"
	"sync"
	"time"
)

// remembered is how many keys a generation of [recent] holds.
const remembered = 4096

// recent is a map that forgets the oldest: two generations of keys.
type recent struct {
	mu       sync.Mutex
	now, old map[string]note
}

type note struct {
	text string
	at   time.Time
}

func (r *recent) add(key, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || len(r.now) >= remembered {
		r.old, r.now = r.now, map[string]note{}
	}
	r.now[key] = note{text, time.Now()}
}

func (r *recent) get(key string) (note, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.now[key]
	if !ok {
		n, ok = r.old[key]
	}
	return n, ok
}

func (r *recent) has(key string) bool {
	_, ok := r.get(key)
	return ok
}

// lines let the events of a thread through one by one, in the order in which
// they came: an edit must not overtake its message, whose files take longer.
type lines struct {
	mu   sync.Mutex
	tail map[string]chan struct{}
}

// join takes a place in the line of a name, at once. wait waits for those
// before; leave must be called, whatever wait said.
func (l *lines) join(name string) (wait func(context.Context) error, leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tail == nil {
		l.tail = map[string]chan struct{}{}
	}
	before, mine := l.tail[name], make(chan struct{})
	l.tail[name] = mine
	wait = func(ctx context.Context) error {
		if before == nil {
			return nil
		}
		select {
		case <-before:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	leave = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.tail[name] == mine {
			delete(l.tail, name)
		}
		close(mine)
	}
	return wait, leave
}

// relearn is how long a refusal is believed: an app may be given a scope, and
// a workspace a feature, while we run.
const relearn = time.Hour

// capability is something that not every workspace's Slack can.
type capability int

const (
	richBlocks capability = iota // markdown, container and data_table blocks
	agentSessions
	assistantStatus
	streaming
	capabilityCount
)

// capabilities are learnt from refusals.
type capabilities struct {
	mu      sync.Mutex
	refused [capabilityCount]time.Time
}

func (c *capabilities) has(what capability) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused[what].IsZero() || time.Since(c.refused[what]) > relearn
}

func (c *capabilities) lack(what capability) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[what] = time.Now()
}
