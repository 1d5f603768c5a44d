// Package botstest is a chat platform for tests: it records what is posted,
// and it can lose answers, fail, ask to wait, deliver events twice and be asked
// what it holds.
//
// [Platform] is the platform's own state, [Platform.Handler] its HTTP face, so
// that it can be a process of its own, and [Client] the adapter that talks to
// it: a bots.Poster, a bots.Signer and a source of events. Its manners are
// those of the real ones at their worst: an event is delivered again until it
// is acknowledged, now and then even after that; a request that failed may have
// been done.
package botstest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"threadbook/bots"
)

// Name is the platform's, in thread ids.
const Name = "recorder"

// redeliverAfter is how long the platform waits for an acknowledgement.
const redeliverAfter = 2 * time.Second

// Faults are how often, of 1, what goes wrong.
type Faults struct {
	Lost     float64 // done, and the answer is cut off
	Failed   float64 // not done, 500
	Limited  float64 // not done, 429
	Repeated float64 // an event is delivered again though it was acknowledged
	// Down: everything is refused.
	Down bool
}

// Posted is a message that the platform holds.
type Posted struct {
	ID     string
	Thread string
	Key    string
	Post   bots.Post
	Edits  int
	At     time.Time
	Edited time.Time // the last time
	// Files are the sizes of the bytes that were sent with it, by name.
	Files map[string]int64
}

// Event is what a person did.
type Event struct {
	ID     string `json:"id"`
	Thread string `json:"thread"`
	User   string `json:"user"`
	Text   string `json:"text"`
	Key    string `json:"key"`
	// Action and Value are of a button that was pressed.
	Action bots.Action       `json:"action,omitempty"`
	Value  string            `json:"value,omitempty"`
	Edits  string            `json:"edits,omitempty"`
	Files  map[string][]byte `json:"files,omitempty"`
}

// Platform is what the platform holds. Its methods may be called concurrently.
type Platform struct {
	mu      sync.Mutex
	random  *rand.Rand
	faults  Faults
	posts   []*Posted
	events  []*delivery
	signs   map[string]int // by message key
	uploads map[string]int64
	calls   int
	changed chan struct{} // closed and replaced at each change
}

type delivery struct {
	Event
	due   time.Time
	acked bool
}

// New returns an empty platform whose faults come from the seed.
func New(seed uint64) *Platform {
	return &Platform{random: rand.New(rand.NewPCG(seed, 1)), signs: map[string]int{}, uploads: map[string]int64{}, changed: make(chan struct{})}
}

// SetFaults sets what goes wrong from here on.
func (p *Platform) SetFaults(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
	p.touch()
}

// Say is what a person does. An empty key becomes one of its own.
func (p *Platform) Say(e Event) Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.ID = fmt.Sprintf("e%d", len(p.events)+1)
	if e.Key == "" {
		e.Key = e.ID
	}
	p.events = append(p.events, &delivery{Event: e})
	p.touch()
	return e
}

// Posts are the messages of a thread, or of all, as they stand, in the order
// in which they were posted.
func (p *Platform) Posts(thread string) []Posted {
	p.mu.Lock()
	defer p.mu.Unlock()
	var posts []Posted
	for _, m := range p.posts {
		if thread == "" || m.Thread == thread {
			posts = append(posts, *m)
		}
	}
	return posts
}

// Signs counts the signs that a message got.
func (p *Platform) Signs(key string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signs[key]
}

// Calls counts the requests that posted or edited, tried or done.
func (p *Platform) Calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// Unacknowledged counts the events that nobody has taken.
func (p *Platform) Unacknowledged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, d := range p.events {
		if !d.acked {
			n++
		}
	}
	return n
}

// Changed is closed at the next change of anything.
func (p *Platform) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *Platform) touch() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// fault is what goes wrong with one request.
type fault int

const (
	none fault = iota
	lost
	failed
	limited
)

func (p *Platform) draw() fault {
	if p.faults.Down {
		return failed
	}
	x := p.random.Float64()
	for _, f := range []struct {
		kind fault
		odds float64
	}{{lost, p.faults.Lost}, {failed, p.faults.Failed}, {limited, p.faults.Limited}} {
		if x < f.odds {
			return f.kind
		}
		x -= f.odds
	}
	return none
}

// do does a request, unless it fails before; lost says that its answer is cut off.
func (p *Platform) do(work func()) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	f := p.draw()
	if f == none || f == lost {
		work()
		p.touch()
	}
	return f
}

// next are the events to deliver now, and when to look again.
func (p *Platform) next(now time.Time) (due []Event, again <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.events {
		if d.acked && p.random.Float64() >= p.faults.Repeated/10 || now.Before(d.due) {
			continue
		}
		d.due = now.Add(redeliverAfter)
		due = append(due, d.Event)
	}
	return due, p.changed
}

func (p *Platform) acknowledge(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.events, func(d *delivery) bool { return d.ID == id })
	if i >= 0 {
		p.events[i].acked = true
	}
}
