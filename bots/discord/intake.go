package discord

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"threadbook/bots"
	"threadbook/sessions"
)

const (
	threadName   = 80   // characters of a thread's name; Discord allows 100
	archiveAfter = 1440 // minutes that a quiet thread stays in the list
)

// take takes a new message, if it is for the bot: it mentions the bot, is a
// direct message, or stands in a thread that the bot is in and doesn't open
// with a mention of somebody else.
func (d *Discord) take(ctx context.Context, m message) error {
	me, err := d.identity(ctx)
	if err != nil {
		return err
	}
	if !d.byPerson(m, me) {
		return nil
	}
	ch, err := d.channel(ctx, m.Channel)
	if err != nil {
		return err
	}
	mine := mentions(m, me.User)
	if !mine && !ch.isDirect() {
		if !ch.isThread() && ch.hasThreads() || opensForOther(m.Content, me.User) || m.Content == "" && len(m.Files) == 0 {
			return nil
		}
		active, err := d.cfg.Store.Active(ctx, ch.threadID())
		if err != nil || active.IsZero() {
			return err
		}
	}
	if len(m.Files) > 0 || ch.hasThreads() { // read once more: no need to fetch and open again
		if t, known, err := d.threadOf(ctx, m); err != nil {
			return err
		} else if known {
			had, err := d.hasKey(ctx, t, keyOf(m.ID))
			if had && ch.hasThreads() {
				_, id, _ := placeOf(t)
				d.lanes.serve(id, m.ID)
			}
			if err != nil || had {
				return err
			}
		}
	}
	thread := ch
	if ch.hasThreads() {
		if thread, err = d.open(ctx, ch, m.ID, titleOf(clean(m, me.User))); err != nil {
			return d.cantOpen(ctx, m, err)
		}
	}
	text := clean(m, me.User)
	files := d.files(m)
	if m.Referenced != nil && mine {
		// "@bot plot this", in answer to somebody's file.
		m.Referenced.Channel = m.Channel
		files = append(files, d.files(*m.Referenced)...)
	}
	if text == "" && len(files) == 0 {
		text = "!help"
	}
	err = d.submit(ctx, bots.Message{
		Thread: thread.threadID(), User: author(m), Text: text,
		Files: files[:min(len(files), bots.MaxFiles)], Key: keyOf(m.ID),
	})
	if err != nil {
		return err
	}
	if thread.ID != m.Channel {
		d.lanes.serve(thread.ID, m.ID)
	}
	return nil
}

// submit hands a message in. One that can't be taken is answered with the
// reason, and is done with.
func (d *Discord) submit(ctx context.Context, m bots.Message) error {
	_, err := d.cfg.Intake.Submit(ctx, m)
	switch sessions.CodeOf(err) {
	case sessions.TooLarge, sessions.Invalid:
		_, ch, _ := placeOf(m.Thread)
		return d.say(ctx, ch, "", m.Key+"/refused", sessions.TextOf(err))
	}
	return err
}

// byPerson says whether a message is one that a person wrote.
func (d *Discord) byPerson(m message, me identity) bool {
	if m.Author == nil || !isID(m.Author.ID) || m.Author.ID == me.User {
		return false
	}
	if (m.Author.Bot || m.Webhook != "") && !d.cfg.AllowBots {
		return false
	}
	return m.Type == typeDefault || m.Type == typeReply
}

// edit takes an edit of a message that was taken. An edit of its links'
// previews alone has no time, or the time of an edit that was had.
func (d *Discord) edit(ctx context.Context, m message) error {
	me, err := d.identity(ctx)
	if err != nil {
		return err
	}
	if m.Edited == "" || !d.byPerson(m, me) || clean(m, me.User) == "" {
		return nil
	}
	t, known, err := d.threadOf(ctx, m)
	if err != nil || !known {
		return err
	}
	if known, err = d.hasKey(ctx, t, keyOf(m.ID)); err != nil || !known {
		return err
	}
	return d.submit(ctx, bots.Message{Thread: t, User: author(m), Text: clean(m, me.User),
		Key: keyOf(m.ID) + "#" + stampOf(m.Edited), Edits: keyOf(m.ID)})
}

// remove takes the deletion of a message that was taken.
func (d *Discord) remove(ctx context.Context, m message) error {
	t, known, err := d.threadOf(ctx, m)
	if err != nil || !known {
		return err
	}
	if known, err = d.hasKey(ctx, t, keyOf(m.ID)); err != nil || !known {
		return err
	}
	return d.submit(ctx, bots.Message{Thread: t, Key: keyOf(m.ID) + "#deleted", Edits: keyOf(m.ID), Deleted: true})
}

