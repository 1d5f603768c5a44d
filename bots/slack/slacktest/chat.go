package slacktest

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxText     = 4000 // above it posts and edits are refused, as reported
	maxMetadata = 4000
	burst       = 3 // posts in a channel before its limit counts
)

func (s *Server) authTest(*request) object {
	return object{"ok": true, "url": "https://standin.slack.com/", "team": "Stand-in", "user": "threadbook",
		"team_id": s.o.TeamID, "user_id": s.o.BotUserID, "bot_id": s.o.BotID}
}

func (s *Server) usersInfo(r *request) object {
	u := s.users[r.Get("user")]
	if u == nil {
		return refusal("user_not_found")
	}
	return object{"ok": true, "user": object{
		"id": u.ID, "team_id": u.TeamID, "name": u.Name, "real_name": u.Name, "deleted": u.Deleted, "is_bot": u.Bot,
		"is_restricted": u.Restricted, "is_ultra_restricted": u.Ultra, "is_stranger": u.IsStranger,
		"profile": object{"display_name": u.Name},
	}}
}

func (s *Server) botsInfo(r *request) object {
	if r.Get("bot") != s.o.BotID {
		return refusal("bot_not_found")
	}
	return object{"ok": true, "bot": object{"id": s.o.BotID, "app_id": s.o.AppID, "user_id": s.o.BotUserID, "name": "threadbook"}}
}

func (s *Server) conversationsInfo(r *request) object {
	c := s.channels[r.Get("channel")]
	if c == nil {
		return refusal("channel_not_found")
	}
	return object{"ok": true, "channel": object{
		"id": c.ID, "is_member": !c.Outside, "is_archived": c.Archived, "is_ext_shared": c.ExtShared,
		"is_pending_ext_shared": c.PendingShare, "is_im": c.IM, "is_mpim": c.MPIM, "is_private": c.Secret,
	}}
}

// conversationsReplies has the thread's first message on the first page always,
// as Slack's has.
func (s *Server) conversationsReplies(r *request) object {
	c, o := s.conversation(r)
	if o != nil {
		return o
	}
	root := s.find(c.ID, r.Get("ts"))
	if root == nil || root.Deleted {
		return refusal("thread_not_found")
	}
	limit, _ := strconv.Atoi(r.Get("limit"))
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	oldest, latest, inclusive := r.Get("oldest"), r.Get("latest"), r.flag("inclusive")
	skip, _ := strconv.Atoi(r.Get("cursor"))
	var found []object
	for _, m := range s.messages[c.ID] {
		if m.Deleted || m.Hidden || m.TS != root.TS && m.ThreadTS != root.TS {
			continue
		}
		after := oldest == "" || m.TS > oldest || inclusive && m.TS == oldest
		before := latest == "" || m.TS < latest || inclusive && m.TS == latest
		if m.TS != root.TS && !(after && before) {
			continue
		}
		found = append(found, s.wire(m, r.flag("include_all_metadata")))
	}
	found = found[min(skip, len(found)):]
	more := len(found) > limit
	res := object{"ok": true, "has_more": more, "messages": found[:min(limit, len(found))]}
	if more {
		res["response_metadata"] = object{"next_cursor": strconv.Itoa(skip + limit)}
	}
	return res
}

// wire is a message as Slack sends it. s.mu is held.
func (s *Server) wire(m *Message, metadata bool) object {
	o := object{"type": "message", "user": m.User, "text": m.Text, "ts": m.TS}
	if m.ThreadTS != "" {
		o["thread_ts"] = m.ThreadTS
	}
	if m.BotID != "" {
		o["bot_id"] = m.BotID
	}
	if m.stream != nil {
		o["streaming_state"] = map[bool]string{true: "in_progress", false: "completed"}[s.open(m)]
	}
	if m.Subtype != "" {
		o["subtype"] = m.Subtype
	}
	if len(m.Blocks) > 0 {
		o["blocks"] = m.Blocks
	}
	if metadata && len(m.Metadata) > 0 {
		o["metadata"] = m.Metadata
	}
	if len(m.Files) > 0 {
		var files []object
		for _, id := range m.Files {
			files = append(files, s.wireFile(id))
		}
		o["files"] = files
	}
	return o
}

// conversation finds the channel of a call that needs the bot in it.
func (s *Server) conversation(r *request) (*Channel, object) {
	c := s.channels[r.Get("channel")]
	switch {
	case c == nil:
		return nil, refusal("channel_not_found")
	case c.Archived:
		return nil, refusal("is_archived")
	case c.Outside:
		return nil, refusal("not_in_channel")
	}
	return c, nil
}

func (s *Server) find(channel, ts string) *Message {
	i := slices.IndexFunc(s.messages[channel], func(m *Message) bool { return m.TS == ts })
	if i < 0 {
		return nil
	}
	return s.messages[channel][i]
}

// content checks text, blocks and metadata.
func (s *Server) content(r *request) object {
	if r.Get("text") == "" && r.Get("blocks") == "" {
		return refusal("no_text")
	}
	if utf8.RuneCountInString(r.Get("text")) > maxText {
		return refusal("msg_too_long")
	}
	if b := r.Get("blocks"); b != "" {
		if o := s.checkBlocks([]byte(b)); o != nil {
			return o
		}
	}
	if m := r.Get("metadata"); m != "" {
		var meta struct {
			Type    string         `json:"event_type"`
			Payload map[string]any `json:"event_payload"`
		}
		if json.Unmarshal([]byte(m), &meta) != nil || meta.Type == "" || meta.Payload == nil {
			return refusal("invalid_metadata_format")
		}
	}
	return nil
}

