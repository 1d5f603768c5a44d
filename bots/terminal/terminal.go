// Package terminal is the way in from a command line: messages from arguments
// or standard input, the thread's events as text or as JSON lines, charts and
// files into a folder.
//
// Like every adapter it submits messages and reads the log, and knows nothing
// of how the answer comes about.
package terminal

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"time"

	"crypto/rand"

	"threadbook/bots"
	"threadbook/sessions"
)

const (
	maxLine = 1 << 20 // bytes of a line of standard input
	// readWait is how long one look at the log waits.
	readWait = 10 * time.Second
	readPage = 500
	// stopGrace is how long an interrupted turn gets to end.
	stopGrace = 20 * time.Second
)

// Message is one message to ask with.
type Message struct {
	Text  string   `json:"text"`
	Files []string `json:"files"` // paths
}

// Messages makes messages of a command's arguments. The question "-" stands
// for standard input, a message a line: text, or with asJSON an object. Files
// go with the first.
func Messages(question string, files []string, stdin io.Reader, asJSON bool) ([]Message, error) {
	var messages []Message
	if question != "-" {
		messages = []Message{{Text: question}}
	} else {
		lines := bufio.NewScanner(stdin)
		lines.Buffer(nil, maxLine)
		for n := 1; lines.Scan(); n++ {
			line := strings.TrimSpace(lines.Text())
			if line == "" {
				continue
			}
			m := Message{Text: line}
			if asJSON {
				m = Message{}
				dec := json.NewDecoder(strings.NewReader(line))
				dec.DisallowUnknownFields()
				if err := dec.Decode(&m); err != nil {
					return nil, fmt.Errorf(`line %d is no object like {"text":"…","files":["…"]}: %w`, n, err)
				}
			}
			messages = append(messages, m)
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("reading the standard input: %w (a line may have %d bytes)", err, maxLine)
		}
	}
	if len(messages) == 0 {
		return nil, errors.New("there is nothing to ask: the standard input has no line")
	}
	messages[0].Files = append(append([]string(nil), files...), messages[0].Files...)
	for _, m := range messages {
		if strings.TrimSpace(m.Text) == "" && len(m.Files) == 0 {
			return nil, errors.New("a message is empty")
		}
		for _, path := range m.Files {
			if info, err := os.Stat(path); err != nil {
				return nil, fmt.Errorf("the file can't be sent: %w", err)
			} else if !info.Mode().IsRegular() {
				return nil, fmt.Errorf("%s is not a regular file", path)
			}
		}
	}
	return messages, nil
}

// Options say where things go.
type Options struct {
	Out            string // folder for charts and files, made when needed
	JSON           bool   // events as JSON lines on Stdout, instead of text
	Stdout, Stderr io.Writer
}

// Terminal is one thread at a command line.
type Terminal struct {
	Store  sessions.Log
	Blobs  sessions.Blobs
	Submit func(ctx context.Context, m bots.Message) (sessions.Event, error)
	Options
}

// NewThread names a new thread.
func NewThread() sessions.ThreadID {
	return sessions.NewThreadID("terminal", strings.ToLower(rand.Text()))
}

// Ask sends the messages one after the other, each once the one before is
// answered, and shows what happens. It is true where every turn ended well.
// When ctx ends it asks the thread to stop, and waits a little for that.
func (t *Terminal) Ask(ctx context.Context, thread sessions.ThreadID, messages []Message) (bool, error) {
	view := newView(t.Options, t.Blobs, thread)
	all := true
	var after int64
	for i, m := range messages {
		ev, err := t.Submit(ctx, bots.Message{Thread: thread, User: user(), Text: m.Text, Files: files(m.Files), Key: fmt.Sprint("line/", i)})
		if err != nil {
			return false, err
		}
		ok, err := t.follow(ctx, thread, view, ev.Seq, &after)
		if err != nil {
			return false, err
		}
		all = all && ok
	}
	return all, nil
}

// follow shows events until the turn that took up the message has ended.
func (t *Terminal) follow(ctx context.Context, thread sessions.ThreadID, view *view, message int64, after *int64) (bool, error) {
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	unhook := context.AfterFunc(ctx, func() {
		time.AfterFunc(stopGrace, cancel)
		if _, err := t.Submit(reading, bots.Message{Thread: thread, User: user(), Text: "!stop", Key: "stop"}); err != nil {
			cancel()
		}
	})
	defer unhook()
	var turn int64
	for {
		events, err := t.Store.Read(reading, thread, *after, readPage, readWait)
		if err != nil {
			return false, errors.Join(err, ctx.Err())
		}
		for _, ev := range events {
			*after = ev.Seq
			if err := view.show(reading, ev); err != nil {
				return false, err
			}
			switch b := ev.Body.(type) {
			case *sessions.TurnStarted:
				for _, seq := range b.Messages {
					if seq == message {
						turn = ev.Turn
					}
				}
			case *sessions.TurnFinished:
				if ev.Turn == turn && turn != 0 {
					return b.Status == sessions.TurnOK, nil
				}
			}
		}
	}
}

// user is whoever sits at the terminal.
func user() sessions.User {
	name := os.Getenv("USER")
	if name == "" {
		name = "user"
	}
	return sessions.User{ID: name, Name: name}
}

func files(paths []string) []bots.File {
	var list []bots.File
	for _, path := range paths {
		list = append(list, bots.File{
			Name: filepath.Base(path),
			MIME: mime.TypeByExtension(filepath.Ext(path)),
			Open: func(context.Context) (io.ReadCloser, error) { return os.Open(path) },
		})
	}
	return list
}
