package discord

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// segment is a piece of Markdown: code, which Discord shows as it is, or words.
type segment struct {
	text string
	code bool
}

// codeSpan finds fenced and inline code as Discord does: three backticks end
// at the next three, a single or double one ends at its like.
var codeSpan = regexp.MustCompile("(?s)```.*?(?:```|$)|``[^`].*?``|`[^`\n]+`")

// segments takes a text apart.
func segments(text string) []segment {
	var list []segment
	last := 0
	for _, at := range codeSpan.FindAllStringIndex(text, -1) {
		if at[0] > last {
			list = append(list, segment{text: text[last:at[0]]})
		}
		list = append(list, segment{text: text[at[0]:at[1]], code: true})
		last = at[1]
	}
	if last < len(text) {
		list = append(list, segment{text: text[last:]})
	}
	return list
}

// hide is put into what Discord would take for markup: it has no width.
const hide = "\u200b"

var (
	fenceLine  = regexp.MustCompile("^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$")
	everybody  = regexp.MustCompile(`@(everyone|here)\b`)
	special    = regexp.MustCompile(`<(@[!&]?|#|/|id:|a?:|t:|sound:)`)
	masked     = regexp.MustCompile(`!?\[([^\[\]\n]*)\]\(\s*<?(https?://[^\s)<>]+)>?[^)\n]*\)`)
	bare       = regexp.MustCompile(`https?://[^\s<>\x60|]+`)
	otherLinks = regexp.MustCompile(`(?i)\b(discord|steam|file|javascript)://`)
)

// defuse makes words of a model or a program harmless in Discord: no pings, no
// previews of links, nothing hidden behind spoilers, and where a link leads is
// seen. Code is left as it is.
func defuse(text string) string { return defuseAs(text, true) }

// defuseInto does that in so many characters, if it can: tables that are lined
// up may need more than those that are not.
func defuseInto(text string, most int) string {
	out := defuseAs(text, true)
	if utf8.RuneCountInString(out) > most {
		return defuseAs(text, false)
	}
	return out
}

func defuseAs(text string, lineUp bool) string {
	var b strings.Builder
	for _, s := range segments(blocks(text, lineUp)) {
		if s.code {
			b.WriteString(s.text)
		} else {
			b.WriteString(defuseWords(s.text))
		}
	}
	return b.String()
}

