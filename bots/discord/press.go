package discord

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"threadbook/bots"
	"threadbook/sessions"
)

// press does what a button asks for.
func (d *Discord) press(ctx context.Context, it interaction, by sessions.User) {
	name, value, _ := strings.Cut(strings.TrimPrefix(it.Data.CustomID, customPrefix), ":")
	action := bots.Action(name)
	do := func() (string, error) {
		ch, err := d.channel(ctx, it.Channel)
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(it.Data.CustomID, customPrefix) {
			return "This button is of a version that is not there any more.", nil
		}
		if ok, err := d.mayPress(ctx, it, ch, by, action, value); err != nil {
			return "", err
		} else if !ok {
			return "Only who asked for that run, who opened the thread, or a moderator can press this.", nil
		}
		text, err := d.cfg.Intake.Press(ctx, bots.Press{Thread: ch.threadID(), User: by, Action: action, Value: value, Key: it.key()})
		return defuse(text), err
	}
	if action == bots.ActionCode {
		d.answer(ctx, it, do)
		return
	}
	heard := d.respond(ctx, it, answerNothing, nil)
	text, err := do()
	if err != nil {
		d.cfg.Log.WarnContext(ctx, "a press failed", "interaction", it.ID, "err", err)
		text = tell(err)
	}
	if heard && text != "" {
		d.logged(ctx, it, d.reply(ctx, http.MethodPost, "webhooks/"+it.App+"/"+it.Token, text))
	}
}

// moderator are the permissions of which one makes a moderator: administrator,
// manage messages, manage threads.
const moderator = permAdministrator | permManageMessages | permManageThreads

// mayPress says whether a person may press a button: those that only show
// something are for all, the others for an author of the run, whoever began
// the thread, and moderators.
func (d *Discord) mayPress(ctx context.Context, it interaction, ch channel, by sessions.User, a bots.Action, value string) (bool, error) {
	switch a {
	case bots.ActionStop, bots.ActionAgain, bots.ActionRerun, bots.ActionEdit:
	default:
		return true, nil
	}
	if it.Member != nil {
		if has, err := strconv.ParseUint(it.Member.Permissions, 10, 64); err == nil && has&moderator != 0 {
			return true, nil
		}
	}
	if ch.Owner == by.ID {
		return true, nil
	}
	// A thread that the bot opened is whose message it was opened on.
	first, err := d.cfg.Store.Read(ctx, ch.threadID(), 0, 1, 0)
	if err != nil {
		return false, err
	}
	if len(first) > 0 {
		if m, ok := first[0].Body.(*sessions.Message); ok && m.User.ID == by.ID {
			return true, nil
		}
	}
	authors, err := d.cfg.Intake.Authors(ctx, ch.threadID(), value)
	return slices.ContainsFunc(authors, func(u sessions.User) bool { return u.ID == by.ID }), err
}
