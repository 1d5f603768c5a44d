package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A fault is how code failed, in the agent's terms.
type fault struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	Traceback string `json:"traceback"`
}

const missingExtension = "Missing Extension"

// duckError is an error of DuckDB's with errors_as_json.
type duckError struct {
	Kind     string `json:"exception_type"`
	Message  string `json:"exception_message"`
	Subtype  string `json:"error_subtype"`
	Position string `json:"position"` // in bytes of the whole cell
}

func parseError(message string) duckError {
	var e duckError
	start := strings.IndexByte(message, '{')
	if start < 0 || json.Unmarshal([]byte(message[start:]), &e) != nil {
		kind, rest, found := strings.Cut(message, " Error: ")
		if !found {
			return duckError{Kind: "SQL", Message: message}
		}
		return duckError{Kind: kind, Message: rest}
	}
	return e
}

// plainError is an error of DuckDB's as a sentence.
func plainError(message string) string {
	return parseError(message).Message
}

// fault makes of an error what the author of the code wants to know.
func (c *cell) fault(message string) *fault {
	e := parseError(message)
	if e.Kind == "INTERRUPT" {
		return &fault{Name: "Interrupted", Value: "the statement was interrupted", Traceback: "Interrupted"}
	}
	e.Message = strings.TrimPrefix(e.Message, "Error in replacement scan: ")
	if e.Kind == missingExtension {
		// What follows is how to download it.
		e.Message, _, _ = strings.Cut(e.Message, "\n")
	}
	f := &fault{
		// "Out of Memory" becomes OutOfMemoryError: the agent knows it by that.
		Name:  strings.ReplaceAll(titled(e.Kind), " ", "") + "Error",
		Value: strings.TrimSpace(e.Message) + c.advice(e),
	}
	f.Traceback = fmt.Sprintf("%s: %s\n%s", f.Name, f.Value, c.where(e.Position))
	return f
}

// advice is what DuckDB doesn't know to say.
func (c *cell) advice(e duckError) string {
	switch {
	case e.Subtype == "MISSING_ENTRY" && strings.HasPrefix(e.Message, "Table with name"):
		if files := dataFiles(); len(files) > 0 {
			return "\nA file of the workspace is a table by its name without the ending, or in quotes: " + fileNames(files)
		}
	case strings.Contains(e.Message, "extensions.duckdb.org") || e.Kind == missingExtension:
		return "\nThe sandbox has no network: extensions and addresses can't be reached."
	}
	return ""
}

// window is how much of a long line is shown on each side of an error.
const window = 80

// where shows the line of the cell that an error is in, with a mark below it.
func (c *cell) where(position string) string {
	at, err := strconv.Atoi(position)
	if err != nil || at < 0 || at > len(c.code) {
		return ""
	}
	start := strings.LastIndexByte(c.code[:at], '\n') + 1
	line, _, _ := strings.Cut(c.code[at:], "\n")
	before, after := []rune(c.code[start:at]), []rune(line)
	column := len(before) + 1
	if len(before) > window {
		before = append([]rune("…"), before[len(before)-window:]...)
	}
	if len(after) > window {
		after = append(after[:window:window], '…')
	}
	head := fmt.Sprintf("line %d: ", strings.Count(c.code[:at], "\n")+1)
	// Tabs stay tabs, so that the mark is in its place however wide they are.
	margin := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, head+string(before))
	return fmt.Sprintf("%s%s%s\n%s^ column %d\n", head, string(before), string(after), margin, column)
}

// titled writes each word with a capital: "Invalid Input", "Out Of Memory", "IO".
func titled(kind string) string {
	words := strings.Fields(kind)
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, " ")
}
