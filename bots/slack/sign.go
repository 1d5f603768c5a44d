package slack

import (
	"context"
	"errors"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
	"threadbook/sessions"
)

const (
	reactionTaken = "eyes"
	reactionBusy  = "hourglass_flowing_sand"
	// statusAgain is when a status that has not changed is sent again: Slack
	// clears one after two minutes.
	statusAgain = time.Minute
	maxStatus   = 100
	maxSession  = 200 // characters of a session's title
)

// Received implements [bots.Signer] with a reaction. What was pressed and not
// written has no message to react to.
func (s *Slack) Received(ctx context.Context, thread sessions.ThreadID, key string, busy bool) error {
	at, err := placeOf(thread)
	if err != nil {
		return err
	}
	key, _, _ = strings.Cut(key, "#")
	ts, ok := strings.CutPrefix(key, messageKey(at, ""))
	if !ok {
		return nil
	}
	name := reactionTaken
	if busy {
		name = reactionBusy
	}
	err = s.call(ctx, "reactions.add", "", func(ctx context.Context) error {
		return s.api.AddReactionContext(ctx, name, slackgo.NewRefToMessage(at.channel, ts))
	})
	if code := codeOf(err); code == "already_reacted" || code == "message_not_found" {
		return nil
	}
	return err
}

// Working implements [bots.Signer]: with the session's status where the app is
// an agent, otherwise with the assistant's status, otherwise not at all.
func (s *Slack) Working(ctx context.Context, thread sessions.ThreadID, words, title string) error {
	at, err := placeOf(thread)
	if err != nil {
		return err
	}
	state := slackgo.AgentSessionStatusProcessing
	if words == "" {
		state = slackgo.AgentSessionStatusActive
	}
	for _, way := range []struct {
		what capability
		sign string
		set  func() error
	}{
		{agentSessions, state, func() error { return s.session(ctx, at, state, title) }},
		{assistantStatus, words, func() error { return s.status(ctx, at, words) }},
	} {
		if !s.caps.has(way.what) {
			continue
		}
		if last, ok := s.signs.get(string(thread)); ok && last.text == way.sign && time.Since(last.at) < statusAgain {
			return nil
		}
		err := way.set()
		if err != nil && notHere(err) {
			s.caps.lack(way.what)
			continue
		}
		if err == nil {
			s.signs.add(string(thread), way.sign)
		}
		return err
	}
	return nil
}

func (s *Slack) session(ctx context.Context, at place, status, title string) error {
	return s.call(ctx, "agents.sessions.setStatus", "", func(ctx context.Context) error {
		_, err := s.api.SetAgentSessionStatusContext(ctx, slackgo.AgentSessionSetStatusParameters{
			Status: status, ChannelID: at.channel, ThreadTS: at.root, Title: shorten(title, maxSession),
		})
		return err
	})
}

func (s *Slack) status(ctx context.Context, at place, words string) error {
	err := s.call(ctx, "assistant.threads.setStatus", "", func(ctx context.Context) error {
		return s.api.SetAssistantThreadsStatusContext(ctx, slackgo.AssistantThreadsSetStatusParameters{
			ChannelID: at.channel, ThreadTS: at.root, Status: shorten(escape(words), maxStatus),
		})
	})
	var pe *bots.PostError
	if errors.As(err, &pe) && pe.Permanent && !notHere(err) {
		return nil // not in this thread
	}
	return err
}
