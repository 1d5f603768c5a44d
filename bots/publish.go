package bots

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"threadbook/sessions"
)

// publish makes a post that the platform does not have, or that it may have.
func (s *Show) publish(ctx context.Context, t *turnView, post planned, p *part) {
	call, cancel := s.call(ctx, postTimeout)
	defer cancel()
	if p.lookFirst() {
		id, err := s.poster.Find(call, post.Post, p.handle, p.since)
		if err != nil && !postError(err).Permanent {
			s.failed(ctx, post, p, err)
			return
		}
		p.ours, p.unsure = true, false
		if id != "" {
			s.count("found")
			p.shown = nil
			s.sent(ctx, post, p, id, false)
			return
		}
	}
	preparing, done := s.call(ctx, prepareTimeout)
	defer done()
	err := s.keep(preparing, post)
	handle := ""
	if err == nil {
		handle, err = s.poster.Prepare(preparing, post.Post)
	}
	if err != nil {
		s.failed(ctx, post, p, err)
		return
	}
	if p.state != sessions.PostIntended || p.handle != handle {
		if err := s.write(preparing, post.Turn, &sessions.Post{Part: post.Part, Platform: s.thread.Platform(),
			State: sessions.PostIntended, Handle: handle}); err != nil {
			s.failed(ctx, post, p, &PostError{Refused: true, Err: err})
			return
		}
		p.state, p.handle, p.ours = sessions.PostIntended, handle, true
		if p.since.IsZero() {
			p.since = time.Now()
		}
	}
	if s.ending(ctx) {
		return
	}
	posting, stop := s.call(ctx, postTimeout)
	defer stop()
	id, err := s.poster.Post(posting, post.Post, handle)
	if err != nil {
		p.unsure = p.unsure || !postError(err).Refused
		s.failed(ctx, post, p, err)
		return
	}
	s.count("sent")
	if len(t.asked) > 0 && (post.Part == livePart || post.Part == "answer/0" && t.quiet(s.p.HasModel)) {
		s.p.Metrics.first.WithLabelValues(s.thread.Platform()).Observe(time.Since(t.asked[0].at).Seconds())
	}
	p.shown = &post.Post
	s.sent(ctx, post, p, id, post.final)
}

// sent notes that the platform has the post. final says that it has its last
// form; one that was found gets that by an edit.
func (s *Show) sent(ctx context.Context, post planned, p *part, id string, final bool) {
	p.state, p.id, p.final = sessions.PostSent, id, final || !post.edited
	p.worked()
	p.record = &sessions.Post{Part: post.Part, Platform: s.thread.Platform(), MessageID: id, State: sessions.PostSent, Final: p.final}
	s.note(ctx, post, p)
}

// edit brings a live post up to date.
func (s *Show) edit(ctx context.Context, post planned, p *part) {
	call, cancel := s.call(ctx, postTimeout)
	defer cancel()
	p.editedAt = time.Now()
	err := s.poster.Edit(call, post.Post, p.id)
	e := postError(err)
	switch {
	case err == nil:
		s.count("edited")
		p.shown = &post.Post
		p.worked()
	case e.Permanent || e.Gone:
		s.log.WarnContext(ctx, "a post can't be edited", "part", post.Part, "err", err)
		s.count("failed")
		p.shown = &post.Post
	default:
		s.failed(ctx, post, p, err)
		return
	}
	if post.final || e.Gone {
		p.final = true
		p.record = &sessions.Post{Part: post.Part, Platform: s.thread.Platform(), MessageID: p.id, State: sessions.PostSent, Final: true}
		s.note(ctx, post, p)
	}
}

// keep puts the text that a post has as a file into the blob store.
func (s *Show) keep(ctx context.Context, post planned) error {
	if post.long == "" {
		return nil
	}
	_, _, err := s.p.Blobs.Put(ctx, s.thread, strings.NewReader(post.long), int64(len(post.long)))
	return err
}

// write appends to the ledger.
func (s *Show) write(ctx context.Context, turn int64, entry *sessions.Post) error {
	events, err := s.append(ctx, turn, entry)
	for _, ev := range events {
		s.own[ev.Seq] = true
	}
	return err
}

// note writes what is to be noted of the part into the ledger.
func (s *Show) note(ctx context.Context, post planned, p *part) {
	call, cancel := s.call(ctx, postTimeout)
	defer cancel()
	if err := s.write(call, post.Turn, p.record); err != nil {
		s.pause(p, 0)
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "noting a post failed; it will be tried again", "part", post.Part, "err", err)
		}
		return
	}
	p.record = nil
	p.worked()
}

// failed puts off the next try, or gives the post up.
func (s *Show) failed(ctx context.Context, post planned, p *part, err error) {
	if ctx.Err() != nil {
		s.pause(p, 0)
		return
	}
	e := postError(err)
	if p.failing.IsZero() {
		p.failing = time.Now()
		if p.state != sessions.PostSent && !p.since.IsZero() {
			p.failing = p.since
		}
	}
	if !e.Permanent && (time.Since(p.failing) < patience || p.failures < minTries) {
		s.count("retried")
		s.log.WarnContext(ctx, "the platform did not take a post; it will be tried again", "part", post.Part, "err", err, "after", e.After)
		s.pause(p, e.After)
		return
	}
	s.count("failed")
	s.log.ErrorContext(ctx, "a post was given up", "part", post.Part, "err", err)
	p.worked()
	if p.state == sessions.PostSent { // an edit: the post stays as it is
		p.final = true
		p.record = &sessions.Post{Part: post.Part, Platform: s.thread.Platform(), MessageID: p.id, State: sessions.PostSent, Final: true, Error: err.Error()}
	} else {
		p.state = sessions.PostFailed
		p.record = &sessions.Post{Part: post.Part, Platform: s.thread.Platform(), State: sessions.PostFailed, Error: err.Error()}
	}
	s.note(ctx, post, p)
}

// pause puts off the part's next try: as long as the platform asks, or twice
// as long as the last time, give or take a half, so that not all come at once.
func (s *Show) pause(p *part, after time.Duration) {
	pause := min(firstPause<<min(p.failures, 10), maxPause)
	pause = pause/2 + rand.N(pause)
	p.failures++
	p.notUntil = time.Now().Add(max(after, pause))
}

// call is the context of one call. It outlives Stop, so that a call under way
// is seen to its end, and no lost lease: that ends ctx.
func (s *Show) call(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, timeout)
}

func (s *Show) count(result string) {
	s.p.Metrics.posts.WithLabelValues(s.thread.Platform(), result).Inc()
}
