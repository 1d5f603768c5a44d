package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"threadbook/bots"
	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/worker/agent"
)

// The causes for which contexts end.
var (
	errStopped     = errors.New("stopped by a person")
	errTurnTimeout = errors.New("the turn's time is up")
	errPaused      = errors.New("the worker is shutting down")
	errLeaseLost   = errors.New("the lease could not be renewed")
	errUnshown     = errors.New("the platform does not take what there is to show; it is tried again")
)

// showPatience is how long a holder waits for a platform that takes no posts,
// stopPatience how long at a shutdown: a last edit has its turn every two seconds.
const (
	showPatience = time.Minute
	stopPatience = 3 * time.Second
)

// readPage is how many events are read at once.
const readPage = 1000

// holder works on one thread while it has the lease.
type holder struct {
	*Worker
	thread sessions.ThreadID
	lease  sessions.Lease
	log    *threadLog
	slog   *slog.Logger
	show   *bots.Show    // nil where the thread's platform needs none
	news   chan struct{} // somebody wrote something

	session sandbox.Session // once opened
	there   map[string]bool // paths that the workspace has had since then
	unkept  bool            // whether the workspace may differ from what the log has of it

	mu   sync.Mutex
	stop func(seq int64) // ends the running turn, if a "!stop" of that seq is for it
	last int64           // the latest "!stop" heard
}

// hold takes the thread's lease and works until nothing is unread. A thread
// that another holds is no error.
func (w *Worker) hold(ctx context.Context, thread sessions.ThreadID) (err error) {
	if elsewhere, err := w.sendHome(ctx, thread); elsewhere || err != nil {
		return err
	}
	began := time.Now()
	lease, err := w.Store.Lease(ctx, thread, w.Name)
	if sessions.CodeOf(err) == sessions.Busy {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := &holder{Worker: w, thread: thread, lease: lease, log: newThreadLog(), slog: w.Log.With("thread", thread), news: make(chan struct{}, 1)}
	h.show = w.Show.Open(thread, lease.Append)
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { h.renew(ctx, began, cancel) })
	parts.Go(func() { h.show.Run(ctx) })

	released := false
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		h.show.Stop() // before the lease goes: a post under way is seen to its end
		cancel(nil)
		if released {
			if !h.log.forget {
				h.kept.put(thread, h.log)
			}
			return
		}
		cleanup, done := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer done()
		if e := lease.Drop(cleanup); e != nil && sessions.CodeOf(e) != sessions.LeaseLost {
			h.slog.WarnContext(ctx, "giving back the lease failed; it will run out", "err", e)
		}
	}()
	if err = h.readLog(ctx); err == nil {
		h.show.Saw(slices.Clone(h.log.events))
		after := h.log.read
		parts.Go(func() { h.follow(ctx, after) })
		released, err = h.drain(ctx)
	}
	if errors.Is(err, errPaused) || errors.Is(err, errUnshown) || errors.Is(context.Cause(ctx), errLeaseLost) || sessions.CodeOf(err) == sessions.LeaseLost {
		h.slog.InfoContext(ctx, "let go of a thread", "why", err)
		return nil
	}
	return err
}

// drain runs turns until nothing is unread and the lease is released.
func (h *holder) drain(ctx context.Context) (released bool, err error) {
	for {
		select {
		case <-h.news: // is read now
		default:
		}
		if err := h.readNew(ctx); err != nil {
			return false, err
		}
		if h.log.turn == nil && len(h.log.unread) == 0 {
			if err := h.keep(ctx); err != nil {
				return false, err
			}
			if released, err := h.letGo(ctx); released || err != nil {
				return released, err
			}
			continue
		}
		if err := h.pauseTurns(); err != nil {
			return false, err
		}
		leave, err := h.enter(ctx)
		if err != nil {
			return false, err
		}
		err = h.takeTurn(ctx)
		leave()
		if err != nil {
			return false, err
		}
	}
}

