package notebook

import (
	"fmt"
	"strings"
	"unicode"

	"threadbook/sessions"
)

// clean is a text in lines that end as "\n" and without other control
// characters: a lone "\r" ends a line for Python and for Markdown, and what is
// put before every line would not stand before that one.
func clean(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return '\n'
		case unicode.IsControl(r) && r != '\n' && r != '\t':
			return -1
		}
		return r
	}, text)
}

// escape is a text as words within a line of Markdown.
func escape(text string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(clean(text)), " ") {
		if strings.ContainsRune("\\`*_[]<>~&$|", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// codeSpan is a text as code within a line of Markdown.
func codeSpan(text string) string {
	text = strings.Join(strings.Fields(clean(text)), " ")
	ticks := strings.Repeat("`", longest(text, '`')+1)
	if strings.Contains(text, "`") {
		text = " " + text + " "
	}
	return ticks + text + ticks
}

// fence is a text in a fence that is longer than any in it.
func fence(language, text string) string {
	ticks := strings.Repeat("`", max(3, longest(text, '`')+1))
	return ticks + language + "\n" + strings.TrimRight(clean(text), "\n") + "\n" + ticks + "\n"
}

// longest is the length of the longest run of c.
func longest(text string, c rune) int {
	most, run := 0, 0
	for _, r := range text {
		if run++; r != c {
			run = 0
		}
		most = max(most, run)
	}
	return most
}

// prefixed puts a prefix before every line; one without words gets no blanks
// at its end.
func prefixed(prefix, text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(clean(text), "\n") {
		if line == "" {
			line = strings.TrimRight(prefix, " ")
		} else {
			line = prefix + line
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// quote is a text as a quote. Whatever is left open in it, a fence or a
// comment, ends with it.
func quote(text string) string { return prefixed("> ", text) }

// selfContained says whether Markdown leaves nothing open that would swallow
// what comes after it. In doubt it says no: fences that are indented or stand
// in lists, and lines of HTML, are not looked into.
func selfContained(text string) bool {
	open := "" // the fence that is open
	for line := range strings.SplitSeq(text, "\n") {
		if open != "" {
			end := strings.TrimRight(strings.TrimLeft(line, " "), " \t")
			if len(line)-len(strings.TrimLeft(line, " ")) <= 3 && strings.HasPrefix(end, open) && strings.Trim(end, open[:1]) == "" {
				open = ""
			}
			continue
		}
		rest := strings.TrimLeft(line, "`~")
		mark := line[:len(line)-len(rest)]
		switch {
		case len(mark) >= 3 && strings.Trim(mark, mark[:1]) == "" && !(mark[0] == '`' && strings.Contains(rest, "`")):
			open = mark
		case strings.Contains(line, "```") || strings.Contains(line, "~~~") || strings.HasPrefix(strings.TrimSpace(line), "<"):
			return false
		}
	}
	return open == ""
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n == 1:
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}

// fileText tells of a file that the thread got.
func fileText(f *sessions.File) string {
	text := "File: " + codeSpan(f.Path) + " (" + bytesText(f.Size) + ")"
	if f.Title != "" {
		text += ", " + escape(f.Title)
	}
	return text
}
