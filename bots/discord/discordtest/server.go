// Package discordtest is a stand-in for Discord, REST and gateway, as strict as
// the documentation says the real one is: it refuses what Discord refuses
// (lengths, components, permissions, rates, tokens), forgets nonces, filters
// by intents, replays after a resume, and fails on demand. It is an
// http.Handler, so it can be served from a process of its own too.
//
// There is one application with one bot, in one server, with channels that a
// test makes. A test writes as people with [Server.Say] and its kin, and reads
// what the bot did with [Server.Messages] and its kin; [Server.Await] waits
// until something holds.
package discordtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Who is there from the start.
const (
	BotID     = "1000000000000000001"
	AppID     = "1000000000000000002"
	GuildID   = "2000000000000000001"
	UserID    = "3000000000000000001" // Ada, a member
	OtherID   = "3000000000000000002" // Bob, another
	ChannelID = "4000000000000000001" // #general
	ForumID   = "4000000000000000002" // #forum
	DMID      = "4000000000000000003" // Ada's direct chat with the bot
)

// Types of channels.
const (
	TypeText   = 0
	TypeDM     = 1
	TypeThread = 11
	TypeForum  = 15
)

// Options say how this Discord differs from the usual one.
type Options struct {
	Token string // of the bot; "token" where empty
	// NoContent: the application has no MESSAGE_CONTENT intent.
	NoContent bool
	// Heartbeat is the interval in Hello; 41.25 s where zero.
	Heartbeat time.Duration
	// NonceMemory is how long a nonce is remembered; three minutes where zero.
	NonceMemory time.Duration
	// Rate is how many messages may be made in a channel, and edits, in
	// RateWindow; 0: any number. Discord's is commonly said to be 5 in 5 s.
	Rate       int
	RateWindow time.Duration
	// GlobalRate is how many requests a second are taken from a bot: 50 where
	// zero, any number where negative.
	GlobalRate int
	// CountedIDs counts ids up from a number instead of telling the time.
	CountedIDs bool
	Tier       int // of the server: 2 allows files of 50 MiB, 3 of 100
}

// Server is the stand-in.
type Server struct {
	opts Options
	http *httptest.Server

	mu       sync.Mutex
	changed  chan struct{} // closed at each change
	last     int64         // the last snowflake
	channels map[string]*Channel
	messages map[string][]*Message // by channel, oldest first
	nonces   map[string]nonce
	commands json.RawMessage
	puts     int // of the commands
	cdn      int // which addresses of files are good
	inter    map[string]*Interaction
	faults   []*Fault
	windows  map[string]*window
	requests []Request
	recent   []time.Time // of requests in the last second
	gw       gateway
}

type nonce struct {
	message *Message
	at      time.Time
}

type window struct {
	left  int
	reset time.Time
}

// Channel is a channel or a thread.
type Channel struct {
	ID       string   `json:"id"`
	Type     int      `json:"type"`
	GuildID  string   `json:"guild_id,omitempty"`
	Name     string   `json:"name"`
	Parent   string   `json:"parent_id,omitempty"`
	Owner    string   `json:"owner_id,omitempty"`
	Last     string   `json:"last_message_id,omitempty"`
	Metadata *Archive `json:"thread_metadata,omitempty"`
	// Denied are permissions that the bot lacks there, as bits.
	Denied uint64 `json:"-"`
	Typing int    `json:"-"` // how often the bot typed
}

// Archive is a thread's state.
type Archive struct {
	Archived bool `json:"archived"`
	Locked   bool `json:"locked"`
	Duration int  `json:"auto_archive_duration"`
}

// User is an account.
type User struct {
	ID         string `json:"id"`
	Username   string `json:"username"`
	GlobalName string `json:"global_name,omitempty"`
	Bot        bool   `json:"bot,omitempty"`
}

// Message is a message as it stands, and how it came to be.
type Message struct {
	ID         string
	Channel    string
	Type       int
	Author     User
	Content    string
	Flags      int
	Components json.RawMessage
	Files      []File
	Nonce      string
	Reference  string // the message that this one answers
	At, Edited time.Time
	Reactions  []string // the bot's
	// Sent are the payloads that made and edited it, where the bot did.
	Sent []json.RawMessage
	// Pings are those that it alarmed.
	Pings []string
}

// File is an attachment.
type File struct {
	ID, Name, Description, MIME string
	Data                        []byte
}

// Request is a call that the bot made.
type Request struct {
	Method, Path string
	Status       int
	At           time.Time
}

// Interaction is one that a test made, and what became of it.
type Interaction struct {
	ID, Token string
	at        time.Time
	// Callback is the first answer, Answers the texts that followed. Files
	// are the last answer's.
	Callback json.RawMessage
	Type     int
	Answers  []string
	Files    []File
	Deleted  bool // the answer was taken back
}

// New starts a Discord on a free port.
func New(opts Options) *Server {
	s := NewHandler(opts)
	s.http = httptest.NewServer(s)
	return s
}

