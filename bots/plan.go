package bots

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"threadbook/sessions"
)

// Bounds of what is shown.
const (
	maxAlt          = 1000 // bytes; Slack's limit of alt_txt
	maxTables       = 2
	maxTableRows    = 50
	maxTableColumns = 20 // Slack's limit
	maxTableCell    = 80 // bytes
	maxNarration    = 600
	fullCells       = 3   // cells of a live post that have room for more than a line
	cellLine        = 120 // bytes of an earlier cell's code
	maxButton       = 75  // bytes of a label; Slack's limit, Discord's is 80
	maxOptions      = 5   // buttons of a question
)

// planned is a post as it should stand on the platform just now.
type planned struct {
	Post
	edited bool // it is a live post, that is edited until it is final
	final  bool
	long   string // the text that is a file of the post, if there is one
}

// key is the post's in the ledger.
func (p planned) key() partKey { return partKey{p.Turn, p.Part} }

// livePart is the part that is edited while the turn runs.
const livePart = "live"

// plan is what should stand on the platform for a turn, in order. It follows
// from the log alone, so that whoever takes over plans the same.
func (v *view) plan(t *turnView, thread sessions.ThreadID, l Limits, hasModel bool, place int) []planned {
	post := func(part string) Post { return Post{Thread: thread, Turn: t.id, Part: part} }
	if t.offer != 0 {
		p := post("edit/" + decimal(t.offer))
		p.Text = "You changed a message that was worked on already."
		p.Buttons = []Button{{Action: ActionEdit, Label: "Run it again", Value: "0/" + decimal(t.offer)}}
		return []planned{{Post: p, final: true}}
	}
	var all []planned
	if !t.quiet(hasModel) || v.stands(t.id) {
		p := post(livePart)
		t.live(&p, l, place)
		all = append(all, planned{Post: p, edited: true, final: t.finished != nil})
	}
	if t.finished == nil {
		return all
	}
	for i, p := range t.result(l) {
		p.Thread, p.Turn, p.Part = thread, t.id, "answer/"+decimal(int64(i))
		all = append(all, planned{Post: p, final: true})
	}
	files := t.otherFiles()
	long := t.longOutput(l.Live)
	if long != "" {
		sum := sha256.Sum256([]byte(long)) // its blob's name
		files = append(files, Media{Name: "output-" + decimal(t.id) + ".txt", MIME: "text/plain", Size: int64(len(long)), Blob: hex.EncodeToString(sum[:])})
	}
	for i := 0; len(files) > 0; i++ {
		n := min(len(files), l.Media)
		p := post("files/" + decimal(int64(i)))
		p.Files, files = files[:n], files[n:]
		plan := planned{Post: p, final: true}
		if len(files) == 0 {
			plan.long = long // the last file
		}
		all = append(all, plan)
	}
	return all
}

// quiet says that the turn has no live post: a command, or words that there is
// no model for, is answered at once.
func (t *turnView) quiet(hasModel bool) bool {
	if len(t.cells) > 0 || len(t.asked) == 0 {
		return false
	}
	text := strings.TrimSpace(t.asked[0].body.Text)
	if strings.HasPrefix(text, "!") {
		return !strings.HasPrefix(text, "!run") && !strings.HasPrefix(text, "!rerun")
	}
	return !hasModel && !strings.HasPrefix(text, fenceMark)
}

// live fills in the live post.
func (t *turnView) live(p *Post, l Limits, place int) {
	if t.takenBack {
		p.Status = "The message was taken back"
		return
	}
	p.Running = t.finished == nil
	if len(t.asked) > 0 {
		p.Asker = t.asked[0].body.User
	}
	p.Status = t.status(place)
	value := decimal(t.id)
	if p.Running {
		p.Text = shorten(strings.TrimSpace(t.narration), maxNarration)
		p.Buttons = []Button{{Action: ActionStop, Label: "Stop", Value: value, Danger: true}}
	} else {
		p.Buttons = t.afterwards(value)
	}
	for _, n := range t.notices {
		if n.Code == "resumed" {
			p.Text = strings.TrimSpace(p.Text + "\n\n" + n.Text)
			break
		}
	}
	p.Cells = t.shownCells(l.Live)
}

// afterwards are the buttons of a turn that has ended.
func (t *turnView) afterwards(value string) []Button {
	again := "Run again"
	switch t.finished.Status {
	case sessions.TurnFailed, sessions.TurnTimeout, sessions.TurnOverBudget:
		again = "Retry"
	}
	buttons := []Button{{Action: ActionAgain, Label: again, Value: value}}
	if t.lost {
		buttons = append(buttons, Button{Action: ActionRerun, Label: "Run all cells again", Value: value})
	}
	if len(t.cells) > 0 {
		buttons = append(buttons,
			Button{Action: ActionCode, Label: "Show code", Value: value},
			Button{Action: ActionNotebook, Label: "Notebook", Value: value})
	}
	return append(buttons, Button{Action: ActionFiles, Label: "Files", Value: value})
}

