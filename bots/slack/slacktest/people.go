package slacktest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Message is a message as people see it.
type Message struct {
	Channel, TS, ThreadTS string
	User, BotID, Subtype  string
	Text                  string
	Blocks, Metadata      json.RawMessage
	Files                 []string // ids
	Reactions             []string
	Edits                 []Form // its earlier forms
	At                    time.Time
	Unfurls               bool // links would be previewed
	Hidden                bool // an upload that is not visible yet
	Deleted               bool
	Streaming             bool // a stream that is open; see Options.StreamLife
	stream                *stream
}

// Form is what a message once was.
type Form struct {
	Text   string
	Blocks json.RawMessage
	Until  time.Time
}

// Ephemeral is what one person alone was told.
type Ephemeral struct {
	Channel, ThreadTS, User, Text string
	Blocks                        json.RawMessage
}

// Status is a status of a thread that was set: of a session, or an assistant's.
type Status struct {
	Channel, ThreadTS, Status, Title string
	Session                          bool
}

// Reply is what came to a response_url.
type Reply struct {
	Type string `json:"response_type"`
	Text string `json:"text"`
}

// Write puts a person's message into a conversation, without an event, and
// returns it with its timestamp. Files are ids of [Server.AddFile].
func (s *Server) Write(m Message) Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.TS, m.At = s.stamp(), time.Now()
	if len(m.Files) > 0 && m.Subtype == "" {
		m.Subtype = "file_share"
	}
	for _, id := range m.Files {
		if f := s.files[id]; f != nil {
			f.channel, f.thread, f.ts = m.Channel, m.ThreadTS, m.TS
		}
	}
	s.messages[m.Channel] = append(s.messages[m.Channel], &m)
	s.change()
	return m
}

// Event is a message as an event of a type, message or app_mention. The latter
// comes without files.
func (s *Server) Event(kind string, m Message) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.wire(&m, false)
	o["type"], o["channel"], o["event_ts"] = kind, m.Channel, m.TS
	if kind == "app_mention" {
		delete(o, "files")
		delete(o, "subtype")
		return o
	}
	o["channel_type"] = "channel"
	if c := s.channels[m.Channel]; c != nil {
		switch {
		case c.IM:
			o["channel_type"] = "im"
		case c.MPIM:
			o["channel_type"] = "mpim"
		case c.Secret:
			o["channel_type"] = "group"
		}
	}
	return o
}

// Say lets somebody write and sends the events that Slack sends of it: for a
// mention outside of DMs both app_mention and message.
func (s *Server) Say(ctx context.Context, m Message) (Message, []*Delivery) {
	m = s.Write(m)
	event := s.Event("message", m)
	var sent []*Delivery
	if event["channel_type"] != "im" && strings.Contains(m.Text, "<@"+s.o.BotUserID+">") {
		sent = append(sent, s.Send(ctx, EventsAPI, s.Envelope(s.Event("app_mention", m), nil)))
	}
	return m, append(sent, s.Send(ctx, EventsAPI, s.Envelope(event, nil)))
}

// EditEvent changes a person's message and is the event of it.
func (s *Server) EditEvent(channel, ts, text string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.find(channel, ts)
	before := s.wire(m, false)
	m.Edits = append(m.Edits, Form{m.Text, m.Blocks, time.Now()})
	m.Text = text
	after := s.wire(m, false)
	stamp := s.stamp()
	after["edited"] = object{"user": m.User, "ts": stamp}
	return object{"type": "message", "subtype": "message_changed", "hidden": true, "channel": channel, "channel_type": "channel",
		"ts": stamp, "event_ts": stamp, "message": after, "previous_message": before}
}

// DeleteEvent deletes a person's message and is the event of it.
func (s *Server) DeleteEvent(channel, ts string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.find(channel, ts)
	m.Deleted = true
	stamp := s.stamp()
	return object{"type": "message", "subtype": "message_deleted", "hidden": true, "channel": channel, "channel_type": "channel",
		"ts": stamp, "event_ts": stamp, "deleted_ts": ts, "previous_message": s.wire(m, false)}
}

