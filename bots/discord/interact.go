package discord

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// Types of interactions, and of answers to them.
const (
	byCommand   = 2
	byComponent = 3
	byModal     = 5

	answerLater   = 5 // a "thinking" message, filled in later
	answerNothing = 6 // a button's press has been heard
	answerModal   = 9
)

const (
	ackLimit = 2500 * time.Millisecond // Discord gives 3 s
	// interactionLimit bounds the work on one; an answer to it is good for 15 minutes.
	interactionLimit = 10 * time.Minute
	// interactionsAtOnce bounds a flood of presses.
	interactionsAtOnce = 64
	maxModalText       = 4000
)

// interaction is a command, a press or a form.
type interaction struct {
	ID      string  `json:"id"`
	App     string  `json:"application_id"`
	Type    int     `json:"type"`
	Token   string  `json:"token"`
	Guild   string  `json:"guild_id"`
	Channel string  `json:"channel_id"`
	Member  *member `json:"member"`
	User    *user   `json:"user"` // in a direct chat
	Data    struct {
		Name       string      `json:"name"`
		Kind       int         `json:"type"`
		CustomID   string      `json:"custom_id"`
		Values     []string    `json:"values"`
		Target     string      `json:"target_id"`
		Components []component `json:"components"`
		Options    []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		} `json:"options"`
		Resolved struct {
			Messages map[string]message    `json:"messages"`
			Files    map[string]attachment `json:"attachments"`
		} `json:"resolved"`
	} `json:"data"`
}

// by is who did it.
func (it interaction) by() (sessions.User, bool) {
	switch {
	case it.Member != nil && it.Member.User != nil && isID(it.Member.User.ID):
		return author(message{Author: it.Member.User, Member: it.Member}), true
	case it.User != nil && isID(it.User.ID):
		return sessions.User{ID: it.User.ID, Name: it.User.name()}, true
	}
	return sessions.User{}, false
}

func (it interaction) key() string { return Platform + ":i" + it.ID }

// interacted takes an interaction off the loop that reads the connection. It
// can't wait in a lane: Discord gives it three seconds.
func (d *Discord) interacted(raw json.RawMessage) {
	var it interaction
	if tolerant(json.Unmarshal(raw, &it)) != nil || !isID(it.ID) || !isID(it.App) || !isID(it.Channel) || !plainToken(it.Token) {
		return
	}
	select {
	case d.presses <- it:
	default:
		d.cfg.Log.Warn("too many interactions at once; one was passed over", "interaction", it.ID)
	}
}

// plainToken says whether a token can be part of an address.
func plainToken(s string) bool {
	return s != "" && len(s) < 1000 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/?#%\\", r)
	})
}

// interactions works on interactions until ctx ends.
func (d *Discord) interactions(ctx context.Context) {
	room := make(chan struct{}, interactionsAtOnce)
	for {
		select {
		case <-ctx.Done():
			for range interactionsAtOnce { // those that are being worked on
				room <- struct{}{}
			}
			return
		case it := <-d.presses:
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				continue
			}
			go func() {
				defer func() { <-room }()
				ctx, cancel := context.WithTimeout(ctx, interactionLimit)
				defer cancel()
				_ = d.guard(func() error { d.interact(ctx, it); return nil })
			}()
		}
	}
}

func (d *Discord) interact(ctx context.Context, it interaction) {
	by, ok := it.by()
	if !ok {
		return
	}
	switch {
	case it.Type == byCommand && it.Data.Name == "run" && it.Data.Kind != kindMessage:
		d.respond(ctx, it, answerModal, runModal())
	case it.Type == byCommand:
		d.answer(ctx, it, func() (string, error) { return d.command(ctx, it, by) })
	case it.Type == byModal && it.Data.CustomID == runForm:
		d.answer(ctx, it, func() (string, error) { return d.runCode(ctx, it, by) })
	case it.Type == byComponent:
		d.press(ctx, it, by)
	}
}

// respond acknowledges an interaction. That it was acknowledged before (40060)
// is as good: the answer to an earlier try was lost.
func (d *Discord) respond(ctx context.Context, it interaction, kind int, data any) bool {
	ctx, cancel := context.WithTimeout(ctx, ackLimit)
	defer cancel()
	body := map[string]any{"type": kind}
	if data != nil {
		body["data"] = data
	}
	path := "interactions/" + it.ID + "/" + it.Token + "/callback"
	var err error
	for range 2 {
		err = d.api.do(ctx, "POST", path, body, nil)
		if err == nil || asAPI(err).Code == codeAcknowledged {
			return true
		}
		if !transient(err) || ctx.Err() != nil {
			break
		}
	}
	d.cfg.Log.WarnContext(ctx, "an interaction could not be acknowledged", "interaction", it.ID, "err", err)
	return false
}

