package notebook

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"threadbook/sessions"
)

// page writes Markdown.
type page struct {
	w       *bufio.Writer
	figures *figures
}

func (p *page) block(b block) error {
	if b.cell != nil {
		return p.cell(b.cell)
	}
	if err := p.put(b.head); err != nil {
		return err
	}
	text := clean(b.text)
	if b.voice == people || b.voice == model && !selfContained(text) {
		text = quote(text)
	}
	if b.text == "" {
		return nil
	}
	return p.put(text)
}

// put writes a paragraph, or another thing that ends with a blank line.
func (p *page) put(text string) error {
	if text == "" {
		return nil
	}
	_, err := p.w.WriteString(strings.TrimRight(text, "\n") + "\n\n")
	return err
}

func (p *page) cell(c *cell) error {
	if err := p.put(fence(c.Language, c.Code)); err != nil {
		return err
	}
	for _, o := range c.outputs {
		if err := p.output(o); err != nil {
			return err
		}
	}
	if name, value, traceback, ok := c.trouble(); ok {
		if traceback == "" {
			traceback = name + ": " + value
		}
		if err := p.put(fence("text", traceback)); err != nil {
			return err
		}
	}
	for _, f := range c.files {
		if err := p.put(fileText(f)); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) output(o *output) error {
	switch o.stream {
	case "":
		return p.display(o)
	case "stderr":
		if err := p.put("stderr:"); err != nil {
			return err
		}
	}
	return p.put(fence("text", o.text.String()))
}

// shownAs are the types that a page can show, the best first, with the name
// of the fence for those that are text.
var shownAs = []struct{ mime, fence string }{
	{"image/png", ""}, {"image/jpeg", ""}, {"image/gif", ""}, {"image/webp", ""}, {"image/svg+xml", ""},
	{"text/plain", "text"}, {"text/markdown", "markdown"}, {"text/latex", "latex"}, {"application/json", "json"},
}

// display shows a thing in the best of its types, and names it where a page
// can show none.
func (p *page) display(o *output) error {
	of := func(mime string) *sessions.CellOutput {
		if i := slices.IndexFunc(o.shown, func(s *sessions.CellOutput) bool { return s.MIME == mime }); i >= 0 {
			return o.shown[i]
		}
		return nil
	}
	for _, as := range shownAs {
		best := of(as.mime)
		if best == nil {
			continue
		}
		data, leftOut, err := p.figures.read(best)
		switch {
		case err != nil:
			return err
		case leftOut != "":
			text := leftOut
			if alt := of("text/plain"); alt != nil && alt != best && alt.Text != "" {
				text += " It shows: " + escape(alt.Text)
			}
			return p.put(text)
		case as.fence != "":
			return p.put(fence(as.fence, string(data)))
		}
		alt := fileName(best)
		if plain := of("text/plain"); plain != nil && plain.Text != "" {
			alt = plain.Text
		}
		return p.put(fmt.Sprintf("![%s](data:%s;base64,%s)", escape(alt), as.mime, base64.StdEncoding.EncodeToString(data)))
	}
	return p.put(missing(o.shown[0], "a page can't show it"))
}
