package docker

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"threadbook/sandbox"
)

// What a cell may send. The agent keeps well below; these hold for what is
// not the agent any more.
const (
	maxText      = 64 << 10
	maxData      = 24 << 20
	maxNumbers   = 2 << 20  // of a table or the data of a figure
	maxWords     = 32 << 10 // of an error: name, message and traceback
	maxCellBytes = 64 << 20
	maxCellLines = 400_000
)

// A follower holds the events of a cell from the conn's reader, which must not
// wait, until Run takes them.
type follower struct {
	mu    sync.Mutex
	queue []message
	bytes int
	lines int
	ready chan struct{} // has an element when the queue may have one
}

func newFollower() *follower { return &follower{ready: make(chan struct{}, 1)} }

func (f *follower) push(m message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes += m.weight
	f.lines++
	if f.bytes > maxCellBytes || f.lines > maxCellLines {
		return violation("a cell sent over %d bytes or %d lines", maxCellBytes, maxCellLines)
	}
	f.queue = append(f.queue, m)
	select {
	case f.ready <- struct{}{}:
	default:
	}
	return nil
}

// take returns all that is waiting.
func (f *follower) take() []message {
	f.mu.Lock()
	defer f.mu.Unlock()
	queue := f.queue
	f.queue = nil
	return queue
}

// outputs makes outputs of the events of one cell, believing nothing.
type outputs struct {
	cell   int64
	number int64 // of the last event

	// Data that is still coming, in parts.
	partial bool
	mime    string
	display int64
	parts   []byte
}

// take takes an event. It returns an output where one is complete, or the
// result where the cell is.
func (o *outputs) take(m message) (*sandbox.Output, *sandbox.Result, error) {
	if m.Cell != o.cell || m.N <= o.number {
		return nil, nil, violation("event %d of cell %d after event %d of cell %d", m.N, m.Cell, o.number, o.cell)
	}
	o.number = m.N
	if o.partial && (m.Event != "data" || m.MIME != o.mime || m.Display != o.display) {
		return nil, nil, violation("an event in the middle of another's data")
	}
	switch m.Event {
	case "text":
		output, err := text(m)
		return output, nil, err
	case "data":
		output, err := o.data(m)
		return output, nil, err
	case "finished":
		result, err := finished(m)
		return nil, result, err
	}
	return nil, nil, nil // of a later version
}

func text(m message) (*sandbox.Output, error) {
	if m.Stream != "stdout" && m.Stream != "stderr" {
		return nil, violation("text of a stream %.20q", m.Stream)
	}
	if len(m.Text) > maxText || m.Truncated < 0 {
		return nil, violation("%d bytes of text, %d left out", len(m.Text), m.Truncated)
	}
	return &sandbox.Output{N: m.N, Stream: m.Stream, Text: plain(m.Text), Truncated: m.Truncated}, nil
}

func (o *outputs) data(m message) (*sandbox.Output, error) {
	if m.Display <= 0 || len(o.parts)+len(m.payload) > maxData {
		return nil, violation("%d bytes of display %d", len(o.parts)+len(m.payload), m.Display)
	}
	o.partial, o.mime, o.display = m.More, m.MIME, m.Display
	o.parts = append(o.parts, m.payload...)
	if m.More {
		return nil, nil
	}
	data, ok := checked(m.MIME, o.parts)
	o.parts = nil
	if !ok {
		return nil, nil // a type that is not shown, or not what it says it is
	}
	return &sandbox.Output{N: m.N, MIME: m.MIME, Data: data, Display: m.Display}, nil
}

// checked returns the data if its type is one that a cell may show and the
// bytes are not plainly something else.
func checked(mime string, data []byte) ([]byte, bool) {
	replacement := []byte("�")
	switch mime {
	case "text/plain":
		return []byte(plain(string(bytes.ToValidUTF8(data, replacement)))), true
	case "text/html", "text/markdown", "text/latex", "image/svg+xml":
		return []byte(visible.Replace(string(bytes.ToValidUTF8(data, replacement)))), true
	case sandbox.TableMIME:
		return rewritten[sandbox.Table](data)
	case sandbox.ChartMIME:
		return rewritten[sandbox.Figure](data)
	case "application/json":
		return data, json.Valid(data) && utf8.Valid(data)
	case "image/png":
		return data, bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n"))
	case "image/jpeg":
		return data, bytes.HasPrefix(data, []byte("\xff\xd8\xff"))
	case "image/gif":
		return data, bytes.HasPrefix(data, []byte("GIF87a")) || bytes.HasPrefix(data, []byte("GIF89a"))
	case "image/webp":
		return data, len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP"
	case "application/pdf":
		return data, bytes.HasPrefix(data, []byte("%PDF-"))
	}
	return nil, false
}

// rewritten is data that is read by programs, in its own words: what a bot
// takes apart has passed the checks of its type.
func rewritten[T any, P interface {
	*T
	Tidy(func(string) string) error
}](data []byte) ([]byte, bool) {
	if len(data) > maxNumbers {
		return nil, false
	}
	var value T
	if json.Unmarshal(data, &value) != nil || P(&value).Tidy(plain) != nil {
		return nil, false
	}
	data, err := json.Marshal(value)
	return data, err == nil
}

func finished(m message) (*sandbox.Result, error) {
	result := &sandbox.Result{Status: sandbox.Status(m.Status), Seconds: m.Seconds, Lost: m.Lost}
	switch result.Status {
	case sandbox.OK, sandbox.Failed, sandbox.Timeout, sandbox.OutOfMemory,
		sandbox.Interrupted, sandbox.KernelDied, sandbox.DiskFull:
	default:
		return nil, violation("a status %.20q", m.Status)
	}
	if m.Seconds < 0 || math.IsInf(m.Seconds, 0) {
		return nil, violation("a cell of %v seconds", m.Seconds)
	}
	if e := m.Raised; e != nil {
		if len(e.Name)+len(e.Value)+len(e.Traceback) > maxWords {
			return nil, violation("an error of over %d bytes", maxWords)
		}
		result.Error = &sandbox.CellError{
			Name: plain(e.Name), Value: plain(e.Value), Traceback: plain(e.Traceback),
		}
	}
	return result, nil
}

// plain drops control characters, and shows those that reorder text. The agent has done so with more care, and
// JSON makes valid UTF-8; this is for what isn't the agent.
func plain(text string) string {
	text = visible.Replace(text)
	if strings.IndexFunc(text, unwanted) < 0 {
		return text
	}
	return strings.Map(func(r rune) rune {
		if unwanted(r) {
			return -1
		}
		return r
	}, text)
}

// visible shows the characters that make a line read as another.
var visible = strings.NewReplacer(
	"\u202a", "⟨U+202A⟩", "\u202b", "⟨U+202B⟩", "\u202c", "⟨U+202C⟩", "\u202d", "⟨U+202D⟩", "\u202e", "⟨U+202E⟩",
	"\u2066", "⟨U+2066⟩", "\u2067", "⟨U+2067⟩", "\u2068", "⟨U+2068⟩", "\u2069", "⟨U+2069⟩")

func unwanted(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
