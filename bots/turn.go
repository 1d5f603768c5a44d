package bots

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"threadbook/sessions"
)

// Types of outputs that are data for programs, as package sandbox defines them.
const (
	tableMIME = "application/vnd.threadbook.table+json"
	chartMIME = "application/vnd.threadbook.chart+json"
)

// view is what a thread's log says that concerns people who see it in a chat.
type view struct {
	turns   []*turnView // with something that may have to be shown yet, in order
	open    *turnView
	last    int64     // the latest turn's id
	waiting []message // unread
	marks   []mark    // messages that should get a sign
	taken   map[string]bool
	title   string
	ledger  map[partKey]*part
	read    int64
}

// mark is a message to be marked as taken up; busy while a turn runs.
type mark struct {
	message
	busy bool
}

// message is one that a person wrote.
type message struct {
	seq  int64
	at   time.Time
	body *sessions.Message
}

// turnView is one turn, or with the id 0 one offer to run an edited message.
type turnView struct {
	id        int64
	asked     []message
	began     time.Time
	narration string // of the model, with its calls
	answer    string
	calls     bool // the model has been told to run something
	cells     []*cellView
	files     []Media
	notices   []*sessions.Notice
	question  *sessions.Question
	finished  *sessions.TurnFinished
	offer     int64 // seq of the edit
	takenBack bool  // it stood in line, and nobody wants it any more
	lost      bool  // variables were
}

// cellView is a cell of a turn.
type cellView struct {
	start   *sessions.CellStarted
	outputs []*sessions.CellOutput
	end     *sessions.CellFinished
}

func newView() *view {
	return &view{taken: map[string]bool{}, ledger: map[partKey]*part{}}
}

// take folds one more event.
func (v *view) take(ev sessions.Event) {
	if ev.Seq <= v.read {
		return
	}
	v.read = ev.Seq
	t := v.open
	switch b := ev.Body.(type) {
	case *sessions.Message:
		v.takeMessage(ev, b)
	case *sessions.TurnStarted:
		t = &turnView{id: ev.Turn, began: ev.At}
		v.waiting = slices.DeleteFunc(v.waiting, func(m message) bool {
			if !slices.Contains(b.Messages, m.seq) {
				return false
			}
			t.asked = append(t.asked, m)
			v.taken[m.body.Key] = true
			return true
		})
		v.open, v.last, v.turns = t, ev.Turn, append(v.turns, t)
	case *sessions.Post:
		v.takePost(ev, b)
	}
	if t == nil {
		return
	}
	switch b := ev.Body.(type) {
	case *sessions.TurnFinished:
		t.finished, v.open = b, nil
	case *sessions.Reply:
		t.calls = len(b.Calls) > 0
		if t.calls {
			t.narration = b.Text
		} else {
			t.answer = b.Text
		}
	case *sessions.CellStarted:
		t.cells = append(t.cells, &cellView{start: b})
	case *sessions.CellOutput:
		if c := t.cell(b.Cell); c != nil {
			c.outputs = append(c.outputs, b)
		}
	case *sessions.CellFinished:
		if c := t.cell(b.Cell); c != nil {
			c.end = b
		}
	case *sessions.File:
		if b.Message == 0 && b.Blob != "" && !b.Saved {
			t.give(b)
		}
	case *sessions.Notice:
		t.notices = append(t.notices, b)
		t.lost = t.lost || b.Code == "state_lost"
	case *sessions.Question:
		if b.Answer == "" {
			t.question = b
		}
	}
}

// shown are the turns with something to show. Where a message stands in line
// for its turn, that turn is among them: its number is the next one. So it is
// where its message was taken back while it stood there; the next turn that
// comes takes its post over.
func (v *view) shown(place int) []*turnView {
	turns := slices.Clone(v.turns)
	switch next := (&turnView{id: v.last + 1, asked: v.waiting}); {
	case v.open != nil:
	case place > 0 && len(v.waiting) > 0:
		turns = append(turns, next)
	case len(v.waiting) == 0 && v.stands(next.id):
		next.takenBack = true
		turns = append(turns, next)
	}
	return turns
}

