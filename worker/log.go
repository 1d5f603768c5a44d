package worker

import (
	"slices"
	"time"

	"threadbook/sessions"
)

// threadLog is a thread's log as far as the holder has read and written it,
// with what follows from it.
type threadLog struct {
	events []sessions.Event // in order
	size   int64            // of them in memory, about, in bytes
	read   int64            // all up to here has been read
	own    map[int64]bool   // written by this holder beyond read

	unread []sessions.Event // messages that no turn has taken up
	gone   []sessions.Event // those of them that were taken back
	stop   int64            // the last !stop
	turn   *openTurn        // without an end, if there is one
	turns  int64            // how many there have been
	cells  int64
	files  map[string]*sessions.File // by path, the latest that was sent or given out
	forget bool                      // somebody wants all of it deleted
	// saved has the files that were looked at between turns and have been
	// neither sent nor given out since; copied is the size of all that were
	// copied then, ever, in bytes.
	saved  map[string]*sessions.File
	untold []string // those of them that are over the limits and not told
	copied int64
	blobs  map[string]bool // all that the log has named as a file
	// checkpoint is what the sandbox could be made of on another machine, nil for
	// nothing; shipped are the last blobs of such, of use or not.
	checkpoint *sessions.Checkpoint
	shipped    []string
	filed      map[string]time.Time // when a path's latest was recorded
}

// openTurn is a turn that has begun and not ended.
type openTurn struct {
	id       int64
	seq      int64 // of its start
	began    time.Time
	messages []sessions.Event
	tokens   sessions.Tokens
	// resumes is how often it was taken up since it last got on. An orderly
	// restart takes it up as well, so it isn't how often that was in all.
	resumes int
	cells   map[string]*cellLog // by call
}

// cellLog is what the log says of a cell.
type cellLog struct {
	started  *sessions.CellStarted
	outputs  []*sessions.CellOutput
	files    []*sessions.File
	finished *sessions.CellFinished
}

func newThreadLog() *threadLog {
	return &threadLog{own: map[int64]bool{}, files: map[string]*sessions.File{},
		saved: map[string]*sessions.File{}, blobs: map[string]bool{}, filed: map[string]time.Time{}}
}

// wrote takes events that the holder has just appended. Messages may have come
// before them that it has not read.
func (l *threadLog) wrote(events []sessions.Event) {
	for _, ev := range events {
		l.own[ev.Seq] = true
		l.take(ev)
	}
}

// saw takes events that were read, in order from where reading had come to.
func (l *threadLog) saw(events []sessions.Event) {
	for _, ev := range events {
		if !l.own[ev.Seq] {
			l.take(ev)
		}
		delete(l.own, ev.Seq)
		l.read = ev.Seq
	}
	slices.SortFunc(l.events, func(a, b sessions.Event) int { return int(a.Seq - b.Seq) })
}

