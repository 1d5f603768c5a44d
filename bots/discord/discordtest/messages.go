package discordtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

func unknownMessage() *refusal {
	return &refusal{status: http.StatusNotFound, code: 10008, message: "Unknown Message"}
}

func archived() *refusal {
	return &refusal{status: http.StatusBadRequest, code: 50083, message: "Thread is archived"}
}

func lacks() *refusal {
	return &refusal{status: http.StatusForbidden, code: 50013, message: "Missing Permissions"}
}

// channelCall does what is below channels/{id}; the lock is held.
func (s *Server) channelCall(r *http.Request, c *Channel, at func(int) string, f form) (any, *refusal) {
	switch what := r.Method + " " + at(2); {
	case what == "GET ":
		return c, nil
	case what == "PATCH ":
		return s.editChannel(c, f)
	case what == "POST typing":
		c.Typing++
		return nil, nil
	case what == "GET messages" && at(3) == "":
		return s.list(r, c), nil
	case what == "POST messages" && at(3) == "":
		return s.create(r, c, f)
	case at(2) != "messages":
		return nil, notFound
	}
	i := slices.IndexFunc(s.messages[c.ID], func(m *Message) bool { return m.ID == at(3) })
	if i < 0 {
		return nil, unknownMessage()
	}
	m := s.messages[c.ID][i]
	closed := c.Metadata != nil && c.Metadata.Archived
	switch {
	case r.Method == "GET" && at(4) == "":
		return s.show(r, m, true), nil
	case r.Method == "PATCH" && at(4) == "":
		if closed {
			return nil, archived()
		}
		if m.Author.ID != BotID {
			return nil, &refusal{status: http.StatusForbidden, code: 50005, message: "Cannot edit a message authored by another user"}
		}
		return s.edit(r, c, m, f)
	case r.Method == "POST" && at(4) == "threads":
		return s.openThread(c, m, f)
	case r.Method == "PUT" && at(4) == "reactions" && at(6) == "@me":
		if closed {
			return nil, archived()
		}
		if c.Denied&permReact != 0 {
			return nil, lacks()
		}
		emoji, err := url.PathUnescape(at(5))
		if err != nil || emoji == "" {
			return nil, &refusal{status: http.StatusBadRequest, code: 10014, message: "Unknown Emoji"}
		}
		if !slices.Contains(m.Reactions, emoji) {
			m.Reactions = append(m.Reactions, emoji)
		}
		return nil, nil
	}
	return nil, notFound
}

func (s *Server) editChannel(c *Channel, f form) (any, *refusal) {
	var p struct {
		Name     *string `json:"name"`
		Archived *bool   `json:"archived"`
	}
	if json.Unmarshal(f.payload, &p) != nil || c.Metadata == nil {
		return nil, invalid("a channel's new form")
	}
	if p.Archived != nil {
		if c.Metadata.Locked {
			return nil, lacks()
		}
		c.Metadata.Archived = *p.Archived
	}
	if p.Name != nil {
		c.Name = *p.Name
	}
	return c, nil
}

func (s *Server) openThread(c *Channel, m *Message, f form) (any, *refusal) {
	var p struct {
		Name     string `json:"name"`
		Duration int    `json:"auto_archive_duration"`
	}
	n := 0
	if json.Unmarshal(f.payload, &p) == nil {
		n = utf8.RuneCountInString(p.Name)
	}
	switch {
	case n < 1 || n > 100 || !slices.Contains([]int{0, 60, 1440, 4320, 10080}, p.Duration):
		return nil, invalid("a thread of the name %q, %d", p.Name, p.Duration)
	case c.Type != TypeText:
		return nil, &refusal{status: http.StatusBadRequest, code: 50024, message: "Cannot execute action on this channel type"}
	case c.Denied&permThreads != 0:
		return nil, lacks()
	case s.channels[m.ID] != nil:
		return nil, &refusal{status: http.StatusBadRequest, code: 160004, message: "A thread has already been created for this message"}
	}
	thread := &Channel{ID: m.ID, Type: TypeThread, GuildID: c.GuildID, Name: p.Name, Parent: c.ID, Owner: BotID,
		Metadata: &Archive{Duration: p.Duration}, Denied: c.Denied}
	s.channels[m.ID] = thread
	s.dispatch(intentGuilds, "THREAD_CREATE", thread)
	s.touch()
	return thread, nil
}

// list reads a page, the newest first.
func (s *Server) list(r *http.Request, c *Channel) []any {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 100 {
		limit = 50
	}
	all := s.messages[c.ID]
	if after := q.Get("after"); after != "" {
		i := slices.IndexFunc(all, func(m *Message) bool { return later(m.ID, after) })
		if i < 0 {
			i = len(all)
		}
		all = all[i:min(len(all), i+limit)]
	} else {
		if before := q.Get("before"); before != "" {
			if i := slices.IndexFunc(all, func(m *Message) bool { return !later(before, m.ID) }); i >= 0 {
				all = all[:i]
			}
		}
		all = all[max(0, len(all)-limit):]
	}
	list := []any{}
	for _, m := range slices.Backward(all) {
		list = append(list, s.show(r, m, true))
	}
	return list
}