// stands says whether the turn has a live post that may still be edited.
func (v *view) stands(turn int64) bool {
	p := v.ledger[partKey{turn, livePart}]
	return p != nil && p.state != "" && p.state != sessions.PostFailed && !p.final
}

func (v *view) takeMessage(ev sessions.Event, m *sessions.Message) {
	if v.title == "" {
		v.title, _, _ = strings.Cut(strings.TrimSpace(m.Text), "\n")
	}
	if m.Edits == "" {
		w := message{ev.Seq, ev.At, m}
		v.marks = append(v.marks, mark{w, v.open != nil})
		if !strings.EqualFold(strings.TrimSpace(m.Text), "!stop") { // that is in no turn
			v.waiting = append(v.waiting, w)
		}
		return
	}
	for i, w := range v.waiting {
		if w.body.Key == m.Edits {
			if v.waiting[i].body = edited(w.body, m); m.Deleted {
				v.waiting = slices.Delete(v.waiting, i, i+1)
			}
			return
		}
	}
	if v.taken[m.Edits] && !m.Deleted {
		v.turns = append(v.turns, &turnView{offer: ev.Seq, began: ev.At})
	}
}

// edited is a message with the words of its edit, under its own key and with
// its own files.
func edited(m, edit *sessions.Message) *sessions.Message {
	changed := *m
	changed.Text = edit.Text
	return &changed
}

// give notes a file that the thread gets; the latest of a path counts.
func (t *turnView) give(f *sessions.File) {
	m := Media{Name: path.Base(f.Path), MIME: f.MIME, Size: f.Size, Blob: f.Blob, Alt: f.Title}
	t.files = slices.DeleteFunc(t.files, func(old Media) bool { return old.Name == m.Name || old.Blob == m.Blob })
	t.files = append(t.files, m)
}

func (t *turnView) cell(number int64) *cellView {
	for _, c := range t.cells {
		if c.start.Cell == number {
			return c
		}
	}
	return nil
}

// display is one thing that a cell showed, in all its representations.
type display []*sessions.CellOutput

// of is the representation of a type, the last where there are several: an
// updated display shows its last form.
func (d display) of(match func(mime string) bool) *sessions.CellOutput {
	for _, out := range slices.Backward(d) {
		if match(out.MIME) {
			return out
		}
	}
	return nil
}

func isMIME(name string) func(string) bool { return func(m string) bool { return m == name } }

// isPicture says which types chats can show.
func isPicture(mime string) bool {
	return mime == "image/png" || mime == "image/jpeg" || mime == "image/gif" || mime == "image/webp"
}

// displays are what the cell showed beside its streams, in order.
func (c *cellView) displays() []display {
	var all []display
	at := map[int64]int{}
	for _, out := range c.outputs {
		if out.Stream != "" {
			continue
		}
		i, known := at[out.Display]
		if !known || out.Display == 0 {
			i = len(all)
			at[out.Display] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], out)
	}
	return all
}

