package worker

import (
	"fmt"
	"strings"
	"testing"

	"threadbook/sessions"
)

// What is kept is bounded by what it takes, and the latest used stays.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	const each = maxKeptLogs / 10
	k := newKept()
	logOf := func(bytes int) *threadLog {
		l := newThreadLog()
		l.saw([]sessions.Event{{Seq: 1, Body: &sessions.Message{Text: strings.Repeat("x", bytes)}}})
		return l
	}
	name := func(i int) sessions.ThreadID { return sessions.ThreadID(fmt.Sprint("test:", i)) }
	for i := range 20 {
		k.put(name(i), logOf(each))
	}
	for i, want := range map[int]bool{0: false, 10: false, 12: true, 19: true} {
		if got := k.take(name(i)) != nil; got != want {
			t.Errorf("thread %d is kept: %v", i, got)
		}
	}
	k.put(name(15), logOf(each)) // once more
	k.put(name(99), logOf(2*maxKeptLogs))
	if k.size != 0 || len(k.logs) != 0 || k.order.Len() != 0 {
		t.Errorf("with one too large for all: %d bytes, %d logs, %d in order", k.size, len(k.logs), k.order.Len())
	}
}
