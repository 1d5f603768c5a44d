package slack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
	"threadbook/sessions"
)

const (
	// threadsRead is how many of the latest threads are looked through for
	// somebody's own, and eventsRead how much of each.
	threadsRead   = 30
	eventsRead    = 1000
	threadsListed = 8
)

const howTo = "*Ask a data question and drop files.* Mention the bot in a channel, or write to it here. " +
	"It writes code, runs it in the thread's own sandbox, and answers in the thread with charts and files; the variables are still there next week.\n" +
	"• In a thread that it is in, no mention is needed. A message that opens with a mention of somebody else is not for it.\n" +
	"• A message that is only a ``` fence runs as it is.\n" +
	"• `!stop` `!files` `!get NAME` `!reset` `!usage` `!help` work in every thread.\n" +
	"• `/threadbook QUESTION` starts a thread in the channel; `/threadbook recent` and `/threadbook usage` list your own."

// reply is the answer to a slash command, seen by who wrote it.
type reply struct {
	Type string `json:"response_type"`
	Text string `json:"text"`
}

// command does what /threadbook asks. Slack has no slash commands in threads.
func (s *Slack) command(ctx context.Context, c slash) any {
	ctx, cancel := context.WithTimeout(ctx, replyTime)
	defer cancel()
	user := string(c.User)
	text, err := s.asPerson(ctx, user, func(ctx context.Context, p person) (string, error) {
		question := strings.TrimSpace(string(c.Text))
		switch strings.ToLower(question) {
		case "", "help":
			return howTo, nil
		case "recent", "usage":
			mine, err := s.own(ctx, user)
			if err != nil {
				return "", err
			}
			if strings.EqualFold(question, "usage") {
				return mine.usage(), nil
			}
			return mine.list(s.archives(ctx)), nil
		}
		return s.ask(ctx, c, question, p)
	})
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "a slash command failed", "user", user, "err", err)
		if text = complaint(err); text == "" {
			text = notNow
		}
	}
	if text == "" {
		return nil // the thread answers
	}
	return reply{slackgo.ResponseTypeEphemeral, text}
}

// ask posts a question as a thread's first message, and takes it.
func (s *Slack) ask(ctx context.Context, c slash, question string, p person) (string, error) {
	if sentence, err := s.inside(ctx, string(c.Channel), false); err != nil || sentence != "" {
		return sentence, err
	}
	me, err := s.who(ctx)
	if err != nil {
		return "", err
	}
	team := string(c.Team)
	if team == "" {
		team = me.team
	}
	question = plain(question, me.user, s.people.name)
	var ts string
	err = s.call(ctx, "chat.postMessage", string(c.Channel), func(ctx context.Context) (err error) {
		_, ts, err = s.api.PostMessageContext(ctx, string(c.Channel),
			slackgo.MsgOptionText(fmt.Sprintf("*%s* asks: %s", escape(p.name), shorten(escape(question), maxFallback)), false),
			slackgo.MsgOptionDisableLinkUnfurl(), slackgo.MsgOptionDisableMediaUnfurl())
		return err
	})
	var pe *bots.PostError
	if errors.As(err, &pe) && pe.Permanent {
		return outside, nil
	}
	if err != nil {
		return "", err
	}
	at := place{team, string(c.Channel), ts}
	// What is posted is taken, however long the post took.
	return "", s.submit(context.WithoutCancel(ctx), bots.Message{
		Thread: at.thread(), User: sessions.User{ID: string(c.User), Name: p.name}, Text: question, Key: Platform + ":command/" + string(c.Trigger),
	})
}

// own are somebody's threads, the latest first. Others' are shown to nobody:
// they may be in channels that one can't see.
type own struct {
	threads []sessions.Thread
	turns   int
	seconds float64
	tokens  sessions.Tokens
	cost    float64
}

func (s *Slack) own(ctx context.Context, user string) (mine own, err error) {
	me, err := s.who(ctx)
	if err != nil {
		return own{}, err
	}
	threads, err := s.cfg.Store.Threads(ctx, threadsRead, Platform)
	if err != nil {
		return own{}, err
	}
	for _, t := range threads {
		if at, err := placeOf(t.ID); err != nil || at.team != me.team {
			continue // of another workspace on the same store
		}
		events, err := s.cfg.Store.Read(ctx, t.ID, 0, eventsRead, 0)
		if err != nil {
			return own{}, err
		}
		if !slices.ContainsFunc(events, func(ev sessions.Event) bool {
			m, ok := ev.Body.(*sessions.Message)
			return ok && m.User.ID == user
		}) {
			continue
		}
		mine.threads = append(mine.threads, t)
		for _, ev := range events {
			if b, ok := ev.Body.(*sessions.TurnFinished); ok {
				mine.turns++
				mine.seconds += b.Seconds
				mine.tokens = mine.tokens.Add(b.Tokens)
				mine.cost += b.CostUSD
			}
		}
	}
	return mine, nil
}

func (o own) usage() string {
	return fmt.Sprintf("In your latest %d threads: %d turns in %.0f s; the model read %d tokens and wrote %d ($%.2f).",
		len(o.threads), o.turns, o.seconds, o.tokens.In, o.tokens.Out, o.cost)
}

// list is in mrkdwn. archives is the workspace's address, which every message has under it.
func (o own) list(archives string) string {
	if len(o.threads) == 0 {
		return "You have no threads yet. Mention the bot in a channel, or write to it."
	}
	var b strings.Builder
	for _, t := range o.threads[:min(threadsListed, len(o.threads))] {
		title := t.Title
		if title == "" {
			title = "a thread"
		}
		title = escape(strings.ReplaceAll(title, "|", "/"))
		if at, err := placeOf(t.ID); err == nil && archives != "" {
			title = fmt.Sprintf("<%sarchives/%s/p%s|%s>", archives, at.channel, strings.ReplaceAll(at.root, ".", ""), title)
		}
		fmt.Fprintf(&b, "• %s\n", title)
	}
	return b.String()
}

func (s *Slack) archives(ctx context.Context) string {
	me, err := s.who(ctx)
	if err != nil {
		return ""
	}
	return me.url
}

// home shows the Home tab to somebody who has opened it.
func (s *Slack) home(ctx context.Context, user string) error {
	if user == "" {
		return nil
	}
	paragraph := func(text string) slackgo.Block {
		return slackgo.NewSectionBlock(slackgo.NewTextBlockObject(slackgo.MarkdownType, shorten(text, maxSection), false, false), nil, nil)
	}
	blocks := []slackgo.Block{paragraph(howTo)}
	sentence, err := s.asPerson(ctx, user, func(ctx context.Context, _ person) (string, error) {
		mine, err := s.own(ctx, user)
		if err != nil {
			return "", err
		}
		blocks = append(blocks, slackgo.NewDividerBlock(), paragraph("*Your threads*\n"+mine.list(s.archives(ctx))), paragraph("*Usage*\n"+mine.usage()))
		return "", nil
	})
	if err != nil {
		sentence = notNow
	}
	if sentence != "" {
		blocks = append(blocks, slackgo.NewDividerBlock(), paragraph(escape(sentence)))
	}
	err = s.call(ctx, "views.publish", "", func(ctx context.Context) error {
		_, err := s.api.PublishViewContext(ctx, slackgo.PublishViewContextRequest{
			UserID: user, View: slackgo.HomeTabViewRequest{Type: slackgo.VTHomeTab, Blocks: slackgo.Blocks{BlockSet: blocks}},
		})
		return err
	})
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "the Home tab could not be shown", "user", user, "err", err)
	}
	return nil
}
