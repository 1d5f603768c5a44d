package slacktest

import (
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Limits of Slack's block reference, and the undocumented one on all of a
// message's text.
const (
	maxBlocks     = 50
	maxMarkdown   = 12_000
	maxAllText    = 12_000
	maxTableText  = 10_000
	maxSection    = 3000
	maxContext    = 2000
	maxLabel      = 75
	maxValue      = 2000
	maxTitle      = 150
	maxTableRows  = 101
	maxTableWidth = 20
)

// block is every kind of block in one.
type block struct {
	Type     string            `json:"type"`
	Text     json.RawMessage   `json:"text"`
	Title    *label            `json:"title"`
	Elements []json.RawMessage `json:"elements"`
	Children []json.RawMessage `json:"child_blocks"`
	AltText  string            `json:"alt_text"`
	File     *struct {
		ID string `json:"id"`
	} `json:"slack_file"`
	ImageURL string   `json:"image_url"`
	Caption  string   `json:"caption"`
	Rows     [][]cell `json:"rows"`
	PageSize int      `json:"page_size"`
}

type label struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type cell struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// element is of an actions, context or rich_text block.
type element struct {
	Type     string            `json:"type"`
	Text     json.RawMessage   `json:"text"`
	ActionID string            `json:"action_id"`
	Value    string            `json:"value"`
	Style    json.RawMessage   `json:"style"`
	Elements []json.RawMessage `json:"elements"`
}

// checker adds up a message's text.
type checker struct {
	s                     *Server
	all, markdown, tables int
	actions               []string
}

// checkBlocks refuses what Slack refuses; nil: it takes them. s.mu is held.
func (s *Server) checkBlocks(data []byte) object {
	var list []json.RawMessage
	if json.Unmarshal(data, &list) != nil {
		return refusal("invalid_blocks_format")
	}
	if len(list) > maxBlocks {
		return refusal("invalid_blocks", "[ERROR] no more than 50 items allowed [json-pointer:/blocks]")
	}
	c := &checker{s: s}
	for i, raw := range list {
		if why := c.block(raw, ""); why != "" {
			return refusal("invalid_blocks", fmt.Sprintf("[ERROR] %s [json-pointer:/blocks/%d]", why, i))
		}
	}
	if c.markdown > maxMarkdown || c.all > maxAllText {
		return refusal("msg_blocks_too_long")
	}
	return nil
}

// block checks one; within is the type of the block it is in.
func (c *checker) block(raw json.RawMessage, within string) string {
	var b block
	if json.Unmarshal(raw, &b) != nil {
		return "invalid type"
	}
	if slices.Contains(c.s.o.UnknownBlocks, b.Type) {
		return "unsupported type: " + b.Type
	}
	if within == "container" && !slices.Contains([]string{"actions", "context", "divider", "header", "image", "rich_text", "section", "table"}, b.Type) {
		return "unsupported child type: " + b.Type
	}
	switch b.Type {
	case "divider":
		return ""
	case "markdown":
		var text string
		if json.Unmarshal(b.Text, &text) != nil || text == "" {
			return "missing required field: text"
		}
		n := utf8.RuneCountInString(text)
		c.markdown += n
		c.all += n
		return ""
	case "header":
		return c.label(b.Text, maxTitle, "plain_text")
	case "section":
		return c.label(b.Text, maxSection, "plain_text", "mrkdwn")
	case "context":
		return c.each(b.Elements, 1, 10, func(raw json.RawMessage) string {
			return c.label(raw, maxContext, "plain_text", "mrkdwn")
		})
	case "actions":
		c.actions = nil
		return c.each(b.Elements, 1, 25, c.button)
	case "rich_text":
		return c.each(b.Elements, 1, 1000, c.rich)
	case "container":
		if b.Title == nil || b.Title.Type != "plain_text" || b.Title.Text == "" || utf8.RuneCountInString(b.Title.Text) > maxTitle {
			return "title must be a plain_text of 1 to 150 characters"
		}
		c.all += utf8.RuneCountInString(b.Title.Text)
		return c.each(b.Children, 1, 10, func(raw json.RawMessage) string { return c.block(raw, b.Type) })
	case "image":
		return c.image(b)
	case "table", "data_table":
		return c.table(b)
	}
	return "unsupported type: " + b.Type
}

func (c *checker) each(list []json.RawMessage, low, high int, check func(json.RawMessage) string) string {
	if len(list) < low || len(list) > high {
		return fmt.Sprintf("must have %d to %d items", low, high)
	}
	for _, raw := range list {
		if why := check(raw); why != "" {
			return why
		}
	}
	return ""
}

func (c *checker) label(raw json.RawMessage, limit int, types ...string) string {
	var l label
	if json.Unmarshal(raw, &l) != nil || !slices.Contains(types, l.Type) {
		return "missing or invalid text object"
	}
	n := utf8.RuneCountInString(l.Text)
	if n < 1 || n > limit {
		return fmt.Sprintf("must be 1 to %d characters", limit)
	}
	c.all += n
	return ""
}

func (c *checker) button(raw json.RawMessage) string {
	var e element
	if json.Unmarshal(raw, &e) != nil || e.Type != "button" {
		return "unsupported element"
	}
	if slices.Contains(c.actions, e.ActionID) {
		return "`action_id` " + e.ActionID + " already exists"
	}
	c.actions = append(c.actions, e.ActionID)
	if len(e.Value) > maxValue || len(e.ActionID) > 255 || e.ActionID == "" {
		return "value or action_id of a wrong length"
	}
	if len(e.Style) > 0 && string(e.Style) != `"primary"` && string(e.Style) != `"danger"` {
		return "invalid style"
	}
	return c.label(e.Text, maxLabel, "plain_text")
}

func (c *checker) rich(raw json.RawMessage) string {
	var e element
	if json.Unmarshal(raw, &e) != nil || !slices.Contains([]string{"rich_text_section", "rich_text_preformatted", "rich_text_list", "rich_text_quote"}, e.Type) {
		return "unsupported element"
	}
	return c.each(e.Elements, 1, 10_000, func(raw json.RawMessage) string {
		var t element
		var text string
		if json.Unmarshal(raw, &t) != nil {
			return "invalid element"
		}
		if t.Type != "text" {
			return "" // links, mentions
		}
		if json.Unmarshal(t.Text, &text) != nil || text == "" {
			return "must be more than 0 characters"
		}
		c.all += utf8.RuneCountInString(text)
		return ""
	})
}

func (c *checker) image(b block) string {
	switch {
	case b.AltText == "" || utf8.RuneCountInString(b.AltText) > 2000:
		return "alt_text must be 1 to 2000 characters"
	case b.File == nil && b.ImageURL == "":
		return "missing required field: slack_file"
	case b.ImageURL != "":
		return "downloading image failed" // nobody outside reaches a test
	}
	f := c.s.files[b.File.ID]
	if f == nil || !c.s.ready(f) {
		return "invalid slack file"
	}
	return ""
}

func (c *checker) table(b block) string {
	if len(b.Rows) < 1 || len(b.Rows) > maxTableRows || len(b.Rows[0]) < 1 || len(b.Rows[0]) > maxTableWidth {
		return "rows of a wrong number or width"
	}
	if b.Type == "data_table" && (b.Caption == "" || len(b.Rows) < 2 || b.PageSize < 0 || b.PageSize > 100) {
		return "caption, page_size or the number of rows is wrong"
	}
	for _, row := range b.Rows {
		if len(row) != len(b.Rows[0]) {
			return "rows must have equal length"
		}
		for _, cell := range row {
			if cell.Type != "raw_text" || cell.Text == "" {
				return "a cell must be raw_text of more than 0 characters"
			}
			c.tables += utf8.RuneCountInString(cell.Text)
		}
	}
	if c.tables > maxTableText {
		return "tables must not exceed 10000 characters"
	}
	return ""
}
