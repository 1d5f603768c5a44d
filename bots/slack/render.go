package slack

import (
	"fmt"
	"strings"
	"unicode/utf8"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
)

// Limits of a message, of Slack's block reference save where it says otherwise.
const (
	// textLimit is an answer's Markdown in a post. Slack allows 12,000
	// characters in markdown blocks, and refuses about 12,000 to 13,000 over all
	// blocks (bolt-js#2509), for which it documents no number.
	textLimit = 9000
	// liveLimit is code and output in a live post, which is edited often.
	liveLimit = 6000
	// maxBlockText is all text that a message may come to.
	maxBlockText = 11_000
	maxFallback  = 3000 // chat.update refuses a text above about 4,000
	maxSection   = 3000
	maxContext   = 2000
	maxTitle     = 150 // of a container
	maxAlt       = 2000
	maxLabel     = 75
	// Of 50 blocks a cell takes one, and three in older blocks.
	maxCells      = 20
	maxOlderCells = 10
	maxMedia      = 10

	maxTableRows    = 100 // the header apart
	maxTableColumns = 20
	maxTableText    = 9000 // Slack: 10,000 over all tables of a message
)

// render makes a message of a post without files: its blocks, and the text for
// notifications and for readers that show no blocks. figures are the ids of
// the post's figures in Slack, empty for one that Slack shows no picture of,
// which is then a link. rich is whether Slack takes blocks that are new.
func render(p bots.Post, figures []string, link func(bots.Media) string, rich bool) (blocks []slackgo.Block, text string) {
	if p.Text != "" {
		if rich {
			blocks = append(blocks, slackgo.NewMarkdownBlock("", escapeMarkdown(p.Text)))
		} else {
			for _, part := range split(mrkdwn(p.Text), maxSection) {
				blocks = append(blocks, section(part))
			}
		}
	}
	cells := p.Cells
	most := maxCells
	if !rich {
		most = maxOlderCells
	}
	if skipped := len(cells) - most; skipped > 0 {
		cells = cells[skipped:]
		blocks = append(blocks, small(fmt.Sprintf("%d earlier cells are not shown here.", skipped)))
	}
	for _, c := range cells {
		blocks = append(blocks, renderCell(c, rich)...)
	}
	for i, f := range p.Figures {
		if i >= len(figures) {
			break
		}
		alt := f.Alt
		if alt == "" {
			alt = f.Name
		}
		if figures[i] == "" {
			blocks = append(blocks, small(linked(f.Name, link(f))))
			continue
		}
		blocks = append(blocks, slackgo.NewImageBlockSlackFile(&slackgo.SlackFileObject{ID: figures[i]}, shorten(alt, maxAlt), "", nil))
	}
	room := maxTableText
	for _, t := range p.Tables {
		blocks = append(blocks, renderTable(t, rich, &room)...)
	}
	if p.Status != "" {
		blocks = append(blocks, small(mrkdwn(p.Status)))
	}
	if len(p.Buttons) > 0 {
		blocks = append(blocks, renderButtons(p.Buttons))
	}
	return blocks, fallback(p)
}

// renderCell shows code and output as they are: text in a preformatted element
// is never read as markup.
func renderCell(c bots.Cell, rich bool) []slackgo.Block {
	title := fmt.Sprintf("Cell %d · %s", c.Number, c.Language)
	switch {
	case c.Status == "":
		title += " · running"
	case c.Status == "ok":
		title += fmt.Sprintf(" · %.1f s", c.Seconds)
	default:
		title += fmt.Sprintf(" · %s · %.1f s", strings.ReplaceAll(c.Status, "_", " "), c.Seconds)
	}
	var parts []slackgo.Block
	for _, text := range []string{c.Code, c.Output} {
		if strings.Trim(text, "\n") != "" { // an empty element is refused
			parts = append(parts, preformatted(text))
		}
	}
	if !rich || len(parts) == 0 {
		return append([]slackgo.Block{small(escape(title))}, parts...)
	}
	heading := slackgo.NewTextBlockObject(slackgo.PlainTextType, shorten(title, maxTitle), false, false)
	return []slackgo.Block{slackgo.NewContainerBlock(parts...).WithTitle(heading).WithCollapsible(true, false)}
}

func preformatted(text string) slackgo.Block {
	return slackgo.NewRichTextBlock("", &slackgo.RichTextPreformatted{
		Type:     slackgo.RTEPreformatted,
		Elements: []slackgo.RichTextSectionElement{slackgo.NewRichTextSectionTextElement(strings.TrimRight(text, "\n"), nil)},
	})
}

