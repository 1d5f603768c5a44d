package worker

import (
	"strings"

	"threadbook/sandbox"
)

// request is what a message asks for: cells to run as they are, a command, or
// neither, which is for the model.
type request struct {
	cells   []code
	command string // without the "!"
	arg     string
}

type code struct {
	language sandbox.Language
	text     string
}

func (r request) isAsk() bool { return r.command == "" && len(r.cells) == 0 }

// defaultLanguage is that of a fence that names none.
const defaultLanguage = sandbox.Python

// isStop says whether a message only asks to stop. It is the one command that
// counts at once, and not in its turn.
func isStop(text string) bool { return strings.EqualFold(strings.TrimSpace(text), "!stop") }

// parse reads a message. It is a cell if it is only fenced code in languages
// that we know, or "!run", perhaps a language, and code.
func parse(text string) request {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "!"); ok {
		end := strings.IndexFunc(rest, func(r rune) bool { return r < 'A' || r > 'z' })
		if end < 0 {
			end = len(rest)
		}
		name, arg := strings.ToLower(rest[:end]), strings.TrimSpace(rest[end:])
		if name == "run" {
			return parseRun(arg)
		}
		if name != "" {
			return request{command: name, arg: arg}
		}
	}
	cells, ok := fences(text)
	if !ok {
		return request{}
	}
	return request{cells: cells}
}

// parseRun reads what stands behind "!run".
func parseRun(arg string) request {
	word, rest, _ := strings.Cut(strings.ReplaceAll(arg, "\n", " \n"), " ")
	lang, named := sandbox.ParseLanguage(word)
	if named {
		arg = strings.TrimSpace(arg[len(word):])
	}
	if cells, ok := fences(arg); ok {
		if named {
			for i := range cells {
				cells[i].language = lang
			}
		}
		return request{cells: cells}
	}
	if named && strings.TrimSpace(rest) != "" && !strings.Contains(arg, "```") {
		return request{cells: []code{{lang, arg}}}
	}
	return request{command: "run", arg: arg}
}

// fences splits a text that is nothing but fenced blocks.
func fences(text string) ([]code, bool) {
	const fence = "```"
	var cells []code
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		body, ok := strings.CutPrefix(text, fence)
		if !ok {
			return nil, false
		}
		// A fence closes at the beginning of a line, so that code may hold
		// one; failing that, anywhere: chat clients put it behind the last word.
		end := strings.Index(body, "\n"+fence)
		closing := len("\n" + fence)
		if end < 0 {
			end, closing = strings.Index(body, fence), len(fence)
		}
		if end < 0 {
			return nil, false
		}
		text = body[end+closing:]
		cell, ok := fenced(body[:end])
		if !ok {
			return nil, false
		}
		cells = append(cells, cell)
	}
	return cells, len(cells) > 0
}

// fenced reads what stands between two fences: the language's name on the
// first line, or none.
func fenced(body string) (code, bool) {
	first, rest, more := strings.Cut(body, "\n")
	first = strings.TrimSpace(first)
	lang, known := sandbox.ParseLanguage(first)
	switch {
	case known && more:
		body = rest
	case known:
		return code{}, false // a language and no code
	case more && first != "" && isName(first):
		return code{}, false // a language that we don't know
	default:
		lang = defaultLanguage
	}
	if strings.TrimSpace(body) == "" {
		return code{}, false
	}
	return code{lang, strings.Trim(body, "\n")}, true
}

// isName says whether a line can be the name of a language: one plain word.
func isName(line string) bool {
	for _, r := range line {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+-#.", r)) {
			return false
		}
	}
	return true
}
