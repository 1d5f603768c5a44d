package discordtest

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Intents.
const (
	intentGuilds   = 1 << 0
	intentMessages = 1 << 9
	intentDirect   = 1 << 12
	intentContent  = 1 << 15
)

const (
	sendRoom   = 4096 // events that wait for a connection
	writeLimit = 10 * time.Second
	maxPayload = 4096 // bytes of what a client sends
	replayRoom = 1000
)

// GatewayFaults change how the gateway behaves, until they are changed again.
type GatewayFaults struct {
	Down      bool // it takes no connections
	NoHello   bool // it takes them and says nothing
	Early     int  // an op to send before READY, such as 7, 9 or 11
	NoAcks    bool // heartbeats are not acknowledged
	CloseWith int  // the code to close with instead of READY
	NoResume  bool // sessions are forgotten
	NoReplay  bool // a resume replays nothing
	Once      bool // all this for one connection alone
}

type gateway struct {
	faults   GatewayFaults
	conns    map[*conn]bool
	sessions map[string]*gwSession
	opened   int // connections
	readies  int
	resumes  int
	host     *http.Request
}

// gwSession outlives its connection for a resume.
type gwSession struct {
	id      string
	intents int
	seq     int64
	events  []packet // the last ones
}

type packet struct {
	Op int    `json:"op"`
	S  *int64 `json:"s"`
	T  string `json:"t,omitempty"`
	D  any    `json:"d"`
}

type conn struct {
	ws      *websocket.Conn
	out     chan []byte
	session *gwSession

	once sync.Once
	end  chan struct{}
}

func (c *conn) close() { c.once.Do(func() { close(c.end) }) }

// send queues a packet; a client that doesn't read is cut off.
func (c *conn) send(p packet) {
	data, err := json.Marshal(p)
	if err != nil {
		return
	}
	c.raw(data)
}

func (c *conn) raw(data []byte) {
	select {
	case c.out <- data:
	default:
		c.close()
	}
}

// Gateway sets the faults.
func (s *Server) Gateway(f GatewayFaults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gw.faults = f
}

// GatewayCounts are how many connections were opened, got READY, were resumed.
func (s *Server) GatewayCounts() (opened, readies, resumes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gw.opened, s.gw.readies, s.gw.resumes
}

// Connected says whether a client is ready.
func (s *Server) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.gw.conns {
		if c.session != nil {
			return true
		}
	}
	return false
}

// CloseGateway closes all gateway connections with a code; 0 cuts them off.
func (s *Server) CloseGateway(code int, reason string) {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.gw.conns))
	for c := range s.gw.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		if code != 0 {
			go c.ws.Close(websocket.StatusCode(code), reason)
		} else {
			c.ws.CloseNow()
		}
		c.close()
	}
}

// Raw sends bytes to all clients as they are, valid or not.
func (s *Server) Raw(data string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.gw.conns {
		c.raw([]byte(data))
	}
}

// Op sends an op, such as 1, 7 or 9, to all clients.
func (s *Server) Op(op int, d any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.gw.conns {
		c.send(packet{Op: op, D: d})
	}
}

// Dispatch sends an event of any form to all clients that are ready.
func (s *Server) Dispatch(name string, d any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dispatch(0, name, d)
}

// dispatch sends an event to sessions with the intent; the lock is held.
func (s *Server) dispatch(intent int, name string, d any) {
	data, err := json.Marshal(d)
	if err != nil {
		return
	}
	for _, session := range s.gw.sessions {
		if intent != 0 && session.intents&intent == 0 {
			continue
		}
		session.seq++
		seq := session.seq
		p := packet{Op: 0, S: &seq, T: name, D: json.RawMessage(data)}
		session.events = append(session.events, p)
		if len(session.events) > replayRoom {
			session.events = slices.Clone(session.events[len(session.events)-replayRoom:])
		}
		for c := range s.gw.conns {
			if c.session == session {
				c.send(p)
			}
		}
	}
}

// tell dispatches a message's event as the intents allow; the lock is held.
func (s *Server) tell(name string, m *Message) {
	c := s.channels[m.Channel]
	intent := intentMessages
	if c.GuildID == "" {
		intent = intentDirect
	}
	d := s.show(s.gw.host, m, name != "MESSAGE_CREATE")
	if s.gw.host == nil {
		return // nobody ever came
	}
	if name == "MESSAGE_CREATE" && s.opts.NoContent {
		nonce := d["nonce"]
		if d = s.show(s.gw.host, m, true); nonce != nil {
			d["nonce"] = nonce
		}
	}
	if c.GuildID != "" {
		d["guild_id"] = c.GuildID
		d["member"] = map[string]any{"roles": []string{}, "nick": nil}
	}
	s.dispatch(intent, name, d)
}