// metadata is what Slack keeps of it: nothing, if it is too large.
func (r *request) metadata() json.RawMessage {
	if m := r.Get("metadata"); len(m) <= maxMetadata {
		return json.RawMessage(m)
	}
	return nil
}

func (s *Server) postMessage(r *request) object {
	c, o := s.conversation(r)
	if o == nil {
		o = s.content(r)
	}
	if o != nil {
		return o
	}
	root := r.Get("thread_ts")
	if root != "" && s.find(c.ID, root) == nil {
		return refusal("thread_not_found")
	}
	if after := s.limited(c.ID); after > 0 {
		return object{"retry_after": after}
	}
	m := &Message{
		Channel: c.ID, TS: s.stamp(), ThreadTS: root, User: s.o.BotUserID, BotID: s.o.BotID, At: time.Now(),
		Text: r.Get("text"), Blocks: json.RawMessage(r.Get("blocks")), Metadata: r.metadata(),
		Unfurls: r.Get("unfurl_links") != "false" || r.Get("unfurl_media") != "false",
	}
	s.messages[c.ID] = append(s.messages[c.ID], m)
	return object{"ok": true, "channel": c.ID, "ts": m.TS, "message": s.wire(m, true)}
}

// limited says after how many seconds the channel takes a post again.
func (s *Server) limited(channel string) int {
	if s.o.PostsPerSecond <= 0 {
		return 0
	}
	each := time.Duration(float64(time.Second) / s.o.PostsPerSecond)
	now := time.Now()
	due := s.posts[channel]
	if earliest := now.Add(-(burst - 1) * each); due.Before(earliest) {
		due = earliest
	}
	if wait := due.Sub(now); wait > 0 {
		return int(math.Ceil(wait.Seconds()))
	}
	s.posts[channel] = due.Add(each)
	return 0
}

func (s *Server) update(r *request) object {
	c, o := s.conversation(r)
	if o == nil {
		o = s.content(r)
	}
	if o != nil {
		return o
	}
	m := s.find(c.ID, r.Get("ts"))
	switch {
	case m == nil || m.Deleted:
		return refusal("message_not_found")
	case m.User != s.o.BotUserID:
		return refusal("cant_update_message")
	case s.open(m):
		return refusal("streaming_state_conflict")
	}
	m.Edits = append(m.Edits, Form{m.Text, m.Blocks, time.Now()})
	m.Text, m.Blocks = r.Get("text"), json.RawMessage(r.Get("blocks"))
	if r.Get("metadata") != "" {
		m.Metadata = r.metadata()
	}
	return object{"ok": true, "channel": c.ID, "ts": m.TS, "text": m.Text}
}

func (s *Server) postEphemeral(r *request) object {
	c, o := s.conversation(r)
	if o == nil {
		o = s.content(r)
	}
	if o != nil {
		return o
	}
	if s.users[r.Get("user")] == nil {
		return refusal("user_not_in_channel")
	}
	s.hidden = append(s.hidden, Ephemeral{c.ID, r.Get("thread_ts"), r.Get("user"), r.Get("text"), json.RawMessage(r.Get("blocks"))})
	return object{"ok": true, "message_ts": s.stamp()}
}

func (s *Server) reactionsAdd(r *request) object {
	c, o := s.conversation(r)
	if o != nil {
		return o
	}
	m := s.find(c.ID, r.Get("timestamp"))
	switch name := r.Get("name"); {
	case m == nil || m.Deleted:
		return refusal("message_not_found")
	case name == "" || strings.ContainsAny(name, ": "):
		return refusal("invalid_name")
	case slices.Contains(m.Reactions, name):
		return refusal("already_reacted")
	default:
		m.Reactions = append(m.Reactions, name)
	}
	return object{"ok": true}
}

func (s *Server) viewsPublish(r *request) object {
	var view struct {
		Type   string          `json:"type"`
		Blocks json.RawMessage `json:"blocks"`
	}
	if json.Unmarshal([]byte(r.Get("view")), &view) != nil || view.Type != "home" {
		return refusal("invalid_arguments")
	}
	if o := s.checkBlocks(view.Blocks); o != nil {
		return o
	}
	s.views[r.Get("user_id")] = view.Blocks
	return object{"ok": true, "view": object{"id": s.name("V")}}
}

func (s *Server) sessionStatus(r *request) object {
	if !s.o.Agent {
		return refusal("not_authorized")
	}
	switch r.Get("status") {
	case "active", "processing", "suspended", "closed":
	default:
		return refusal("invalid_arguments")
	}
	if utf8.RuneCountInString(r.Get("title")) > 200 {
		return refusal("invalid_arguments")
	}
	s.statuses = append(s.statuses, Status{r.Get("channel_id"), r.Get("thread_ts"), r.Get("status"), r.Get("title"), true})
	return object{"ok": true, "status": r.Get("status")}
}

func (s *Server) assistantStatus(r *request) object {
	if s.o.NoAssistant {
		return refusal("not_authorized")
	}
	if r.Get("channel_id") == "" || r.Get("thread_ts") == "" {
		return refusal("invalid_arguments")
	}
	s.statuses = append(s.statuses, Status{r.Get("channel_id"), r.Get("thread_ts"), r.Get("status"), "", false})
	return object{"ok": true}
}

func (s *Server) serveResponse(w http.ResponseWriter, r *http.Request) {
	var reply Reply
	if json.NewDecoder(r.Body).Decode(&reply) != nil {
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.replies = append(s.replies, reply)
	s.change()
	s.mu.Unlock()
	_, _ = w.Write([]byte("ok"))
}
