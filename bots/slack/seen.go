package slack

import (
	"context"
	"slices"
	"strings"
	"time"
)

// noteTimeout bounds the writing down of one kind of event.
const noteTimeout = 5 * time.Second

// Seen keeps which kinds of events have come, for the doctor, which is another
// process.
type Seen interface {
	// Marks are when each kind was first seen, as RFC 3339, by its name in the
	// app's manifest.
	Marks(ctx context.Context) (map[string]string, error)
	// SetMarks adds some.
	SetMarks(ctx context.Context, marks map[string]string) error
}

// note writes down that a kind of event has come, once in a process. It is a
// help for whoever sets the app up, and never in an event's way.
func (s *Slack) note(ev body) {
	kind := kindOf(ev)
	if s.cfg.Seen == nil || !slices.Contains(botEvents(), kind) || s.kinds.has(kind) {
		return
	}
	s.kinds.add(kind, "")
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), noteTimeout)
		defer cancel()
		if err := s.cfg.Seen.SetMarks(ctx, map[string]string{kind: time.Now().UTC().Format(time.RFC3339)}); err != nil {
			s.cfg.Log.WarnContext(ctx, "a kind of event was not noted for the doctor", "kind", kind, "err", err)
		}
	}()
}

// kindOf is an event's name in the manifest, where messages are of four kinds.
func kindOf(ev body) string {
	kind := string(ev.Type)
	if kind != "message" {
		return kind
	}
	switch of := string(ev.ChannelType); of {
	case "im", "mpim":
		return kind + "." + of
	case "group":
		return kind + ".groups"
	case "":
		if strings.HasPrefix(string(ev.Channel), "D") {
			return kind + ".im"
		}
	}
	return kind + ".channels"
}