// text is all that the cell printed or showed as text, with its error.
func (c *cellView) text() string {
	var b strings.Builder
	shown := map[int64]bool{}
	displays := map[int64]display{}
	for _, out := range c.outputs {
		if out.Stream == "" {
			displays[out.Display] = append(displays[out.Display], out)
		}
	}
	for _, out := range c.outputs {
		switch {
		case out.Stream != "":
			if out.Truncated > 0 {
				b.WriteString("\n[… " + plural(out.Truncated, "byte") + " left out; all of it is in a file …]\n")
			}
			b.WriteString(out.Text)
		case out.Display != 0 && shown[out.Display]:
		default:
			shown[out.Display] = true
			d := displays[out.Display]
			if out.Display == 0 {
				d = display{out}
			}
			if plain := d.of(isMIME("text/plain")); plain != nil && d.of(isPicture) == nil {
				if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
					b.WriteByte('\n')
				}
				b.WriteString(plain.Text + "\n")
			}
		}
	}
	if c.end != nil && c.end.Error != nil {
		if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
			b.WriteByte('\n')
		}
		if e := c.end.Error; e.Traceback != "" {
			b.WriteString(e.Traceback)
		} else {
			b.WriteString(e.Name + ": " + e.Value)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// figures are the pictures that the turn's cells showed, then those among its
// files; each once.
func (t *turnView) figures() []Media {
	var all []Media
	seen := map[string]bool{}
	for _, c := range t.cells {
		n := 0
		for _, d := range c.displays() {
			pic := d.of(isPicture)
			if pic == nil || pic.Blob == "" || seen[pic.Blob] {
				continue
			}
			seen[pic.Blob] = true
			n++
			name := "cell-" + decimal(c.start.Cell)
			if n > 1 {
				name += "-" + decimal(int64(n))
			}
			all = append(all, Media{Name: name + "." + extension(pic.MIME), MIME: pic.MIME, Size: pic.Size, Blob: pic.Blob, Alt: d.alt()})
		}
	}
	for _, f := range t.files {
		if isPicture(f.MIME) && !seen[f.Blob] {
			seen[f.Blob] = true
			if f.Alt == "" {
				f.Alt = f.Name
			}
			all = append(all, f)
		}
	}
	return all
}

// otherFiles are the files that are no pictures.
func (t *turnView) otherFiles() []Media {
	var all []Media
	for _, f := range t.files {
		if !isPicture(f.MIME) {
			all = append(all, f)
		}
	}
	for _, c := range t.cells {
		for _, d := range c.displays() {
			if out := d.of(func(m string) bool { return m == "image/svg+xml" || m == "application/pdf" }); out != nil && out.Blob != "" && d.of(isPicture) == nil {
				all = append(all, Media{Name: "cell-" + decimal(c.start.Cell) + "." + extension(out.MIME), MIME: out.MIME, Size: out.Size, Blob: out.Blob})
			}
		}
	}
	return all
}

func extension(mime string) string {
	_, kind, _ := strings.Cut(mime, "/")
	switch kind {
	case "jpeg":
		return "jpg"
	case "svg+xml":
		return "svg"
	}
	return kind
}

// alt is what a figure shows, in words.
func (d display) alt() string {
	if data := d.of(isMIME(chartMIME)); data != nil {
		var chart struct {
			Alt string `json:"alt"`
		}
		if json.Unmarshal([]byte(data.Text), &chart) == nil && chart.Alt != "" {
			return shorten(chart.Alt, maxAlt)
		}
	}
	if plain := d.of(isMIME("text/plain")); plain != nil && plain.Text != "" {
		return shorten(plain.Text, maxAlt)
	}
	return "A figure without a description"
}

// tables are the last data frames that the turn's cells showed of those that
// fit into a post of room bytes. The others are in the cells' output as text.
func (t *turnView) tables(room int) []Table {
	var all []Table
	for _, c := range t.cells {
		for _, d := range c.displays() {
			if out := d.of(isMIME(tableMIME)); out != nil {
				if table, ok := readTable(out.Text); ok && table.size() <= room {
					all = append(all, table)
				}
			}
		}
	}
	return all[max(0, len(all)-maxTables):]
}

// readTable reads a data frame, if it is whole and small enough to be shown.
func readTable(text string) (Table, bool) {
	var frame struct {
		Columns []struct {
			Name string `json:"name"`
		} `json:"columns"`
		Rows  [][]any  `json:"rows"`
		Shape [2]int64 `json:"shape"`
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if dec.Decode(&frame) != nil || len(frame.Rows) == 0 || len(frame.Rows) > maxTableRows ||
		len(frame.Columns) == 0 || len(frame.Columns) > maxTableColumns || frame.Shape[0] != int64(len(frame.Rows)) {
		return Table{}, false
	}
	t := Table{Caption: plural(frame.Shape[0], "row")}
	for _, c := range frame.Columns {
		t.Header = append(t.Header, c.Name)
	}
	for _, row := range frame.Rows {
		cells := make([]string, len(frame.Columns))
		for i := range min(len(row), len(cells)) {
			cells[i] = cellText(row[i])
		}
		t.Rows = append(t.Rows, cells)
	}
	return t, true
}

func cellText(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return shorten(x, maxTableCell)
	case json.Number:
		return x.String()
	case bool:
		if x {
			return "true"
		}
		return "false"
	}
	return ""
}
