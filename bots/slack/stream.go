package slack

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
)

const (
	// livePart is the part of a turn that is edited while the turn runs.
	livePart = "live"
	// streamLife is how long a stream is open. Slack ends one after five
	// minutes, however busy it is, and leaves it marked as broken until it is
	// edited (python-slack-sdk#1859).
	streamLife = 4*time.Minute - 10*time.Second
	// maxStreams is how many streams a process has open; each is known by less
	// than 20 KB. Posts past that are edited.
	maxStreams = 1024
	// rollTime bounds the end of a stream whose time is over.
	rollTime = 2 * callTime
	// startWait is how long a stream's start waits for its limits: for its turn
	// in the channel, but not for the next of the few starts that a minute has. A
	// post is as good.
	startWait = time.Second
)

// stream is a message that we are streaming. Its lock is held over calls, so
// that they reach Slack one after another.
type stream struct {
	mu    sync.Mutex
	at    place
	id    string
	post  bots.Post // its form as of the last edit
	shown shown
	timer *time.Timer
}

// streams are those that this process has open. What it doesn't know, after a
// restart or an error, is ended before it is edited.
type streams struct {
	life time.Duration

	mu   sync.Mutex
	open map[string]*stream // by name

	plain  recent // names of live messages that are no streams, or no more
	unsure recent // keys of posts whose start had no clear answer
}

func newStreams() *streams { return &streams{life: streamLife, open: map[string]*stream{}} }

func streamName(at place, id string) string { return at.channel + "/" + id }

func (s *streams) get(at place, id string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[streamName(at, id)]
}

func (s *streams) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open) >= maxStreams
}

func (s *streams) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[streamName(st.at, st.id)] = st
}

// drop forgets a stream, and says whether it was still known.
func (s *streams) drop(st *stream) bool {
	st.timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	name := streamName(st.at, st.id)
	known := s.open[name] == st
	if known {
		delete(s.open, name)
	}
	return known
}

// postLive makes a live post: a stream where the workspace's Slack has them,
// otherwise a post. A stream that was refused is posted in the same call, and
// if that works, the workspace is known to have none.
func (s *Slack) postLive(ctx context.Context, at place, p bots.Post) (string, error) {
	var refusal error
	if s.caps.has(streaming) && !s.streams.unsure.has(p.Key()) && !s.streams.full() {
		id, err := s.start(ctx, at, p)
		var pe *bots.PostError
		switch {
		case err == nil:
			return id, nil
		case !errors.As(err, &pe) || !pe.Refused:
			// It may be there. If it is not, the next try is a post: some that
			// pass calls on to Slack answer so what they don't know.
			s.streams.unsure.add(p.Key(), "")
			return "", err
		case pe.Permanent:
			refusal = err
		}
	}
	id, err := s.post(ctx, at, p, nil)
	if err != nil {
		return "", err
	}
	s.streams.plain.add(streamName(at, id), "")
	if refusal != nil {
		s.noStreams(refusal)
	}
	return id, nil
}

func (s *Slack) noStreams(err error) {
	s.caps.lack(streaming)
	s.cfg.Log.Info("this workspace's Slack streams nothing; live posts are edited for now", "err", err)
}

