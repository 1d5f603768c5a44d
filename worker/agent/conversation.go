package agent

import (
	"fmt"
	"strings"

	"threadbook/sessions"
)

const (
	// maxContext is how much of a thread the model is given, in bytes: about
	// 100,000 tokens, which today's models read well. A model that takes less
	// says so, and gets half, down to minContext.
	maxContext = 400 << 10
	minContext = 12 << 10
	// oldResult is what stays of a result that had to make room.
	oldResult = 600
	// maxCellText is how much of a cell that a person ran the model is told.
	maxCellText = 4 << 10
)

// conversation is a log as the model reads it.
type conversation struct {
	messages []Message
	replies  int  // of the turn at hand
	ended    bool // whether that turn has nothing more to do

	turn     int64
	received map[int64]*sessions.Message // by seq, until a turn takes them up
	files    map[int64][]*sessions.File  // by the seq of the message they came with
	calls    []sessions.Call             // of the last reply, without a result so far
	notes    []string                    // wait until no call is open
	cell     *strings.Builder            // a person's cell, until it ends
}

func newConversation(log []sessions.Event, turn int64) *conversation {
	c := &conversation{turn: turn, received: map[int64]*sessions.Message{}, files: map[int64][]*sessions.File{}}
	for _, ev := range log { // files are told with their message, which comes first
		if f, ok := ev.Body.(*sessions.File); ok && f.Message != 0 {
			c.files[f.Message] = append(c.files[f.Message], f)
		}
	}
	for _, ev := range log {
		c.add(ev)
	}
	return c
}

// open are the calls of the turn at hand that have to be run.
func (c *conversation) open() []sessions.Call { return append([]sessions.Call(nil), c.calls...) }

func (c *conversation) add(ev sessions.Event) {
	switch b := ev.Body.(type) {
	case *sessions.Message:
		if b.Edits == "" {
			c.received[ev.Seq] = b
			break
		}
		for seq, m := range c.received {
			if m.Key == b.Edits && !b.Deleted {
				changed := *m
				changed.Text = b.Text
				c.received[seq] = &changed
			}
		}
	case *sessions.TurnStarted:
		c.closeCalls()
		for _, seq := range b.Messages {
			if m := c.received[seq]; m != nil {
				c.say(User, c.messageText(seq, m))
			}
		}
	case *sessions.Reply:
		c.closeCalls()
		c.messages = append(c.messages, Message{Role: Assistant, Text: b.Text, Calls: b.Calls})
		c.calls = append([]sessions.Call(nil), b.Calls...)
		if ev.Turn == c.turn {
			c.replies++
			c.ended = len(b.Calls) == 0
		}
	case *sessions.ToolResult:
		c.result(b.Call, b.Text)
		if ev.Turn == c.turn && b.Ends {
			c.ended = true
		}
	case *sessions.TurnFinished:
		c.closeCalls()
		if b.Status != sessions.TurnOK {
			c.note(fmt.Sprintf("The turn ended as %q.", b.Status))
		}
	case *sessions.Notice:
		c.note(b.Text)
	case *sessions.File:
		if b.Message == 0 && b.Cell == 0 && b.Title == "" && !b.Saved { // nobody's message tells of it, and it is no export
			c.note("There is a file /workspace/" + b.Path + ".")
		}
	case *sessions.CellStarted, *sessions.CellOutput, *sessions.CellFinished:
		c.addCell(ev)
	}
}

// messageText is a person's message with the files that came with it.
func (c *conversation) messageText(seq int64, m *sessions.Message) string {
	var b strings.Builder
	if m.User.Name != "" {
		fmt.Fprintf(&b, "%s: ", m.User.Name)
	}
	b.WriteString(m.Text)
	for _, f := range c.files[seq] {
		fmt.Fprintf(&b, "\n[file /workspace/%s, %d bytes]", f.Path, f.Size)
		if f.Profile != "" {
			b.WriteString("\n" + f.Profile)
		}
	}
	for _, f := range m.Files {
		if f.Error != "" {
			fmt.Fprintf(&b, "\n[file %s could not be taken: %s]", f.Name, f.Error)
		}
	}
	return b.String()
}

// addCell tells of cells that people ran; the model's own are in its results.
func (c *conversation) addCell(ev sessions.Event) {
	switch b := ev.Body.(type) {
	case *sessions.CellStarted:
		c.cell = nil
		if b.By == sessions.ByUser {
			c.cell = &strings.Builder{}
			fmt.Fprintf(c.cell, "Cell %d (%s), run directly:\n%s\nIts output:\n", b.Cell, b.Language, b.Code)
		}
	case *sessions.CellOutput:
		if c.cell != nil && c.cell.Len() < 4*maxCellText {
			c.cell.WriteString(b.Text)
		}
	case *sessions.CellFinished:
		if c.cell == nil {
			return
		}
		fmt.Fprintf(c.cell, "\nIt ended as %q.", b.Status)
		if b.Error != nil {
			fmt.Fprintf(c.cell, " %s: %s", b.Error.Name, b.Error.Value)
		}
		c.note(Shorten(c.cell.String(), maxCellText))
		c.cell = nil
	}
}

// note tells the model something that nobody wrote.
func (c *conversation) note(text string) {
	c.notes = append(c.notes, text)
	c.flush()
}

// flush says the notes, unless a call is open: its result has to come first.
func (c *conversation) flush() {
	if len(c.calls) > 0 || len(c.notes) == 0 {
		return
	}
	notes := c.notes
	c.notes = nil
	c.say(User, "[threadbook: "+strings.Join(notes, "\n")+"]")
}

func (c *conversation) say(role Role, text string) {
	c.flush()
	c.messages = append(c.messages, Message{Role: role, Text: text})
}

func (c *conversation) result(call, text string) {
	for i, open := range c.calls {
		if open.ID == call {
			c.messages = append(c.messages, Message{Role: ToolRole, Call: call, Text: text})
			c.calls = append(c.calls[:i], c.calls[i+1:]...)
			c.flush()
			return
		}
	}
}

// closeCalls answers what was never run.
func (c *conversation) closeCalls() {
	for len(c.calls) > 0 {
		c.result(c.calls[0].ID, "Not run: the turn had ended.")
	}
	c.flush()
}

// fit shortens a conversation to about max bytes: first old results, the
// oldest first, then whole exchanges from the beginning. The last exchange
// stays as it is.
func fit(messages []Message, max int) []Message {
	last := len(messages) - 1
	for last > 0 && messages[last].Role != User {
		last--
	}
	out := append([]Message(nil), messages...)
	size := 0
	for _, m := range out {
		size += sizeOf(m)
	}
	for i := 0; i < last && size > max; i++ {
		if out[i].Role == ToolRole && len(out[i].Text) > oldResult {
			before := len(out[i].Text)
			out[i].Text = Shorten(out[i].Text, oldResult)
			size -= before - len(out[i].Text)
		}
	}
	start := 0
	for start < last && size > max {
		size -= sizeOf(out[start])
		start++
		for start < last && out[start].Role != User { // never begin in mid-exchange
			size -= sizeOf(out[start])
			start++
		}
	}
	if start == 0 {
		return out
	}
	note := Message{Role: User, Text: "[threadbook: the earlier part of this thread is left out here; its files and variables are still there.]"}
	return append([]Message{note}, out[start:]...)
}

func sizeOf(m Message) int {
	n := len(m.Text)
	for _, c := range m.Calls {
		n += len(c.Name) + len(c.Arguments)
	}
	return n
}
