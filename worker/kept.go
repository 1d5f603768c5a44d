package worker

import (
	"container/list"
	"context"
	"sync"

	"threadbook/sessions"
)

// maxKeptEvents bounds the events that a worker keeps in memory of threads that it
// does not hold: some 50 MB of usual ones.
const maxKeptEvents = 50_000

// kept are the logs of threads that this worker has let go of, so that the next
// hold reads only what is new. A log only grows, so what was read of it stays
// true, unless the thread was forgotten and begun anew meanwhile.
type kept struct {
	mu     sync.Mutex
	logs   map[sessions.ThreadID]*list.Element // of *keptLog
	order  *list.List                          // the latest used first
	events int
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
	k.logs[thread] = k.order.PushFront(&keptLog{thread, log})
	k.events += len(log.events)
	for k.events > maxKeptEvents {
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
	k.events -= len(log.log.events)
	return log.log
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
