package sessions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Event is one entry of a thread's log. As JSON its fields and those of its
// body stand side by side in one object.
type Event struct {
	Seq    int64 // 1, 2, 3 … in the thread, without gaps
	At     time.Time
	Thread ThreadID
	Turn   int64 // the turn that wrote it, 1, 2, 3 … in the thread; 0: none
	Body   Body
}

// Body is what happened: a pointer to one of the types below, or [Unknown].
type Body interface {
	Kind() Kind
}

// Kind names a type of body in the log.
type Kind string

// The kinds.
const (
	KindMessage      Kind = "message"
	KindTurnStarted  Kind = "turn.started"
	KindTurnFinished Kind = "turn.finished"
	KindReply        Kind = "model.reply"
	KindToolResult   Kind = "tool.result"
	KindCellStarted  Kind = "cell.started"
	KindCellOutput   Kind = "cell.output"
	KindCellFinished Kind = "cell.finished"
	KindFile         Kind = "file"
	KindQuestion     Kind = "question"
	KindNotice       Kind = "notice"
	KindPost         Kind = "post"
	KindCheckpoint   Kind = "checkpoint"
)

// newBody makes the empty body of a kind, nil for one that this version
// doesn't know.
func newBody(k Kind) Body {
	switch k {
	case KindMessage:
		return &Message{}
	case KindTurnStarted:
		return &TurnStarted{}
	case KindTurnFinished:
		return &TurnFinished{}
	case KindReply:
		return &Reply{}
	case KindToolResult:
		return &ToolResult{}
	case KindCellStarted:
		return &CellStarted{}
	case KindCellOutput:
		return &CellOutput{}
	case KindCellFinished:
		return &CellFinished{}
	case KindFile:
		return &File{}
	case KindQuestion:
		return &Question{}
	case KindNotice:
		return &Notice{}
	case KindPost:
		return &Post{}
	case KindCheckpoint:
		return &Checkpoint{}
	}
	return nil
}

// Message is what a person wrote, or pressed.
type Message struct {
	User  User         `json:"user"`
	Text  string       `json:"text"`
	Files []Attachment `json:"files,omitempty"`
	// Key is the platform's own name for the event. A second message of the
	// thread with the same key is the same message.
	Key string `json:"key"`
	// Edits is the key of an earlier message that this one takes the place of,
	// if no turn has taken that up yet; after that it asks for nothing. With
	// Deleted the earlier one is taken back instead.
	Edits   string `json:"edits,omitempty"`
	Deleted bool   `json:"deleted,omitempty"`
}

// User is a person as their platform names them.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Attachment is a file that came with a message.
type Attachment struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	MIME string `json:"mime"`
	Blob string `json:"blob"`
	// Error says why the file could not be taken; it has no blob then.
	Error string `json:"error,omitempty"`
	// Ref is the platform's name for a file whose bytes are still to be fetched,
	// since the message could not wait for them; it has no blob either.
	Ref string `json:"ref,omitempty"`
}

// TurnStarted opens a turn; the messages it names are read from here on.
type TurnStarted struct {
	Messages []int64 `json:"messages"`
}

// TurnStatus is how a turn ended.
type TurnStatus string

// The ways a turn can end.
const (
	TurnOK         TurnStatus = "ok"
	TurnFailed     TurnStatus = "failed"
	TurnStopped    TurnStatus = "stopped"
	TurnOverBudget TurnStatus = "over_budget"
	TurnTimeout    TurnStatus = "timeout"
)

// TurnFinished closes a turn.
type TurnFinished struct {
	Status  TurnStatus `json:"status"`
	Seconds float64    `json:"seconds"`
	Tokens  Tokens     `json:"tokens"`
	CostUSD float64    `json:"cost_usd"`
}

// Tokens counts what a model read and wrote. Cached are those of In that the
// server had read before.
type Tokens struct {
	In     int64 `json:"in"`
	Out    int64 `json:"out"`
	Cached int64 `json:"cached"`
}

// Add sums two counts.
func (t Tokens) Add(o Tokens) Tokens {
	return Tokens{In: t.In + o.In, Out: t.Out + o.Out, Cached: t.Cached + o.Cached}
}

