package main

import (
	"fmt"
	"html"
	"strings"
	"unicode"

	duckdb "github.com/duckdb/duckdb-go-bindings"
	"golang.org/x/text/width"
)

const maxWidth = 80 // columns of the screen that a value takes in the text

// A table is the beginning of a result, ready to be shown.
type table struct {
	names   []string
	types   []duckdb.Type
	rows    [][]value
	total   int64 // rows of the whole result
	columns int   // of the whole result
}

type value struct {
	text string
	null bool
}

func (v value) String() string {
	if v.null {
		return "NULL"
	}
	return v.text
}

func (t *table) isNumeric(column int) bool {
	kind := dataType(t.types[column])
	return kind == "integer" || kind == "number"
}

// text is the table for a fixed-width font.
func (t *table) text() string {
	widths := make([]int, len(t.names))
	lines := make([][]string, 0, len(t.rows)+1)
	lines = append(lines, t.names)
	for _, row := range t.rows {
		line := make([]string, len(row))
		for i, v := range row {
			line[i] = v.String()
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		for i := range line {
			line[i] = cut(oneLine(line[i]), maxWidth)
			widths[i] = max(widths[i], columnsOf(line[i]))
		}
	}
	var b strings.Builder
	for n, line := range lines {
		for i, s := range line {
			t.pad(&b, i, s, widths[i])
		}
		b.WriteByte('\n')
		if n == 0 {
			for i, w := range widths {
				t.pad(&b, i, strings.Repeat("-", w), w)
			}
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, "(%s)", t.shape())
	return b.String()
}

// pad writes a value at its width; numbers stand to the right.
func (t *table) pad(b *strings.Builder, column int, s string, w int) {
	gap := strings.Repeat(" ", w-columnsOf(s))
	last := column == len(t.names)-1
	switch {
	case t.isNumeric(column):
		b.WriteString(gap + s)
	case last:
		b.WriteString(s)
	default:
		b.WriteString(s + gap)
	}
	if !last {
		b.WriteString("  ")
	}
}

// html is the table as pandas writes one.
func (t *table) html() string {
	var b strings.Builder
	b.WriteString("<table border=\"1\" class=\"dataframe\">\n<thead>\n<tr>")
	for _, name := range t.names {
		fmt.Fprintf(&b, "<th>%s</th>", html.EscapeString(name))
	}
	b.WriteString("</tr>\n</thead>\n<tbody>\n")
	for _, row := range t.rows {
		b.WriteString("<tr>")
		for i, v := range row {
			align := ""
			if t.isNumeric(i) {
				align = ` align="right"`
			}
			fmt.Fprintf(&b, "<td%s>%s</td>", align, html.EscapeString(v.String()))
		}
		b.WriteString("</tr>\n")
	}
	fmt.Fprintf(&b, "</tbody>\n</table>\n<p>%s</p>", html.EscapeString(t.shape()))
	return b.String()
}

// shape says how large the result is, and how much of it is shown.
func (t *table) shape() string {
	s := plural(t.total, "row") + " × " + plural(int64(t.columns), "column")
	var first []string
	if int64(len(t.rows)) < t.total {
		first = append(first, plural(int64(len(t.rows)), "row"))
	}
	if len(t.names) < t.columns {
		first = append(first, plural(int64(len(t.names)), "column"))
	}
	if len(first) > 0 {
		s += ", the first " + strings.Join(first, " and ") + " shown"
	}
	return s
}

// oneLine makes a value fit a line of a table.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r':
			return '⏎'
		case unicode.IsControl(r):
			return ' '
		}
		return r
	}, s)
}

// cut shortens a value to that many columns of the screen.
func cut(s string, most int) string {
	used := 0
	for i, r := range s {
		used += columnsOfRune(r)
		if used > most {
			return cutAt(s, i)
		}
	}
	return s
}

func cutAt(s string, end int) string {
	// One character back makes room for the sign that something is missing.
	runes := []rune(s[:end])
	return string(runes[:len(runes)-1]) + "…"
}

func columnsOf(s string) int {
	n := 0
	for _, r := range s {
		n += columnsOfRune(r)
	}
	return n
}

// columnsOfRune is how many columns of a fixed-width font a character takes.
func columnsOfRune(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
