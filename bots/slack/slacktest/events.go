package slacktest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Kinds of what is sent to the app.
const (
	EventsAPI     = "events_api"
	Interactive   = "interactive"
	SlashCommands = "slash_commands"
)

const (
	// answerTime is how long Slack waits for an answer over HTTP.
	answerTime = 3 * time.Second
	pingEvery  = 5 * time.Second
	maxAck     = 20 << 10 // what is larger is dropped in silence
)

// Delivery is something that was sent to the app, until it is acknowledged.
type Delivery struct {
	ID    string
	Acked chan struct{} // closed by the acknowledgement
	// Reply is what came with it; read it after Acked.
	Reply json.RawMessage

	kind    string
	payload any
	tries   int
	next    time.Time // when it is due again
	done    bool
}

// socket is a connection of Socket Mode.
type socket struct {
	conn   *websocket.Conn
	ctx    context.Context
	cancel context.CancelFunc
}

func (s *Server) connectionsOpen(r *request) object {
	return object{"ok": true, "url": strings.Replace(r.base, "http://", "ws://", 1) + "/socket"}
}

// serveSocket runs a connection: what is pending goes out on it, and what is
// not acknowledged goes out again, on whichever is open then.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	c := &socket{conn, ctx, cancel}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.sockets = append(s.sockets, c)
	for _, d := range s.pending {
		d.next = time.Now() // whatever the last connection did not acknowledge
	}
	s.change()
	s.mu.Unlock()
	defer s.drop(c)
	if s.send(c, object{"type": "hello", "num_connections": 1, "connection_info": object{"app_id": s.o.AppID}}) != nil {
		return
	}
	go func() {
		defer cancel()
		s.read(c)
	}()
	tick := time.NewTicker(min(s.o.Redeliver/4, 50*time.Millisecond))
	defer tick.Stop()
	pinged := time.Time{}
	for {
		if time.Since(pinged) > pingEvery {
			pinged = time.Now()
			go func() { _ = conn.Ping(ctx) }()
		}
		for _, envelope := range s.due(c) {
			if s.send(c, envelope) != nil {
				return
			}
		}
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) send(c *socket, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, answerTime)
	defer cancel()
	return c.conn.Write(ctx, websocket.MessageText, data)
}

// due makes the envelopes that are to be sent now: each to one socket, the newest.
func (s *Server) due(c *socket) (list []object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sockets) == 0 || s.sockets[len(s.sockets)-1] != c {
		return nil
	}
	for _, d := range s.pending {
		if time.Now().Before(d.next) {
			continue
		}
		d.tries++
		d.next = time.Now().Add(s.o.Redeliver)
		envelope := object{"type": d.kind, "envelope_id": d.ID, "payload": d.payload, "accepts_response_payload": d.kind != EventsAPI}
		if d.tries > 1 {
			envelope["retry_attempt"], envelope["retry_reason"] = d.tries-1, "timeout"
		}
		list = append(list, envelope)
	}
	return list
}

func (s *Server) read(c *socket) {
	for {
		_, data, err := c.conn.Read(c.ctx)
		if err != nil {
			return
		}
		var ack struct {
			ID      string          `json:"envelope_id"`
			Payload json.RawMessage `json:"payload"`
		}
		if len(data) >= maxAck || json.Unmarshal(data, &ack) != nil {
			continue
		}
		s.mu.Lock()
		for i, d := range s.pending {
			if d.ID == ack.ID && !d.done {
				d.done, d.Reply = true, ack.Payload
				close(d.Acked)
				s.pending = append(s.pending[:i:i], s.pending[i+1:]...)
				break
			}
		}
		s.change()
		s.mu.Unlock()
	}
}

func (s *Server) drop(c *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.sockets {
		if other == c {
			s.sockets = append(s.sockets[:i:i], s.sockets[i+1:]...)
		}
	}
	s.change()
}

// Disconnect closes every socket: as Slack does, with a word before, or
// without one.
func (s *Server) Disconnect(politely bool) {
	s.mu.Lock()
	sockets := append([]*socket{}, s.sockets...)
	s.mu.Unlock()
	for _, c := range sockets {
		if politely {
			_ = s.send(c, object{"type": "disconnect", "reason": "refresh_requested"})
			continue
		}
		c.cancel()
	}
}

// Sockets is how many connections are open.
func (s *Server) Sockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets)
}

// Envelope is an event as the Events API sends it; its id is new. extra are
// more fields of the envelope.
func (s *Server) Envelope(inner any, extra map[string]any) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := object{"type": "event_callback", "token": "verification", "team_id": s.o.TeamID, "api_app_id": s.o.AppID,
		"event_id": s.name("Ev"), "event_time": time.Now().Unix(), "event": inner, "is_ext_shared_channel": false,
		"authorizations": []object{{"team_id": s.o.TeamID, "user_id": s.o.BotUserID, "is_bot": true}}}
	for k, v := range extra {
		o[k] = v
	}
	return o
}

// Deliver sends something over the socket, now or when there is one, until it
// is acknowledged.
func (s *Server) Deliver(kind string, payload any) *Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &Delivery{ID: s.name("env"), Acked: make(chan struct{}), kind: kind, payload: payload}
	s.pending = append(s.pending, d)
	s.change()
	return d
}

// Post sends something over HTTP, signed, once. retry is the number of the
// retry, 0 for the first time. It waits for the answer for as long as ctx
// lasts, where Slack waits for 3 s.
func (s *Server) Post(ctx context.Context, base, kind string, payload any, retry int) (status int, body []byte, err error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return 0, nil, err
	}
	path, contentType := "/slack/events", "application/json"
	switch kind {
	case Interactive:
		path, contentType = "/slack/interactivity", "application/x-www-form-urlencoded"
		data = []byte(url.Values{"payload": {string(data)}}.Encode())
	case SlashCommands:
		var fields map[string]string
		if err := json.Unmarshal(data, &fields); err != nil {
			return 0, nil, err
		}
		form := url.Values{}
		for k, v := range fields {
			form.Set(k, v)
		}
		path, contentType, data = "/slack/commands", "application/x-www-form-urlencoded", []byte(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+path, bytes.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	Sign(req.Header, s.o.SigningSecret, data, time.Now())
	if retry > 0 {
		req.Header.Set("X-Slack-Retry-Num", strconv.Itoa(retry))
		req.Header.Set("X-Slack-Retry-Reason", "http_timeout")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// Sign puts Slack's signature of a body on a request.
func Sign(h http.Header, secret string, body []byte, at time.Time) {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "v0:%s:%s", stamp, body)
	h.Set("X-Slack-Request-Timestamp", stamp)
	h.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
}

// Send sends an event as the app is set up: over the socket, or, where
// Options.EventsURL is set, over HTTP with Slack's retries, in the background.
func (s *Server) Send(ctx context.Context, kind string, payload any) *Delivery {
	if s.o.EventsURL == "" {
		return s.Deliver(kind, payload)
	}
	d := &Delivery{ID: "http", Acked: make(chan struct{})}
	go func() {
		for retry := 0; ; retry++ {
			attempt, cancel := context.WithTimeout(ctx, answerTime)
			status, body, err := s.Post(attempt, s.o.EventsURL, kind, payload, retry)
			cancel()
			if err == nil && status/100 == 2 {
				d.Reply = body
				close(d.Acked)
				return
			}
			if retry >= len(s.o.Pauses) {
				return
			}
			t := time.NewTimer(s.o.Pauses[retry])
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
	}()
	return d
}
