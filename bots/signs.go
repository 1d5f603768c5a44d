package bots

import (
	"context"
	"time"

	"threadbook/sessions"
)

// signTimeout bounds one sign.
const signTimeout = 10 * time.Second

// signAge is how old a message may be to get a sign: those before have theirs,
// or an answer.
const signAge = 2 * time.Minute

// maxSigns bounds the messages whose sign waits; a flood of more gets its
// answers without.
const maxSigns = 200

// signs gives signs of being at work, beside the posts and never in their way.
// They are not in the ledger: one too many or too few does no harm.
type signs struct {
	s      *Show
	signer Signer
	todo   chan received
	work   chan working
	last   working
	done   chan struct{}
}

// received is a message to mark.
type received struct {
	key  string
	busy bool
}

// working is what the thread's sign should say.
type working struct{ words, title string }

func newSigns(s *Show) *signs {
	signer, _ := s.poster.(Signer)
	return &signs{s: s, signer: signer, todo: make(chan received, maxSigns), work: make(chan working, 1),
		done: make(chan struct{})}
}

// look marks what is new in the view. It belongs to the caller of Run.
func (g *signs) look(v *view) {
	marks := v.marks
	v.marks = nil
	if g.signer == nil {
		return
	}
	for _, m := range marks {
		if m.body.Key == "" || time.Since(m.at) > signAge {
			continue
		}
		select {
		case g.todo <- received{m.body.Key, m.busy}:
		default:
		}
	}
	now := working{title: v.title}
	if t := v.open; t != nil {
		now.words = t.status(0)
	}
	if now == g.last || now.words == "" && g.last.words == "" {
		return
	}
	g.last = now
	select { // the newest takes the place of one not given yet
	case <-g.work:
	default:
	}
	g.work <- now
}

func (g *signs) close() { close(g.done) }

// run gives the signs until ctx ends, or close.
func (g *signs) run(ctx context.Context) {
	if g.signer == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(WorkingEvery)
	defer tick.Stop()
	var now working
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.done:
			return
		case r := <-g.todo:
			g.try(ctx, func(ctx context.Context) error { return g.signer.Received(ctx, g.s.thread, r.key, r.busy) })
			continue
		case now = <-g.work:
		case <-tick.C:
			if now.words == "" {
				continue
			}
		}
		g.try(ctx, func(ctx context.Context) error { return g.signer.Working(ctx, g.s.thread, now.words, now.title) })
	}
}

func (g *signs) try(ctx context.Context, sign func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	defer func() { // a sign is not worth a process
		if p := recover(); p != nil {
			g.s.log.ErrorContext(ctx, "giving a sign failed", "panic", p)
		}
	}()
	if err := sign(ctx); err != nil && sessions.CodeOf(err) != "" && ctx.Err() == nil {
		g.s.log.DebugContext(ctx, "a sign was not given", "err", err)
	}
}