// letGo releases the lease once all is shown, unless there is something new.
// Where the platform does not take it for long, the thread is left to the
// sweep, so that others get their turn meanwhile.
func (h *holder) letGo(ctx context.Context) (released bool, err error) {
	late := time.NewTimer(showPatience)
	defer late.Stop()
	settled, stopping := h.show.Settled(h.log.last()), h.stopping
	for shown := false; !shown; {
		select {
		case <-settled:
			shown = true
		case <-h.news:
			return false, nil
		case <-stopping:
			stopping = nil
			late.Reset(stopPatience)
		case <-late.C:
			return false, errUnshown
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	if h.log.forget {
		return h.forget(ctx)
	}
	return h.lease.Release(ctx, h.log.read)
}

// takeTurn runs the turn that is open, or that of the next messages, with
// those that have come while it waited.
func (h *holder) takeTurn(ctx context.Context) error {
	if err := h.readNew(ctx); err != nil {
		return err
	}
	var err error
	switch {
	case h.log.turn != nil:
		err = h.resume(ctx)
	case len(h.log.unread) > 0:
		err = h.begin(ctx)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	h.unkept = true
	if err := h.tellOver(ctx); err != nil {
		return err
	}
	return h.run(ctx)
}

// readNew reads what was appended since the last time.
func (h *holder) readNew(ctx context.Context) error {
	for {
		events, err := h.Store.Read(ctx, h.thread, h.log.read, readPage, 0)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			return nil
		}
		h.log.saw(events)
	}
}

// pause is asked between steps.
func (h *holder) pause() error {
	select {
	case <-h.stopping:
		return errPaused
	default:
		return nil
	}
}

// pauseTurns is asked between turns.
func (h *holder) pauseTurns() error {
	if isClosed(h.draining) {
		return errPaused
	}
	return h.pause()
}

// record appends to the log, as part of the turn if there is one.
func (h *holder) record(ctx context.Context, bodies ...sessions.Body) error {
	var turn int64
	if h.log.turn != nil {
		turn = h.log.turn.id
	}
	return h.recordAs(ctx, turn, bodies...)
}

func (h *holder) recordAs(ctx context.Context, turn int64, bodies ...sessions.Body) error {
	events, err := h.lease.Append(ctx, turn, bodies...)
	if err != nil {
		return logError{err}
	}
	h.log.wrote(events)
	return nil
}

// logError says that the log took no event: the holder can't go on, and the
// turn is not at fault. Whoever is next goes on from what the log has.
type logError struct{ error }

func (e logError) Unwrap() error { return e.error }

// begin opens a turn for the next messages.
func (h *holder) begin(ctx context.Context) error {
	var seqs []int64
	for _, ev := range h.log.next() {
		seqs = append(seqs, ev.Seq)
		since(h.Metrics.phases.WithLabelValues(phaseQueue), ev.At)
	}
	if err := h.recordAs(ctx, h.log.turns+1, &sessions.TurnStarted{Messages: seqs}); err != nil {
		return err
	}
	return h.readNew(ctx) // an edit may stand before the turn's start
}

// resume takes up a turn that another holder left.
func (h *holder) resume(ctx context.Context) error {
	h.Metrics.recovered.Inc()
	h.slog.WarnContext(ctx, "taking up a turn that was left", "turn", h.log.turn.id, "time", h.log.turn.resumes+1)
	return h.record(ctx, &sessions.Notice{Code: noticeResumed, Text: "The work was cut off and goes on here."})
}

// run takes the open turn to its end and records that. Its error means that
// the holder can't go on.
func (h *holder) run(ctx context.Context) error {
	t := h.log.turn
	turnCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := time.AfterFunc(time.Until(t.began.Add(h.TurnTimeout)), func() { cancel(errTurnTimeout) })
	defer deadline.Stop()
	if h.log.stopped() {
		cancel(errStopped)
	}
	h.onStop(func(seq int64) {
		if seq > t.lastMessage() {
			cancel(errStopped)
		}
	})

	status, err := h.work(ctx, turnCtx)
	cause := context.Cause(turnCtx)
	h.onStop(nil)
	switch {
	case errors.Is(err, errPaused) || ctx.Err() != nil || errors.As(err, new(logError)):
		return errors.Join(err, context.Cause(ctx))
	case err == nil:
	case errors.Is(cause, errStopped):
		status = sessions.TurnStopped
	case errors.Is(cause, errTurnTimeout):
		status = sessions.TurnTimeout
		err = h.record(ctx, &sessions.Notice{Code: "turn_timeout", Text: fmt.Sprintf("This took longer than %v, the limit, and was stopped. What was done so far is kept.", h.TurnTimeout)})
		if err != nil {
			return err
		}
	default:
		h.slog.ErrorContext(ctx, "a turn failed", "turn", t.id, "err", err)
		status = sessions.TurnFailed
		if err := h.record(ctx, &sessions.Notice{Code: "failed", Text: sessions.TextOf(err)}); err != nil {
			return err
		}
	}
	since(h.Metrics.turns.WithLabelValues(h.thread.Platform(), string(status)), t.began)
	return h.record(ctx, &sessions.TurnFinished{Status: status, Seconds: time.Since(t.began).Seconds(), Tokens: t.tokens})
}

// follow reads the log behind a sequence number until ctx ends: for what shows
// the thread, and for a "!stop", which counts at once.
func (h *holder) follow(ctx context.Context, after int64) {
	const wait = 10 * time.Second
	for ctx.Err() == nil {
		events, err := h.Store.Read(ctx, h.thread, after, readPage, wait)
		if err != nil {
			select { // Redis is away; whoever appends sees that too
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		h.show.Saw(events)
		for _, ev := range events {
			after = ev.Seq
			if m, ok := ev.Body.(*sessions.Message); ok {
				h.heard(ev.Seq, m)
			}
		}
	}
}

// heard takes notice of a message while it lies unread in the log.
func (h *holder) heard(seq int64, m *sessions.Message) {
	h.tell()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !isStop(m.Text) {
		return
	}
	if h.last = seq; h.stop != nil {
		h.stop(seq)
	}
}

// tell says that there is something to read.
func (h *holder) tell() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// onStop sets what a "!stop" does, and does it for one heard a moment before.
func (h *holder) onStop(stop func(seq int64)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stop = stop; stop != nil {
		stop(h.last)
	}
}

// work does what the turn's messages ask. ctx is the holder's, turnCtx the
// turn's.
func (h *holder) work(ctx, turnCtx context.Context) (sessions.TurnStatus, error) {
	t := h.log.turn
	if t.resumes > maxResumes {
		return "", &sessions.Error{Code: sessions.Internal, Text: "The work was cut off again and again, so it was given up. Please try it in smaller steps."}
	}
	if len(t.messages) == 0 { // no log should have such a turn, and none should hold its thread up
		return "", &sessions.Error{Code: sessions.Internal, Text: "The message that was to be worked on here can't be found. Please write it again.",
			Err: fmt.Errorf("turn %d names no message that is unread", t.id)}
	}
	if err := context.Cause(turnCtx); err != nil {
		return "", err
	}
	if err := h.answerQuestion(ctx); err != nil {
		return "", err
	}
	if err := h.placeAttachments(ctx, turnCtx); err != nil {
		return "", err
	}
	req := parse(t.messages[0].Body.(*sessions.Message).Text)
	switch {
	case len(req.cells) > 0:
		_, err := h.runCells(ctx, turnCtx, "direct/", req.cells)
		return sessions.TurnOK, err
	case req.command != "":
		return sessions.TurnOK, h.command(ctx, turnCtx, req)
	case h.Model == nil:
		return sessions.TurnOK, h.record(ctx, &sessions.Notice{Code: "no_model", Text: h.NoModel})
	}
	loop := &agent.Loop{
		Model: modelOf{h.Model, turnCtx, h.Metrics}, System: systemPrompt(), Tools: h.notebook(ctx, turnCtx).All(), Steps: h.TurnSteps,
		Record:  h.record,
		Partial: h.partial(ctx),
		Pause: func() error {
			if err := context.Cause(turnCtx); err != nil {
				return err
			}
			return h.pause()
		},
	}
	status, err := loop.Run(ctx, h.log.events, t.id)
	if status == sessions.TurnOverBudget {
		err = h.record(ctx, &sessions.Notice{Code: "over_budget", Text: fmt.Sprintf("The model used all of its %d steps for one turn. Say “go on” for more.", h.TurnSteps)})
	}
	return status, err
}

// answerQuestion notes in the log that the turn's message answers what the
// model asked in the turn before.
func (h *holder) answerQuestion(ctx context.Context) error {
	t := h.log.turn
	var asked *sessions.Question
	for _, ev := range h.log.events {
		if q, ok := ev.Body.(*sessions.Question); ok && ev.Turn > 0 {
			if asked = q; q.Answer != "" {
				asked = nil
			}
		}
	}
	m := t.messages[0].Body.(*sessions.Message)
	if asked == nil || !parse(m.Text).isAsk() || m.Text == "" {
		return nil
	}
	return h.record(ctx, &sessions.Question{ID: asked.ID, Answer: m.Text, By: &m.User})
}

// modelOf is the model under the turn's context: a person's stop ends the call.
type modelOf struct {
	agent.Model
	turn    context.Context
	metrics *Metrics
}

func (m modelOf) Complete(_ context.Context, req agent.Request, partial func(agent.Partial)) (sessions.Reply, error) {
	defer since(m.metrics.phases.WithLabelValues(phaseModel), time.Now())
	reply, err := m.Model.Complete(m.turn, req, partial)
	m.metrics.reply(reply.Tokens)
	return reply, err
}