func (l *threadLog) take(ev sessions.Event) {
	l.events = append(l.events, ev)
	l.size += sizeOf(ev.Body)
	if l.turn != nil && ev.Turn == l.turn.id && getsOn(ev.Body) {
		l.turn.resumes = 0
	}
	switch b := ev.Body.(type) {
	case *sessions.Message:
		switch {
		case b.Edits != "":
			l.edit(ev.Seq, b)
		case isStop(b.Text):
			l.stop = max(l.stop, ev.Seq)
		default:
			l.unread = append(l.unread, ev)
		}
	case *sessions.TurnStarted:
		if ev.Turn <= l.turns { // an append that was made twice: it has begun
			return
		}
		l.turns = ev.Turn
		l.turn = &openTurn{id: ev.Turn, seq: ev.Seq, began: ev.At, cells: map[string]*cellLog{}}
		takeUp := func(m sessions.Event) bool {
			if slices.Contains(b.Messages, m.Seq) {
				l.turn.messages = append(l.turn.messages, m)
				return true
			}
			return false
		}
		l.gone = slices.DeleteFunc(l.gone, takeUp) // its author was a moment too late
		l.unread = slices.DeleteFunc(l.unread, takeUp)
	case *sessions.TurnFinished:
		l.turn = nil
	case *sessions.Reply:
		if l.turn != nil {
			l.turn.tokens = l.turn.tokens.Add(b.Tokens)
		}
	case *sessions.Checkpoint:
		l.checkpoint = b
		l.shipped = append(l.shipped[max(0, len(l.shipped)-maxSuperseded):len(l.shipped):len(l.shipped)], b.Blob)
	case *sessions.CellStarted:
		l.checkpoint = nil
		l.cells = max(l.cells, b.Cell)
		if l.turn != nil {
			l.turn.cells[b.Call] = &cellLog{started: b}
		}
	case *sessions.CellOutput:
		if c := l.turn.cell(b.Cell); c != nil {
			c.outputs = append(c.outputs, b)
		}
	case *sessions.CellFinished:
		if c := l.turn.cell(b.Cell); c != nil {
			c.finished = b
		}
	case *sessions.File:
		l.takeFile(ev.At, b)
		if c := l.turn.cell(b.Cell); c != nil {
			c.files = append(c.files, b)
		}
	case *sessions.Notice:
		l.forget = l.forget || b.Code == noticeForgotten
		switch {
		case b.Code == noticeStateLost:
			l.checkpoint = nil
		case b.Code == noticeNotKept:
			l.untold = nil
		case l.turn != nil && b.Code == noticeResumed:
			l.turn.resumes++
		}
	}
}

// getsOn says whether an event shows that a turn got on. What is done anew each
// time that a turn is taken up doesn't.
func getsOn(body sessions.Body) bool {
	switch b := body.(type) {
	case *sessions.Notice, *sessions.Post, *sessions.Checkpoint:
		return false
	case *sessions.File:
		return !b.Saved
	}
	return true
}

// edit changes a message that no turn has taken up; what was worked on is only
// asked again by a press of a button. A holder that has begun a turn may learn
// only then of an edit that stands before its start in the log: it counts.
func (l *threadLog) edit(seq int64, edit *sessions.Message) {
	change := func(messages []sessions.Event) bool {
		for i, ev := range messages {
			if m := *ev.Body.(*sessions.Message); m.Key == edit.Edits && !edit.Deleted {
				m.Text = edit.Text
				messages[i].Body = &m
				return true
			}
		}
		return false
	}
	if change(l.unread) || l.turn != nil && seq < l.turn.seq && change(l.turn.messages) || !edit.Deleted {
		return
	}
	l.unread = slices.DeleteFunc(l.unread, func(ev sessions.Event) bool {
		same := ev.Body.(*sessions.Message).Key == edit.Edits
		if same {
			l.gone = append(l.gone, ev)
		}
		return same
	})
}

// last is the sequence number of the latest event known.
func (l *threadLog) last() int64 {
	if n := len(l.events); n > 0 {
		return max(l.read, l.events[n-1].Seq)
	}
	return l.read
}

// lastMessage is the sequence number of the last message that the turn took up;
// the turn's own where there is none.
func (t *openTurn) lastMessage() int64 {
	if n := len(t.messages); n > 0 {
		return t.messages[n-1].Seq
	}
	return t.seq
}

// cell finds a cell of the turn by its number.
func (t *openTurn) cell(number int64) *cellLog {
	if t == nil {
		return nil
	}
	for _, c := range t.cells {
		if c.started.Cell == number {
			return c
		}
	}
	return nil
}

// stopped says whether somebody asked to stop after the turn's last message.
func (l *threadLog) stopped() bool {
	return l.turn != nil && l.stop > l.turn.lastMessage()
}

// next are the messages of the next turn: one that is a command or a cell, or
// all that come before the next such one.
func (l *threadLog) next() []sessions.Event {
	for i, ev := range l.unread {
		if parse(ev.Body.(*sessions.Message).Text).isAsk() {
			continue
		}
		return l.unread[:max(i, 1)]
	}
	return l.unread
}
