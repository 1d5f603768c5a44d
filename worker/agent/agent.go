// Package agent is the tool loop: ask the model, run the tools it calls, tell
// it the results, until it has nothing more to call. It knows no queue, no
// container, no chat and no vendor of models.
//
// The loop's only memory is the thread's log. Every reply and every result is
// recorded before anything follows from it, and where a turn stands is read
// from the log alone: calls of the last reply without a result are run, else
// the model is asked. So a turn that a crash cut off is simply run again, and
// asks only for the reply that was lost.
//
// A tool that fails, arguments that are no JSON and a tool that does not exist
// are answers to the model, not errors. Every call gets exactly one result;
// calls that were never run are said to be so, since servers refuse a history
// with a call left open. An error leaves the loop only where we failed: the
// log, the model's server, the sandbox.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"threadbook/sessions"
)

// A Model completes a conversation.
type Model interface {
	// Complete asks for the next reply. partial, which may be nil, is called
	// with what has come so far, always from the beginning; an empty Partial
	// means that the attempt failed and the reply is asked again. A
	// conversation too long for the model is ErrTooLong.
	Complete(ctx context.Context, req Request, partial func(Partial)) (sessions.Reply, error)
}

// ErrTooLong says that the conversation is longer than the model can read.
var ErrTooLong = errors.New("the conversation is too long for the model")

// Request is what the model is asked with.
type Request struct {
	System   string
	Messages []Message
	Tools    []Tool
}

// Partial is a reply on its way, good until the callback returns. The last
// call's arguments may be cut anywhere.
type Partial struct {
	Text  string
	Calls []sessions.Call
}

// Role says whose message it is.
type Role string

// The roles.
const (
	User      Role = "user"
	Assistant Role = "assistant"
	ToolRole  Role = "tool"
)

// Message is one message of the conversation as the model reads it.
type Message struct {
	Role  Role
	Text  string
	Calls []sessions.Call // of an assistant
	Call  string          // the call that a tool's message answers
}

// Tool is something that the model can call.
type Tool struct {
	Name        string
	Description string
	Schema      json.RawMessage // of the arguments: a JSON Schema object
	// Run answers a call. Its error means that we failed, and ends the turn;
	// what the model did wrong is a Result.
	Run func(ctx context.Context, call sessions.Call) (Result, error)
}

// Result is the answer to a call.
type Result struct {
	Text string
	Ends bool // the turn ends here, waiting for a person
}

// MaxResult bounds the text of one result, in bytes: its head and tail stay.
const MaxResult = sessions.InlineMax

// Loop runs turns of one thread.
type Loop struct {
	Model  Model
	System string
	Tools  []Tool
	Steps  int // replies in one turn at most
	// Record appends to the thread's log; what it returned without error is
	// safe.
	Record func(ctx context.Context, bodies ...sessions.Body) error
	// Partial shows what the model is writing; may be nil.
	Partial func(Partial)
	// Pause is asked between steps; an error from it leaves the loop there.
	Pause func() error
}

// Run takes the turn from where its log ends to its end. The log holds all of
// the thread, the turn's own events last.
func (l *Loop) Run(ctx context.Context, log []sessions.Event, turn int64) (sessions.TurnStatus, error) {
	conv := newConversation(log, turn)
	for {
		for _, call := range conv.open() {
			if err := l.Pause(); err != nil {
				return "", err
			}
			result, err := l.call(ctx, call)
			if err != nil {
				return "", err
			}
			body := &sessions.ToolResult{Call: call.ID, Text: result.Text, Ends: result.Ends}
			if err := l.Record(ctx, body); err != nil {
				return "", err
			}
			conv.add(sessions.Event{Turn: turn, Body: body})
		}
		switch {
		case conv.ended:
			return sessions.TurnOK, nil
		case conv.replies >= l.Steps:
			return sessions.TurnOverBudget, nil
		}
		if err := l.Pause(); err != nil {
			return "", err
		}
		reply, err := l.ask(ctx, conv)
		if err != nil {
			return "", err
		}
		if err := l.Record(ctx, &reply); err != nil {
			return "", err
		}
		conv.add(sessions.Event{Turn: turn, Body: &reply})
	}
}

// ask asks for a reply, with less and less of the past where the model can't
// read it all.
func (l *Loop) ask(ctx context.Context, conv *conversation) (sessions.Reply, error) {
	var err error
	for size := maxContext; size >= minContext; size /= 2 {
		var reply sessions.Reply
		req := Request{System: l.System, Messages: fit(conv.messages, size), Tools: l.Tools}
		reply, err = l.Model.Complete(ctx, req, l.Partial)
		if !errors.Is(err, ErrTooLong) {
			return reply, err
		}
	}
	return sessions.Reply{}, &sessions.Error{Code: sessions.TooLarge,
		Text: "The conversation has become too long for the model, even shortened.", Err: err}
}

// call runs one call.
func (l *Loop) call(ctx context.Context, call sessions.Call) (Result, error) {
	for _, t := range l.Tools {
		if t.Name != call.Name {
			continue
		}
		result, err := t.Run(ctx, call)
		result.Text = Shorten(result.Text, MaxResult)
		return result, err
	}
	names := make([]string, len(l.Tools))
	for i, t := range l.Tools {
		names[i] = t.Name
	}
	return Result{Text: fmt.Sprintf("There is no tool %q. The tools are: %s.", call.Name, strings.Join(names, ", "))}, nil
}

// Typed makes a Tool's Run of a function that takes the arguments decoded.
// Arguments that don't decode are answered to the model with the reason.
func Typed[Args any](run func(ctx context.Context, call sessions.Call, args Args) (Result, error)) func(context.Context, sessions.Call) (Result, error) {
	return func(ctx context.Context, call sessions.Call) (Result, error) {
		var args Args
		if err := json.Unmarshal([]byte(call.Arguments), &args); err != nil {
			return Result{Text: fmt.Sprintf("The call was not run: its arguments are not the JSON that the tool takes (%v). Please call it again.", err)}, nil
		}
		return run(ctx, call, args)
	}
}

// Shorten keeps the head and the tail of a text over max bytes, and says how
// much it left out.
func Shorten(text string, max int) string {
	if len(text) <= max {
		return text
	}
	const room = 64 // for the words between
	head := max * 5 / 8
	tail := max - head - room
	if tail < 0 {
		head, tail = max, 0
	}
	cut := len(text) - head - tail
	return strings.ToValidUTF8(text[:head], "") +
		fmt.Sprintf("\n[… %d bytes left out …]\n", cut) +
		strings.ToValidUTF8(text[len(text)-tail:], "")
}