// NewHandler makes a Discord that somebody else serves, under the path
// /api/v9/ of an address of theirs; it has no URL of its own.
func NewHandler(opts Options) *Server {
	if opts.Token == "" {
		opts.Token = "token"
	}
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 41250 * time.Millisecond
	}
	if opts.NonceMemory == 0 {
		opts.NonceMemory = 3 * time.Minute
	}
	if opts.GlobalRate == 0 {
		opts.GlobalRate = 50
	}
	if opts.RateWindow == 0 {
		opts.RateWindow = 5 * time.Second
	}
	s := &Server{
		opts: opts, changed: make(chan struct{}), channels: map[string]*Channel{}, messages: map[string][]*Message{},
		nonces: map[string]nonce{}, commands: json.RawMessage("[]"), inter: map[string]*Interaction{}, windows: map[string]*window{},
		gw: gateway{conns: map[*conn]bool{}, sessions: map[string]*gwSession{}},
	}
	for _, c := range []Channel{
		{ID: ChannelID, Type: TypeText, GuildID: GuildID, Name: "general"},
		{ID: ForumID, Type: TypeForum, GuildID: GuildID, Name: "forum"},
		{ID: DMID, Type: TypeDM},
	} {
		s.channels[c.ID] = &c
	}
	return s
}

// URL is the address of the API that New started.
func (s *Server) URL() string { return s.http.URL + apiPath }

// Close ends all connections.
func (s *Server) Close() {
	s.CloseGateway(1001, "bye")
	if s.http != nil {
		s.http.CloseClientConnections()
		s.http.Close()
	}
}

// Await waits until ok holds, which is asked anew after each change.
func (s *Server) Await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// touch tells those who wait; the lock is held.
func (s *Server) touch() {
	close(s.changed)
	s.changed = make(chan struct{})
}

const epoch = 1420070400000

// id makes a snowflake; the lock is held.
func (s *Server) id() string {
	s.last++
	if s.opts.CountedIDs {
		s.last = max(s.last, 1_200_000_000_000_000_000)
	} else {
		s.last = max(s.last, (time.Now().UnixMilli()-epoch)<<22)
	}
	return strconv.FormatInt(s.last, 10)
}

// people are the accounts.
func people(id string) User {
	switch id {
	case BotID:
		return User{ID: BotID, Username: "threadbook", Bot: true}
	case UserID:
		return User{ID: UserID, Username: "ada", GlobalName: "Ada"}
	case OtherID:
		return User{ID: OtherID, Username: "bob", GlobalName: "Bob"}
	}
	return User{ID: id, Username: "user" + id}
}

// AddChannel makes a channel or, with a parent, a thread, and returns its id.
func (s *Server) AddChannel(c Channel) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.ID == "" {
		c.ID = s.id()
	}
	if c.Parent != "" && c.Metadata == nil {
		c.Metadata = &Archive{Duration: 1440}
	}
	s.channels[c.ID] = &c
	return c.ID
}

// Change changes a channel behind the bot's back.
func (s *Server) Change(id string, change func(*Channel)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.channels[id])
	s.touch()
}

// Channel is a channel's state, zero where there is none.
func (s *Server) Channel(id string) Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[id]
	if c == nil {
		return Channel{}
	}
	out := *c
	if c.Metadata != nil {
		m := *c.Metadata
		out.Metadata = &m
	}
	return out
}

// Threads are the channels that were opened as threads.
func (s *Server) Threads() []Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Channel
	for _, c := range s.channels {
		if c.Type == TypeThread {
			list = append(list, *c)
		}
	}
	slices.SortFunc(list, func(a, b Channel) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Messages are a channel's, oldest first.
func (s *Server) Messages(channel string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Message
	for _, m := range s.messages[channel] {
		c := *m
		c.Files, c.Reactions, c.Sent, c.Pings = slices.Clone(m.Files), slices.Clone(m.Reactions), slices.Clone(m.Sent), slices.Clone(m.Pings)
		list = append(list, c)
	}
	return list
}

// ByBot are those of them that the bot made.
func (s *Server) ByBot(channel string) []Message {
	return slices.DeleteFunc(s.Messages(channel), func(m Message) bool { return m.Author.ID != BotID })
}

// Requests are the calls that the bot made, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Commands are those registered, and how often they were put.
func (s *Server) Commands() (json.RawMessage, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands, s.puts
}

// ExpireFiles makes all addresses of files that were given out invalid.
func (s *Server) ExpireFiles() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cdn++
}

// Text is all text of a message: its content and that of its components.
func (m Message) Text() string {
	var b strings.Builder
	b.WriteString(m.Content)
	walk(m.components(), func(c map[string]any) {
		if text, ok := c["content"].(string); ok {
			b.WriteString(text + "\n")
		}
	})
	return b.String()
}

// Buttons are a message's custom ids by label.
func (m Message) Buttons() map[string]string {
	found := map[string]string{}
	walk(m.components(), func(c map[string]any) {
		if c["type"] == float64(2) {
			found[fmt.Sprint(c["label"])] = fmt.Sprint(c["custom_id"])
		}
	})
	return found
}

func (m Message) components() []any {
	var list []any
	_ = json.Unmarshal(m.Components, &list) // what was kept was valid
	return list
}

// walk visits components and those within.
func walk(list []any, visit func(map[string]any)) {
	for _, c := range list {
		if c, ok := c.(map[string]any); ok {
			visit(c)
			inner, _ := c["components"].([]any)
			walk(inner, visit)
		}
	}
}

// file's address for the client that asked through host.
func (s *Server) address(r *http.Request, ch string, f File) string {
	return fmt.Sprintf("http://%s/attachments/%s/%s/%s?ex=%d&hm=x", r.Host, ch, f.ID, f.Name, s.cdn)
}