// open opens a thread on a message, or finds the one that is there: it has the
// message's id.
func (d *Discord) open(ctx context.Context, ch channel, id, name string) (channel, error) {
	thread := channel{ID: id, Type: typeThreadPublic, GuildID: ch.GuildID, Parent: ch.ID}
	body := map[string]any{"name": name, "auto_archive_duration": archiveAfter}
	var made channel
	err := d.api.do(ctx, "POST", fmt.Sprintf("channels/%s/messages/%s/threads", ch.ID, id), body, &made)
	switch asAPI(err).Code {
	case codeHasThread:
	case codeWrongChannel:
		return ch, nil // a kind of channel without threads: it is the thread itself
	default:
		if err != nil {
			return channel{}, err
		}
	}
	if isID(made.ID) {
		thread.ID = made.ID
	}
	d.channels.put(thread.ID, thread)
	return thread, nil
}

// cantOpen tells people why there is no thread, where they can be told.
func (d *Discord) cantOpen(ctx context.Context, m message, err error) error {
	switch e := asAPI(err); {
	case e.Status == 0 || transient(err):
		return err
	case e.Status == 403:
		d.cfg.Log.WarnContext(ctx, "no thread could be opened", "channel", m.Channel, "err", err)
		return d.say(ctx, m.Channel, m.ID, keyOf(m.ID)+"/refused",
			"I can't open a thread here: I need the permissions Create Public Threads and Send Messages in Threads in this channel.")
	case e.Code == codeUnknownMessage:
		return nil // it was deleted
	}
	return err
}

// say posts a sentence of the adapter's own, as an answer to a message if one
// is named. The same key says it once. Where it may not, it says nothing.
func (d *Discord) say(ctx context.Context, ch, to, key, text string) error {
	body := map[string]any{
		"content": clamp(defuse(text), maxContent), "flags": flagNoEmbeds, "allowed_mentions": noMentions,
		"nonce": nonceOf(key), "enforce_nonce": true,
	}
	if to != "" {
		body["message_reference"] = map[string]any{"message_id": to, "fail_if_not_exists": false}
	}
	err := d.api.do(ctx, "POST", "channels/"+ch+"/messages", body, nil)
	if err != nil && !transient(err) {
		d.cfg.Log.WarnContext(ctx, "people could not be told", "channel", ch, "err", err)
		return nil
	}
	return err
}

func author(m message) sessions.User {
	name := m.Author.name()
	if m.Member != nil && m.Member.Nick != "" {
		name = m.Member.Nick
	}
	return sessions.User{ID: m.Author.ID, Name: name}
}

func mentions(m message, id string) bool {
	for _, u := range m.Mentions {
		if u.ID == id {
			return true
		}
	}
	return strings.Contains(m.Content, "<@"+id+">") || strings.Contains(m.Content, "<@!"+id+">")
}

var (
	opening   = regexp.MustCompile(`^\s*<@([!&]?)(\d+)>`)
	mentioned = regexp.MustCompile(`<@([!&]?)(\d{1,20})>`)
	emoji     = regexp.MustCompile(`<a?(:\w+:)\d+>`)
)

// opensForOther says whether a text begins with a mention of somebody else.
func opensForOther(text, me string) bool {
	found := opening.FindStringSubmatch(text)
	return found != nil && (found[1] == "&" || found[2] != me)
}

// clean is a message's text as the model reads it: without the mention of the
// bot, with names for other mentions. Fenced code stays as it is.
func clean(m message, me string) string {
	names := map[string]string{}
	for _, u := range m.Mentions {
		names[u.ID] = u.name()
	}
	var b strings.Builder
	for _, part := range segments(m.Content) {
		if part.code {
			b.WriteString(part.text)
			continue
		}
		text := mentioned.ReplaceAllStringFunc(part.text, func(s string) string {
			found := mentioned.FindStringSubmatch(s)
			switch {
			case found[1] == "&":
				return "@role"
			case found[2] == me:
				return ""
			case names[found[2]] != "":
				return "@" + names[found[2]]
			}
			return "@" + found[2]
		})
		b.WriteString(emoji.ReplaceAllString(text, "$1"))
	}
	return strings.TrimSpace(b.String())
}

// titleOf is a thread's name: the first words of what was asked.
func titleOf(text string) string {
	for line := range strings.Lines(text) {
		fenced := strings.HasPrefix(strings.TrimSpace(line), "```")
		line = strings.Join(strings.Fields(strings.Trim(line, "`#*_>~ \r\n")), " ")
		if line == "" || fenced {
			continue
		}
		if utf8.RuneCountInString(line) > threadName {
			line = string([]rune(line)[:threadName-1]) + "…"
		}
		return line
	}
	return "threadbook"
}

var errGoneFile = errors.New("the message has no such file any more")
