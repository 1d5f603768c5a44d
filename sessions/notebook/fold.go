package notebook

import (
	"fmt"
	"slices"
	"strings"

	"threadbook/sessions"
)

// voice says whose words a block has.
type voice int

const (
	ours   voice = iota // written here, in sound Markdown
	people              // of anybody: any text
	model               // Markdown, mostly sound
)

// block is a piece of the file: words or a cell.
type block struct {
	voice voice
	head  string // ours, before the words: who wrote, with which files
	text  string
	cell  *cell // nil for words
}

// cell is a cell with all that came of it.
type cell struct {
	*sessions.CellStarted
	outputs []*output
	files   []*sessions.File       // given out, the latest of a path
	end     *sessions.CellFinished // nil: it has not ended
}

// output is text of a stream, or one thing displayed in all its types.
type output struct {
	stream string
	text   strings.Builder
	shown  []*sessions.CellOutput // one of a type
}

// waiting is a message that no turn has taken up.
type waiting struct {
	seq  int64
	body sessions.Message // with the words of its last edit
}

// turn is what has to be known of a turn before it is told.
type turn struct {
	worked bool     // the model spoke or a cell ran
	direct []string // code that people ran
}

// folder folds a log into blocks.
type folder struct {
	blocks  []block
	turns   map[int64]*turn
	placed  map[int64][]*sessions.File // by the seq of the message they came with
	waiting []waiting
	cells   map[int64]*cell
	said    []string // by people in the turn at hand
	command bool     // the turn at hand is one that did no work
}

func fold(events []sessions.Event) []block {
	f := &folder{turns: map[int64]*turn{}, placed: map[int64][]*sessions.File{}, cells: map[int64]*cell{}}
	f.look(events)
	if len(events) > 0 {
		first, last := events[0], events[len(events)-1]
		const layout = "2 January 2006, 15:04"
		f.say(ours, "", fmt.Sprintf("# A threadbook thread\n\n%s from %s to %s (UTC)", codeSpan(string(first.Thread)), first.At.UTC().Format(layout), last.At.UTC().Format(layout)))
	}
	for _, ev := range events {
		f.take(ev)
	}
	for _, w := range f.waiting {
		if !isCommand(w.body.Text) {
			f.person(w, nil)
		}
	}
	return f.blocks
}

// look notes what is told earlier in the file than in the log.
func (f *folder) look(events []sessions.Event) {
	for _, ev := range events {
		t := f.turns[ev.Turn]
		if t == nil {
			t = &turn{}
			f.turns[ev.Turn] = t
		}
		switch b := ev.Body.(type) {
		case *sessions.Reply:
			t.worked = true
		case *sessions.CellStarted:
			t.worked = true
			if b.By == sessions.ByUser {
				t.direct = append(t.direct, b.Code)
			}
		case *sessions.File:
			if b.Message != 0 {
				f.placed[b.Message] = append(f.placed[b.Message], b)
			}
		}
	}
}

func (f *folder) say(v voice, head, text string) {
	f.blocks = append(f.blocks, block{voice: v, head: head, text: strings.TrimSpace(text)})
}

func (f *folder) take(ev sessions.Event) {
	switch b := ev.Body.(type) {
	case *sessions.Message:
		f.message(ev.Seq, b)
	case *sessions.TurnStarted:
		f.start(ev.Turn, b)
	case *sessions.TurnFinished:
		f.command = false
		if b.Status != sessions.TurnOK {
			f.say(ours, "", fmt.Sprintf("*The turn ended: %s.*", escape(strings.ReplaceAll(string(b.Status), "_", " "))))
		}
	case *sessions.Reply:
		if strings.TrimSpace(b.Text) != "" {
			f.say(model, "", b.Text)
		}
	case *sessions.Question:
		f.question(b)
	case *sessions.Notice:
		// Variables that are gone matter to who reads the cells after, even
		// where a command did it.
		if !f.command || b.Code == "state_lost" {
			f.say(people, "*threadbook:*", b.Text)
		}
	case *sessions.File:
		f.file(b)
	case *sessions.CellStarted:
		c := &cell{CellStarted: b}
		f.cells[b.Cell] = c
		f.blocks = append(f.blocks, block{cell: c})
	case *sessions.CellOutput:
		if c := f.cells[b.Cell]; c != nil {
			c.add(b)
		}
	case *sessions.CellFinished:
		if c := f.cells[b.Cell]; c != nil {
			c.end = b
		}
	}
}

// message takes a message, or the edit of one that waits. An edit that comes
// too late asks for nothing.
func (f *folder) message(seq int64, m *sessions.Message) {
	if m.Edits == "" {
		f.waiting = append(f.waiting, waiting{seq, *m})
		return
	}
	i := slices.IndexFunc(f.waiting, func(w waiting) bool { return w.body.Key == m.Edits })
	switch {
	case i < 0:
	case m.Deleted:
		f.waiting = slices.Delete(f.waiting, i, i+1)
	default:
		f.waiting[i].body.Text = m.Text
	}
}