// blocks writes fences and tables as Discord can show them. It knows fences of
// three backticks alone, so those that are longer, of tildes or not closed are
// made so; and it knows no tables, so they are put into a fence.
func blocks(text string, lineUp bool) string {
	var b strings.Builder
	var open, language string // the fence that is open
	var code []string
	var rows [][]string
	endTable := func() {
		if len(rows) > 0 {
			b.WriteString(fence("", columns(rows, lineUp)) + "\n")
		}
		rows = nil
	}
	endCode := func() {
		b.WriteString(fence(language, strings.Join(code, "\n")) + "\n")
		open, code = "", nil
	}
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		line = strings.TrimSuffix(line, "\r")
		found := fenceLine.FindStringSubmatch(line)
		if open != "" {
			if found != nil && strings.HasPrefix(found[1], open) && strings.TrimSpace(found[2]) == "" {
				endCode()
			} else {
				code = append(code, line)
			}
			continue
		}
		if row := tableRow(line); row != nil {
			rows = append(rows, row)
			continue
		}
		endTable()
		if found != nil {
			open, language = found[1], strings.ToLower(strings.TrimSpace(found[2]))
			continue
		}
		if strings.Count(line, "```")%2 == 1 { // it would pair with another's
			line = unfence(line)
		}
		b.WriteString(line + "\n")
	}
	endTable()
	if open != "" {
		endCode()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func defuseWords(text string) string {
	var b strings.Builder
	for {
		at := masked.FindStringSubmatchIndex(text)
		if at == nil {
			b.WriteString(defusePlain(text))
			return b.String()
		}
		b.WriteString(defusePlain(text[:at[0]]))
		label, link := text[at[2]:at[3]], text[at[4]:at[5]]
		if label = strings.TrimSpace(label); label != "" && label != link {
			b.WriteString(defusePlain(label) + " ")
		}
		b.WriteString("<" + link + ">")
		text = text[at[1]:]
	}
}

func defusePlain(text string) string {
	var b strings.Builder
	last := 0
	for _, at := range bare.FindAllStringIndex(text, -1) {
		b.WriteString(defuseMarks(text[last:at[0]]))
		link := strings.TrimRight(text[at[0]:at[1]], `.,;:!?)]}'"*_`)
		if rest := text[at[0]+len(link) : at[1]]; strings.HasPrefix(rest, ")") && strings.Count(link, "(") > strings.Count(link, ")") {
			link += ")"
		}
		if at[0] > 0 && text[at[0]-1] == '<' && at[1] < len(text) && text[at[1]] == '>' {
			b.WriteString(link)
		} else {
			b.WriteString("<" + link + ">")
		}
		last = at[0] + len(link)
	}
	b.WriteString(defuseMarks(text[last:]))
	return b.String()
}

func defuseMarks(text string) string {
	text = everybody.ReplaceAllString(text, "@"+hide+"$1")
	text = special.ReplaceAllString(text, "<"+hide+"$1")
	text = otherLinks.ReplaceAllString(text, "$1:"+hide+"//")
	return strings.ReplaceAll(text, "||", `\|\|`)
}

// tableRow takes a line of a Markdown table apart, nil for another line. The
// line under the header has no cells.
func tableRow(line string) []string {
	line = strings.TrimSpace(line)
	if len(line) < 3 || line[0] != '|' || line[1] == '|' || line[len(line)-1] != '|' {
		return nil
	}
	if strings.Trim(line, "|-: ") == "" {
		return []string{}
	}
	cells := strings.Split(strings.ReplaceAll(line[1:len(line)-1], `\|`, "\x00"), "|")
	for i, c := range cells {
		cells[i] = strings.TrimSpace(strings.ReplaceAll(c, "\x00", "|"))
	}
	return cells
}

// maxWidth is the widest that a column is made for one cell's sake, in characters.
const maxWidth = 30

// columns writes rows under each other, the first of which is the header, and
// lines them up if it is told to. Empty rows are left out.
func columns(rows [][]string, lineUp bool) string {
	if !lineUp {
		var b strings.Builder
		for _, row := range rows {
			if len(row) > 0 {
				b.WriteString(strings.Join(row, " | ") + "\n")
			}
		}
		return b.String()
	}
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = min(max(widths[i], utf8.RuneCountInString(oneLine(cell))), maxWidth)
		}
	}
	var b strings.Builder
	for n, row := range rows {
		if len(row) == 0 && len(rows) > 1 {
			continue
		}
		var line, rule strings.Builder
		for i, w := range widths {
			cell := ""
			if i < len(row) {
				cell = oneLine(row[i])
			}
			line.WriteString(cell + strings.Repeat(" ", max(0, w-utf8.RuneCountInString(cell))+2))
			rule.WriteString(strings.Repeat("─", w) + "  ")
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		if n == 0 {
			b.WriteString(strings.TrimRight(rule.String(), " ") + "\n")
		}
	}
	return b.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

var fenceMarks = regexp.MustCompile("`{3,}")

// unfence breaks up what would end a fence.
func unfence(code string) string {
	return fenceMarks.ReplaceAllStringFunc(code, func(marks string) string {
		return strings.TrimSuffix(strings.Repeat("`"+hide, len(marks)), hide)
	})
}

var languageName = regexp.MustCompile(`^[a-z0-9_+#.-]{1,20}$`)

// fence puts code or output into a fence that nothing in it can end.
func fence(language, code string) string {
	if !languageName.MatchString(language) {
		language = ""
	}
	code = strings.TrimRight(unfence(code), "\n")
	if strings.HasSuffix(code, "`") {
		code += hide
	}
	return "```" + language + "\n" + code + "\n```"
}

// line is a name or a sentence as part of a line: nothing in it is markup.
var lineEscaper = strings.NewReplacer("\n", " ", "\r", " ", "*", `\*`, "_", `\_`, "`", "'", "~", `\~`, "|", `\|`, "[", `\[`)

func escapeLine(text string) string { return defuseMarks(lineEscaper.Replace(text)) }

// clamp cuts a text to so many characters, at a line's end if one is near, and
// closes a fence that was cut.
func clamp(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	const tail = "\n```\n…"
	keep := most - utf8.RuneCountInString(tail)
	if keep <= 0 {
		return "…"
	}
	cut := string([]rune(text)[:keep])
	if i := strings.LastIndexByte(cut, '\n'); i > len(cut)/2 {
		cut = cut[:i]
	}
	if strings.Count(cut, "```")%2 == 1 {
		return cut + tail
	}
	return strings.TrimRight(cut, "`") + "…"
}
