package docker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"threadbook/sandbox"
)

const (
	// maxLine bounds a line from a sandbox: the longest is a payload of
	// chunk bytes in base64, or a listing.
	maxLine = 2 << 20
	// chunk is how much of a file goes into one line.
	chunk = 512 << 10
	// maxComplaint bounds a line of the agent's stderr.
	maxComplaint = 4 << 10
)

// errProtocol is what a sandbox that breaks the protocol is ended for.
var errProtocol = errors.New("the sandbox does not keep to the protocol")

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, args...))
}

// A request is one line to the agent. The fields are those of PROTOCOL.md, of
// all requests together; one left out is zero.
type request struct {
	ID     int64  `json:"id"`
	Client string `json:"client"`
	Op     string `json:"op"`

	Memory int64 `json:"memory,omitempty"`
	PIDs   int64 `json:"pids,omitempty"`
	Disk   int64 `json:"disk,omitempty"`

	Cell     int64            `json:"cell,omitempty"`
	Language sandbox.Language `json:"language,omitempty"`
	Code     string           `json:"code,omitempty"`
	Seconds  float64          `json:"seconds,omitempty"`
	Resume   bool             `json:"resume,omitempty"`
	After    int64            `json:"after,omitempty"`
	N        int64            `json:"n,omitempty"`

	Path  string `json:"path,omitempty"`
	Size  int64  `json:"size,omitempty"`
	Limit int64  `json:"limit,omitempty"`
	End   bool   `json:"end,omitempty"`

	Owner string `json:"owner,omitempty"`
}

// A message is one line from the agent: an answer where Re is set, an event
// where N is.
type message struct {
	Re     int64  `json:"re"`
	Client string `json:"client"`
	Code   string `json:"error"`
	Words  string `json:"message"`

	Protocol int   `json:"protocol"`
	Last     int64 `json:"last"`

	Files []listed `json:"files"`
	More  bool     `json:"more"` // also of data
	Size  int64    `json:"size"`
	End   bool     `json:"end"`

	N         int64   `json:"n"`
	Cell      int64   `json:"cell"`
	Event     string  `json:"event"`
	Stream    string  `json:"stream"`
	Text      string  `json:"text"`
	Truncated int64   `json:"truncated"`
	MIME      string  `json:"mime"`
	Display   int64   `json:"display"`
	Status    string  `json:"status"`
	Seconds   float64 `json:"seconds"`
	Lost      bool    `json:"lost"`
	Raised    *raised `json:"raised"`

	payload []byte
	weight  int // bytes of the line
}

type listed struct {
	Path  string  `json:"path"`
	Size  int64   `json:"size"`
	MTime float64 `json:"mtime"`
}

type raised struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	Traceback string `json:"traceback"`
}

// decodeLine takes a line apart. What is in it is not believed yet.
func decodeLine(line []byte) (message, error) {
	m := message{weight: len(line)}
	head, body, found := bytes.Cut(line, []byte{'\t'})
	if err := json.Unmarshal(head, &m); err != nil {
		return message{}, violation("not a line of it: %v", err)
	}
	if found {
		m.payload = make([]byte, base64.StdEncoding.DecodedLen(len(body)))
		n, err := base64.StdEncoding.Decode(m.payload, body)
		if err != nil {
			return message{}, violation("a payload is not base64: %v", err)
		}
		m.payload = m.payload[:n]
	}
	return m, nil
}

// encodeLine makes a line of a request.
func encodeLine(r request, payload []byte) ([]byte, error) {
	head, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if payload == nil {
		return append(head, '\n'), nil
	}
	line := make([]byte, 0, len(head)+2+base64.StdEncoding.EncodedLen(len(payload)))
	line = append(append(line, head...), '\t')
	line = base64.StdEncoding.AppendEncode(line, payload)
	return append(line, '\n'), nil
}

// errUnknownCell: a cell to be resumed never came to this sandbox.
var errUnknownCell = errors.New("the sandbox does not know the cell")

// errNoLanguage: the image has no program for a cell's language.
var errNoLanguage = errors.New("the sandbox's image is without the language")

// refusal is the error that an answer carries, or nil.
func refusal(m message) error {
	if m.Code == "" {
		return nil
	}
	words := plain(m.Words)
	var known error
	switch m.Code {
	case "not_found":
		known = sandbox.ErrNotFound
	case "bad_path":
		known = sandbox.ErrBadPath
	case "too_large":
		known = sandbox.ErrTooLarge
	case "disk_full":
		known = sandbox.ErrDiskFull
	case "busy":
		known = sandbox.ErrBusy
	case "unknown_cell":
		known = errUnknownCell
	case "no_language":
		known = errNoLanguage
	default:
		return fmt.Errorf("the sandbox refused: %s (%.40q)", words, m.Code)
	}
	return fmt.Errorf("%w (%s)", known, words)
}

// A lineWriter calls take for each line that is written to it. A line of over
// most bytes makes Write fail.
type lineWriter struct {
	most   int
	take   func(line []byte) error
	buffer []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	written := len(p)
	for {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			break
		}
		line := p[:end]
		if len(w.buffer) > 0 {
			w.buffer = append(w.buffer, line...)
			line = w.buffer
		}
		if len(line) > 0 {
			if err := w.take(line); err != nil {
				return 0, err
			}
		}
		w.buffer = w.buffer[:0]
		p = p[end+1:]
	}
	if len(w.buffer)+len(p) > w.most {
		return 0, violation("a line of over %d bytes", w.most)
	}
	w.buffer = append(w.buffer, p...)
	return written, nil
}

// complaints logs what the agent writes to stderr. It keeps the last line,
// which often says why a sandbox ended.
type complaints struct {
	log  *slog.Logger
	last string
	rest []byte
}

func (c *complaints) Write(p []byte) (int, error) {
	c.rest = append(c.rest, p...)
	for len(c.rest) > 0 {
		line, rest, found := bytes.Cut(c.rest, []byte{'\n'})
		if !found && len(c.rest) <= maxComplaint {
			break
		}
		if len(line) > maxComplaint {
			line, rest = line[:maxComplaint], c.rest[maxComplaint:]
		}
		if words := strings.TrimSpace(plain(strings.ToValidUTF8(string(line), "�"))); words != "" {
			c.last = words
			c.log.Warn("the agent says", "line", words)
		}
		c.rest = rest
	}
	return len(p), nil
}
