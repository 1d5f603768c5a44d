package slack

import (
	"context"
	"fmt"
	"strings"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
	"threadbook/sessions"
)

// actionPrefix marks the buttons that are ours. What follows is a
// [bots.Action], and a number where a message has the same action twice, since
// Slack wants each id once.
const actionPrefix = "tb:"

// Message shortcuts.
const (
	shortcutRun     = "run_code"
	shortcutAnalyse = "analyse_files"
)

// notNow is what is said where nothing better is known.
const notNow = "That did not work just now; please try again in a moment."

// interact takes a press of a button or a shortcut. Slack sends neither again,
// so whoever pressed is told what went wrong.
func (s *Slack) interact(ctx context.Context, in interaction) error {
	user, channel := string(in.User.get().ID), string(in.Channel.get().ID)
	if channel == "" {
		channel = string(in.Container.get().Channel)
	}
	m := in.Message.get()
	if m.TS == "" {
		m.TS = in.MessageTS
	}
	if m.TS == "" {
		m.TS = in.Container.get().TS
	}
	if m.ThreadTS == "" {
		m.ThreadTS = in.Container.get().ThreadTS
	}
	at := place{string(in.Team.get().ID), channel, m.root()}
	if me, err := s.who(ctx); err == nil && at.team == "" {
		at.team = me.team // an organisation's app names none
	}
	if user == "" || channel == "" || at.root == "" {
		return nil // a link in the Home tab, which has no thread
	}
	var do func(context.Context, person) (string, error)
	switch in.Type {
	case "block_actions":
		do = func(ctx context.Context, p person) (string, error) { return s.press(ctx, in, at, m, user, p) }
	case "message_action":
		do = func(ctx context.Context, p person) (string, error) { return s.shortcut(ctx, in, at, m, user, p) }
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, takeTime)
	defer cancel()
	sentence, err := s.asPerson(ctx, user, do)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "a press of a button failed", "thread", at.thread(), "user", user, "err", err)
		if sentence = complaint(err); sentence == "" {
			sentence = notNow
		}
	}
	if sentence == "" {
		return nil
	}
	if in.Type == "message_action" && in.ResponseURL != "" {
		return s.respond(ctx, at, user, string(in.ResponseURL), sentence)
	}
	s.tell(ctx, at, user, sentence)
	return nil
}

// asPerson does something for somebody who may use the bot, or returns the
// sentence that says why they may not.
func (s *Slack) asPerson(ctx context.Context, user string, do func(context.Context, person) (string, error)) (string, error) {
	p, err := s.person(ctx, user)
	if err != nil {
		return "", err
	}
	if p.refusal != "" {
		return p.refusal, nil
	}
	return do(ctx, p)
}

// press does what the buttons that were pressed ask for.
func (s *Slack) press(ctx context.Context, in interaction, at place, m message, user string, p person) (string, error) {
	var said []string
	for _, a := range in.Actions {
		id, ours := strings.CutPrefix(string(a.ID), actionPrefix)
		if !ours {
			continue
		}
		action, _, _ := strings.Cut(id, ":")
		text, err := s.cfg.Intake.Press(ctx, bots.Press{
			Thread: at.thread(), User: sessions.User{ID: user, Name: p.name}, Action: bots.Action(action), Value: string(a.Value),
			Key: fmt.Sprintf("%s:press/%s/%s/%s", Platform, at.channel, m.TS, a.TS),
		})
		if err != nil {
			return "", err
		}
		if text != "" {
			said = append(said, text)
		}
	}
	return strings.Join(said, "\n\n"), nil
}

// shortcut takes a message's code or files into the message's thread.
func (s *Slack) shortcut(ctx context.Context, in interaction, at place, m message, user string, p person) (string, error) {
	if sentence, err := s.inside(ctx, at.channel, true); err != nil || sentence != "" {
		return sentence, err
	}
	me, err := s.who(ctx)
	if err != nil {
		return "", err
	}
	out := bots.Message{
		Thread: at.thread(), User: sessions.User{ID: user, Name: p.name},
		Key: fmt.Sprintf("%s:shortcut/%s/%s/%s", Platform, at.channel, m.TS, in.ActionTS),
	}
	text := plain(string(m.Text), me.user, s.people.name)
	switch in.CallbackID {
	case shortcutRun:
		if out.Text = codeIn(text); out.Text == "" {
			return "That message has no code.", nil
		}
	case shortcutAnalyse:
		if len(m.Files) == 0 {
			return "That message has no files.", nil
		}
		out.Text = strings.TrimSpace("Please analyse these files.\n\n" + text)
		refs := m.Files
		if len(refs) > bots.MaxFiles-1 {
			refs = refs[:bots.MaxFiles-1]
		}
		out.Files = s.open(ctx, refs, len(m.Files)-len(refs))
	default:
		return "", nil
	}
	return "", s.submit(ctx, out)
}

// codeIn is the fenced code of a text, or all of it in a fence if it has none.
func codeIn(text string) string {
	const fence = "```"
	parts := strings.Split(text, fence)
	var code []string
	for i := 1; i+1 < len(parts); i += 2 {
		code = append(code, fence+parts[i]+fence)
	}
	if len(code) == 0 && strings.TrimSpace(text) != "" {
		return bots.Fence("", text)
	}
	return strings.Join(code, "\n")
}

// respond answers at an address that Slack gave for a press.
func (s *Slack) respond(ctx context.Context, at place, user, address, markdown string) error {
	if !s.trusted(address) {
		return nil
	}
	err := s.call(ctx, "response_url", "", func(ctx context.Context) error {
		_, _, err := s.api.PostMessageContext(ctx, "", slackgo.MsgOptionResponseURL(address, slackgo.ResponseTypeEphemeral),
			slackgo.MsgOptionText(shorten(escape(markdown), maxFallback), false))
		return err
	})
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "somebody could not be told something", "thread", at.thread(), "user", user, "err", err)
	}
	return nil
}
