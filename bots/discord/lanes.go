package discord

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"threadbook/sessions"
)

const (
	laneRoom    = 256 // events that wait in one channel; what is more is read by REST
	lanesAtOnce = 16  // channels worked on at a time
	maxLanes    = 5000
	// maxHeld are lanes more that somebody holds who is at work on another.
	maxHeld    = lanesAtOnce + interactionsAtOnce
	maxMarks   = 10000 // channels of which is known how far they were read
	flushEvery = time.Second
	// threadsKnown are the latest threads of the store that are read even if
	// they have no mark.
	threadsKnown = 1000
	// readAtOnce is how many channels are read as soon as a connection stands,
	// the latest first. Others are read as Discord lists them with a message
	// that was not had.
	readAtOnce   = 200
	missedPage   = 100                // messages of one read, Discord's most
	missedPages  = 20                 // read of one channel at most
	missedWindow = 7 * 24 * time.Hour // what is older is not answered any more
	longestTry   = 30 * time.Second   // between two tries at an event
)

// beginning comes before every message.
const beginning = "1"

// change is what happened to a message.
type change int

const (
	created change = iota
	edited
	deleted
)

// event waits in a lane.
type event struct {
	what change
	m    message
}

// lane is what waits for a channel. It is worked on by one goroutine, so that
// a channel's messages keep their order while a slow file holds up no other.
type lane struct {
	queue  []event
	behind bool   // messages were missed: they are read first
	after  string // the message they are read after; "": the channel's mark
	held   int    // how many hold it; see hold
	busy   bool   // it is in start, or is worked on
}

type lanes struct {
	d     *Discord
	start chan string // lanes that have got something to do

	mu    sync.Mutex
	lanes map[string]*lane
	marks map[string]string
	dirty map[string]string
	// first: nothing was ever read, so what was there at the start is nobody's
	// wish; started is the lowest id since. Else newest is the latest mark at the
	// start: a channel without a mark has come since, and is read from there.
	first   bool
	started string
	newest  string
}

func newLanes(d *Discord) *lanes {
	return &lanes{d: d, start: make(chan string, maxLanes+maxHeld), lanes: map[string]*lane{},
		marks: map[string]string{}, dirty: map[string]string{}}
}

// load reads the marks, trying until ctx ends.
func (l *lanes) load(ctx context.Context, first time.Duration) error {
	for wait := newPause(first); ; {
		marks, err := l.d.cfg.Marks.Marks(ctx)
		var threads []sessions.Thread
		if err == nil {
			threads, err = l.d.cfg.Store.Threads(ctx, threadsKnown, Platform)
		}
		if err == nil {
			l.take(marks, threads)
			return nil
		}
		l.d.cfg.Log.WarnContext(ctx, "the marks of what was read can't be had; trying again", "err", err)
		if !wait.wait(ctx) {
			return ctx.Err()
		}
	}
}

func (l *lanes) take(marks map[string]string, threads []sessions.Thread) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.newest, l.started = true, beginning, snowflake(time.Now())
	for ch, id := range marks {
		if !isID(id) || !isID(ch) {
			continue
		}
		l.marks[ch] = id
		l.first = false
		if later(id, l.newest) {
			l.newest = id
		}
	}
	// A crash may have lost the mark of a thread's very first messages.
	for _, t := range threads {
		if _, ch, err := placeOf(t.ID); err == nil {
			l.set(ch, beginning)
		}
	}
	if len(l.marks) > maxMarks {
		for _, ch := range l.latest()[maxMarks/2:] {
			l.forget(ch)
		}
	}
}

// latest are the channels with a mark, the latest first; the lock is held.
func (l *lanes) latest() []string {
	return slices.SortedFunc(maps.Keys(l.marks), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(l.marks[b]), len(l.marks[a])), cmp.Compare(l.marks[b], l.marks[a]))
	})
}

// set moves a mark; the lock is held.
func (l *lanes) set(ch, id string) {
	if later(id, l.marks[ch]) {
		l.marks[ch], l.dirty[ch] = id, id
	}
}

// forget takes a mark away; the lock is held.
func (l *lanes) forget(ch string) {
	delete(l.marks, ch)
	l.dirty[ch] = ""
}

// push adds an event to its channel's lane.
func (l *lanes) push(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lane(e.m.Channel)
	switch {
	case ln == nil:
	case len(ln.queue) < laneRoom:
		ln.queue = append(ln.queue, e)
	case e.what == created:
		ln.behind = true
	default:
		l.d.cfg.Log.Warn("too many events at once; an edit or a deletion was passed over", "channel", e.m.Channel)
	}
}

// missed has a channel read from its mark on.
func (l *lanes) missed(ch string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.lane(ch); ln != nil {
		ln.behind = true
	}
}

// lane finds a channel's lane, or makes one and has it worked on; the lock is
// held. There is none where there are too many: their channels are read at the
// next connection, since their marks stand still.
func (l *lanes) lane(ch string) *lane {
	ln := l.lanes[ch]
	if ln == nil {
		if len(l.lanes) >= maxLanes {
			l.d.cfg.Log.Warn("too many channels at once", "channel", ch)
			return nil
		}
		ln = &lane{}
		l.lanes[ch] = ln
		l.begin(ch, ln)
	}
	return ln
}

// begin has a lane worked on, if it isn't and nobody holds it; the lock is held.
func (l *lanes) begin(ch string, ln *lane) {
	if ln.held == 0 && !ln.busy {
		ln.busy = true
		l.start <- ch // as much room as there may be lanes
	}
}

