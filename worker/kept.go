package worker

import (
	"container/list"
	"context"
	"sync"

	"threadbook/sessions"
)

const (
	// maxKeptLogs bounds what a worker keeps in memory of threads that it does not
	// hold, in bytes.
	maxKeptLogs = 64 << 20
	// eventSize is about what an event takes beside its texts, in bytes.
	eventSize = 400
)

// kept are the logs of threads that this worker has let go of, so that the next
// hold reads only what is new. A log only grows, so what was read of it stays
// true, unless the thread was forgotten and begun anew meanwhile.
type kept struct {
	mu    sync.Mutex
	logs  map[sessions.ThreadID]*list.Element // of *keptLog
	order *list.List                          // the latest used first
	size  int64                               // of all, in bytes
}

type keptLog struct {
	thread sessions.ThreadID
	log    *threadLog
}

func newKept() *kept {
	return &kept{logs: map[sessions.ThreadID]*list.Element{}, order: list.New()}
}

// put keeps a log, and drops those that were not used for the longest.
func (k *kept) put(thread sessions.ThreadID, log *threadLog) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.logs[thread]; old != nil { // of a later hold that was faster to here
		k.drop(old)
	}
	k.logs[thread] = k.order.PushFront(&keptLog{thread, log})
	k.size += log.size
	for k.size > maxKeptLogs {
		k.drop(k.order.Back())
	}
}

// take returns what is kept of a thread, nil where nothing is. It is the
// caller's from here on.
func (k *kept) take(thread sessions.ThreadID) *threadLog {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.logs[thread]
	if e == nil {
		return nil
	}
	return k.drop(e)
}

func (k *kept) drop(e *list.Element) *threadLog {
	log := k.order.Remove(e).(*keptLog)
	delete(k.logs, log.thread)
	k.size -= log.log.size
	return log.log
}

// sizeOf is about what an event with the body takes in memory, in bytes.
func sizeOf(body sessions.Body) int64 {
	n := eventSize
	switch b := body.(type) {
	case *sessions.Message:
		n += len(b.Text) + len(b.Files)*eventSize
	case *sessions.Reply:
		n += len(b.Text)
		for _, c := range b.Calls {
			n += eventSize/4 + len(c.Arguments)
		}
	case *sessions.ToolResult:
		n += len(b.Text)
	case *sessions.CellStarted:
		n += len(b.Code)
	case *sessions.CellOutput:
		n += len(b.Text)
	case *sessions.CellFinished:
		if b.Error != nil {
			n += len(b.Error.Value) + len(b.Error.Traceback)
		}
	case *sessions.File:
		n += len(b.Profile)
	case *sessions.Question:
		n += len(b.Text) + len(b.Answer)
	case *sessions.Notice:
		n += len(b.Text)
	case *sessions.Unknown:
		n += len(b.JSON)
	}
	return int64(n)
}

// readLog reads the thread's log, as far as it isn't kept.
func (h *holder) readLog(ctx context.Context) error {
	if log := h.kept.take(h.thread); log != nil && log.read > 0 {
		events, err := h.Store.Read(ctx, h.thread, log.read-1, 1, 0)
		if err != nil {
			return err
		}
		if len(events) == 1 && log.has(events[0]) {
			h.log = log
		}
	}
	return h.readNew(ctx)
}

// has says whether the event is the very one that the log has last read.
func (l *threadLog) has(ev sessions.Event) bool {
	for i := len(l.events) - 1; i >= 0; i-- {
		if mine := l.events[i]; mine.Seq == ev.Seq {
			return mine.At.Equal(ev.At)
		}
	}
	return false
}
