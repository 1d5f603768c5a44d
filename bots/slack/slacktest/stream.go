package slacktest

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of streams: those of Slack's reference, and as reported the size above
// which one can't be stopped (openclaw#143882).
const (
	streamLife   = 5 * time.Minute
	maxStreamed  = 10_600 // bytes of titles, details, output twice, and text
	maxTasks     = 50
	maxChunkText = 12_000 // characters
)

// stream is what a message shows while it is streamed.
type stream struct {
	began time.Time
	plan  bool // tasks stand together
	title string
	parts []*part
}

// part is text, a task, or blocks.
type part struct {
	text   string
	task   *chunk
	blocks []json.RawMessage
}

// chunk is every kind of chunk in one.
type chunk struct {
	Type    string            `json:"type"`
	Text    string            `json:"text"`
	ID      string            `json:"id"`
	Title   string            `json:"title"`
	Status  string            `json:"status"`
	Details string            `json:"details"`
	Output  string            `json:"output"`
	Blocks  []json.RawMessage `json:"blocks"`
}

// open says whether a message can be appended to. Slack ends a stream after
// five minutes, whatever comes. s.mu is held.
func (s *Server) open(m *Message) bool {
	life := s.o.StreamLife
	if life == 0 {
		life = streamLife
	}
	if m.Streaming && time.Since(m.stream.began) > life {
		m.Streaming = false
	}
	return m.Streaming
}

func (s *Server) startStream(r *request) object {
	if s.o.NoStreams != "" {
		return refusal(s.o.NoStreams)
	}
	c, o := s.conversation(r)
	if o != nil {
		return o
	}
	root, mode := r.Get("thread_ts"), r.Get("task_display_mode")
	switch {
	case root == "":
		return refusal("invalid_thread_ts")
	case s.find(c.ID, root) == nil:
		return refusal("thread_not_found")
	case r.Get("recipient_user_id") == "":
		return refusal("missing_recipient_user_id")
	case r.Get("recipient_team_id") == "":
		return refusal("missing_recipient_team_id")
	case s.users[r.Get("recipient_user_id")] == nil:
		return refusal("user_not_found")
	case !slices.Contains([]string{"", "timeline", "plan"}, mode):
		return refusal("invalid_arguments")
	case r.Get("unfurl_links") != "" || r.Get("unfurl_media") != "" || r.Get("blocks") != "" || r.Get("metadata") != "":
		return refusal("invalid_arguments")
	}
	st := &stream{began: time.Now(), plan: mode == "plan"}
	if o := s.add(st, r); o != nil {
		return o
	}
	if after := s.limited(c.ID); after > 0 {
		return object{"retry_after": after}
	}
	m := &Message{Channel: c.ID, TS: s.stamp(), ThreadTS: root, User: s.o.BotUserID, BotID: s.o.BotID, At: time.Now(),
		Streaming: true, Unfurls: true, stream: st}
	st.show(m)
	s.messages[c.ID] = append(s.messages[c.ID], m)
	return object{"ok": true, "channel": c.ID, "ts": m.TS}
}

// streamed finds the open stream of a call.
func (s *Server) streamed(r *request) (*Message, object) {
	if s.o.NoStreams != "" {
		return nil, refusal(s.o.NoStreams)
	}
	c, o := s.conversation(r)
	if o != nil {
		return nil, o
	}
	m := s.find(c.ID, r.Get("ts"))
	switch {
	case m == nil || m.Deleted:
		return nil, refusal("message_not_found")
	case m.User != s.o.BotUserID:
		return nil, refusal("message_not_owned_by_app")
	case !s.open(m):
		return nil, refusal("message_not_in_streaming_state")
	}
	return m, nil
}

func (s *Server) appendStream(r *request) object {
	m, o := s.streamed(r)
	if o != nil {
		return o
	}
	if r.Get("chunks") == "" && r.Get("markdown_text") == "" {
		return refusal("no_text")
	}
	if o := s.add(m.stream, r); o != nil {
		return o
	}
	m.stream.show(m)
	return object{"ok": true, "channel": m.Channel, "ts": m.TS}
}

