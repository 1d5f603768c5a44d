// Package slacktest is a stand-in for Slack: its Web API, its Events API and
// Socket Mode over HTTP, as strict as what is known of the real one. It checks
// tokens, scopes, limits of text and blocks and rates, makes uploaded files
// ready some time after they were completed, keeps threads, metadata and the
// history of edits, signs what it sends, and sends again what was not
// acknowledged. A test makes calls fail as it likes with [Server.Fail] and
// reads what people would see.
//
// A [Server] is an http.Handler, so another process can serve it too.
package slacktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say what Slack this is. The zero value is one workspace with one
// app that may do everything, at once, without limits of rate.
type Options struct {
	BotToken, AppToken, SigningSecret string // defaults below
	TeamID, BotUserID, BotID, AppID   string
	// Scopes are the bot token's; nil: all that the methods need.
	Scopes []string
	// Agent: the app is declared an agent, so agents.sessions.* work.
	Agent bool
	// NoAssistant: assistant.threads.setStatus is refused.
	NoAssistant bool
	// NoStreams is the word with which streams are refused; empty: they are taken.
	NoStreams string
	// StreamLife is when a stream that is open ends by itself; 0: 5 minutes.
	StreamLife time.Duration
	// UnknownBlocks are block types that this workspace's Slack does not take.
	UnknownBlocks []string
	// FileDelay is how long a completed upload is not ready, and not visible.
	FileDelay time.Duration
	// PostsPerSecond limits chat.postMessage in a channel, with three at once;
	// 0: no limit.
	PostsPerSecond float64
	// EventsURL is the app's address, for events where no socket is open:
	// "http://127.0.0.1:1234", to which /slack/events is added.
	EventsURL string
	// Redeliver is when an event over the socket that was not acknowledged is
	// sent again; 0: 3 s. Pauses are those before each retry over HTTP; nil: 0,
	// 1 min, 5 min as Slack has them.
	Redeliver time.Duration
	Pauses    []time.Duration
}

// Defaults of [Options].
const (
	BotToken      = "xoxb-1-standin"
	AppToken      = "xapp-1-A0STANDIN-1-standin"
	SigningSecret = "0123456789abcdef0123456789abcdef"
	TeamID        = "T0STANDIN"
	BotUserID     = "U0BOT"
	BotID         = "B0BOT"
	AppID         = "A0STANDIN"
)

// Server is the stand-in.
type Server struct {
	o    Options
	http *httptest.Server // nil where something else serves it

	mu       sync.Mutex
	base     string        // the address under which we are served
	changed  chan struct{} // closed at each change
	clock    int64         // of timestamps, in microseconds
	serial   int
	users    map[string]*User
	channels map[string]*Channel
	messages map[string][]*Message // by channel, in order
	files    map[string]*File
	hidden   []Ephemeral
	views    map[string]json.RawMessage // Home tabs by user
	statuses []Status
	replies  []Reply
	calls    map[string]int
	faults   map[string][]Fault
	posts    map[string]time.Time // per channel: when the next post is due
	sockets  []*socket
	pending  []*Delivery
	closed   bool
}

// User is a person or a bot. Restricted is a guest, Stranger somebody of
// another organisation.
type User struct {
	ID, TeamID, Name              string
	Deleted, Bot                  bool
	Restricted, Ultra, IsStranger bool
}

// Channel is a conversation. The bot is in it unless Outside says otherwise.
type Channel struct {
	ID                             string
	Outside, Archived, ExtShared   bool
	PendingShare, IM, MPIM, Secret bool
}

// Fault is how a call fails: with a status, with a word of Slack's, or by
// hanging up. Done says that the call is done all the same.
type Fault struct {
	Status     int
	RetryAfter int // seconds; with status 429
	Error      string
	HangUp     bool
	Done       bool
}

// New starts a stand-in on a loopback address. Close it.
func New(o Options) *Server {
	s := Handler(o)
	s.http = httptest.NewServer(s)
	s.base = s.http.URL
	return s
}

