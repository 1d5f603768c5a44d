package web

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// Limits on what is sent.
const (
	uploadPause = time.Minute // between two pieces of an upload
	maxBody     = int64(bots.MaxFiles)*bots.MaxFileSize + 1<<20
)

// stopCommand ends the running turn, here as on every platform.
const stopCommand = "!stop"

// visitor is who writes from the page. There is one login for all, so there
// is one name.
var visitor = sessions.User{ID: Platform, Name: "Web user"}

func (s *Server) threads(w http.ResponseWriter, r *http.Request) {
	list, err := s.cfg.Store.Threads(r.Context(), maxListed, Platform)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	if list == nil {
		list = []sessions.Thread{}
	}
	answer(w, http.StatusOK, map[string]any{"threads": list})
}

// newID makes a thread's id. A thread is there from its first message on, so
// there is nothing to keep.
func newID() sessions.ThreadID {
	return sessions.NewThreadID(Platform, strings.ToLower(rand.Text()[:16]))
}

func (s *Server) newThread(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusCreated, map[string]any{"id": newID()})
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	thread, ok := threadOf(r)
	if !ok {
		fail(w, r, http.StatusNotFound, noThread)
		return
	}
	s.submit(r.Context(), w, r, bots.Message{Thread: thread, User: visitor, Text: stopCommand, Key: Platform + ":" + rand.Text()})
}

// message takes a message as a multipart form; see [readMessage].
func (s *Server) message(w http.ResponseWriter, r *http.Request) {
	thread, ok := threadOf(r)
	if !ok {
		fail(w, r, http.StatusNotFound, noThread)
		return
	}
	if r.ContentLength > maxBody {
		fail(w, r, http.StatusRequestEntityTooLarge, "That is more than one message can carry.")
		return
	}
	r.Body = http.MaxBytesReader(w, &patient{r.Body, http.NewResponseController(w)}, maxBody)
	parts, err := r.MultipartReader()
	if err != nil {
		s.failed(w, r, refusal("The message has to be a multipart form."))
		return
	}
	// An upload that breaks off takes its message with it. The intake would
	// note the file as one that can't be had and go on, and the page, which
	// sends the whole again under the same key, would be told that it is there.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	m, err := readMessage(parts, cancel)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	m.Thread = thread
	s.submit(ctx, w, r, m)
}

func (s *Server) submit(ctx context.Context, w http.ResponseWriter, r *http.Request, m bots.Message) {
	ev, err := s.cfg.Submit(ctx, m)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errBroken):
		fail(w, r, http.StatusBadRequest, sessions.TextOf(errBroken))
	case err != nil:
		s.failed(w, r, err)
	default:
		answer(w, http.StatusCreated, map[string]int64{"seq": ev.Seq})
	}
}

// patient gives an upload time for as long as it goes on. Where a connection
// knows no deadlines, as in a test, there are none.
type patient struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (p *patient) Read(b []byte) (int, error) {
	until := time.Now().Add(uploadPause)
	_ = p.rc.SetReadDeadline(until)
	_ = p.rc.SetWriteDeadline(until.Add(uploadPause))
	n, err := p.ReadCloser.Read(b)
	if err != nil {
		// The server goes on reading to see whether the sender is still
		// there, and takes a deadline for its leaving.
		_ = p.rc.SetReadDeadline(time.Time{})
		_ = p.rc.SetWriteDeadline(time.Time{})
	}
	return n, err
}
