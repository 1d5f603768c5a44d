package slack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// help is what an empty mention asks for.
const help = "!help"

// event is what an event asks for, nil where that is nothing. It is called in
// the order of arrival, in which the thread's events are then worked on.
func (s *Slack) event(env envelope) func(context.Context) (any, error) {
	ev := env.Event.get()
	s.note(ev)
	var do func(context.Context) error
	switch {
	case ev.Type == "app_home_opened" && (ev.Tab == "" || ev.Tab == "home"):
		return func(ctx context.Context) (any, error) { return nil, s.home(ctx, string(ev.User)) }
	case ev.Type == "agent_session_stopped":
		do = func(ctx context.Context) error { return s.stopped(ctx, env, ev) }
	case ev.Type == "app_mention", ev.Type == "message" && isMessage(ev.Subtype):
		do = func(ctx context.Context) error { return s.hear(ctx, env, ev.message, "") }
	case ev.Type == "message" && ev.Subtype == "message_changed":
		do = func(ctx context.Context) error { return s.changed(ctx, env, ev) }
	case ev.Type == "message" && ev.Subtype == "message_deleted":
		do = func(ctx context.Context) error { return s.deleted(ctx, env, ev.Previous.get()) }
	default:
		return nil
	}
	m := ev.message
	if ev.Message.v != nil {
		m = *ev.Message.v
	} else if ev.Previous.v != nil {
		m = *ev.Previous.v
	}
	wait, leave := s.lines.join(string(env.TeamID + "/" + ev.Channel + "/" + word(m.root())))
	return func(ctx context.Context) (any, error) {
		defer leave()
		if err := wait(ctx); err != nil {
			return nil, err
		}
		return nil, do(ctx)
	}
}

// isMessage says whether a message of the subtype is one that somebody wrote.
func isMessage(subtype word) bool {
	switch subtype {
	case "", "file_share", "thread_broadcast", "me_message", "bot_message":
		return true
	}
	return false
}

// messageKey names a message, however often and in whatever events it comes.
func messageKey(at place, ts string) string {
	return fmt.Sprintf("%s:%s/%s/%s", Platform, at.team, at.channel, ts)
}

// hear takes a message. edits is the key of the message that it takes the
// place of, if it is an edit.
func (s *Slack) hear(ctx context.Context, env envelope, m message, edits string) error {
	ev := env.Event.get()
	at := place{string(env.TeamID), string(ev.Channel), m.root()}
	me, err := s.who(ctx)
	if err != nil {
		return err
	}
	user := string(m.User)
	if user == "" {
		user = string(m.BotID)
	}
	if at.team == "" {
		at.team = me.team
	}
	if at.channel == "" || m.TS == "" || user == "" || s.ignored(me, m) {
		return nil
	}
	called := ev.Type == "app_mention" || isDM(ev) || mentions(string(m.Text), me.user)
	active, err := s.cfg.Store.Active(ctx, at.thread())
	if err != nil {
		return err
	}
	if !called && !s.addressed(me, at, m, active) && edits == "" {
		return nil
	}
	key := messageKey(at, string(m.TS))
	if edits != "" {
		key = edits + "#" + string(m.Edited.get().TS)
	}
	if s.done.has(key) {
		return nil
	}
	refused := func(sentence string) error {
		if edits == "" {
			s.tell(ctx, at, user, sentence)
		}
		s.done.add(key, "")
		return nil
	}
	if m.BotID == "" {
		p, err := s.person(ctx, user)
		if err != nil {
			return err
		}
		if p.refusal == "" && bool(env.IsExtShared) && !s.cfg.AllowOutsiders {
			p.refusal = "This channel is shared with another organisation, and threadbook is not set up to work in such channels."
		}
		if p.refusal != "" {
			s.cfg.Log.InfoContext(ctx, "a message was refused", "thread", at.thread(), "user", user, "why", p.refusal)
			return refused(p.refusal)
		}
	}
	out := bots.Message{
		Thread: at.thread(),
		User:   sessions.User{ID: user, Name: s.people.name(user)},
		Text:   plain(string(m.Text), me.user, s.people.name),
		Key:    key,
		Edits:  edits,
	}
	if edits == "" {
		refs, left, err := s.filesOf(ctx, at, ev, m, active)
		if err != nil {
			return err
		}
		out.Files = s.open(ctx, refs, left)
	}
	if out.Text == "" && len(out.Files) == 0 {
		if edits != "" {
			return nil
		}
		out.Text = help
	}
	if err := s.submit(ctx, out); err != nil {
		if sentence := complaint(err); sentence != "" {
			return refused(sentence)
		}
		return err
	}
	return nil
}