// start tells the messages that a turn has taken up.
func (f *folder) start(number int64, b *sessions.TurnStarted) {
	var taken []waiting
	f.waiting = slices.DeleteFunc(f.waiting, func(w waiting) bool {
		if !slices.Contains(b.Messages, w.seq) {
			return false
		}
		taken = append(taken, w)
		return true
	})
	t := f.turns[number]
	f.said = nil
	f.command = len(taken) > 0 && isCommand(taken[0].body.Text) && !t.worked
	if f.command {
		return
	}
	for _, w := range taken {
		f.person(w, t.direct)
	}
}

// person tells a message; direct is the code of its turn that people ran.
func (f *folder) person(w waiting, direct []string) {
	m := w.body
	f.said = append(f.said, m.Text)
	verb, text := "", m.Text
	if onlyCode(text, direct) {
		verb, text = " ran", ""
	}
	var files []string
	for _, p := range f.placed[w.seq] {
		files = append(files, codeSpan(p.Path)+" ("+bytesText(p.Size)+")")
	}
	for _, a := range m.Files {
		if a.Error != "" {
			files = append(files, codeSpan(a.Name)+" (not taken: "+escape(a.Error)+")")
		} else if len(f.placed[w.seq]) == 0 {
			files = append(files, codeSpan(a.Name)+" ("+bytesText(a.Size)+")")
		}
	}
	name := m.User.Name
	if name == "" {
		name = m.User.ID
	}
	head := "**" + escape(name) + "**" + verb
	if len(files) > 0 {
		head += " with " + strings.Join(files, ", ")
	}
	f.say(people, head+":", text)
}

// question tells what the model asks, or an answer that no message has told.
func (f *folder) question(q *sessions.Question) {
	if q.Answer == "" {
		text := q.Text
		for _, o := range q.Options {
			text += "\n\n- " + escape(o)
		}
		f.say(model, "", text)
		return
	}
	if !slices.Contains(f.said, q.Answer) && q.By != nil {
		f.say(people, "**"+escape(q.By.Name)+"**:", q.Answer)
	}
}

// file tells a file that the thread got, with its cell where it has one.
func (f *folder) file(b *sessions.File) {
	if b.Message != 0 || b.Saved || f.command {
		return
	}
	c := f.cells[b.Cell]
	if c == nil {
		f.say(ours, "", fileText(b))
		return
	}
	c.files = slices.DeleteFunc(c.files, func(old *sessions.File) bool { return old.Path == b.Path })
	c.files = append(c.files, b)
}

// add joins an output to those before: text to text of the same stream next
// to it, a type to its display. Of two of a type the last is what was shown
// in the end, in the place of the first.
func (c *cell) add(b *sessions.CellOutput) {
	if b.Stream == "" {
		for _, o := range c.outputs {
			if b.Display == 0 || len(o.shown) == 0 || o.shown[0].Display != b.Display {
				continue
			}
			if i := slices.IndexFunc(o.shown, func(s *sessions.CellOutput) bool { return s.MIME == b.MIME }); i >= 0 {
				o.shown[i] = b
			} else {
				o.shown = append(o.shown, b)
			}
			return
		}
		c.outputs = append(c.outputs, &output{shown: []*sessions.CellOutput{b}})
		return
	}
	var o *output
	if n := len(c.outputs); n > 0 && c.outputs[n-1].stream == b.Stream {
		o = c.outputs[n-1]
	} else {
		o = &output{stream: b.Stream}
		c.outputs = append(c.outputs, o)
	}
	if b.Truncated > 0 {
		fmt.Fprintf(&o.text, "\n[… %s left out …]\n", bytesText(b.Truncated))
	}
	o.text.WriteString(b.Text)
}

// trouble is a cell's failure as its language, or else the thread, tells it;
// ok is false where there was none.
func (c *cell) trouble() (name, value, traceback string, ok bool) {
	switch {
	case c.end == nil:
		return "Unfinished", "the cell had not ended when this was written", "", true
	case c.end.Error != nil:
		e := c.end.Error
		return e.Name, e.Value, e.Traceback, true
	case c.end.Status != "ok":
		return c.end.Status, fmt.Sprintf("the cell ended so after %.1f s; variables %s", c.end.Seconds, c.end.State), "", true
	}
	return "", "", "", false
}

// isCommand says whether a message is one of the bot's commands.
func isCommand(text string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "!")
	return ok && rest != "" && (rest[0] >= 'a' && rest[0] <= 'z' || rest[0] >= 'A' && rest[0] <= 'Z')
}

// onlyCode says whether a message has no words beside the code that ran, so
// that its cells tell all of it. Code behind one that failed never ran, and
// stays in the words.
func onlyCode(text string, direct []string) bool {
	if len(direct) == 0 {
		return false
	}
	for _, code := range direct {
		text = strings.Replace(text, code, "", 1)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "```") && !strings.HasPrefix(strings.ToLower(line), "!run") {
			return false
		}
	}
	return true
}
