package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/pkg/stdcopy"

	"threadbook/sandbox"
)

// protocolVersion is that of PROTOCOL.md.
const protocolVersion = 1

var (
	errReplaced = errors.New("another process has taken over the sandbox")
	errLetGo    = errors.New("the sandbox was let go of")
)

// A conn is a hold on one container's agent. Requests go out from any
// goroutine; one goroutine reads what comes, never waiting for whoever it is
// for. A conn ends once, and its end says why.
type conn struct {
	container string // id
	log       *slog.Logger
	client    string      // our word in the protocol
	how       sandbox.How // set by whoever opens it for a thread
	raw       types.HijackedResponse
	stderr    *complaints
	lastCell  atomic.Int64  // that ran in the sandbox, 0 for none
	running   chan struct{} // holds an element while a cell is followed

	writing sync.Mutex // held while a line is written

	mu       sync.Mutex
	lastID   int64
	calls    map[int64]*call
	follower *follower // of the cell whose events come now
	greeted  bool
	why      error  // why it is being stopped, if it is
	sleeping *sleep // that is being tried, or has been

	ended chan struct{} // closed once nothing is read any more and end is set
	end   end
}

// A call is a request that waits for answers. A file on its way out gets many.
type call struct {
	id      int64
	answers chan message
	follows *follower // takes the events that come after the answer
}

func newConn(container string, raw types.HijackedResponse, log *slog.Logger) *conn {
	return &conn{
		container: container,
		log:       log,
		client:    rand.Text(),
		raw:       raw,
		stderr:    &complaints{log: log},
		running:   make(chan struct{}, 1),
		calls:     map[int64]*call{},
		ended:     make(chan struct{}),
	}
}

// read reads until there is nothing more to read, and returns why.
func (c *conn) read() error {
	defer c.raw.Close()
	_, err := stdcopy.StdCopy(&lineWriter{most: maxLine, take: c.line}, c.stderr, c.raw.Reader)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return c.why
	}
	return err
}

// finish says how the conn ended, which ends every call and cell on it.
func (c *conn) finish(e end) {
	c.end = e
	close(c.ended)
}

// stop makes the conn end, for that reason.
func (c *conn) stop(why error) {
	c.mu.Lock()
	if c.why == nil {
		c.why = why
	}
	c.mu.Unlock()
	c.raw.Close()
}

// alive is whether requests can still be made.
func (c *conn) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// line takes one line from the agent.
func (c *conn) line(line []byte) error {
	m, err := decodeLine(line)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.greeted {
		// Before the answer to our hello comes what was meant for another.
		if err != nil || m.Client != c.client {
			return nil
		}
		c.greeted = true
	}
	switch {
	case err != nil:
		return err
	case m.Re == 0 && m.N > 0 && c.follower != nil:
		return c.follower.push(m)
	case m.Re == 0:
		return nil
	case m.Client != c.client:
		return errReplaced
	}
	waiting := c.calls[m.Re]
	if waiting == nil {
		return nil // given up meanwhile
	}
	if waiting.follows != nil && m.Code == "" {
		// Here, so that every event after the answer goes there, and none before.
		c.follower = waiting.follows
	}
	select {
	case waiting.answers <- m:
		return nil
	default:
		return violation("more answers than were asked for")
	}
}

// open begins a call that holds at most that many answers. The caller closes it.
func (c *conn) open(r request, answers int, follows *follower) (*call, error) {
	w := &call{answers: make(chan message, answers), follows: follows}
	c.mu.Lock()
	c.lastID++
	w.id = c.lastID
	c.calls[w.id] = w
	c.mu.Unlock()
	r.ID = w.id
	if err := c.send(r, nil); err != nil {
		c.close(w)
		return nil, err
	}
	return w, nil
}

func (c *conn) close(w *call) {
	c.mu.Lock()
	delete(c.calls, w.id)
	c.mu.Unlock()
}

// ask makes a request and waits for its one answer.
func (c *conn) ask(ctx context.Context, r request, follows *follower) (message, error) {
	w, err := c.open(r, 1, follows)
	if err != nil {
		return message{}, err
	}
	defer c.close(w)
	return c.answer(ctx, w)
}

// answer waits for the next answer of a call, but not for ever: an agent that
// works is never long about one. A refusal is an error.
func (c *conn) answer(ctx context.Context, w *call) (message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout,
		fmt.Errorf("the sandbox's agent did not answer within %v", answerTimeout))
	defer cancel()
	select {
	case m := <-w.answers:
		return m, refusal(m)
	case <-c.ended:
		return message{}, c.end.err()
	case <-ctx.Done():
		return message{}, context.Cause(ctx)
	}
}

// unfollow stops taking events for f.
func (c *conn) unfollow(f *follower) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.follower == f {
		c.follower = nil
	}
}

// send writes one line.
func (c *conn) send(r request, payload []byte) error {
	r.Client = c.client
	line, err := encodeLine(r, payload)
	if err != nil {
		return err
	}
	return c.write(line)
}

func (c *conn) write(line []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.raw.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		_, err = c.raw.Conn.Write(line)
	}
	if err == nil {
		return nil
	}
	// Half a line may be out, so this is the conn's end; it knows best why.
	c.stop(fmt.Errorf("writing to the sandbox: %w", err))
	<-c.ended
	return c.end.err()
}
