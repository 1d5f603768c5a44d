package bots

import (
	"context"
	"errors"
	"fmt"
	"time"

	"threadbook/sessions"
)

// A Poster shows posts on one chat platform. Its methods may be called
// concurrently, though for one thread the [Presenter] calls one at a time. They
// keep to the platform's rate limits themselves, waiting where the wait is
// short, and try nothing twice: an error goes back to the presenter, which
// decides. What an error says of the post is a [*PostError].
type Poster interface {
	// Limits are the platform's, for the thread.
	Limits(ctx context.Context, thread sessions.ThreadID) Limits
	// Prepare does what a post needs and nobody sees, such as sending the bytes
	// of its figures. It may be repeated. The handle goes into the ledger
	// before Post is called, and comes back to Post and to Find.
	Prepare(ctx context.Context, p Post) (handle string, err error)
	// Post makes the post visible and returns the platform's id of the message.
	Post(ctx context.Context, p Post, handle string) (id string, err error)
	// Edit gives a post of that id a new form. It may be repeated.
	Edit(ctx context.Context, p Post, id string) error
	// Find asks the platform for a post that may have been made at or after a
	// time, under the post's key or with the handle. No error and an empty id:
	// it was not.
	Find(ctx context.Context, p Post, handle string, since time.Time) (id string, err error)
}

// A Signer is a [Poster] that can give a sign of being at work without a post.
// Signs may be repeated, and may fail.
type Signer interface {
	// Received marks a person's message as taken up: key is its [Message.Key].
	// busy says that it waits for a turn that is running.
	Received(ctx context.Context, thread sessions.ThreadID, key string, busy bool) error
	// Working shows that a turn works on the thread, with a few words, or with
	// none that nothing does any more. It is called again every
	// [WorkingEvery] while a turn runs. title names the thread, by its first message.
	Working(ctx context.Context, thread sessions.ThreadID, words, title string) error
}

// WorkingEvery is how often [Signer.Working] is repeated: Discord's typing sign
// lasts 10 s.
const WorkingEvery = 8 * time.Second

// Limits are what one message of a platform may hold.
type Limits struct {
	Text     int           // bytes of an answer's Markdown in one post
	Live     int           // bytes of code and output in a live post
	Media    int           // figures, and files, in one post
	FileSize int64         // bytes of one file
	Edits    time.Duration // the least time between two edits of a post
}

// Post is one message as every platform can show it: its parts in the order in
// which they are shown, the empty ones left out. Text and Status are Markdown as models write it; a
// renderer defuses what its platform would take for a mention, a link preview
// or the end of a fence.
type Post struct {
	Thread sessions.ThreadID
	Turn   int64
	Part   string // the same part of the same turn is the same post
	// Asker is who the turn is for, in a live post; a platform may show it to
	// them in a way of its own. Empty where nobody asked.
	Asker sessions.User

	Text    string   // words of the model, notices
	Cells   []Cell   // a live post's code and output
	Figures []Media  // pictures
	Tables  []Table  // small data frames
	Files   []Media  // other files
	Status  string   // a line of small print: what is happening, how it ended
	Buttons []Button // at most five
	Running bool     // a turn is at work: the post will be edited
}

// Key names the post everywhere: in metadata, nonces and logs.
func (p Post) Key() string { return fmt.Sprintf("%s#%d/%s", p.Thread, p.Turn, p.Part) }

// Cell is a cell as a live post shows it.
type Cell struct {
	Number   int64
	Language string
	Code     string // shortened to what a live post has room for; may be empty
	Output   string // the same
	Status   string // a sandbox status, empty while it runs
	Seconds  float64
}

// Media is a figure or a file: bytes in the blob store.
type Media struct {
	Name string
	MIME string
	Size int64
	Blob string
	Alt  string // what a figure shows, for those who can't see it
}

// Table is a small table: a row is as long as the header.
type Table struct {
	Caption string
	Header  []string
	Rows    [][]string
}

// Action is what a button asks for.
type Action string

// The actions. Those that change something name the turn that they are for in
// their button's value, so that a stale press is told from a good one.
const (
	ActionStop     Action = "stop"     // end the turn
	ActionAgain    Action = "again"    // ask the turn's messages again
	ActionRerun    Action = "rerun"    // run all the thread's cells again
	ActionCode     Action = "code"     // show the turn's code, to who pressed
	ActionNotebook Action = "notebook" // post the thread as a notebook
	ActionFiles    Action = "files"    // list the thread's files
	ActionAnswer   Action = "answer"   // answer a question with the option
	ActionEdit     Action = "edit"     // ask an edited message anew
)

// Button is a button under a post. Value is "<turn>" or "<turn>/<more>" and at
// most 100 bytes.
type Button struct {
	Action Action
	Label  string
	Value  string
	Danger bool
}

// PostError says what a failed call means for its post.
type PostError struct {
	// After is how long the platform asks to wait, 0 where it says nothing.
	After time.Duration
	// Refused: the platform has certainly not made the post. Without it the
	// post may be there, and is looked for before it is made again.
	Refused bool
	// Permanent: trying again can't help. Reason is then for the thread or the log.
	Permanent bool
	// Gone: an edited message is not there any more.
	Gone bool
	Err  error
}

func (e *PostError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *PostError) Unwrap() error { return e.Err }

// postError finds the PostError in a chain; an error without one says nothing
// but that it failed.
func postError(err error) PostError {
	var e *PostError
	if errors.As(err, &e) {
		return *e
	}
	return PostError{Err: err}
}