func (s *Server) stopStream(r *request) object {
	m, o := s.streamed(r)
	if o == nil && (r.Get("blocks") != "" || r.Get("metadata") != "") {
		blocks := r.Get("blocks")
		if blocks == "" {
			r.Set("blocks", "[]")
		}
		o = s.content(r)
		r.Set("blocks", blocks)
	}
	if o == nil {
		o = s.add(m.stream, r)
	}
	if o != nil {
		return o
	}
	if m.stream.size() > maxStreamed {
		return refusal("msg_too_long")
	}
	var last []json.RawMessage
	if json.Unmarshal([]byte(r.Get("blocks")), &last) == nil && len(last) > 0 {
		m.stream.parts = append(m.stream.parts, &part{blocks: last})
	}
	m.stream.show(m)
	m.Streaming = false
	if r.Get("metadata") != "" {
		m.Metadata = r.metadata()
	}
	return object{"ok": true, "channel": m.Channel, "ts": m.TS, "message": s.wire(m, true)}
}

// add adds a call's chunks to a stream, all or none; nil: it did.
func (s *Server) add(st *stream, r *request) object {
	markdown, list := r.Get("markdown_text"), r.Get("chunks")
	if markdown != "" && list != "" {
		return refusal("invalid_arguments")
	}
	var chunks []chunk
	if list != "" && json.Unmarshal([]byte(list), &chunks) != nil {
		return refusal("invalid_chunks")
	}
	if markdown != "" {
		chunks = []chunk{{Type: "markdown_text", Text: markdown}}
	}
	tasks := st.tasks()
	for _, c := range chunks {
		ok := false
		switch c.Type {
		case "markdown_text":
			ok = c.Text != "" && utf8.RuneCountInString(c.Text) <= maxChunkText
		case "plan_update":
			ok = c.Title != ""
		case "task_update":
			ok = c.ID != "" && c.Title != "" && utf8.RuneCountInString(c.Title) <= 256 &&
				slices.Contains([]string{"pending", "in_progress", "complete", "error"}, c.Status)
			if !slices.Contains(tasks, c.ID) {
				tasks = append(tasks, c.ID)
			}
		case "blocks":
			ok = len(c.Blocks) > 0
			data, _ := json.Marshal(c.Blocks)
			if o := s.checkBlocks(data); o != nil {
				return o
			}
		}
		if !ok {
			return refusal("invalid_chunks")
		}
	}
	if len(tasks) > maxTasks {
		return refusal("msg_too_long")
	}
	for _, c := range chunks {
		st.take(c)
	}
	return nil
}

func (st *stream) tasks() []string {
	var ids []string
	for _, p := range st.parts {
		if p.task != nil {
			ids = append(ids, p.task.ID)
		}
	}
	return ids
}

// take adds a chunk. A task's title and status are replaced, its details and
// output added to.
func (st *stream) take(c chunk) {
	switch c.Type {
	case "plan_update":
		st.title = c.Title
	case "markdown_text":
		if n := len(st.parts); n > 0 && st.parts[n-1].text != "" {
			st.parts[n-1].text += c.Text
			return
		}
		st.parts = append(st.parts, &part{text: c.Text})
	case "blocks":
		st.parts = append(st.parts, &part{blocks: c.Blocks})
	case "task_update":
		for _, p := range st.parts {
			if p.task != nil && p.task.ID == c.ID {
				p.task.Title, p.task.Status = c.Title, c.Status
				p.task.Details += c.Details
				p.task.Output += c.Output
				return
			}
		}
		st.parts = append(st.parts, &part{task: &c})
	}
}

// size is a stream's as Slack counts it.
func (st *stream) size() int {
	n := len(st.title)
	for _, p := range st.parts {
		n += len(p.text)
		if p.task != nil {
			n += len(p.task.Title) + len(p.task.Details) + 2*len(p.task.Output)
		}
	}
	return n
}

// show gives the message the text and the blocks that people see.
func (st *stream) show(m *Message) {
	card := func(c *chunk) object {
		return object{"type": "task_card", "task_id": c.ID, "title": c.Title, "status": c.Status, "details": c.Details, "output": c.Output}
	}
	var text []string
	blocks, tasks := []any{}, []object{}
	for _, p := range st.parts {
		switch {
		case p.task != nil && st.plan:
			tasks = append(tasks, card(p.task))
		case p.task != nil:
			blocks = append(blocks, card(p.task))
		case p.text != "":
			text = append(text, p.text)
			blocks = append(blocks, object{"type": "markdown", "text": p.text})
		default:
			for _, b := range p.blocks {
				blocks = append(blocks, b)
			}
		}
	}
	if st.plan && (st.title != "" || len(tasks) > 0) {
		blocks = append([]any{object{"type": "plan", "title": st.title, "tasks": tasks}}, blocks...)
	}
	m.Text = strings.Join(text, "\n")
	m.Blocks, _ = json.Marshal(blocks)
}
