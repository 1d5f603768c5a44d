// Package sessions is the vocabulary of a thread and the contract of the
// store that keeps it.
//
// A thread is its log: an append-only list of [Event] values. The model's
// context, the page, the notebook, usage and recovery are all read from it,
// and nothing else holds a thread's state. Bytes over [InlineMax] live in the
// blob store under the thread, and the log holds their name.
//
// Two kinds of writer append. Whoever hears people (an adapter, the page)
// calls [Store.Submit], which needs no lease and is idempotent under the
// platform's key. Whoever works on the thread holds its [Lease], and appends
// through it; an append with a lease that was lost is refused by the store,
// so a worker that fell asleep can't write over its successor.
//
// A message is unread until a turn that names it has started. The store keeps
// an index of threads with something unread, so that a sweep finds work whose
// wake-up was lost; the index may name a thread too many, never one too few.
package sessions

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// ThreadID names a thread everywhere: "<platform>:<the platform's own words>".
type ThreadID string

// maxThreadID bounds a thread's name: Slack's longest is under 60 bytes.
const maxThreadID = 200

// NewThreadID builds a thread's id; parts are joined by slashes.
func NewThreadID(platform string, parts ...string) ThreadID {
	return ThreadID(platform + ":" + strings.Join(parts, "/"))
}

// Platform is the part before the colon.
func (id ThreadID) Platform() string {
	platform, _, _ := strings.Cut(string(id), ":")
	return platform
}

// Validate says why the id can't be one. Ids become parts of keys, of labels
// and of addresses, so they are plain words.
func (id ThreadID) Validate() error {
	platform, rest, ok := strings.Cut(string(id), ":")
	if !ok || platform == "" || rest == "" || len(id) > maxThreadID {
		return &Error{Code: Invalid, Text: fmt.Sprintf("%q is no thread's name; one looks like web:abc or slack:T1/C1/123.45", string(id))}
	}
	for _, r := range id {
		if r <= ' ' || r > '~' || strings.ContainsRune(`{}*?[]"\`, r) {
			return &Error{Code: Invalid, Text: fmt.Sprintf("the thread's name %q has the character %q, which none may have", string(id), r)}
		}
	}
	return nil
}

// InlineMax is how many bytes of an output or a result an event may hold; what
// is longer goes to the blob store. Redis keeps the log in memory, and a
// reader of it should not wade through figures.
const InlineMax = 8 << 10

// A Store keeps the threads. Every method may be called concurrently and from
// several machines. Errors of the store itself have the code Unavailable.
type Store interface {
	Log
	Index
	Hosts
	Homes
	// Lease takes the thread's lease for holder, a name for logs alone. It is
	// refused with the code Busy while another holds it. A lease ends when
	// it is released, or LeaseTTL after it was last taken, renewed or used.
	Lease(ctx context.Context, thread ThreadID, holder string) (Lease, error)
}

// Log is a thread's events as anybody may read them and people may write them.
type Log interface {
	// Submit appends what came from outside, a *Message or a *Question, and marks the thread as unread. A body whose key the thread
	// has already is not appended again: added is false, and the event is
	// the earlier one's sequence number alone. Once Submit returns without
	// error the event is safe, and its platform may be told so.
	Submit(ctx context.Context, thread ThreadID, body Body) (ev Event, added bool, err error)
	// Read returns up to limit events after the sequence number after, oldest
	// first. Where there are none it waits for the first, up to wait, and
	// then returns none and no error.
	Read(ctx context.Context, thread ThreadID, after int64, limit int, wait time.Duration) ([]Event, error)
	// Drafts delivers what the model is writing until ctx ends, when it closes
	// the channel. Drafts are for showing alone: they are not kept, some are
	// skipped when the reader is slow, and the reply in the log replaces them.
	Drafts(ctx context.Context, thread ThreadID) (<-chan Draft, error)
}

// Draft is a reply of the model that is still being written, from its
// beginning. An empty one takes back what was shown: the reply is asked again.
type Draft struct {
	Turn int64  `json:"turn"`
	Text string `json:"text"`
	Code string `json:"code,omitempty"` // of the cell that it is writing
}

// Index finds threads.
type Index interface {
	// Threads lists the threads of the platforms named, the latest first.
	Threads(ctx context.Context, limit int, platforms ...string) ([]Thread, error)
	// Unread lists threads that may have unread messages and that nobody
	// holds: what a sweep has to wake. At most limit, the longest waiting first.
	Unread(ctx context.Context, limit int) ([]ThreadID, error)
	// Active is when something was last submitted to the thread, or a holder
	// last let go of it. A thread that the store doesn't know has the zero time.
	Active(ctx context.Context, thread ThreadID) (time.Time, error)
	// Idle lists threads whose Active is before a time, the longest idle first,
	// at most limit.
	Idle(ctx context.Context, before time.Time, limit int) ([]ThreadID, error)
	// Secret returns the fleet's key for signing, made at first use.
	Secret(ctx context.Context) ([]byte, error)
	// Ping asks whether the store answers and what it is.
	Ping(ctx context.Context) (string, error)
}

// A Lease is the right to work on a thread. Its methods fail with the code
// LeaseLost once somebody else may have taken it.
type Lease interface {
	// Append adds events of a turn (0: of none) in one step, all or none, and
	// returns them with their sequence numbers and time.
	Append(ctx context.Context, turn int64, bodies ...Body) ([]Event, error)
	// Draft shows readers what the model is writing. It is not fenced: a
	// draft too many is replaced by the next event.
	Draft(ctx context.Context, d Draft) error
	// SetHome says that the thread's sandbox is on the host; empty says that
	// there is none any more.
	SetHome(ctx context.Context, host string) error
	// Renew puts the end of the lease off to LeaseTTL from now.
	Renew(ctx context.Context) error
	// Release gives the lease back if nothing after the sequence number read
	// was submitted; otherwise it keeps the lease and returns false. Both in
	// one step, so no message falls between.
	Release(ctx context.Context, read int64) (released bool, err error)
	// Drop gives the lease back whatever is unread, for a holder that can't
	// go on; a sweep finds the thread again.
	Drop(ctx context.Context) error
	// Forget removes all that the store has of the thread, its log above all,
	// and gives the lease back, unless something that is newer than read was
	// submitted, and newer than what a holder had read when it last let go;
	// then it changes nothing and returns false. All in one step. What comes
	// later begins the thread anew, from the sequence number 1.
	Forget(ctx context.Context, read int64) (forgotten bool, err error)
}

// LeaseTTL is how long a lease outlives its holder's last sign of life. A
// thread whose worker was killed is taken up again after this and a sweep; it
// must be well over a pause of a busy machine and of Redis.
const LeaseTTL = 9 * time.Second

// Thread is a line in a list of threads.
type Thread struct {
	ID     ThreadID  `json:"id"`
	Title  string    `json:"title"` // the first message's first line, shortened
	Active time.Time `json:"active"`
	Events int64     `json:"events"`
}
