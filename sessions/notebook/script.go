package notebook

import (
	"bufio"
	"fmt"
	"regexp"
	"strings"
)

// script writes Python in jupytext's percent format: cells begin with a line
// "# %%", and all that is not Python is comments.
type script struct {
	w *bufio.Writer
}

const scriptHeader = `# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
`

func (s *script) block(b block) error {
	if b.cell == nil {
		return s.markdown(joined(b))
	}
	if err := s.put(s.code(b.cell)); err != nil {
		return err
	}
	for _, f := range b.cell.files {
		if err := s.markdown(fileText(f)); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) markdown(text string) error {
	return s.put("# %% [markdown]\n" + comment(text))
}

func (s *script) put(text string) error {
	_, err := s.w.WriteString("\n" + text)
	return err
}

func (s *script) code(c *cell) string {
	head := "# %%"
	magic := magicOf(c.Language)
	if magic != "" {
		head += fmt.Sprintf(" language=%q", magic)
	}
	if c.end != nil && c.end.Status == "error" {
		head += ` tags=["raises-exception"]`
	}
	if magic != "" {
		return head + "\n" + comment(c.Code)
	}
	return head + "\n" + plainPython(c.Code)
}

// border is a comment that editors and jupytext take for the beginning of a
// cell, where "# " stands before it.
var border = regexp.MustCompile(`(?m)^[ \t]*(%%|<codecell>|In ?\[)`)

// comment makes comments of all lines, none of which begins a cell: jupytext
// would make code of the shell commands after it.
func comment(text string) string {
	return prefixed("# ", border.ReplaceAllString(clean(text), `\$1`))
}

var (
	// special is a line that IPython reads and Python does not: a magic or a
	// shell command.
	special = regexp.MustCompile(`^(?:%{1,2}[a-zA-Z]|!)`)
	// timing are the cell magics behind which the code is Python and runs.
	timing = regexp.MustCompile(`^%%(?:time|capture|prun)\b`)
)

// plainPython is code in which what IPython alone can read is a comment, so
// that the script is one. Inside of a long string such a line is left as it is.
func plainPython(code string) string {
	code = strings.Trim(clean(code), "\n")
	if strings.HasPrefix(code, "%%") && !timing.MatchString(code) {
		return comment(code)
	}
	var b strings.Builder
	single, double := 0, 0 // quotes of long strings so far
	for line := range strings.SplitSeq(code, "\n") {
		if special.MatchString(line) && single%2+double%2 == 0 {
			line = strings.TrimSuffix(comment(line), "\n")
		}
		single += strings.Count(line, `'''`)
		double += strings.Count(line, `"""`)
		b.WriteString(line + "\n")
	}
	return b.String()
}