func (s *Server) serveGateway(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	faults := s.gw.faults
	if faults.Once {
		s.gw.faults = GatewayFaults{}
	}
	s.gw.opened++
	s.touch()
	s.mu.Unlock()
	if faults.Down {
		http.Error(w, "the gateway is down", http.StatusServiceUnavailable)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	ws.SetReadLimit(maxPayload)
	c := &conn{ws: ws, out: make(chan []byte, sendRoom), end: make(chan struct{})}
	s.mu.Lock()
	s.gw.conns[c] = true
	s.gw.host = r.Clone(context.Background())
	s.mu.Unlock()
	defer func() {
		c.close()
		ws.CloseNow()
		s.mu.Lock()
		delete(s.gw.conns, c)
		s.touch()
		s.mu.Unlock()
	}()
	go c.write()
	if !faults.NoHello {
		c.send(packet{Op: 10, D: map[string]any{"heartbeat_interval": s.opts.Heartbeat.Milliseconds()}})
	}
	s.read(r.Context(), c, faults)
}

func (c *conn) write() {
	for {
		select {
		case <-c.end:
			return
		case data := <-c.out:
			ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
			err := c.ws.Write(ctx, websocket.MessageText, data)
			cancel()
			if err != nil {
				c.close()
				return
			}
		}
	}
}

// read serves what a client sends.
func (s *Server) read(ctx context.Context, c *conn, faults GatewayFaults) {
	refuse := func(code int, text string) { _ = c.ws.Close(websocket.StatusCode(code), text) }
	for {
		_, data, err := c.ws.Read(ctx)
		if err != nil {
			if code := websocket.CloseStatus(err); (code == 1000 || code == 1001) && c.session != nil {
				s.mu.Lock()
				delete(s.gw.sessions, c.session.id)
				s.mu.Unlock()
			}
			return
		}
		var p struct {
			Op *int            `json:"op"`
			D  json.RawMessage `json:"d"`
		}
		if json.Unmarshal(data, &p) != nil || p.Op == nil {
			refuse(4002, "Error while decoding payload.")
			return
		}
		switch *p.Op {
		case 1:
			if !faults.NoAcks {
				c.send(packet{Op: 11})
			}
		case 2, 6:
			if c.session != nil {
				refuse(4005, "Already authenticated.")
				return
			}
			if faults.Early != 0 {
				c.send(packet{Op: faults.Early})
			}
			if faults.CloseWith != 0 {
				refuse(faults.CloseWith, "As asked.")
				return
			}
			if code := s.begin(c, *p.Op, p.D, faults); code != 0 {
				refuse(code, "Refused.")
				return
			}
		case 3, 4, 8:
		default:
			refuse(4001, "Unknown opcode.")
			return
		}
	}
}

// begin identifies or resumes; a close code if it can't be.
func (s *Server) begin(c *conn, op int, d json.RawMessage, faults GatewayFaults) int {
	var p struct {
		Token      string            `json:"token"`
		Intents    *int              `json:"intents"`
		Properties map[string]string `json:"properties"`
		Session    string            `json:"session_id"`
		Seq        int64             `json:"seq"`
	}
	if json.Unmarshal(d, &p) != nil {
		return 4002
	}
	if p.Token != s.opts.Token {
		return 4004
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.touch()
	if op == 6 {
		session := s.gw.sessions[p.Session]
		if session == nil || faults.NoResume {
			c.send(packet{Op: 9, D: false})
			return 0
		}
		if !faults.NoReplay {
			for _, e := range session.events {
				if *e.S > p.Seq {
					c.send(e)
				}
			}
		}
		c.session = session
		s.gw.resumes++
		session.seq++
		seq := session.seq
		c.send(packet{Op: 0, S: &seq, T: "RESUMED", D: map[string]any{}})
		return 0
	}
	switch {
	case p.Intents == nil || p.Properties == nil:
		return 4002
	case *p.Intents < 0 || *p.Intents >= 1<<26:
		return 4013
	case *p.Intents&intentContent != 0 && s.opts.NoContent:
		return 4014
	}
	session := &gwSession{id: s.id(), intents: *p.Intents, seq: 1}
	s.gw.sessions[session.id] = session
	c.session = session
	s.gw.readies++
	one := int64(1)
	c.send(packet{Op: 0, S: &one, T: "READY", D: map[string]any{
		"v": 9, "user": people(BotID), "session_id": session.id, "resume_gateway_url": "ws://" + s.gw.host.Host + gwPath,
		"guilds": []any{map[string]any{"id": GuildID, "unavailable": true}}, "application": map[string]any{"id": AppID, "flags": 0},
	}})
	if session.intents&intentGuilds != 0 {
		channels, threads := []*Channel{}, []*Channel{}
		for _, ch := range s.channels {
			switch {
			case ch.GuildID == "":
			case ch.Type == TypeThread && !ch.Metadata.Archived:
				threads = append(threads, ch)
			case ch.Type != TypeThread:
				channels = append(channels, ch)
			}
		}
		session.seq++
		seq := session.seq
		c.send(packet{Op: 0, S: &seq, T: "GUILD_CREATE", D: map[string]any{"id": GuildID, "name": "Test", "owner_id": OtherID,
			"premium_tier": s.opts.Tier, "channels": channels, "threads": threads, "members": []any{}, "voice_states": []any{}}})
	}
	return 0
}