// start starts a stream and keeps it in mind.
func (s *Slack) start(ctx context.Context, at place, p bots.Post) (string, error) {
	refused := func(err error) (string, error) { return "", &bots.PostError{Refused: true, Err: err} }
	me, err := s.who(ctx)
	if err != nil {
		return refused(err)
	}
	now, chunks, ok := shown{}.grow(p)
	if !ok || len(chunks) == 0 {
		return refused(errors.New("nothing that a stream can show"))
	}
	if len(p.Buttons) > 0 {
		chunks = append(chunks, slackgo.NewBlocksChunk(renderButtons(p.Buttons)))
	}
	// Slack wants somebody whom the stream is for; where no person asked, that
	// is the bot.
	asker := p.Asker.ID
	if !strings.HasPrefix(asker, "U") && !strings.HasPrefix(asker, "W") {
		asker = me.user
	}
	st := &stream{at: at, post: p, shown: now}
	err = s.call(ctx, "chat.startStream", at.channel, func(ctx context.Context) (err error) {
		_, st.id, err = s.api.StartStreamContext(ctx, at.channel, slackgo.MsgOptionTS(at.root),
			slackgo.MsgOptionRecipientUserID(asker), slackgo.MsgOptionRecipientTeamID(at.team),
			slackgo.MsgOptionTaskDisplayMode(slackgo.TaskDisplayModePlan), slackgo.MsgOptionChunks(chunks...))
		if err == nil && st.id == "" {
			err = errors.New("an answer without a ts")
		}
		return err
	})
	if err != nil {
		return "", err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	s.streams.add(st)
	st.timer = time.AfterFunc(s.streams.life, func() { s.roll(st) })
	return st.id, nil
}

// editLive gives a live post a new form: adds to its stream what is new, or
// ends the stream and edits the message, from then on for good.
func (s *Slack) editLive(ctx context.Context, at place, p bots.Post, id string) error {
	st := s.streams.get(at, id)
	if st == nil {
		return s.settle(ctx, at, p, id)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if s.streams.get(at, id) != st { // its time ran out while we waited
		return s.settle(ctx, at, p, id)
	}
	if now, chunks, ok := st.shown.grow(p); ok && p.Running {
		err := s.append(ctx, st, chunks)
		if err == nil {
			st.shown, st.post = now, p
			return nil
		}
		var pe *bots.PostError
		if errors.As(err, &pe) && pe.Refused && !pe.Permanent {
			return err
		}
		s.cfg.Log.InfoContext(ctx, "a stream ended; its message is edited from now on", "post", p.Key(), "err", err)
		if notHere(err) || slices.Contains([]string{"invalid_chunks", "invalid_arguments", "invalid_blocks"}, codeOf(err)) {
			s.noStreams(err)
		}
	}
	s.streams.drop(st)
	return s.settle(ctx, at, p, id)
}

func (s *Slack) append(ctx context.Context, st *stream, chunks []slackgo.StreamChunk) error {
	if len(chunks) == 0 {
		return nil
	}
	return s.call(ctx, "chat.appendStream", st.at.channel, func(ctx context.Context) error {
		_, _, err := s.api.AppendStreamContext(ctx, st.at.channel, st.id, slackgo.MsgOptionChunks(chunks...))
		return err
	})
}

// settle edits a message that may be a stream still: it is ended first, unless
// it is known to be none. Code and output stand in it as they are, in elements
// that Slack makes no links of.
func (s *Slack) settle(ctx context.Context, at place, p bots.Post, id string) error {
	p.Text = unlinked(p.Text)
	name := streamName(at, id)
	if s.streams.plain.has(name) {
		return s.update(ctx, at, p, id, nil)
	}
	stopped := s.stop(ctx, at, p, id)
	err := s.update(ctx, at, p, id, nil)
	if stopped == nil || err == nil {
		s.streams.plain.add(name, "")
	}
	var pe *bots.PostError
	if codeOf(err) == streamConflict && errors.As(stopped, &pe) && !pe.Permanent {
		return stopped // it says how long to wait
	}
	return err
}

// stop ends a stream. That it is none, or no more, is an error.
func (s *Slack) stop(ctx context.Context, at place, p bots.Post, id string) error {
	return s.call(ctx, "chat.stopStream", at.channel, func(ctx context.Context) error {
		_, _, err := s.api.StopStreamContext(ctx, at.channel, id, keyOf(p))
		return err
	})
}

// roll ends a stream whose time is over, and gives its message the last form.
// If the end is refused, Slack or another process has ended the stream, whose
// form of the message may be newer: then the next edit sees to it.
func (s *Slack) roll(st *stream) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !s.streams.drop(st) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollTime)
	defer cancel()
	err := s.stop(ctx, st.at, st.post, st.id)
	if err == nil {
		s.streams.plain.add(streamName(st.at, st.id), "")
		err = s.settle(ctx, st.at, st.post, st.id)
	}
	if err != nil {
		s.cfg.Log.Info("a stream's time is over, and it was not ended in order", "post", st.post.Key(), "err", err)
	}
}

// stray says whether a message of ours without metadata may be the stream of a
// live post: no root, no files, and not known to be another post's. A stream
// carries no metadata before it ends, but perhaps the turn's Stop button.
func (s *Slack) stray(at place, p bots.Post, m slackgo.Message) bool {
	if p.Part != livePart || m.Timestamp == at.root || len(m.Files) > 0 {
		return false
	}
	if st := s.streams.get(at, m.Timestamp); st != nil && st.post.Key() != p.Key() {
		return false
	}
	for _, b := range m.Blocks.BlockSet {
		actions, ok := b.(*slackgo.ActionBlock)
		if !ok || actions.Elements == nil {
			continue
		}
		for _, e := range actions.Elements.ElementSet {
			if button, ok := e.(*slackgo.ButtonBlockElement); ok && button.Value != strconv.FormatInt(p.Turn, 10) {
				return false
			}
		}
	}
	return true
}