func later(a, b string) bool { return len(a) > len(b) || len(a) == len(b) && a > b }

// payload is what a bot sends.
type payload struct {
	Content     *string         `json:"content"`
	Embeds      json.RawMessage `json:"embeds"`
	Flags       int             `json:"flags"`
	Components  json.RawMessage `json:"components"`
	Nonce       any             `json:"nonce"`
	Enforce     bool            `json:"enforce_nonce"`
	Attachments *[]struct {
		ID          any    `json:"id"`
		Filename    string `json:"filename"`
		Description string `json:"description"`
	} `json:"attachments"`
	Mentions *struct {
		Parse []string `json:"parse"`
	} `json:"allowed_mentions"`
	Reference *struct {
		ID string `json:"message_id"`
	} `json:"message_reference"`
}

func (s *Server) create(r *http.Request, c *Channel, f form) (any, *refusal) {
	var p payload
	if json.Unmarshal(f.payload, &p) != nil {
		return nil, invalid("a message that can't be read")
	}
	need := uint64(permSend)
	if c.Type == TypeThread {
		need = permInside
	}
	switch {
	case c.Denied&need != 0 || len(f.files) > 0 && c.Denied&permAttach != 0:
		return nil, lacks()
	case c.Type == TypeForum:
		return nil, &refusal{status: http.StatusBadRequest, code: 50008, message: "Cannot send messages in a non-text channel"}
	case c.Metadata != nil && c.Metadata.Archived && c.Metadata.Locked:
		return nil, archived()
	}
	nonceText := ""
	if p.Nonce != nil {
		nonceText = fmt.Sprint(p.Nonce)
	}
	if len(nonceText) > maxNonce {
		return nil, invalid("nonce: must be 25 or fewer in length")
	}
	if old, ok := s.nonces[nonceText]; ok && p.Enforce && nonceText != "" && time.Since(old.at) < s.opts.NonceMemory {
		return s.show(r, old.message, false), nil
	}
	m := &Message{Channel: c.ID, Author: people(BotID), Nonce: nonceText, Sent: []json.RawMessage{f.payload}}
	if ref := s.fill(m, p, f, c); ref != nil {
		return nil, ref
	}
	if m.Content == "" && len(m.Files) == 0 && m.Flags&flagComponents == 0 {
		return nil, &refusal{status: http.StatusBadRequest, code: 50006, message: "Cannot send an empty message"}
	}
	if p.Reference != nil {
		m.Type, m.Reference = 19, p.Reference.ID
	}
	m.Pings = pings(m.Text(), p)
	if c.Metadata != nil {
		c.Metadata.Archived = false
	}
	s.add(m)
	if nonceText != "" {
		s.nonces[nonceText] = nonce{m, time.Now()}
	}
	return s.show(r, m, false), nil
}

// add keeps a message and tells of it; the lock is held.
func (s *Server) add(m *Message) {
	m.ID = s.id()
	if m.At.IsZero() {
		m.At = time.Now().UTC()
	}
	s.messages[m.Channel] = append(s.messages[m.Channel], m)
	s.channels[m.Channel].Last = m.ID
	s.tell("MESSAGE_CREATE", m)
	s.touch()
}

var mention = regexp.MustCompile(`@everyone|@here|<@&?!?\d+>`)

// pings are those that a text alarms, unless it is told not to.
func pings(text string, p payload) []string {
	if p.Mentions != nil && p.Mentions.Parse != nil && len(p.Mentions.Parse) == 0 {
		return nil
	}
	return mention.FindAllString(text, -1)
}

func (s *Server) edit(r *http.Request, c *Channel, m *Message, f form) (any, *refusal) {
	var p payload
	if json.Unmarshal(f.payload, &p) != nil {
		return nil, invalid("a message that can't be read")
	}
	next := *m
	if ref := s.fill(&next, p, f, c); ref != nil {
		return nil, ref
	}
	next.Sent = append(slices.Clone(m.Sent), f.payload)
	next.Edited = time.Now().UTC()
	*m = next
	s.tell("MESSAGE_UPDATE", m)
	s.touch()
	return s.show(r, m, false), nil
}