// Reply is one completion of the model: words, calls of tools, or both.
type Reply struct {
	Text         string `json:"text"`
	Calls        []Call `json:"calls,omitempty"`
	Model        string `json:"model"`
	FinishReason string `json:"finish_reason"`
	Tokens       Tokens `json:"tokens"`
}

// Call is the model's wish to use a tool. Arguments is JSON as the model
// wrote it, which need not be valid.
type Call struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// ToolResult is what the model is told of one of its calls. Every call gets
// exactly one.
type ToolResult struct {
	Call string `json:"call"`
	Text string `json:"text"`
	// Ends says that the turn ends with this result: the model has asked
	// something and waits for a person.
	Ends bool `json:"ends,omitempty"`
}

// By names who wrote a cell.
type By string

// Who can write a cell.
const (
	ByModel By = "model"
	ByUser  By = "user"
)

// CellStarted is a piece of code that now runs.
type CellStarted struct {
	Cell     int64  `json:"cell"` // 1, 2, 3 … in the thread
	Language string `json:"language"`
	Code     string `json:"code"`
	By       By     `json:"by"`
	Call     string `json:"call,omitempty"` // the model's call, where it made it
}

// CellOutput is one output: text of a stream, or one representation of
// something displayed, its bytes in Text or in a blob.
type CellOutput struct {
	Cell    int64  `json:"cell"`
	Stream  string `json:"stream,omitempty"` // stdout or stderr
	MIME    string `json:"mime,omitempty"`
	Text    string `json:"text,omitempty"`
	Blob    string `json:"blob,omitempty"`
	Size    int64  `json:"size,omitempty"` // of the blob
	Display int64  `json:"display,omitempty"`
	// Truncated counts the bytes that were left out before this output.
	Truncated int64 `json:"truncated,omitempty"`
	// N is the sandbox's number for the output: where to go on after a crash.
	N int64 `json:"n,omitempty"`
}

// CellFinished is how a cell ended.
type CellFinished struct {
	Cell    int64      `json:"cell"`
	Status  string     `json:"status"`
	Seconds float64    `json:"seconds"`
	Error   *CellError `json:"error,omitempty"`
	State   State      `json:"state"`
}

// CellError is an error as the language tells it.
type CellError struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	Traceback string `json:"traceback,omitempty"`
}

// State says what became of a language's variables.
type State string

// What can become of variables.
const (
	StateKept State = "kept"
	StateLost State = "lost"
)

// File is a file of the thread's workspace whose bytes are in the blob store:
// put there from a message (Cell 0), or written by code and given out; or, with
// Saved, what became of a file that nobody has been given.
type File struct {
	Path    string    `json:"path"` // relative to /workspace
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	MIME    string    `json:"mime"`
	Blob    string    `json:"blob"`
	Cell    int64     `json:"cell"`
	Title   string    `json:"title,omitempty"`
	ModTime time.Time `json:"mtime,omitzero"`
	// Message is the seq of the message that the file came with, and Profile
	// says what is in it: columns, types, rows, first lines.
	Message int64  `json:"message,omitempty"`
	Profile string `json:"profile,omitempty"`
	// Saved says that the file was looked at between turns, for the thread's
	// next machine, and is not to be shown: Blob has its bytes as they were
	// then. Without a Blob the file was over what is kept; without a ModTime
	// either, it was there no more.
	Saved bool `json:"saved,omitempty"`
}

// Question asks the people of the thread something; a later event with the
// same ID carries the answer and whose it is.
type Question struct {
	ID      string   `json:"id"`
	Text    string   `json:"text,omitempty"`
	Options []string `json:"options,omitempty"`
	Answer  string   `json:"answer,omitempty"`
	By      *User    `json:"by,omitempty"`
}

// Notice is something that the thread must know. Text is a sentence for
// people; Code is for programs.
type Notice struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// PostState is how far a post has come.
type PostState string

// The states of a post.
const (
	PostIntended PostState = "intended" // it is about to be made, or was
	PostSent     PostState = "sent"     // the platform has it
	PostFailed   PostState = "failed"   // it was given up
)

