package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"threadbook/sessions"
)

// paced writes for as long as the reader goes on taking it, whatever limit
// the server has for short answers; who takes nothing for writeLimit is cut off.
type paced struct {
	http.ResponseWriter
	rc *http.ResponseController
}

func (p paced) Write(b []byte) (int, error) {
	// Where a connection knows no deadlines, as in a test, there are none.
	_ = p.rc.SetWriteDeadline(time.Now().Add(writeLimit))
	return p.ResponseWriter.Write(b)
}

// stream is one reader's connection.
type stream struct {
	w  io.Writer
	rc *http.ResponseController
}

func (st stream) send(format string, args ...any) error {
	_, err := fmt.Fprintf(st.w, format, args...)
	return err
}

// events streams a thread: first what the reader doesn't have, then "ready",
// then what comes. It ends with the request, with Close, and when the store
// fails, upon which the page comes back and asks for the rest.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	thread, ok := threadOf(r)
	if !ok {
		fail(w, r, http.StatusNotFound, noThread)
		return
	}
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
	default:
		w.Header().Set("Retry-After", "10")
		fail(w, r, http.StatusServiceUnavailable, "Too many pages are open at once; this one connects as soon as another is closed.")
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()

	drafts, err := s.cfg.Store.Drafts(ctx, thread)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it back
	rc := http.NewResponseController(w)
	st := stream{paced{w, rc}, rc}
	if err := st.send("retry: %d\n\n", retryAfter.Milliseconds()); err != nil || st.rc.Flush() != nil {
		return
	}
	batches := make(chan []sessions.Event)
	ended := make(chan error, 1)
	go func() { ended <- s.read(ctx, thread, resumeAt(r), batches) }()
	if err := s.serve(ctx, st, batches, drafts, ended); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "a reader's stream ended", "thread", thread, "err", err)
	}
	cancel()
	for range batches { // until the goroutine has closed it
	}
}

// resumeAt is the last event that the reader has: what the browser says when
// it comes back by itself, else what the page says.
func resumeAt(r *http.Request) int64 {
	for _, s := range []string{r.Header.Get("Last-Event-ID"), r.FormValue("after")} {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

// read passes on the log from after, in order, with one nil batch where it
// has caught up for the first time. It closes out when it ends.
func (s *Server) read(ctx context.Context, thread sessions.ThreadID, after int64, out chan<- []sessions.Event) error {
	defer close(out)
	var wait time.Duration
	for {
		evs, err := s.cfg.Store.Read(ctx, thread, after, readBatch, wait)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case len(evs) > 0:
			after = evs[len(evs)-1].Seq
		case wait > 0:
			continue
		default:
			evs, wait = nil, heartbeat
		}
		select {
		case out <- evs:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve writes what comes until something ends.
func (s *Server) serve(ctx context.Context, st stream, batches <-chan []sessions.Event, all <-chan sessions.Draft, ended <-chan error) error {
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	// A draft is the whole text so far, and comes with each of the model's
	// words: after one, the next is taken only when an eye would see it.
	drafts := all
	var rested <-chan time.Time
	var written sessions.Event // the last reply that has been sent
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case evs, ok := <-batches:
			switch {
			case !ok:
				return <-ended
			case evs == nil:
				err = st.send("event: ready\ndata: {}\n\n")
			default:
				for _, ev := range evs {
					if ev.Body.Kind() == sessions.KindReply {
						written = ev
					}
				}
				err = s.sendEvents(ctx, st, evs)
			}
		case d, ok := <-drafts:
			if !ok {
				return errors.New("the drafts have ended")
			}
			if late(d, written) {
				continue
			}
			drafts, rested = nil, time.After(draftEvery)
			err = s.sendDraft(st, d)
		case <-rested:
			drafts, rested = all, nil
			continue
		case <-beat.C:
			err = st.send(": alive\n\n")
		}
		if err == nil {
			err = st.rc.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// late says that a draft is of the reply that has been sent already: drafts
// come by another way than the log, and may be overtaken.
func late(d sessions.Draft, written sessions.Event) bool {
	reply, ok := written.Body.(*sessions.Reply)
	if !ok || d.Turn != written.Turn || d.Text == "" && d.Code == "" || !strings.HasPrefix(reply.Text, d.Text) {
		return false
	}
	return d.Code == "" || slices.ContainsFunc(reply.Calls, func(c sessions.Call) bool {
		var args struct {
			Code string `json:"code"`
		}
		return json.Unmarshal([]byte(c.Arguments), &args) == nil && strings.HasPrefix(args.Code, d.Code)
	})
}

func (s *Server) sendEvents(ctx context.Context, st stream, evs []sessions.Event) error {
	for _, ev := range evs {
		if f, ok := ev.Body.(*sessions.File); ok && f.Saved {
			continue // not given to anybody
		}
		data, err := s.view(ctx, ev)
		if err != nil {
			return err
		}
		if err := st.send("id: %d\ndata: %s\n\n", ev.Seq, data); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) sendDraft(st stream, d sessions.Draft) error {
	data, err := s.viewDraft(d)
	if err != nil {
		return err
	}
	return st.send("event: draft\ndata: %s\n\n", data)
}
