// Package bots is what all the ways into threadbook share: the neutral form
// of a message, the intake that puts it into a thread's log, and the presenter
// that shows the log where people chat.
//
// An adapter (a folder each: web, terminal, …) turns its platform's events
// into [Message] values and hands them to [Intake.Submit]. Files are read into
// the blob store first, then the message is appended to the log, and only when
// that has been done does Submit return and may the adapter acknowledge the
// event. The wake-up that follows is a courtesy: if it is lost, the workers'
// sweep finds the unread message.
//
// A file that can't be taken never holds up its message: it goes into the log
// with the reason in place of a blob, and the thread is told. Nor does one that
// takes long, where the platform can be asked for it again: the log has its
// reference, and the worker fetches it before the turn begins.
//
// Showing is a projection with a ledger. Of each turn follow the posts that
// should stand on the platform (turn.go folds the log, plan.go plans): one live
// post that is edited while the turn runs, then the answer with its figures and
// tables, then files. What does stand there is in the log as well: a post is
// written down as intended before the platform is asked for it and as sent
// after (publish.go). Whoever holds the thread's lease runs the [Presenter],
// which does the first thing that is missing until nothing is. After a crash,
// or an answer that was lost, the platform is asked whether it has the post
// under its key before it is made again; edits may be repeated. A platform is a
// [Poster], which prepares, posts, edits and finds, and knows nothing of turns.
package bots

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"threadbook/sessions"
)

// Limits on one message.
const (
	MaxText     = 256 << 10 // bytes of text; more belongs in a file
	MaxFiles    = 20
	MaxFileSize = 512 << 20 // bytes of one file; ChatGPT's data analysis takes as much
	maxFileName = 200       // bytes; Linux takes 255, and a clash adds a few
)

// Message is what a person wrote on some platform.
type Message struct {
	Thread sessions.ThreadID
	User   sessions.User
	Text   string // without the mention of the bot
	Files  []File
	// Key is the platform's name for the event, the same on redelivery.
	Key string
	// Edits is the Key of an earlier message that this one takes the place of;
	// Deleted says that the earlier one was taken back. See [sessions.Message].
	Edits   string
	Deleted bool
}

// File is a file that came with a message. Open is called at most once.
type File struct {
	Name string
	MIME string
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Ref is the platform's own name for the file, with which its [Fetcher] can
	// open it later. With one, a message doesn't wait for a slow file.
	Ref string
}

// fetchBudget is how long a message waits for all of its files that can be had
// later too: Slack wants its event acknowledged within 3 s.
const fetchBudget = 2 * time.Second

// A Fetcher is a [Poster] that can open a file of its platform by its Ref, for
// whoever works on the thread. What it returns is to be closed.
type Fetcher interface {
	Fetch(ctx context.Context, thread sessions.ThreadID, ref string) (io.ReadCloser, error)
}

// Intake takes messages into threads.
type Intake struct {
	Store sessions.Store
	Blobs sessions.Blobs
	// Wake tells the workers that the thread has something unread. Its
	// failure is logged and no more.
	Wake func(ctx context.Context, thread sessions.ThreadID) error
	Log  *slog.Logger
}

// Submit appends the message to its thread and wakes a worker. The event is
// the one in the log, its sequence number alone where the message had been
// submitted before.
func (in *Intake) Submit(ctx context.Context, m Message) (sessions.Event, error) {
	if err := m.Thread.Validate(); err != nil {
		return sessions.Event{}, err
	}
	if len(m.Text) > MaxText {
		return sessions.Event{}, &sessions.Error{Code: sessions.TooLarge,
			Text: fmt.Sprintf("The message has %d bytes and %d is the limit; please send it as a file.", len(m.Text), MaxText)}
	}
	if len(m.Files) > MaxFiles {
		return sessions.Event{}, &sessions.Error{Code: sessions.TooLarge,
			Text: fmt.Sprintf("The message has %d files and %d is the limit; please send them in several messages.", len(m.Files), MaxFiles)}
	}
	if strings.TrimSpace(m.Text) == "" && len(m.Files) == 0 && !m.Deleted {
		return sessions.Event{}, &sessions.Error{Code: sessions.Invalid, Text: "The message is empty."}
	}
	body := &sessions.Message{User: m.User, Text: strings.ToValidUTF8(m.Text, "\uFFFD"), Key: m.Key, Edits: m.Edits, Deleted: m.Deleted}
	soon, cancel := context.WithTimeout(ctx, fetchBudget)
	defer cancel()
	for _, f := range m.Files {
		if f.Ref == "" {
			body.Files = append(body.Files, in.take(ctx, m.Thread, f))
			continue
		}
		a := in.take(soon, m.Thread, f)
		if a.Blob == "" && soon.Err() != nil && ctx.Err() == nil {
			a.Ref, a.Error = f.Ref, ""
		}
		body.Files = append(body.Files, a)
	}
	ev, added, err := in.Store.Submit(ctx, m.Thread, body)
	if err != nil {
		return sessions.Event{}, err
	}
	if added {
		if err := in.Wake(ctx, m.Thread); err != nil {
			in.Log.WarnContext(ctx, "waking a worker failed; the sweep will", "thread", m.Thread, "err", err)
		}
	}
	return ev, nil
}

// take reads one file into the blob store.
func (in *Intake) take(ctx context.Context, thread sessions.ThreadID, f File) sessions.Attachment {
	a := sessions.Attachment{Name: CleanFileName(f.Name), MIME: f.MIME}
	fail := func(err error) sessions.Attachment {
		in.Log.WarnContext(ctx, "a file was not taken", "thread", thread, "file", a.Name, "err", err)
		a.Error = sessions.TextOf(err)
		return a
	}
	r, err := f.Open(ctx)
	if err != nil {
		return fail(err)
	}
	defer r.Close()
	a.Blob, a.Size, err = in.Blobs.Put(ctx, thread, r, MaxFileSize)
	if err != nil {
		return fail(err)
	}
	return a
}

// CleanFileName makes of what a platform says a name for a file in a folder:
// its last element, without control characters and direction marks, not
// hidden, not empty, not too long; its extension is kept.
func CleanFileName(name string) string {
	name = path.Base(strings.ReplaceAll(strings.ToValidUTF8(name, "_"), `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '/' {
			return -1
		}
		return r
	}, name)
	name = strings.TrimLeft(strings.TrimSpace(name), ".")
	if name == "" {
		return "file"
	}
	if len(name) > maxFileName {
		ext := path.Ext(name)
		if len(ext) > maxFileName/4 {
			ext = ""
		}
		cut := maxFileName - len(ext)
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut] + ext
	}
	return name
}
