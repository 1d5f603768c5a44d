package slack

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
)

const (
	// personTime is how long what Slack said of somebody is believed; somebody
	// who is deactivated writes no more.
	personTime = 10 * time.Minute
	maxPeople  = 4096
)

// person is what we know of somebody. refusal is why they may not use the bot,
// a sentence for them, empty where they may.
type person struct {
	name, refusal string
	until         time.Time
}

// people remembers who somebody is.
type people struct {
	mu    sync.Mutex
	known map[string]person
}

func (p *people) get(id string) (person, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who, ok := p.known[id]
	return who, ok
}

// name is somebody's name if we happen to know it.
func (p *people) name(id string) string {
	who, _ := p.get(id)
	return who.name
}

func (p *people) put(id string, who person) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxPeople {
		p.known = map[string]person{}
	}
	p.known[id] = who
}

// person asks who somebody is and whether they may use the bot. An error means
// that Slack did not say, and that nothing may be taken from them now.
func (s *Slack) person(ctx context.Context, id string) (person, error) {
	if who, ok := s.people.get(id); ok && time.Now().Before(who.until) {
		return who, nil
	}
	me, err := s.who(ctx)
	if err != nil {
		return person{}, err
	}
	var u *slackgo.User
	err = s.call(ctx, "users.info", "", func(ctx context.Context) (err error) {
		u, err = s.api.GetUserInfoContext(ctx, id)
		return err
	})
	var pe *bots.PostError
	switch {
	case err == nil:
	case errors.As(err, &pe) && pe.Permanent:
		s.cfg.Log.WarnContext(ctx, "Slack does not say who somebody is; is the scope users:read there?", "user", id, "err", err)
		return person{refusal: "Slack doesn't tell threadbook who you are, so it can't work for you. Please tell whoever runs it here."}, nil
	default:
		return person{}, fmt.Errorf("%w: %w", errUnknownPerson, err)
	}
	who := person{name: nameOf(u), refusal: s.refusal(me, u), until: time.Now().Add(personTime)}
	s.people.put(id, who)
	return who, nil
}

func (s *Slack) refusal(me identity, u *slackgo.User) string {
	foreign := u.IsStranger || u.TeamID != "" && u.TeamID != me.team && (me.enterprise == "" || u.Enterprise.EnterpriseID != me.enterprise)
	switch {
	case u.Deleted:
		return "Your account is deactivated here, so threadbook can't work for you."
	case (u.IsBot || u.IsWorkflowBot) && !s.cfg.AllowBots:
		return "threadbook is not set up to work for bots."
	case s.cfg.AllowOutsiders:
		return ""
	case foreign:
		return "threadbook works for people of this organisation only; you are with another one."
	case u.IsRestricted || u.IsUltraRestricted:
		return "threadbook is not set up to work for guests. Please ask somebody of the workspace."
	}
	return ""
}

func nameOf(u *slackgo.User) string {
	for _, name := range []string{u.Profile.DisplayName, u.RealName, u.Name} {
		if name != "" {
			return name
		}
	}
	return u.ID
}

const (
	outside = "threadbook can't write in this channel; invite it first: `/invite @threadbook`."
	// maxTold is how many messages somebody alone is told something in.
	maxTold = 5
)

// inside checks that the bot may work in a channel to which it is called
// without an event, and returns a sentence where it may not. A member it must
// be where nothing is posted at once that would tell.
func (s *Slack) inside(ctx context.Context, channel string, member bool) (string, error) {
	var c *slackgo.Channel
	err := s.call(ctx, "conversations.info", "", func(ctx context.Context) (err error) {
		c, err = s.api.GetConversationInfoContext(ctx, &slackgo.GetConversationInfoInput{ChannelID: channel})
		return err
	})
	var pe *bots.PostError
	switch {
	case errors.As(err, &pe) && pe.Permanent, err == nil && member && !c.IsMember && !c.IsIM && !c.IsMpIM:
		return outside, nil
	case err != nil:
		return "", err
	case (c.IsExtShared || c.IsPendingExtShared) && !s.cfg.AllowOutsiders:
		return "This channel is shared with another organisation, and threadbook is not set up to work in such channels.", nil
	}
	return "", nil
}

// tell says something to one person in a thread, where nobody else sees it.
// That it fails is logged and no more: there is nobody else to tell.
func (s *Slack) tell(ctx context.Context, at place, user, markdown string) {
	parts := split(markdown, textLimit)
	if len(parts) > maxTold {
		parts = append(parts[:maxTold], fmt.Sprintf("%d more pages are not shown here; the thread's notebook has all of it.", len(parts)-maxTold))
	}
	for _, part := range parts {
		rich := s.caps.has(richBlocks)
		err := s.tellPart(ctx, at, user, part, rich)
		if rich && err != nil && badBlocks(err) {
			err = s.tellPart(ctx, at, user, part, false)
		}
		if err != nil {
			s.cfg.Log.WarnContext(ctx, "somebody could not be told something", "thread", at.thread(), "user", user, "err", err)
			return
		}
	}
}

func (s *Slack) tellPart(ctx context.Context, at place, user, markdown string, rich bool) error {
	options := []slackgo.MsgOption{slackgo.MsgOptionDisableLinkUnfurl(), slackgo.MsgOptionDisableMediaUnfurl()}
	if at.root != "" {
		options = append(options, slackgo.MsgOptionTS(at.root))
	}
	blocks, text := render(bots.Post{Text: markdown}, nil, nil, rich)
	options = append(options, slackgo.MsgOptionText(text, false), slackgo.MsgOptionBlocks(blocks...))
	return s.call(ctx, "chat.postEphemeral", at.channel, func(ctx context.Context) error {
		_, err := s.api.PostEphemeralContext(ctx, at.channel, user, options...)
		return err
	})
}