var ephemeral = map[string]any{"flags": flagEphemeral}

// answer does what a command asks for and tells the one who gave it, alone.
// The work is done even where Discord has given up waiting.
func (d *Discord) answer(ctx context.Context, it interaction, do func() (string, error)) {
	heard := d.respond(ctx, it, answerLater, ephemeral)
	text, err := do()
	if err != nil {
		d.cfg.Log.WarnContext(ctx, "an interaction failed", "interaction", it.ID, "err", err)
		text = tell(err)
	}
	if !heard {
		return
	}
	path := "webhooks/" + it.App + "/" + it.Token + "/messages/@original"
	if text == "" {
		d.logged(ctx, it, d.api.do(ctx, "DELETE", path, nil, nil))
		return
	}
	d.logged(ctx, it, d.reply(ctx, http.MethodPatch, path, text))
}

// reply sends a short text; a long one goes along whole as a file.
func (d *Discord) reply(ctx context.Context, method, path, text string) error {
	body := map[string]any{"content": clamp(text, maxContent), "allowed_mentions": noMentions}
	if method == http.MethodPost {
		body["flags"] = flagEphemeral | flagNoEmbeds
	}
	if len(text) <= maxContent {
		return d.api.do(ctx, method, path, body, nil)
	}
	body["attachments"] = []sentFile{{ID: "0", Filename: "whole.md"}}
	return d.api.send(ctx, method, path, body, []upload{{Name: "whole.md", Size: int64(len(text)), Body: strings.NewReader(text)}}, nil)
}

func (d *Discord) logged(ctx context.Context, it interaction, err error) {
	if err != nil {
		d.cfg.Log.WarnContext(ctx, "an interaction could not be answered", "interaction", it.ID, "err", err)
	}
}

// tell is what people are told of an error.
func tell(err error) string {
	if e := asAPI(err); e.Status == http.StatusForbidden {
		return "Discord does not let me: I need the permissions View Channel, Send Messages, Create Public Threads and Send Messages in Threads here."
	}
	return sessions.TextOf(err)
}

// command does what a command asks for.
func (d *Discord) command(ctx context.Context, it interaction, by sessions.User) (string, error) {
	name := it.Data.Name
	ch, err := d.channel(ctx, it.Channel)
	if err != nil {
		return "", err
	}
	switch {
	case it.Data.Kind == kindMessage:
		return d.onMessage(ctx, it, ch, by)
	case name == "ask":
		question := it.option("question")
		var files []attachment
		if f, ok := it.Data.Resolved.Files[it.option("file")]; ok {
			files = append(files, f)
		}
		return d.ask(ctx, it, ch, by, question, files)
	case wordCommands[name] == "":
		return "This command is of a version that is not there any more.", nil
	case !ch.isDirect() && ch.hasThreads():
		if name != "help" {
			return "That works inside a thread that I am in.", nil
		}
		return "Mention me with a question and your files, or use /ask: I open a thread, write code for it, run it and show what comes out. " +
			"/run takes code as it is. In the thread, just go on writing.", nil
	}
	t := ch.threadID()
	if active, err := d.cfg.Store.Active(ctx, t); err != nil {
		return "", err
	} else if active.IsZero() && name != "help" {
		return "I am not in this thread yet: mention me in it, or use /ask.", nil
	}
	_, err = d.cfg.Intake.Submit(ctx, bots.Message{Thread: t, User: by, Text: wordCommands[name], Key: it.key()})
	return "", err
}

// option is a text option's value, "" where it wasn't given.
func (it interaction) option(name string) string {
	for _, o := range it.Data.Options {
		var s string
		if o.Name == name && json.Unmarshal(o.Value, &s) == nil {
			return s
		}
	}
	return ""
}

// ask posts what was asked where all can see it, opens a thread on that if
// there is none, and hands it in.
func (d *Discord) ask(ctx context.Context, it interaction, ch channel, by sessions.User, text string, files []attachment) (string, error) {
	body := map[string]any{
		"content": clamp(fmt.Sprintf("**%s** asks: %s", escapeLine(by.Name), defuse(text)), maxContent),
		"flags":   flagNoEmbeds, "allowed_mentions": noMentions, "nonce": nonceOf(it.key()), "enforce_nonce": true,
	}
	var posted message
	if err := d.repeat(ctx, func() error {
		return d.api.do(ctx, "POST", "channels/"+ch.ID+"/messages", body, &posted)
	}); err != nil {
		return "", err
	}
	if !isID(posted.ID) {
		return "", fmt.Errorf("discord: a message without an id")
	}
	defer d.lanes.hold(posted.ID)()
	thread, err := d.threadOn(ctx, ch, posted.ID, titleOf(text))
	if err != nil {
		return "", err
	}
	_, err = d.cfg.Intake.Submit(ctx, bots.Message{Thread: thread.threadID(), User: by, Text: text,
		Files: d.files(message{Files: files}), Key: keyOf(posted.ID)})
	if err != nil || thread.ID == ch.ID {
		return "", err
	}
	d.lanes.serve(thread.ID, posted.ID)
	return "Here: <#" + thread.ID + ">", nil
}

