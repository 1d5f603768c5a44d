package bots

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"threadbook/sessions"
)

// pressPage is how many events are read at once.
const pressPage = 1000

// Press is a button that somebody pressed. The adapter has checked that they
// may press it.
type Press struct {
	Thread sessions.ThreadID
	User   sessions.User
	Action Action
	Value  string // of the [Button]
	Key    string // the platform's name for the press, the same on redelivery
}

// Press does what a button asks, and returns Markdown for the one who pressed,
// empty where the thread shows the outcome. A press that comes too late is an
// error with a sentence for them.
func (in *Intake) Press(ctx context.Context, p Press) (string, error) {
	turn, more, err := parseValue(p.Value)
	if err != nil {
		return "", err
	}
	log, err := in.read(ctx, p.Thread)
	if err != nil {
		return "", err
	}
	t := turnOf(log, turn)
	text := ""
	switch p.Action {
	case ActionStop:
		if t == nil || t.ended {
			return "", &sessions.Error{Code: sessions.Invalid, Text: "That run has ended already."}
		}
		text = "!stop"
	case ActionAgain:
		if t == nil {
			return "", errNoTurn
		}
		return "", in.again(ctx, p, t.messages)
	case ActionEdit:
		if m := messageOf(log, more); m != nil {
			return "", in.again(ctx, p, []*sessions.Message{m})
		}
		return "", errNoTurn
	case ActionAnswer:
		text = answerOf(log, turn, more)
	case ActionCode:
		if t == nil {
			return "", errNoTurn
		}
		return t.code(), nil
	case ActionRerun:
		text = "!rerun"
	case ActionNotebook:
		text = "!export"
	case ActionFiles:
		text = "!files"
	}
	if text == "" {
		return "", &sessions.Error{Code: sessions.Invalid, Text: "This button is of a version that is not there any more."}
	}
	_, err = in.Submit(ctx, Message{Thread: p.Thread, User: p.User, Text: text, Key: p.Key})
	return "", err
}

var errNoTurn = &sessions.Error{Code: sessions.NotFound, Text: "The thread knows nothing of that run any more."}

// Authors are those who wrote the messages of a button's turn.
func (in *Intake) Authors(ctx context.Context, thread sessions.ThreadID, value string) ([]sessions.User, error) {
	turn, more, err := parseValue(value)
	if err != nil {
		return nil, err
	}
	log, err := in.read(ctx, thread)
	if err != nil {
		return nil, err
	}
	var users []sessions.User
	if turn == 0 { // an offer to run an edited message
		if m := messageOf(log, more); m != nil {
			users = append(users, m.User)
		}
		return users, nil
	}
	if t := turnOf(log, turn); t != nil {
		for _, m := range t.messages {
			users = append(users, m.User)
		}
	}
	return users, nil
}

// again submits messages as though they had been written once more; their
// files are in the workspace already.
func (in *Intake) again(ctx context.Context, p Press, messages []*sessions.Message) error {
	var texts []string
	for _, m := range messages {
		if strings.TrimSpace(m.Text) != "" {
			texts = append(texts, m.Text)
		}
	}
	if len(texts) == 0 {
		return &sessions.Error{Code: sessions.Invalid, Text: "That message had no words that could be asked again."}
	}
	_, err := in.Submit(ctx, Message{Thread: p.Thread, User: p.User, Text: strings.Join(texts, "\n\n"), Key: p.Key})
	return err
}

func parseValue(value string) (turn int64, more string, err error) {
	number, more, _ := strings.Cut(value, "/")
	turn, err = strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, "", &sessions.Error{Code: sessions.Invalid, Text: "This button says nothing that threadbook knows.", Err: err}
	}
	return turn, more, nil
}

// read reads the whole log.
func (in *Intake) read(ctx context.Context, thread sessions.ThreadID) ([]sessions.Event, error) {
	var log []sessions.Event
	for {
		var after int64
		if n := len(log); n > 0 {
			after = log[n-1].Seq
		}
		page, err := in.Store.Read(ctx, thread, after, pressPage, 0)
		if err != nil || len(page) == 0 {
			return log, err
		}
		log = append(log, page...)
	}
}

// pressedTurn is what a press may ask of a turn.
type pressedTurn struct {
	messages []*sessions.Message
	cells    []*sessions.CellStarted
	ended    bool
}

// messageOf is the message of a sequence number, nil where there is none.
func messageOf(log []sessions.Event, seq string) *sessions.Message {
	for _, ev := range log {
		if m, ok := ev.Body.(*sessions.Message); ok && decimal(ev.Seq) == seq {
			return m
		}
	}
	return nil
}

// turnOf finds a turn, nil where there is none of that number. The one after
// the last is that of the messages which wait.
func turnOf(log []sessions.Event, turn int64) *pressedTurn {
	v, turns := newView(), map[int64]*pressedTurn{}
	for _, ev := range log {
		v.take(ev)
		switch b := ev.Body.(type) {
		case *sessions.TurnStarted:
			turns[ev.Turn] = &pressedTurn{messages: bodies(v.open.asked)}
		case *sessions.CellStarted:
			if t := turns[ev.Turn]; t != nil {
				t.cells = append(t.cells, b)
			}
		case *sessions.TurnFinished:
			if t := turns[ev.Turn]; t != nil {
				t.ended = true
			}
		}
	}
	if turn == v.last+1 && len(v.waiting) > 0 {
		return &pressedTurn{messages: bodies(v.waiting)}
	}
	return turns[turn]
}

func bodies(messages []message) []*sessions.Message {
	var all []*sessions.Message
	for _, m := range messages {
		all = append(all, m.body)
	}
	return all
}

// code is the turn's code as Markdown.
func (t *pressedTurn) code() string {
	if len(t.cells) == 0 {
		return "That run had no code."
	}
	var b strings.Builder
	for _, c := range t.cells {
		fmt.Fprintf(&b, "Cell %d\n%s\n", c.Cell, Fence(c.Language, c.Code))
	}
	return b.String()
}

// answerOf is the option of a question's button: its number, 0, 1, 2 ….
func answerOf(log []sessions.Event, turn int64, option string) string {
	i, err := strconv.Atoi(option)
	if err != nil {
		return ""
	}
	for _, ev := range slices.Backward(log) {
		if q, ok := ev.Body.(*sessions.Question); ok && ev.Turn == turn && q.Answer == "" && i >= 0 && i < len(q.Options) {
			return q.Options[i]
		}
	}
	return ""
}

// Fence puts code into a fence that nothing in it can end.
func Fence(language, code string) string {
	fence := "```"
	for strings.Contains(code, fence) {
		fence += "`"
	}
	return fence + language + "\n" + strings.TrimRight(code, "\n") + "\n" + fence
}