// Post is the ledger of what was shown on a chat platform: a part of a turn,
// written down before the platform is asked to show it and again after.
type Post struct {
	Part      string    `json:"part"` // "live", "answer/0" …; one of its name in a turn
	Platform  string    `json:"platform"`
	MessageID string    `json:"message_id,omitempty"`
	State     PostState `json:"state"`
	// Handle is what the platform needs to find a post that was intended.
	Handle string `json:"handle,omitempty"`
	// Final says that a part which was edited has got its last form.
	Final bool `json:"final,omitempty"`
	// Error says why a post was given up.
	Error string `json:"error,omitempty"`
}

// Checkpoint says that the thread's sleeping sandbox, as it was here in the log, is
// in a blob, for another machine to wake it. Once a cell was started after it, or
// the state was lost, it is of no use; a later one takes its place. The blob may be
// gone all the same.
type Checkpoint struct {
	Blob string `json:"blob"`
	Size int64  `json:"size"` // of the blob
	Cell int64  `json:"cell"` // the last one before it
}

// Unknown is a body of a later version: kept as it is, shown to nobody.
type Unknown struct {
	kind Kind
	JSON json.RawMessage
}

// Kind implements [Body], as do those below.
func (*Message) Kind() Kind      { return KindMessage }
func (*TurnStarted) Kind() Kind  { return KindTurnStarted }
func (*TurnFinished) Kind() Kind { return KindTurnFinished }
func (*Reply) Kind() Kind        { return KindReply }
func (*ToolResult) Kind() Kind   { return KindToolResult }
func (*CellStarted) Kind() Kind  { return KindCellStarted }
func (*CellOutput) Kind() Kind   { return KindCellOutput }
func (*CellFinished) Kind() Kind { return KindCellFinished }
func (*File) Kind() Kind         { return KindFile }
func (*Question) Kind() Kind     { return KindQuestion }
func (*Notice) Kind() Kind       { return KindNotice }
func (*Post) Kind() Kind         { return KindPost }
func (*Checkpoint) Kind() Kind   { return KindCheckpoint }
func (u *Unknown) Kind() Kind    { return u.kind }

// head is the part of an event's JSON that all kinds share.
type head struct {
	Seq    int64     `json:"seq"`
	At     time.Time `json:"at"`
	Thread ThreadID  `json:"thread"`
	Turn   int64     `json:"turn,omitempty"`
	Kind   Kind      `json:"kind"`
}

// MarshalJSON writes the event as one flat object.
func (e Event) MarshalJSON() ([]byte, error) {
	h, err := json.Marshal(head{e.Seq, e.At, e.Thread, e.Turn, e.Body.Kind()})
	if err != nil {
		return nil, err
	}
	b, err := MarshalBody(e.Body)
	if err != nil {
		return nil, err
	}
	if len(b) <= len("{}") {
		return h, nil
	}
	return append(append(h[:len(h)-1], ','), b[1:]...), nil
}

// UnmarshalJSON reads what MarshalJSON wrote, by this version or another.
func (e *Event) UnmarshalJSON(data []byte) error {
	var h head
	if err := json.Unmarshal(data, &h); err != nil {
		return fmt.Errorf("reading an event: %w", err)
	}
	body, err := UnmarshalBody(h.Kind, data)
	if err != nil {
		return err
	}
	*e = Event{h.Seq, h.At, h.Thread, h.Turn, body}
	return nil
}

// MarshalBody writes a body alone, for a store.
func MarshalBody(b Body) ([]byte, error) {
	if u, ok := b.(*Unknown); ok {
		return u.JSON, nil
	}
	return json.Marshal(b)
}

// UnmarshalBody reads a body of the kind.
func UnmarshalBody(kind Kind, data []byte) (Body, error) {
	body := newBody(kind)
	if body == nil {
		return &Unknown{kind: kind, JSON: bytes.Clone(data)}, nil
	}
	if err := json.Unmarshal(data, body); err != nil {
		return nil, fmt.Errorf("reading a %s event: %w", kind, err)
	}
	return body, nil
}