// renderTable shows a small table as one, and as text where Slack's tables
// don't take it. room is what the message's tables may still hold.
func renderTable(t bots.Table, rich bool, room *int) []slackgo.Block {
	size := 0
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		for _, cell := range row {
			size += max(1, utf8.RuneCountInString(cell))
		}
	}
	caption := t.Caption
	if caption == "" {
		caption = "Table"
	}
	fits := size <= *room && len(t.Rows) >= 1 && len(t.Rows) <= maxTableRows && len(t.Header) >= 1 && len(t.Header) <= maxTableColumns
	if !rich || !fits {
		return []slackgo.Block{small(escape(caption)), preformatted(aligned(t))}
	}
	*room -= size
	table := slackgo.NewDataTableBlock(shorten(caption, maxTitle)).WithPageSize(10)
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		cells := make([]slackgo.DataTableCell, 0, len(row))
		for _, cell := range row {
			if cell == "" {
				cell = " " // an empty one is refused
			}
			cells = append(cells, slackgo.NewDataTableRawTextCell(cell))
		}
		table.AddRow(cells...)
	}
	return []slackgo.Block{table}
}

// aligned is a table as text, shortened to what a live post may hold.
func aligned(t bots.Table) string {
	widths := make([]int, len(t.Header))
	rows := append([][]string{t.Header}, t.Rows...)
	for _, row := range rows {
		for i := range min(len(row), len(widths)) {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		line := ""
		for i := range min(len(row), len(widths)) {
			line += row[i] + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(row[i])+2)
		}
		line = strings.TrimRight(line, " ") + "\n"
		if b.Len()+len(line) > liveLimit {
			fmt.Fprintf(&b, "… %d more rows", len(rows)-n)
			break
		}
		b.WriteString(line)
	}
	return b.String()
}

func renderButtons(buttons []bots.Button) slackgo.Block {
	seen := map[bots.Action]int{}
	var elements []slackgo.BlockElement
	for _, b := range buttons {
		id := actionPrefix + string(b.Action)
		if n := seen[b.Action]; n > 0 {
			id = fmt.Sprintf("%s:%d", id, n)
		}
		seen[b.Action]++
		e := slackgo.NewButtonBlockElement(id, b.Value, slackgo.NewTextBlockObject(slackgo.PlainTextType, shorten(b.Label, maxLabel), false, false))
		if b.Danger {
			e = e.WithStyle(slackgo.StyleDanger)
		}
		elements = append(elements, e)
	}
	return slackgo.NewActionBlock("", elements...)
}

func section(text string) slackgo.Block {
	s := slackgo.NewSectionBlock(slackgo.NewTextBlockObject(slackgo.MarkdownType, text, false, true), nil, nil)
	s.Expand = true // no "see more"
	return s
}

// small is a line of small print in mrkdwn.
func small(text string) slackgo.Block {
	return slackgo.NewContextBlock("", slackgo.NewTextBlockObject(slackgo.MarkdownType, shorten(text, maxContext), false, true))
}

// linked is a file's name, as a link where there is one.
func linked(name, address string) string {
	if address == "" {
		return escape(name)
	}
	return fmt.Sprintf("<%s|%s>", escape(address), escape(strings.ReplaceAll(name, "|", "/")))
}

// mrkdwn makes of short Markdown what Slack's older markup shows alike.
func mrkdwn(text string) string {
	return strings.ReplaceAll(escape(text), "**", "*")
}

// fallback says in a few words what a post shows. It is never empty, as Slack
// wants it.
func fallback(p bots.Post) string {
	text := p.Text
	if text == "" && len(p.Cells) > 0 {
		c := p.Cells[len(p.Cells)-1]
		status := c.Status
		if status == "" {
			status = "running"
		}
		text = fmt.Sprintf("Cell %d (%s): %s", c.Number, c.Language, status)
	}
	if text == "" && len(p.Figures) > 0 {
		text = p.Figures[0].Alt
		if text == "" {
			text = p.Figures[0].Name
		}
	}
	if text == "" && len(p.Tables) > 0 {
		text = "A table: " + p.Tables[0].Caption
	}
	if text == "" {
		text = p.Status
	}
	if text == "" {
		text = "threadbook"
	}
	return shorten(escape(text), maxFallback)
}