// Press is the payload of somebody pressing a button of a message: the first
// whose action id begins with the words. It panics where there is none.
func (s *Server) Press(user, channel, ts, action string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.find(channel, ts)
	var blocks []struct {
		Type     string `json:"type"`
		Elements []struct {
			ActionID string `json:"action_id"`
			Value    string `json:"value"`
		} `json:"elements"`
	}
	_ = json.Unmarshal(m.Blocks, &blocks)
	for _, b := range blocks {
		for _, e := range b.Elements {
			if b.Type == "actions" && strings.HasPrefix(e.ActionID, action) {
				return s.pressOf(user, m, e.ActionID, e.Value)
			}
		}
	}
	panic(fmt.Sprintf("slacktest: message %s has no button %q: %s", ts, action, m.Blocks))
}

func (s *Server) pressOf(user string, m *Message, action, value string) object {
	stamp := s.stamp()
	return object{
		"type": "block_actions", "team": object{"id": s.o.TeamID}, "user": object{"id": user, "team_id": s.o.TeamID},
		"api_app_id": s.o.AppID, "trigger_id": stamp + ".trigger", "channel": object{"id": m.Channel},
		"container": object{"type": "message", "message_ts": m.TS, "channel_id": m.Channel, "thread_ts": m.ThreadTS},
		"message":   s.wire(m, false),
		"actions":   []object{{"type": "button", "action_id": action, "value": value, "action_ts": stamp, "block_id": "b"}},
	}
}

// Shortcut is the payload of somebody using a message shortcut.
func (s *Server) Shortcut(user, channel, ts, callback string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.find(channel, ts)
	o := object{
		"type": "message_action", "callback_id": callback, "team": object{"id": s.o.TeamID}, "user": object{"id": user},
		"channel": object{"id": channel}, "message_ts": ts, "action_ts": s.stamp(), "trigger_id": "trigger", "message": s.wire(m, false),
	}
	o["response_url"] = s.base + "/response/1"
	return o
}

// Command is the payload of a slash command.
func (s *Server) Command(user, channel, text string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return object{"command": "/threadbook", "text": text, "user_id": user, "channel_id": channel, "team_id": s.o.TeamID,
		"trigger_id": s.name("trigger"), "api_app_id": s.o.AppID}
}

// Thread is what people see in a thread, its first message included.
func (s *Server) Thread(channel, root string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Message
	for _, m := range s.messages[channel] {
		if !m.Deleted && !m.Hidden && (m.TS == root || m.ThreadTS == root) {
			s.open(m)
			list = append(list, *m)
		}
	}
	return list
}

// Channel is all that people see in a conversation.
func (s *Server) Channel(channel string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Message
	for _, m := range s.messages[channel] {
		if !m.Deleted && !m.Hidden {
			list = append(list, *m)
		}
	}
	return list
}

// File is a file's name and bytes.
func (s *Server) File(id string) (File, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[id]
	if f == nil {
		return File{}, false
	}
	return *f, true
}

// Remove deletes a message of anybody's.
func (s *Server) Remove(channel, ts string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.find(channel, ts); m != nil {
		m.Deleted = true
	}
}

// Ephemerals is what single people were told.
func (s *Server) Ephemerals() []Ephemeral {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Ephemeral{}, s.hidden...)
}

// Replies is what came to response_urls.
func (s *Server) Replies() []Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Reply{}, s.replies...)
}

// Statuses are all that were set, in order.
func (s *Server) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Status{}, s.statuses...)
}

// Home is somebody's Home tab, nil where it was never shown.
func (s *Server) Home(user string) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views[user]
}

// Calls counts the calls of a method; "upload" and "download" are those of bytes.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// Until waits until the condition holds; it looks again at each change of the
// stand-in. It says whether the condition came true before ctx ended.
func (s *Server) Until(ctx context.Context, condition func() bool) bool {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if condition() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
