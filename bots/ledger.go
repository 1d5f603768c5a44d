package bots

import (
	"time"

	"threadbook/sessions"
)

// partKey names a post in a thread.
type partKey struct {
	turn int64
	name string
}

// part is what the ledger, and this process, know of a post.
type part struct {
	state  sessions.PostState // empty: nothing was begun
	id     string
	handle string
	final  bool
	since  time.Time // when it was first intended

	// The rest is of this process alone.
	ours     bool      // the intent is: nothing was sent under it unless unsure
	unsure   bool      // a call failed in a way that may have made the post
	shown    *Post     // as it was last sent
	editedAt time.Time // the last edit
	failures int       // in a row
	failing  time.Time // since when, zero: it does not
	notUntil time.Time // the next try
	record   *sessions.Post
}

// worked notes that a call did.
func (p *part) worked() { p.failures, p.failing = 0, time.Time{} }

// lookFirst says whether the platform may have the post already.
func (p *part) lookFirst() bool {
	return p.unsure || p.state == sessions.PostIntended && !p.ours
}

// takePost folds an entry of the ledger.
func (v *view) takePost(ev sessions.Event, b *sessions.Post) {
	p := v.part(partKey{ev.Turn, b.Part})
	if b.State == sessions.PostIntended {
		if p.since.IsZero() {
			p.since = ev.At
		}
		if p.state == sessions.PostSent || p.state == sessions.PostFailed {
			return // an intent whose answer was lost, heard of late
		}
	}
	p.state, p.final = b.State, b.Final
	if b.MessageID != "" {
		p.id = b.MessageID
	}
	if b.Handle != "" {
		p.handle = b.Handle
	}
}

func (v *view) part(key partKey) *part {
	p := v.ledger[key]
	if p == nil {
		p = &part{}
		v.ledger[key] = p
	}
	return p
}

// over says that nothing more is to be done for the part.
func (p *part) over() bool {
	return p.record == nil && (p.state == sessions.PostFailed || p.state == sessions.PostSent && p.final)
}