// submit hands a message over, and remembers it.
func (s *Slack) submit(ctx context.Context, m bots.Message) error {
	if s.done.has(m.Key) {
		return nil
	}
	if _, err := s.cfg.Intake.Submit(ctx, m); err != nil {
		return err
	}
	s.done.add(m.Key, "")
	return nil
}

// complaint is the sentence of an error that trying again can't mend.
func complaint(err error) string {
	switch sessions.CodeOf(err) {
	case sessions.Invalid, sessions.NotFound, sessions.TooLarge:
		return sessions.TextOf(err)
	}
	return ""
}

// ignored says whether the message is the bot's own, or of a bot that nobody
// has allowed.
func (s *Slack) ignored(me identity, m message) bool {
	if m.User == word(me.user) || m.BotID != "" && m.BotID == word(me.bot) || m.User == "USLACKBOT" {
		return true
	}
	return (m.BotID != "" || m.Subtype == "bot_message") && !s.cfg.AllowBots
}

func isDM(ev body) bool {
	return ev.ChannelType == "im" || ev.ChannelType == "" && strings.HasPrefix(string(ev.Channel), "D")
}

// addressed says whether a message that neither mentions the bot nor is a DM is
// for it: a reply in a thread that the bot is in, unless it opens with a
// mention of somebody else. A group DM is like a channel.
func (s *Slack) addressed(me identity, at place, m message, active time.Time) bool {
	if m.ThreadTS == "" || m.ThreadTS == m.TS || active.IsZero() || opensWithOther(string(m.Text), me.user) {
		return false
	}
	return s.cfg.MentionOnly == nil || !s.cfg.MentionOnly(at.team, at.channel)
}

// changed takes an edit. A message that was not for the bot, and is now, is
// taken as though it had just been written.
func (s *Slack) changed(ctx context.Context, env envelope, ev body) error {
	m, before := ev.Message.get(), ev.Previous.get()
	if m.Subtype == "tombstone" { // a first message whose thread stays
		return s.deleted(ctx, env, before)
	}
	if !isMessage(m.Subtype) || m.Edited.v == nil || ev.Previous.v != nil && m.Text == before.Text {
		return nil // a link preview, a reply count
	}
	me, err := s.who(ctx)
	if err != nil {
		return err
	}
	if s.ignored(me, m) {
		return nil
	}
	at := place{string(env.TeamID), string(ev.Channel), m.root()}
	active, err := s.cfg.Store.Active(ctx, at.thread())
	if err != nil {
		return err
	}
	if ev.Previous.v == nil {
		before = m
	}
	before.TS, before.ThreadTS = m.TS, m.ThreadTS
	was := isDM(ev) || mentions(string(before.Text), me.user) || s.addressed(me, at, before, active)
	if was && !active.IsZero() {
		return s.hear(ctx, env, m, messageKey(at, string(m.TS)))
	}
	return s.hear(ctx, env, m, "")
}

// deleted takes a message back. Whoever may delete it in Slack may do so here.
func (s *Slack) deleted(ctx context.Context, env envelope, m message) error {
	ev := env.Event.get()
	if m.TS == "" {
		m.TS = ev.DeletedTS
	}
	at := place{string(env.TeamID), string(ev.Channel), m.root()}
	if at.root == "" || at.channel == "" || m.BotID != "" {
		return nil
	}
	active, err := s.cfg.Store.Active(ctx, at.thread())
	if err != nil || active.IsZero() {
		return err
	}
	key := messageKey(at, string(m.TS))
	return s.submit(ctx, bots.Message{
		Thread: at.thread(), User: sessions.User{ID: string(m.User), Name: s.people.name(string(m.User))},
		Key: key + "#deleted", Edits: key, Deleted: true,
	})
}

// stopped takes a press of Slack's own stop button.
func (s *Slack) stopped(ctx context.Context, env envelope, ev body) error {
	at := place{string(env.TeamID), string(ev.Channel), ev.root()}
	if at.channel == "" || at.root == "" {
		return nil
	}
	active, err := s.cfg.Store.Active(ctx, at.thread())
	if err != nil || active.IsZero() {
		return err
	}
	p, err := s.person(ctx, string(ev.User))
	if err != nil {
		return err
	}
	if p.refusal != "" {
		s.tell(ctx, at, string(ev.User), p.refusal)
		return nil
	}
	return s.submit(ctx, bots.Message{
		Thread: at.thread(), User: sessions.User{ID: string(ev.User), Name: p.name},
		Text: "!stop", Key: Platform + ":stop/" + string(env.EventID),
	})
}

// errUnknownPerson is for when Slack does not say who somebody is.
var errUnknownPerson = errors.New("Slack does not say who wrote; nothing is taken from somebody unknown")
