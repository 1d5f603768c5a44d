package discordtest

import (
	"encoding/json"
	"net/http"
	"time"
)

// Say writes a message as a person, and returns its id. Author is [UserID]
// where it is empty.
func (s *Server) Say(m Message) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Author.ID == "" {
		m.Author.ID = UserID
	}
	if m.Author.Username == "" {
		bot := m.Author.Bot
		m.Author = people(m.Author.ID)
		m.Author.Bot = m.Author.Bot || bot
	}
	if m.Reference != "" {
		m.Type = 19
	}
	for i := range m.Files {
		m.Files[i].ID = s.id()
	}
	s.add(&m)
	return m.ID
}

// Rewrite edits a person's message.
func (s *Server) Rewrite(channel, id, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages[channel] {
		if m.ID == id {
			m.Content, m.Edited = content, time.Now().UTC()
			s.tell("MESSAGE_UPDATE", m)
		}
	}
	s.touch()
}

// Delete deletes a message.
func (s *Server) Delete(channel, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.messages[channel]
	for i, m := range list {
		if m.ID == id {
			s.messages[channel] = append(list[:i:i], list[i+1:]...)
			intent, d := intentMessages, map[string]any{"id": id, "channel_id": channel}
			if g := s.channels[channel].GuildID; g != "" {
				d["guild_id"] = g
			} else {
				intent = intentDirect
			}
			s.dispatch(intent, "MESSAGE_DELETE", d)
			break
		}
	}
	s.touch()
}

// Interact makes an interaction: kind 2 is a command, 3 a press, 5 a form; data
// is its data. by has the permissions, a number of bits. Data of a message's
// command gets the message resolved.
func (s *Server) Interact(kind int, channel, by, permissions string, data map[string]any) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := &Interaction{ID: s.id(), at: time.Now()}
	it.Token = "secret" + it.ID
	s.inter[it.ID] = it
	if target, ok := data["target_id"].(string); ok {
		for _, m := range s.messages[channel] {
			if m.ID == target {
				data["resolved"] = map[string]any{"messages": map[string]any{target: s.show(s.gw.host, m, false)}}
			}
		}
	}
	d := map[string]any{"id": it.ID, "application_id": AppID, "type": kind, "token": it.Token, "version": 1,
		"channel_id": channel, "channel": s.channels[channel], "data": data, "attachment_size_limit": 10 << 20}
	if g := s.channels[channel].GuildID; g != "" {
		d["guild_id"] = g
		d["member"] = map[string]any{"user": people(by), "permissions": permissions, "roles": []string{}}
	} else {
		d["user"] = people(by)
	}
	s.dispatch(0, "INTERACTION_CREATE", d)
	return it.ID
}

// Interaction is what became of one.
func (s *Server) Interaction(id string) Interaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.inter[id]
}

const (
	ackLimit   = 3 * time.Second
	tokenLimit = 15 * time.Minute
)

// interactionCall does what is below interactions/ and webhooks/; the lock is
// held.
func (s *Server) interactionCall(r *http.Request, what string, at func(int) string, f form) (any, *refusal) {
	var it *Interaction
	for _, i := range s.inter {
		if i.Token == at(2) && (what == "webhooks" && at(1) == AppID || i.ID == at(1)) {
			it = i
		}
	}
	unknown := &refusal{status: http.StatusNotFound, code: 10062, message: "Unknown interaction"}
	if it == nil {
		return nil, unknown
	}
	defer s.touch()
	if what == "interactions" {
		if it.Type != 0 {
			return nil, &refusal{status: http.StatusBadRequest, code: 40060, message: "Interaction has already been acknowledged."}
		}
		if time.Since(it.at) > ackLimit {
			return nil, unknown
		}
		return nil, it.acknowledge(f.payload)
	}
	original := at(3) == "messages" && at(4) == "@original"
	switch {
	case it.Type == 0 || time.Since(it.at) > tokenLimit:
		return nil, &refusal{status: http.StatusNotFound, code: 10015, message: "Unknown Webhook"}
	case original && it.Type == 9, original && it.Deleted:
		return nil, unknownMessage()
	case original && r.Method == http.MethodDelete:
		it.Deleted = true
		return nil, nil
	case original && r.Method == http.MethodPatch, at(3) == "" && r.Method == http.MethodPost:
	default:
		return nil, notFound
	}
	var p payload
	if json.Unmarshal(f.payload, &p) != nil || p.Content == nil || *p.Content == "" {
		return nil, invalid("an answer without content")
	}
	m := &Message{}
	flags := p.Flags
	p.Flags &^= flagEphemeral
	if ref := s.fill(m, p, f, s.channels[ChannelID]); ref != nil {
		return nil, ref
	}
	if !original && flags&flagEphemeral == 0 {
		return nil, invalid("an answer for all to see, which no test wants")
	}
	it.Answers, it.Files = append(it.Answers, m.Content), m.Files
	return map[string]any{"id": s.id(), "content": m.Content}, nil
}

// acknowledge takes the first answer.
func (it *Interaction) acknowledge(data json.RawMessage) *refusal {
	var p struct {
		Type int `json:"type"`
		Data struct {
			Flags      int    `json:"flags"`
			Content    string `json:"content"`
			CustomID   string `json:"custom_id"`
			Title      string `json:"title"`
			Components []struct {
				Type      int             `json:"type"`
				Label     string          `json:"label"`
				Component json.RawMessage `json:"component"`
			} `json:"components"`
		} `json:"data"`
	}
	if json.Unmarshal(data, &p) != nil {
		return invalid("an answer that can't be read")
	}
	switch p.Type {
	case 4:
		if p.Data.Content == "" {
			return invalid("an empty answer")
		}
	case 5:
		if p.Data.Flags&^flagEphemeral != 0 {
			return invalid("flags of a deferred answer")
		}
	case 6:
	case 9:
		if n := len(p.Data.Components); p.Data.CustomID == "" || len(p.Data.CustomID) > 100 || p.Data.Title == "" || len(p.Data.Title) > 45 || n < 1 || n > 5 {
			return invalid("a form of %d components", n)
		}
		for _, c := range p.Data.Components {
			if c.Type != 18 || c.Label == "" || len(c.Label) > 45 || len(c.Component) == 0 {
				return invalid("a form's component of type %d", c.Type)
			}
		}
	default:
		return invalid("an answer of type %d", p.Type)
	}
	it.Type, it.Callback = p.Type, data
	return nil
}