// Handler makes a stand-in that something else serves.
func Handler(o Options) *Server {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&o.BotToken, BotToken)
	set(&o.AppToken, AppToken)
	set(&o.SigningSecret, SigningSecret)
	set(&o.TeamID, TeamID)
	set(&o.BotUserID, BotUserID)
	set(&o.BotID, BotID)
	set(&o.AppID, AppID)
	if o.Redeliver == 0 {
		o.Redeliver = 3 * time.Second
	}
	if o.Pauses == nil {
		o.Pauses = []time.Duration{0, time.Minute, 5 * time.Minute}
	}
	if o.Scopes == nil {
		for _, m := range methods() {
			if m.scope != "" && !slices.Contains(o.Scopes, m.scope) {
				o.Scopes = append(o.Scopes, m.scope)
			}
		}
		o.Scopes = append(o.Scopes, "app_mentions:read", "channels:history", "groups:history", "im:history", "mpim:history",
			"groups:read", "im:read", "mpim:read", "commands", "im:write", "assistant:write")
	}
	s := &Server{
		o: o, changed: make(chan struct{}), clock: time.Now().UnixMicro(),
		users: map[string]*User{}, channels: map[string]*Channel{}, messages: map[string][]*Message{}, files: map[string]*File{},
		views: map[string]json.RawMessage{}, calls: map[string]int{}, faults: map[string][]Fault{}, posts: map[string]time.Time{},
	}
	s.users[o.BotUserID] = &User{ID: o.BotUserID, TeamID: o.TeamID, Name: "threadbook", Bot: true}
	return s
}

// URL is the address of the Web API, for SLACK_API_URL. A server that something
// else serves learns its own with the first call.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base + "/api/"
}

// Close ends all connections.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	sockets := s.sockets
	s.mu.Unlock()
	for _, c := range sockets {
		c.cancel()
	}
	if s.http != nil {
		s.http.Close()
	}
}

// AddUser makes somebody known; one of no team is of the bot's.
func (s *Server) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.TeamID == "" {
		u.TeamID = s.o.TeamID
	}
	s.users[u.ID] = &u
}

// AddChannel makes a conversation.
func (s *Server) AddChannel(c Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels[c.ID] = &c
}

// Fail makes the next calls of a method fail, one for each fault.
func (s *Server) Fail(method string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[method] = append(s.faults[method], faults...)
}

// change tells those who wait that something has changed. s.mu is held.
func (s *Server) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// stamp is a new timestamp, later than all others. s.mu is held.
func (s *Server) stamp() string {
	s.clock = max(s.clock+1, time.Now().UnixMicro())
	return fmt.Sprintf("%d.%06d", s.clock/1e6, s.clock%1e6)
}

func (s *Server) name(prefix string) string {
	s.serial++
	return fmt.Sprintf("%s%04d", prefix, s.serial)
}

// object is an answer.
type object = map[string]any

func refusal(word string, more ...string) object {
	o := object{"ok": false, "error": word}
	if len(more) > 0 {
		o["response_metadata"] = object{"messages": more}
	}
	return o
}

// method is one of the Web API.
type method struct {
	scope string
	app   bool // wants the app-level token
	do    func(s *Server, r *request) object
}

// request is a call's arguments.
type request struct {
	url.Values
	base string // the address under which we were called
}

func (r *request) flag(name string) bool {
	v := r.Get(name)
	return v == "1" || v == "true"
}

