package bots

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Split cuts Markdown into pieces of at most limit bytes, at paragraphs if it
// can, else at lines, else at words. A fence that a cut falls into is closed
// before it and opened again after it, so that each piece stands alone. A text
// without letters has no pieces.
func Split(text string, limit int) []string {
	text = strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD"))
	var pieces []string
	open := "" // the line that opened the fence we are in
	for text != "" {
		head := ""
		if open != "" {
			head = open + "\n"
		}
		if len(head)+len(text) <= limit {
			return append(pieces, head+text)
		}
		closing := 0
		if open != "" || strings.Contains(text, fenceMark) {
			closing = len("\n") + len(fenceOf(open, text))
		}
		n := cut(text, max(limit-len(head)-closing, 1))
		piece := strings.TrimRight(text[:n], " \n")
		open = openFence(open, piece)
		whole := head + piece
		if open != "" {
			whole += "\n" + marks(open)
		}
		if strings.TrimSpace(piece) != "" {
			pieces = append(pieces, whole)
		}
		text = text[n:]
		if open == "" {
			text = strings.TrimLeft(text, " \n")
		} else {
			text = strings.TrimPrefix(text, "\n")
		}
	}
	return pieces
}

const (
	fenceMark = "```"
	// Longer ones than these are taken for text: what is written again at each
	// cut must stay short beside the pieces.
	maxFence    = 12
	maxLanguage = 20
)

// fenceOf is a closing fence at least as long as any that a cut may have to write.
func fenceOf(open, text string) string {
	longest := marks(open)
	for line := range strings.Lines(text) {
		if m := marks(line); len(m) > len(longest) {
			longest = m
		}
	}
	return longest
}

// marks are the backticks at a line's beginning, if there are enough for a fence.
func marks(line string) string {
	line = strings.TrimLeft(line, " ")
	m := line[:len(line)-len(strings.TrimLeft(line, "`"))]
	if len(m) < len(fenceMark) || len(m) > maxFence {
		return ""
	}
	return m
}

// openFence is the line of the fence that is open at the end of a text which
// begins inside open, or empty.
func openFence(open, text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		m := marks(line)
		switch {
		case m == "":
		case open == "":
			language, _, _ := strings.Cut(strings.TrimSpace(strings.TrimLeft(line, " `")), " ")
			if len(language) > maxLanguage || strings.Contains(language, "`") {
				language = ""
			}
			open = m + language
		case len(m) >= len(marks(open)) && strings.TrimSpace(line) == m:
			open = ""
		}
	}
	return open
}

// cut is where to cut a text so that at most n bytes come before, 1 at least.
func cut(text string, n int) int {
	if len(text) <= n {
		return len(text)
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	if n == 0 {
		_, size := utf8.DecodeRuneInString(text)
		return size
	}
	for _, at := range []string{"\n\n", "\n", " "} {
		if i := strings.LastIndex(text[:n], at); i > n/3 {
			return i + len(at)
		}
	}
	return n
}

// shorten keeps a text's beginning within limit bytes.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const more = "…"
	n := max(limit-len(more), 0)
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + more
}

// Tail keeps whole lines of a text's end within limit bytes.
func Tail(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const more = "…\n"
	start := len(text) - max(limit-len(more), 0)
	for start < len(text) && !utf8.RuneStart(text[start]) {
		start++
	}
	if i := strings.IndexByte(text[start:], '\n'); i >= 0 && i < (len(text)-start)/2 {
		start += i + 1
	}
	return more + text[start:]
}

// HeadTail keeps a text's beginning and end within limit bytes, and says what
// was left out.
func HeadTail(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	room := max(limit-len("\n[… 1234567890 bytes left out …]\n"), 0)
	head := text[:cut(text, max(room/2, 1))]
	tail := strings.TrimPrefix(Tail(text, room-len(head)), "…\n")
	return fmt.Sprintf("%s\n[… %s left out …]\n%s", strings.TrimRight(head, "\n"), plural(int64(len(text)-len(head)-len(tail)), "byte"), tail)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// plural is "1 row", "2 rows".
func plural(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return decimal(n) + " " + noun
}
