package slack

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// token is one of Slack's: <@U1>, <#C1|general>, <!here>, <url|label>.
var token = regexp.MustCompile(`<([@#!][^<>\n]+|[A-Za-z][A-Za-z0-9+.-]*:[^<>\n]+)>`)

// mentions says whether the text mentions the user.
func mentions(text, user string) bool {
	return strings.Contains(text, "<@"+user+">") || strings.Contains(text, "<@"+user+"|")
}

// opensWithOther says whether the text begins with a mention of somebody else:
// it is for them.
func opensWithOther(text, user string) bool {
	text = strings.TrimSpace(text)
	return (strings.HasPrefix(text, "<@") || strings.HasPrefix(text, "<!subteam")) && !mentions(text, user)
}

// plain makes of Slack's markup what was typed: the bot's own mention goes,
// other tokens become what one sees of them, entities become characters.
// Fences stay as they are. name finds a user's name, perhaps an empty one.
func plain(text, bot string, name func(user string) string) string {
	var out strings.Builder
	for i, part := range strings.Split(text, "```") {
		if i > 0 {
			out.WriteString("```")
		}
		out.WriteString(token.ReplaceAllStringFunc(part, func(t string) string {
			return seen(t[1:len(t)-1], bot, name, i%2 == 1)
		}))
	}
	text = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(out.String())
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "!") || strings.HasPrefix(text, "```") {
		return text
	}
	// "@threadbook, what …" and "@threadbook: what …".
	return strings.TrimLeft(text, ",: \t\n")
}

// seen is what one sees of a token. Slack makes links in code too, where only
// their label was typed.
func seen(inner, bot string, name func(string) string, code bool) string {
	what, label, labelled := strings.Cut(inner, "|")
	switch {
	case strings.HasPrefix(what, "@"):
		user := what[1:]
		if user == bot {
			return ""
		}
		if n := name(user); n != "" {
			label = n
		}
		if label == "" {
			label = user
		}
		return "@" + strings.TrimPrefix(label, "@")
	case strings.HasPrefix(what, "#"):
		if label == "" {
			label = what[1:]
		}
		return "#" + label
	case strings.HasPrefix(what, "!"):
		if labelled {
			return label
		}
		return "@" + what[1:]
	case !labelled || label == "":
		return strings.TrimPrefix(what, "mailto:")
	case code || strings.HasPrefix(what, "mailto:") || label == what || strings.HasSuffix(what, "://"+label):
		return label
	default:
		return "[" + label + "](" + what + ")"
	}
}

// escape makes text harmless where Slack reads mrkdwn: message texts, sections
// and context.
func escape(text string) string {
	return replace(text, "&", "&amp;", "&", "<", "&lt;", "‹", ">", "&gt;", "›")
}

// replace puts the second of each three in the place of the first, or the
// third, a look-alike, where entities would make more of the text than a
// message takes.
func replace(text string, threes ...string) string {
	var entities, alike []string
	for i := 0; i+2 < len(threes); i += 3 {
		entities = append(entities, threes[i], threes[i+1])
		alike = append(alike, threes[i], threes[i+2])
	}
	if out := strings.NewReplacer(entities...).Replace(text); utf8.RuneCountInString(out) <= maxBlockText || len(out) == len(text) {
		return out
	}
	return strings.NewReplacer(alike...).Replace(text)
}

// escapeMarkdown makes Markdown harmless in a markdown block, where Slack reads
// its own tokens too, but where "&amp;" would break addresses. A ">" that
// begins a line is a quotation and ends no token, since none begins.
func escapeMarkdown(text string) string {
	text = replace(text, "<", "&lt;", "‹", ">", "&gt;", "›")
	rows := strings.Split(text, "\n")
	for i, row := range rows {
		for rest := row; ; {
			rest = strings.TrimLeft(rest, " ")
			if !strings.HasPrefix(rest, "&gt;") {
				break
			}
			at := len(row) - len(rest)
			row = row[:at] + ">" + rest[len("&gt;"):]
			rest = row[at+1:]
			rows[i] = row
		}
	}
	return strings.Join(rows, "\n")
}

// shorten cuts to a number of bytes, at a character's edge, and says so.
func shorten(text string, limit int) string {
	const more = "…"
	if len(text) <= limit {
		return text
	}
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}

// split makes pieces of a text, for messages of at most limit bytes, cut between lines where
// that can be, with a fence that is open closed and opened again.
func split(text string, limit int) []string {
	const fence = "```"
	var parts []string
	var b strings.Builder
	open := "" // the line that opened the fence we are in
	flush := func() {
		if open != "" {
			b.WriteString("\n" + open[:ticks(open)])
		}
		parts = append(parts, b.String())
		b.Reset()
		if open != "" {
			b.WriteString(open + "\n")
		}
	}
	room := limit * 3 / 4 // the rest is for fences
	for line := range strings.Lines(text) {
		for len(line) > room/2 {
			cut := room / 2
			for !utf8.RuneStart(line[cut]) {
				cut--
			}
			if b.Len()+cut > room {
				flush()
			}
			b.WriteString(line[:cut] + "\n")
			line = line[cut:]
		}
		if b.Len()+len(line) > room {
			flush()
		}
		b.WriteString(line)
		if l := strings.TrimSpace(line); strings.HasPrefix(l, fence) {
			switch {
			case open == "":
				open = shorten(l, limit/16)
			case ticks(l) == len(l) && len(l) >= ticks(open):
				open = ""
			}
		}
	}
	if b.Len() > 0 {
		parts = append(parts, b.String())
	}
	return parts
}

// ticks counts the backticks at the beginning.
func ticks(line string) int { return len(line) - len(strings.TrimLeft(line, "`")) }