func methods() map[string]method {
	return map[string]method{
		"auth.test":                    {do: (*Server).authTest},
		"users.info":                   {scope: "users:read", do: (*Server).usersInfo},
		"bots.info":                    {scope: "users:read", do: (*Server).botsInfo},
		"conversations.info":           {scope: "channels:read", do: (*Server).conversationsInfo},
		"conversations.replies":        {scope: "channels:history", do: (*Server).conversationsReplies},
		"chat.postMessage":             {scope: "chat:write", do: (*Server).postMessage},
		"chat.update":                  {scope: "chat:write", do: (*Server).update},
		"chat.startStream":             {scope: "chat:write", do: (*Server).startStream},
		"chat.appendStream":            {scope: "chat:write", do: (*Server).appendStream},
		"chat.stopStream":              {scope: "chat:write", do: (*Server).stopStream},
		"chat.postEphemeral":           {scope: "chat:write", do: (*Server).postEphemeral},
		"reactions.add":                {scope: "reactions:write", do: (*Server).reactionsAdd},
		"files.getUploadURLExternal":   {scope: "files:write", do: (*Server).getUploadURL},
		"files.completeUploadExternal": {scope: "files:write", do: (*Server).completeUpload},
		"files.info":                   {scope: "files:read", do: (*Server).filesInfo},
		"views.publish":                {do: (*Server).viewsPublish},
		"apps.connections.open":        {app: true, do: (*Server).connectionsOpen},
		"agents.sessions.setStatus":    {scope: "chat:write", do: (*Server).sessionStatus},
		"assistant.threads.setStatus":  {scope: "chat:write", do: (*Server).assistantStatus},
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, isAPI := strings.CutPrefix(r.URL.Path, "/api/")
	switch {
	case isAPI:
		s.serveCall(w, r, path)
	case strings.HasPrefix(r.URL.Path, "/upload/"):
		s.serveUpload(w, r)
	case strings.HasPrefix(r.URL.Path, "/files-pri/"):
		s.serveDownload(w, r)
	case r.URL.Path == "/signin":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<html><body>Sign in to the workspace</body></html>")
	case strings.HasPrefix(r.URL.Path, "/response/"):
		s.serveResponse(w, r)
	case r.URL.Path == "/socket":
		s.serveSocket(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) serveCall(w http.ResponseWriter, r *http.Request, name string) {
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	req, token, ok := arguments(r)
	if !ok {
		answer(w, refusal("invalid_post_type"))
		return
	}
	s.mu.Lock()
	s.calls[name]++
	if s.base == "" {
		s.base = req.base
	}
	var fault *Fault
	if queue := s.faults[name]; len(queue) > 0 {
		fault = &queue[0]
		s.faults[name] = queue[1:]
	}
	s.change()
	if fault != nil && !fault.Done {
		s.mu.Unlock()
		fail(w, *fault)
		return
	}
	res := s.allow(name, token)
	if res == nil {
		res = methods()[name].do(s, req)
	}
	if after, limited := res["retry_after"].(int); limited {
		fault = &Fault{Status: http.StatusTooManyRequests, RetryAfter: after}
	}
	s.change()
	s.mu.Unlock()
	if fault != nil {
		fail(w, *fault)
		return
	}
	if token == s.o.BotToken {
		w.Header().Set("X-OAuth-Scopes", strings.Join(s.o.Scopes, ","))
	}
	answer(w, res)
}

// arguments reads a form or JSON, and the token from wherever it is.
func arguments(r *http.Request) (*request, string, bool) {
	req := &request{Values: url.Values{}, base: "http://" + r.Host}
	header, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		var fields map[string]json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&fields); err != nil && !errors.Is(err, io.EOF) {
			return nil, "", false
		}
		for k, v := range fields {
			var text string
			if json.Unmarshal(v, &text) != nil {
				text = string(v)
			}
			req.Set(k, text)
		}
		return req, header, true
	}
	if r.ParseForm() != nil {
		return nil, "", false
	}
	req.Values = r.Form
	token := req.Get("token")
	if header != "" {
		token = header
	}
	return req, token, true
}

// allow checks a token and its scopes; nil: it may. s.mu is held.
func (s *Server) allow(name, token string) object {
	m, known := methods()[name]
	switch {
	case !known:
		return refusal("unknown_method")
	case token == "":
		return refusal("not_authed")
	case token != s.o.BotToken && token != s.o.AppToken:
		return refusal("invalid_auth")
	case m.app != (token == s.o.AppToken):
		return refusal("not_allowed_token_type")
	case m.scope != "" && !slices.Contains(s.o.Scopes, m.scope):
		o := refusal("missing_scope")
		o["needed"], o["provided"] = m.scope, strings.Join(s.o.Scopes, ",")
		return o
	}
	return nil
}

func answer(w http.ResponseWriter, o object) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(o)
}

func fail(w http.ResponseWriter, f Fault) {
	switch {
	case f.HangUp:
		if h, ok := w.(http.Hijacker); ok {
			if c, _, err := h.Hijack(); err == nil {
				c.Close()
			}
		}
	case f.Error != "":
		answer(w, refusal(f.Error))
	default:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		http.Error(w, http.StatusText(f.Status), f.Status)
	}
}