// fill puts a payload into a message.
func (s *Server) fill(m *Message, p payload, f form, c *Channel) *refusal {
	const allowed = flagNoEmbeds | 1<<12 | flagComponents
	if p.Flags&^allowed != 0 {
		return invalid("flags: %d", p.Flags)
	}
	m.Flags |= p.Flags // the components flag never goes again
	if ref := s.attach(m, p, f, c); ref != nil {
		return ref
	}
	if p.Content != nil {
		m.Content = *p.Content
	}
	if utf8.RuneCountInString(m.Content) > maxContent {
		return invalid("content: must be 2000 or fewer in length")
	}
	if m.Flags&flagComponents != 0 && (m.Content != "" || len(p.Embeds) > 0) {
		return invalid("content, embeds: can't be used with the components flag")
	}
	if len(p.Components) == 0 {
		return nil
	}
	var list []any
	if json.Unmarshal(p.Components, &list) != nil {
		return invalid("components: no list")
	}
	names := map[string]bool{}
	for _, file := range m.Files {
		names[file.Name] = true
	}
	check := &checker{flags: m.Flags, names: names, ids: map[float64]bool{}, custom: map[string]bool{}}
	if ref := check.check(list, ""); ref != nil {
		return ref
	}
	m.Components = p.Components
	return nil
}

// attach gives a message its files: those listed stay, new ones come.
func (s *Server) attach(m *Message, p payload, f form, c *Channel) *refusal {
	if p.Attachments == nil && len(f.files) == 0 {
		return nil
	}
	var files []File
	used := map[int]bool{}
	if p.Attachments == nil {
		files = slices.Clone(m.Files)
	} else {
		for _, a := range *p.Attachments {
			id := fmt.Sprint(a.ID)
			if n, ok := a.ID.(float64); ok {
				id = strconv.Itoa(int(n))
			}
			if i := slices.IndexFunc(m.Files, func(o File) bool { return o.ID == id }); i >= 0 {
				files = append(files, m.Files[i])
				continue
			}
			n, err := strconv.Atoi(id)
			file, ok := f.files[n]
			if err != nil || !ok {
				return invalid("attachments[].id: %s is neither kept nor sent", id)
			}
			used[n] = true
			if a.Filename != "" {
				file.Name = a.Filename
			}
			file.ID, file.Description = s.id(), a.Description
			files = append(files, file)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(f.files)) {
		if file := f.files[n]; !used[n] {
			file.ID = s.id()
			files = append(files, file)
		}
	}
	for _, file := range files {
		if int64(len(file.Data)) > s.fileLimit(c) {
			return &refusal{status: http.StatusRequestEntityTooLarge, code: 40005, message: "Request entity too large"}
		}
	}
	if len(files) > maxFiles {
		return invalid("attachments: at most %d", maxFiles)
	}
	m.Files = files
	return nil
}

func (s *Server) fileLimit(c *Channel) int64 {
	switch {
	case c.GuildID != "" && s.opts.Tier >= 3:
		return 100 << 20
	case c.GuildID != "" && s.opts.Tier == 2:
		return 50 << 20
	}
	return 10 << 20
}

// show is a message as REST and the gateway give it. hidden: without the
// content intent what is not for the bot is left out.
func (s *Server) show(r *http.Request, m *Message, hidden bool) map[string]any {
	c := s.channels[m.Channel]
	files := []any{}
	for _, f := range m.Files {
		item := map[string]any{"id": f.ID, "filename": f.Name, "size": len(f.Data), "description": f.Description}
		if f.MIME != "" {
			item["content_type"] = f.MIME
		}
		if r != nil {
			item["url"] = s.address(r, m.Channel, f)
		}
		files = append(files, item)
	}
	mentions := []any{}
	for _, found := range mention.FindAllString(m.Content, -1) {
		if id := strings.Trim(found, "<@!>"); id != "" && id[0] >= '0' && id[0] <= '9' {
			mentions = append(mentions, people(id))
		}
	}
	out := map[string]any{
		"id": m.ID, "channel_id": m.Channel, "type": m.Type, "author": m.Author, "content": m.Content, "flags": m.Flags,
		"timestamp": m.At.Format("2006-01-02T15:04:05.000000-07:00"), "edited_timestamp": nil, "attachments": files,
		"mentions": mentions, "embeds": []any{}, "components": []any{}, "pinned": false, "tts": false, "mention_everyone": false, "mention_roles": []any{},
	}
	if !m.Edited.IsZero() {
		out["edited_timestamp"] = m.Edited.Format("2006-01-02T15:04:05.000000-07:00")
	}
	if len(m.Components) > 0 {
		out["components"] = m.Components
	}
	if !hidden && m.Nonce != "" {
		out["nonce"] = m.Nonce
	}
	if m.Reference != "" {
		for _, o := range s.messages[m.Channel] {
			if o.ID == m.Reference {
				out["referenced_message"] = s.show(r, o, hidden)
			}
		}
	}
	if hidden && s.opts.NoContent && c.GuildID != "" && m.Author.ID != BotID && !strings.Contains(m.Content, "<@"+BotID+">") {
		out["content"], out["attachments"], out["components"] = "", []any{}, []any{}
	}
	return out
}
