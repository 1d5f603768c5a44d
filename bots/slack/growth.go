package slack

import (
	"maps"
	"regexp"
	"strconv"
	"strings"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
)

const (
	// streamBytes is what a stream may hold: its texts and titles, its cells'
	// code, and their output twice. Slack counts so, and refuses to end a stream
	// above about 10,600 bytes (openclaw#143882).
	streamBytes = 9000
	streamTasks = 50 // rows of a stream (openclaw#143882)
	// maxRow is a row's title, in bytes; Slack is said to cut above 256.
	maxRow = 150
)

// shown is what a stream's message shows. Slack takes additions alone.
type shown struct {
	status, text string
	cells        map[int64]row
	bytes        int // as Slack counts, at most
}

// row is a cell in a stream.
type row struct {
	title, output string
	over          bool
}

// grow finds what to add to make of what is shown the post. It is not ok where
// additions can't, or where the message would become too large.
func (was shown) grow(p bots.Post) (now shown, chunks []slackgo.StreamChunk, ok bool) {
	now = shown{status: p.Status, text: p.Text, cells: maps.Clone(was.cells), bytes: was.bytes}
	if now.cells == nil {
		now.cells = map[int64]row{}
	}
	if p.Status != "" && p.Status != was.status {
		title := shorten(harmless(p.Status), maxRow)
		chunks = append(chunks, slackgo.NewPlanUpdateChunk(title))
		now.bytes += len(title)
	}
	if text := paragraph(was.text, p.Text); text != "" {
		text = harmless(text)
		chunks = append(chunks, slackgo.NewMarkdownTextChunk(text))
		now.bytes += len(text)
	}
	for _, c := range p.Cells {
		old, known := was.cells[c.Number]
		if old.over {
			continue // what comes now is shortened
		}
		added, grown := strings.CutPrefix(c.Output, old.output)
		if !grown {
			return was, nil, false
		}
		cell := row{title: old.title, output: c.Output, over: c.Status != ""}
		if known && !cell.over && added == "" {
			continue
		}
		now.cells[c.Number] = cell
		task := slackgo.NewTaskUpdateChunk(strconv.FormatInt(c.Number, 10), "")
		if !known {
			cell.title = rowTitle(c)
			now.cells[c.Number] = cell
			task.Details = fenced(c.Code)
			now.bytes += len(cell.title) + len(task.Details)
		}
		task.Title, task.Output = cell.title, fenced(added)
		now.bytes += 2 * len(task.Output)
		switch c.Status {
		case "":
			task.Status = slackgo.TaskCardStatusInProgress
		case "ok":
			task.Status = slackgo.TaskCardStatusComplete
		default:
			task.Status = slackgo.TaskCardStatusError
		}
		chunks = append(chunks, task)
	}
	if now.bytes > streamBytes || len(now.cells) > streamTasks {
		return was, nil, false
	}
	return now, chunks, true
}

// paragraph is what a text has that was not shown. Slack drops white space
// where additions meet, so each is a paragraph, and a text that has not grown
// by paragraphs comes whole.
func paragraph(was, text string) string {
	switch rest, grown := strings.CutPrefix(text, was); {
	case text == was || strings.TrimSpace(text) == "":
		return ""
	case was == "":
		return text
	case grown && strings.HasPrefix(rest, "\n\n"):
		return rest
	}
	return "\n\n" + text
}

// rowTitle is a cell's first line, or its language where the one who wrote the
// code sees it above.
func rowTitle(c bots.Cell) string {
	line, _, _ := strings.Cut(strings.TrimSpace(c.Code), "\n")
	if line == "" {
		line = "Run " + c.Language
	}
	return shorten(harmless(line), maxRow)
}

// fenced is code or output for a row, which Slack reads as Markdown. Each
// addition has a fence of its own, since the one before is closed.
func fenced(text string) string {
	text = strings.Trim(text, "\r\n")
	if strings.TrimSpace(text) == "" {
		return ""
	}
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + "\n" + harmless(text) + "\n" + fence + "\n"
}

// harmless is Markdown for a stream.
func harmless(text string) string { return unlinked(escapeMarkdown(text)) }

// joints are the places at which Slack would take words for an address.
var joints = regexp.MustCompile(`(\.)(\pL)|(:)(//)|(\])([(\[:])`)

// unlinked breaks each address with a space without width. A stream can't
// forbid previews of links, for which Slack fetches whatever address a program
// or a model has written, and its edits may not either.
func unlinked(text string) string { return joints.ReplaceAllString(text, "$1$3$5\u200b$2$4$6") }