// hold has nothing done in a channel until the function it returns is called.
// What may become a thread's first message holds that thread, which has its id:
// on Discord the thread is open before the message is in the store, and until
// then a reply in it would be taken for somebody else's talk.
func (l *lanes) hold(ch string) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lanes[ch]
	if ln == nil {
		ln = &lane{}
		l.lanes[ch] = ln
	}
	ln.held++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if ln.held--; ln.held == 0 && !ln.busy && !ln.behind && len(ln.queue) == 0 {
			delete(l.lanes, ch)
			return
		}
		l.begin(ch, ln)
	}
}

// reconnected has the channels read that were last heard of.
func (l *lanes) reconnected() {
	l.mu.Lock()
	channels := l.latest()
	l.mu.Unlock()
	for _, ch := range channels[:min(len(channels), readAtOnce)] {
		l.missed(ch)
	}
}

// seen has a channel read whose last message was not had.
func (l *lanes) seen(ch, last string) {
	l.mu.Lock()
	had := l.marks[ch] != ""
	switch {
	case had:
	case !l.first:
		l.set(ch, l.newest)
	case !isID(last):
		l.set(ch, beginning)
	case later(last, l.started):
		l.set(ch, l.started)
	default:
		l.set(ch, last)
	}
	unread := last == "" && (had || !l.first) || later(last, l.marks[ch])
	l.mu.Unlock()
	if unread {
		l.missed(ch)
	}
}

// run works on the lanes until ctx ends.
func (l *lanes) run(ctx context.Context) {
	var wg sync.WaitGroup
	room := make(chan struct{}, lanesAtOnce)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			l.flush(ctx)
		case room <- struct{}{}:
			select {
			case <-ctx.Done():
			case <-tick.C:
				<-room
				l.flush(ctx)
			case ch := <-l.start:
				wg.Go(func() {
					defer func() { <-room }()
					l.work(ctx, ch)
				})
			}
		}
	}
	wg.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	l.flush(last)
}

// work does what waits in a lane, until nothing does.
func (l *lanes) work(ctx context.Context, ch string) {
	for ctx.Err() == nil {
		l.mu.Lock()
		ln := l.lanes[ch]
		switch {
		case ln.held > 0:
			ln.busy = false // whoever lets go of it last has it worked on
			l.mu.Unlock()
			return
		case ln.behind:
			after := cmp.Or(ln.after, l.marks[ch], l.newest)
			ln.behind, ln.after = false, ""
			l.mu.Unlock()
			l.catchUp(ctx, ch, after)
		case len(ln.queue) > 0:
			e := ln.queue[0]
			ln.queue = ln.queue[1:]
			l.mu.Unlock()
			l.handle(ctx, e)
		default:
			delete(l.lanes, ch)
			l.mu.Unlock()
			return
		}
	}
}

// handle does one event, trying until it is done or can't be. A message's
// mark moves once it is safe in the store.
func (l *lanes) handle(ctx context.Context, e event) {
	if e.what == created {
		defer l.hold(e.m.ID)()
	}
	done := l.try(ctx, e.m.Channel, func() error { return l.d.happened(ctx, e) })
	if !done || e.what != created {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(e.m.Channel, e.m.ID)
}

// serve has a thread read that was just opened on message id: a process that
// died in between, or another one, may have passed over what was written in it.
func (l *lanes) serve(ch, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(ch, id)
	if ln := l.lane(ch); ln != nil {
		ln.behind, ln.after = true, id
	}
}

// try repeats what fails for now, until it is done, for good or ill; false
// where ctx ended before.
func (l *lanes) try(ctx context.Context, ch string, do func() error) bool {
	for wait := newPause(l.d.cfg.FirstPause); ; {
		err := l.d.guard(do)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !forNow(err) {
			l.d.cfg.Log.ErrorContext(ctx, "an event of Discord could not be handled", "channel", ch, "err", err)
			return true
		}
		l.d.cfg.Log.WarnContext(ctx, "an event of Discord can't be handled just now; trying again", "channel", ch, "err", err)
		wait.next = min(wait.next, longestTry)
		if !wait.wait(ctx) {
			return false
		}
	}
}

// catchUp reads the messages that a channel got after one of them.
func (l *lanes) catchUp(ctx context.Context, ch, after string) {
	old := time.Now().Add(-missedWindow)
	for range missedPages {
		var page []message
		var failed error
		l.try(ctx, ch, func() error {
			page, failed = l.d.messagesAfter(ctx, ch, after)
			if asAPI(failed).Status/100 == 4 && !transient(failed) {
				return nil // the channel is gone, or not for us to read
			}
			return failed
		})
		if ctx.Err() != nil {
			return
		}
		if failed != nil {
			l.mu.Lock()
			l.forget(ch)
			l.mu.Unlock()
			return
		}
		for _, m := range page {
			if at, err := time.Parse(time.RFC3339Nano, m.Timestamp); err != nil || at.After(old) {
				l.handle(ctx, event{created, m})
			}
			after = m.ID
		}
		if len(page) < missedPage {
			return
		}
	}
	l.d.cfg.Log.WarnContext(ctx, "a channel had more messages than are read at once", "channel", ch)
}

// flush writes the marks that moved.
func (l *lanes) flush(ctx context.Context) {
	l.mu.Lock()
	dirty := l.dirty
	l.dirty = map[string]string{}
	l.mu.Unlock()
	if len(dirty) == 0 {
		return
	}
	if err := l.d.cfg.Marks.SetMarks(ctx, dirty); err != nil {
		l.d.cfg.Log.WarnContext(ctx, "the marks of what was read could not be kept; trying again", "err", err)
		l.mu.Lock()
		maps.Copy(dirty, l.dirty) // what is newer wins
		l.dirty = dirty
		l.mu.Unlock()
	}
}
