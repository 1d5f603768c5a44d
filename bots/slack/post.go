package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
	"threadbook/sessions"
)

const (
	// postEvent is the kind of the metadata that carries a post's key. Slack
	// shows metadata to every app in the channel, so it holds names alone.
	postEvent = "threadbook_post"
	postKey   = "key"
	// clockSkew is how far Slack's clock, which makes timestamps, may be behind.
	clockSkew = time.Minute
	// editEvery keeps a live post within chat.update's 50 a minute in the
	// workspace while two or three turns run.
	editEvery = 2 * time.Second
	// maxUpload is the size of a file that Slack takes.
	maxUpload = 1 << 30
)

// Limits implements [bots.Poster].
func (s *Slack) Limits(context.Context, sessions.ThreadID) bots.Limits {
	return bots.Limits{Text: textLimit, Live: liveLimit, Media: maxMedia, FileSize: maxUpload, Edits: editEvery}
}

// Post implements [bots.Poster]. A post with files has nothing else.
func (s *Slack) Post(ctx context.Context, p bots.Post, handle string) (string, error) {
	at, err := placeOf(p.Thread)
	if err != nil {
		return "", err
	}
	h, err := parseHandle(handle)
	if err != nil {
		return "", err
	}
	switch {
	case len(p.Files) > 0:
		return s.share(ctx, at, p, h)
	case p.Part == livePart && p.Running:
		return s.postLive(ctx, at, p)
	}
	id, err := s.post(ctx, at, p, h.Figures)
	if err == nil && p.Part == livePart {
		s.streams.plain.add(streamName(at, id), "")
	}
	return id, err
}

func (s *Slack) post(ctx context.Context, at place, p bots.Post, figures []string) (ts string, err error) {
	err = s.show(p, figures, func(options ...slackgo.MsgOption) error {
		return s.call(ctx, "chat.postMessage", at.channel, func(ctx context.Context) (err error) {
			_, ts, err = s.api.PostMessageContext(ctx, at.channel, append(options, slackgo.MsgOptionTS(at.root))...)
			if err == nil && ts == "" {
				err = errors.New("an answer without a ts")
			}
			return err
		})
	})
	return ts, err
}

// Edit implements [bots.Poster].
func (s *Slack) Edit(ctx context.Context, p bots.Post, id string) error {
	at, err := placeOf(p.Thread)
	if err != nil || len(p.Files) > 0 {
		return err
	}
	if p.Part == livePart {
		return s.editLive(ctx, at, p, id)
	}
	var figures []string
	if len(p.Figures) > 0 {
		if figures, err = s.shown(ctx, at, p, id); err != nil {
			return err
		}
	}
	return s.update(ctx, at, p, id, figures)
}

func (s *Slack) update(ctx context.Context, at place, p bots.Post, id string, figures []string) error {
	return s.show(p, figures, func(options ...slackgo.MsgOption) error {
		return s.call(ctx, "chat.update", at.channel, func(ctx context.Context) error {
			_, _, _, err := s.api.UpdateMessageContext(ctx, at.channel, id, options...)
			return err
		})
	})
}

// show renders a post and sends it; once more in older blocks where Slack
// doesn't take the newer ones, which is then remembered.
func (s *Slack) show(p bots.Post, figures []string, send func(...slackgo.MsgOption) error) error {
	try := func(rich bool) error {
		blocks, text := render(p, figures, func(m bots.Media) string { return s.link(p.Thread, m) }, rich)
		options := []slackgo.MsgOption{
			slackgo.MsgOptionText(text, false),
			keyOf(p),
			slackgo.MsgOptionDisableLinkUnfurl(), slackgo.MsgOptionDisableMediaUnfurl(),
		}
		if len(blocks) > 0 {
			options = append(options, slackgo.MsgOptionBlocks(blocks...))
		}
		return send(options...)
	}
	rich := s.caps.has(richBlocks)
	err := try(rich)
	if rich && err != nil && badBlocks(err) {
		if err = try(false); err == nil {
			s.caps.lack(richBlocks)
			s.cfg.Log.Warn("this workspace's Slack takes no newer blocks; older ones are used for now", "team", p.Thread)
		}
	}
	return err
}

// keyOf puts a post's key into its metadata.
func keyOf(p bots.Post) slackgo.MsgOption {
	return slackgo.MsgOptionMetadata(slackgo.SlackMetadata{EventType: postEvent, EventPayload: map[string]any{postKey: p.Key()}})
}

func (s *Slack) link(thread sessions.ThreadID, m bots.Media) string {
	if s.cfg.Link == nil {
		return ""
	}
	return s.cfg.Link(thread, m.Blob, m.Name)
}

// shown finds the ids of the pictures that a post has.
func (s *Slack) shown(ctx context.Context, at place, p bots.Post, id string) ([]string, error) {
	messages, err := s.replies(ctx, at, id, id, false)
	if err != nil {
		return nil, err
	}
	figures := make([]string, len(p.Figures))
	for _, m := range messages {
		if m.Timestamp != id {
			continue
		}
		i := 0
		for _, b := range m.Blocks.BlockSet {
			image, ok := b.(*slackgo.ImageBlock)
			if !ok || image.SlackFile == nil {
				continue
			}
			for i < len(figures) && !pictured(p.Figures[i].MIME) {
				i++
			}
			if i < len(figures) {
				figures[i] = image.SlackFile.ID
				i++
			}
		}
	}
	return figures, nil
}

// Find implements [bots.Poster]: by the metadata, for files by their ids, and
// for the stream of a live post by its having neither. Of several such streams
// the latest is taken: the turn before has ended, or it is known whose it is.
func (s *Slack) Find(ctx context.Context, p bots.Post, handle string, since time.Time) (string, error) {
	at, err := placeOf(p.Thread)
	if err != nil {
		return "", err
	}
	if len(p.Files) > 0 {
		h, err := parseHandle(handle)
		if err != nil {
			return "", err
		}
		return s.shared(ctx, at, h)
	}
	me, err := s.who(ctx)
	if err != nil {
		return "", err
	}
	oldest := strconv.FormatFloat(float64(since.Add(-clockSkew).UnixMicro())/1e6, 'f', 6, 64)
	messages, err := s.replies(ctx, at, oldest, "", true)
	if code := codeOf(err); code == "thread_not_found" || code == "message_not_found" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	found := ""
	for _, m := range messages {
		// Any app may write the same metadata.
		switch mine := m.User == me.user || m.User == "" && m.BotID == me.bot; {
		case !mine:
		case m.Metadata.EventType == postEvent:
			if m.Metadata.EventPayload[postKey] == p.Key() {
				return m.Timestamp, nil
			}
		case s.stray(at, p, m):
			found = max(found, m.Timestamp)
		}
	}
	return found, nil
}

// handle is what Prepare has made: ids of files in Slack.
type handle struct {
	Figures []string `json:"figures,omitempty"` // empty: one that Slack shows no picture of
	Files   []string `json:"files,omitempty"`
}

func parseHandle(text string) (h handle, err error) {
	if text == "" {
		return handle{}, nil
	}
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return handle{}, &bots.PostError{Refused: true, Permanent: true, Err: fmt.Errorf("the handle of a post in Slack: %w", err)}
	}
	return h, nil
}

// pictured says whether Slack shows a picture of the kind in an image block.
func pictured(mime string) bool {
	mime, _, _ = strings.Cut(mime, ";")
	return mime == "image/png" || mime == "image/jpeg" || mime == "image/gif"
}