// threadOn opens a thread on a message, where the channel is not one itself.
func (d *Discord) threadOn(ctx context.Context, ch channel, id, name string) (thread channel, err error) {
	if !ch.hasThreads() {
		return ch, nil
	}
	err = d.repeat(ctx, func() error {
		thread, err = d.open(ctx, ch, id, name)
		return err
	})
	return thread, err
}

// tries of a call for which somebody waits.
const tries = 4

// repeat repeats a call that may be repeated, for as long as somebody would wait.
func (d *Discord) repeat(ctx context.Context, do func() error) error {
	wait := newPause(d.cfg.FirstPause / 2)
	for n := 1; ; n++ {
		err := do()
		if err == nil || !transient(err) || n == tries || !wait.wait(ctx) {
			return err
		}
	}
}

// onMessage does a message's command: its code is run, or its files are
// looked at.
func (d *Discord) onMessage(ctx context.Context, it interaction, ch channel, by sessions.User) (string, error) {
	m, ok := it.Data.Resolved.Messages[it.Data.Target]
	if !ok || !isID(it.Data.Target) {
		return "That message can't be read.", nil
	}
	m.ID, m.Channel = it.Data.Target, it.Channel
	text, files := "Analyse these files.", d.files(m)
	switch {
	case it.Data.Name == runThisCode:
		if text, files = codeOf(m.Content), nil; text == "" {
			return "That message has no code: I look for what stands between ``` and ```.", nil
		}
	case len(files) == 0:
		return "That message has no files.", nil
	}
	defer d.lanes.hold(m.ID)()
	thread, err := d.threadOn(ctx, ch, m.ID, titleOf(m.Content))
	if err != nil {
		return "", err
	}
	_, err = d.cfg.Intake.Submit(ctx, bots.Message{Thread: thread.threadID(), User: by, Text: text,
		Files: files[:min(len(files), bots.MaxFiles)], Key: it.key()})
	if err != nil || thread.ID == ch.ID {
		return "", err
	}
	d.lanes.serve(thread.ID, it.ID)
	return "Here: <#" + thread.ID + ">", nil
}

// codeOf is the fenced code of a message.
func codeOf(text string) string {
	var found []string
	for _, s := range segments(text) {
		if s.code && strings.HasPrefix(s.text, "```") && strings.Trim(s.text, "` \n") != "" {
			found = append(found, strings.TrimSpace(s.text))
		}
	}
	return strings.Join(found, "\n")
}

// The form of /run.
const (
	runForm      = customPrefix + "run"
	fieldLang    = "language"
	fieldCode    = "code"
	styleLong    = 2
	firstChoice  = "python"
	formTitle    = "Run code"
	languageHelp = "Language"
)

// languages that can be chosen in the form.
var languages = []string{firstChoice, "r", "javascript", "typescript", "sql", "bash"}

func runModal() any {
	choice := component{Type: 3, CustomID: fieldLang}
	for _, l := range languages {
		choice.Options = append(choice.Options, selectOption{Label: l, Value: l, Default: l == firstChoice})
	}
	code := component{Type: 4, CustomID: fieldCode, Style: styleLong, MaxLength: maxModalText}
	return map[string]any{"custom_id": runForm, "title": formTitle, "components": []component{
		{Type: labelComponent, Label: languageHelp, Component: &choice},
		{Type: labelComponent, Label: "Code", Component: &code},
	}}
}

// runCode runs what the form holds.
func (d *Discord) runCode(ctx context.Context, it interaction, by sessions.User) (string, error) {
	language, code := firstChoice, ""
	for _, c := range fields(it.Data.Components) {
		switch {
		case c.CustomID == fieldCode:
			code = c.Value
		case c.CustomID == fieldLang && len(c.Values) > 0 && slices.Contains(languages, c.Values[0]):
			language = c.Values[0]
		}
	}
	if strings.TrimSpace(code) == "" {
		return "There was no code.", nil
	}
	ch, err := d.channel(ctx, it.Channel)
	if err != nil {
		return "", err
	}
	return d.ask(ctx, it, ch, by, bots.Fence(language, code), nil)
}

// fields are a form's inputs, however they are wrapped.
func fields(list []component) []component {
	var all []component
	for _, c := range list {
		all = append(all, c)
		if c.Component != nil {
			all = append(all, fields([]component{*c.Component})...)
		}
		all = append(all, fields(c.Components)...)
	}
	return all
}