// shownCells are the turn's cells within room bytes: the last few with code
// and output, those before with their first line.
func (t *turnView) shownCells(room int) []Cell {
	var cells []Cell
	full := min(len(t.cells), fullCells)
	early := t.cells[:len(t.cells)-full]
	if most := room / 4 / cellLine; len(early) > most {
		early = early[len(early)-most:]
	}
	for _, c := range early {
		cell := c.shown()
		line, _, _ := strings.Cut(strings.TrimSpace(c.start.Code), "\n")
		cell.Code = shorten(line, cellLine)
		cells = append(cells, cell)
		room -= cellLine
	}
	for i, c := range t.cells[len(t.cells)-full:] {
		share := room / (full - i)
		cell := c.shown()
		if c.start.By != sessions.ByUser { // who wrote it sees it above
			cell.Code = HeadTail(strings.TrimSpace(c.start.Code), share/2)
		}
		if out := c.text(); c.end == nil {
			cell.Output = Tail(out, share-len(cell.Code))
		} else {
			cell.Output = HeadTail(out, share-len(cell.Code))
		}
		room -= len(cell.Code) + len(cell.Output)
		cells = append(cells, cell)
	}
	return cells
}

func (c *cellView) shown() Cell {
	cell := Cell{Number: c.start.Cell, Language: c.start.Language}
	if c.end != nil {
		cell.Status, cell.Seconds = c.end.Status, c.end.Seconds
	}
	return cell
}

// status is the line of small print.
func (t *turnView) status(place int) string {
	if t.finished == nil {
		switch n := len(t.cells); {
		case place > 0:
			return fmt.Sprintf("Waiting for a free place: number %d in line", place)
		case n > 0 && t.cells[n-1].end == nil:
			return fmt.Sprintf("Running cell %d (%s) …", t.cells[n-1].start.Cell, t.cells[n-1].start.Language)
		case n > 0 || t.calls:
			return "Working …"
		}
		return "On it …"
	}
	words := map[sessions.TurnStatus]string{
		sessions.TurnOK: "Done", sessions.TurnFailed: "Failed", sessions.TurnStopped: "Stopped",
		sessions.TurnOverBudget: "Stopped at a limit", sessions.TurnTimeout: "Out of time",
	}[t.finished.Status]
	for _, c := range t.cells {
		if c.end != nil && c.end.Status != "ok" && t.finished.Status == sessions.TurnOK && c == t.cells[len(t.cells)-1] {
			words = "Ended with " + strings.ReplaceAll(c.end.Status, "_", " ")
		}
	}
	parts := []string{fmt.Sprintf("%s in %.1f s", words, t.finished.Seconds)}
	if n := len(t.cells); n > 0 {
		parts = append(parts, plural(int64(n), "cell"))
	}
	if n := t.finished.Tokens.In + t.finished.Tokens.Out; n > 0 {
		parts = append(parts, plural(n, "token"))
	}
	return strings.Join(parts, " · ")
}

// result are the posts that hold what came of the turn: words, tables, figures.
func (t *turnView) result(l Limits) []Post {
	var posts []Post
	for _, piece := range Split(t.words(), l.Text) {
		posts = append(posts, Post{Text: piece})
	}
	last := func() *Post {
		if len(posts) == 0 {
			posts = append(posts, Post{})
		}
		return &posts[len(posts)-1]
	}
	for _, table := range t.tables(min(l.Text, l.Live)) {
		if len(posts) > 0 && last().size()+table.size() > l.Text {
			posts = append(posts, Post{})
		}
		last().Tables = append(last().Tables, table)
	}
	for figures := t.figures(); len(figures) > 0; {
		if len(posts) > 0 && len(last().Figures) > 0 {
			posts = append(posts, Post{})
		}
		n := min(len(figures), l.Media)
		last().Figures, figures = figures[:n], figures[n:]
	}
	if q := t.question; q != nil {
		for i, option := range q.Options[:min(len(q.Options), maxOptions)] {
			last().Buttons = append(last().Buttons, Button{Action: ActionAnswer, Label: shorten(option, maxButton),
				Value: decimal(t.id) + "/" + decimal(int64(i))})
		}
	}
	return posts
}

// size is how many bytes the post's words and tables have as text.
func (p *Post) size() int {
	n := len(p.Text)
	for _, t := range p.Tables {
		n += t.size()
	}
	return n
}

// size is how many bytes the table has as text whose columns are lined up,
// with a rule under its header.
func (t Table) size() int {
	line := 1
	for i, name := range t.Header {
		width := len(name)
		for _, row := range t.Rows {
			width = max(width, len(row[i]))
		}
		line += width + len("  ")
	}
	return len(t.Caption) + (len(t.Rows)+2)*line
}

// words are what the turn has to say: the model's answer, its question, and
// what the thread must know.
func (t *turnView) words() string {
	var parts []string
	add := func(text string) {
		if text = strings.TrimSpace(text); text != "" {
			parts = append(parts, text)
		}
	}
	add(t.answer)
	if t.question != nil {
		if t.answer == "" {
			add(t.narration)
		}
		add(t.question.Text)
	}
	spoken := len(parts) > 0
	for _, n := range t.notices {
		switch {
		case n.Code == "resumed":
		case spoken:
			add("> " + strings.ReplaceAll(n.Text, "\n", "\n> "))
		default:
			add(n.Text)
		}
	}
	return strings.Join(parts, "\n\n")
}

// longOutput is the output of all cells whose output the live post leaves out
// or shortens, empty where there is none.
func (t *turnView) longOutput(room int) string {
	shown := map[int64]string{}
	for _, c := range t.shownCells(room) {
		shown[c.Number] = c.Output
	}
	var b strings.Builder
	for _, c := range t.cells {
		if out := c.text(); out != shown[c.start.Cell] {
			fmt.Fprintf(&b, "--- cell %d (%s) ---\n%s\n", c.start.Cell, c.start.Language, out)
		}
	}
	return b.String()
}
