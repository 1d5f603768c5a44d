package sessionstest

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Line is a way to a Redis, and can be injured as networks are. Its methods may be
// called concurrently.
type Line struct {
	URL string // of this end

	mu     sync.Mutex
	conns  map[net.Conn]bool
	down   bool
	stalls bool
	losses []*loss
}

// loss is an answer that is to be lost.
type loss struct {
	words []string
	done  chan struct{}
}

// NewLine is a new way to the Redis at url, which must be a unix socket's. It is
// there until the test ends.
func NewLine(t testing.TB, url string) *Line {
	t.Helper()
	to, ok := strings.CutPrefix(url, "unix://")
	if !ok {
		t.Fatalf("the Redis at %s has no socket", url)
	}
	path := filepath.Join(t.TempDir(), "s")
	l := &Line{URL: "unix://" + path, conns: map[net.Conn]bool{}}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close(); l.Cut() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", to)
			if err != nil {
				near.Close()
				continue
			}
			l.join(near, far)
		}
	}()
	return l
}

// Cut ends all connections, and lets no new one be, until Mend.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for conn := range l.conns {
		conn.Close()
	}
}

// Stall lets nothing through any more, without anybody being told, until Mend.
func (l *Line) Stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stalls = true
}

// Mend undoes Cut and Stall. What was said in between stays lost.
func (l *Line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.stalls = false, false
}

// Lose loses the answer to the next command that has all the words: Redis has done
// what it was told, and the connection ends before the answer comes. Then lost is
// closed. That a script must be sent first is no answer.
func (l *Line) Lose(words ...string) (lost <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := &loss{words, make(chan struct{})}
	l.losses = append(l.losses, next)
	return next.done
}

// join passes on what either end says.
func (l *Line) join(near, far net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		near.Close()
		far.Close()
		return
	}
	l.conns[near], l.conns[far] = true, true
	var awaited *loss // the answer that is to be lost
	go l.pass(near, far, func(command []byte) bool {
		if awaited == nil {
			awaited = l.find(command)
		}
		return true
	})
	go l.pass(far, near, func(answer []byte) bool {
		switch {
		case awaited == nil:
			return true
		case bytes.HasPrefix(answer, []byte("-NOSCRIPT")):
			l.losses = append(l.losses, awaited)
			awaited = nil
			return true
		}
		close(awaited.done)
		return false
	})
}

// pass passes on what from says, as long as it may. may is asked under the lock.
func (l *Line) pass(from, to net.Conn, may func([]byte) bool) {
	defer func() {
		from.Close()
		to.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, from)
	}()
	buf := make([]byte, 256<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		stalls, ok := l.stalls, may(buf[:n])
		l.mu.Unlock()
		if !ok {
			return
		}
		if stalls {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// find takes the first loss that the command is meant by. It needs the lock.
func (l *Line) find(command []byte) *loss {
next:
	for i, next := range l.losses {
		for _, word := range next.words {
			if !bytes.Contains(command, []byte(word)) {
				continue next
			}
		}
		l.losses = append(l.losses[:i:i], l.losses[i+1:]...)
		return next
	}
	return nil
}
