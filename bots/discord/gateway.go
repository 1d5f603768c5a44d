package discord

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bwmarrin/discordgo"
)

const (
	// steady is how long a connection has to stand for the pauses between
	// connections to begin anew.
	steady = 30 * time.Second
	// closeLimit bounds the end of a discordgo session, which sleeps a second.
	closeLimit = 5 * time.Second
	watchEvery = 8 // looks at a connection in a heartbeat's interval
	// resumeTries are how often a session is tried to be resumed in a row.
	resumeTries = 3
	// slowWatch is how often it is looked at before Hello.
	slowWatch = time.Second
)

// sessionEnds are the close codes after which a session can't be resumed.
var sessionEnds = map[int]bool{
	1000: true, 1001: true, 4003: true, 4004: true, 4007: true, 4009: true,
	4010: true, 4011: true, 4012: true, 4013: true, 4014: true,
}

const (
	closeToken   = 4004
	closeIntents = 4014
)

// fatalClose is what an operator has to know of a close code after which
// Discord asks not to come again.
func fatalClose(code int) error {
	text := map[int]string{
		4010:         "discord refuses the shard (close code 4010)",
		4011:         "the bot is in too many servers for one connection, and threadbook keeps one alone (close code 4011)",
		4012:         "discord does not speak gateway version 9 any more (close code 4012): a newer threadbook is needed",
		4013:         "discord does not know the intents asked for (close code 4013): a newer threadbook is needed",
		closeIntents: "discord refuses the intents (close code 4014), that for message content left out: see the bot's page in the developer portal",
	}[code]
	if code == closeToken {
		return errToken
	}
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// pause is a growing wait between tries.
type pause struct{ first, next time.Duration }

func newPause(first time.Duration) *pause { return &pause{first, first} }

func (p *pause) reset() { p.next = p.first }

// wait waits, with jitter so that many do not come back at once; false when
// ctx has ended.
func (p *pause) wait(ctx context.Context) bool {
	d := p.next/2 + rand.N(p.next)
	p.next = min(2*p.next, longestPause)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// listen keeps a gateway connection up until ctx ends.
func (d *Discord) listen(ctx context.Context, me identity) error {
	content := me.Content
	d.logContent(ctx, content)
	wait := newPause(d.cfg.FirstPause)
	var s *session
	for {
		if s == nil {
			address, err := d.gatewayAddress(ctx)
			switch {
			case ctx.Err() != nil:
				return nil
			case unauthorized(err):
				return errToken
			case err != nil:
				d.cfg.Log.WarnContext(ctx, "Discord names no gateway; trying again", "err", err)
				if !wait.wait(ctx) {
					return nil
				}
				continue
			}
			s = d.newSession(address, content)
		}
		since := time.Now()
		e := s.run(ctx, d.cfg.OpenLimit)
		if ctx.Err() != nil {
			return nil
		}
		if e.Code == closeIntents && content {
			content, s = false, nil
			d.logContent(ctx, content)
			continue
		}
		if err := fatalClose(e.Code); err != nil {
			d.cfg.Log.ErrorContext(ctx, "Discord is given up", "err", err)
			return err
		}
		d.cfg.Log.WarnContext(ctx, "the connection to Discord ended; connecting again", "why", e.Why, "resume", !e.Lost)
		if e.Lost {
			s = nil
		}
		if e.Stood && time.Since(since) > steady {
			wait.reset()
		}
		if !wait.wait(ctx) {
			return nil
		}
	}
}

func (d *Discord) logContent(ctx context.Context, content bool) {
	if content {
		d.cfg.Log.InfoContext(ctx, "Discord: with the message content intent; people need not mention the bot in its threads")
		return
	}
	d.cfg.Log.WarnContext(ctx, "Discord: without the message content intent; the bot hears mentions, direct messages and commands alone. Switch on Message Content Intent in the developer portal under Bot")
}

// gatewayAddress asks where to connect, and waits where Discord says that no
// more sessions may be started: beyond that it resets the token.
func (d *Discord) gatewayAddress(ctx context.Context) (string, error) {
	var answer struct {
		URL   string `json:"url"`
		Limit *struct {
			Remaining int   `json:"remaining"`
			After     int64 `json:"reset_after"`
		} `json:"session_start_limit"`
	}
	if err := d.api.do(ctx, "GET", "gateway/bot", nil, &answer); err != nil {
		return "", err
	}
	if !strings.HasPrefix(answer.URL, "wss://") && !strings.HasPrefix(answer.URL, "ws://") {
		return "", fmt.Errorf("discord: gateway/bot names no address")
	}
	if l := answer.Limit; l != nil && l.Remaining <= 0 && l.After > 0 {
		after := min(time.Duration(l.After)*time.Millisecond, 24*time.Hour)
		d.cfg.Log.ErrorContext(ctx, "Discord allows no more gateway sessions for now; waiting", "for", after)
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(after):
		}
	}
	if !strings.HasSuffix(answer.URL, "/") {
		answer.URL += "/"
	}
	return answer.URL, nil
}

// session is one of discordgo's, good for one connection and for resuming it.
type session struct {
	d            *Discord
	dg           *discordgo.Session
	disconnected chan struct{} // discordgo is done with a connection

	begun    bool // it has been ready, so there is something to resume
	failures int  // to open it, in a row

	mu   sync.Mutex
	wire *wire
}

// newSession makes a discordgo session that does nothing but keep a gateway
// connection, and that touches none of discordgo's package variables.
func (d *Discord) newSession(address string, content bool) *session {
	dg, _ := discordgo.New(d.api.token) // it has no way to fail
	s := &session{d: d, dg: dg, disconnected: make(chan struct{}, 1)}
	dg.LogLevel = -1 // it would write to standard error
	dg.ShouldReconnectOnError = false
	dg.ShouldRetryOnRateLimit = false
	dg.MaxRestRetries = 0
	dg.StateEnabled = false
	dg.SyncEvents = true
	dg.Compress = false // a wire reads text
	dg.Identify.Compress = false
	dg.Identify.Token = d.api.token
	dg.Identify.Intents = discordgo.IntentGuilds | discordgo.IntentGuildMessages | discordgo.IntentDirectMessages
	if content {
		dg.Identify.Intents |= discordgo.IntentMessageContent
	}
	// Its one request is for the gateway's address, which is known.
	dg.Client = &http.Client{Transport: known(address)}
	dialer := *dg.Dialer
	dialer.Proxy = nil
	dialer.HandshakeTimeout = callTimeout
	dialer.NetDialContext = s.dial(&net.Dialer{Timeout: callTimeout})
	dialer.NetDialTLSContext = s.dial(&tls.Dialer{NetDialer: &net.Dialer{Timeout: callTimeout}, Config: &tls.Config{NextProtos: []string{"http/1.1"}}})
	dg.Dialer = &dialer
	dg.AddHandler(func(_ *discordgo.Session, e *discordgo.Event) { d.event(e) })
	dg.AddHandler(func(*discordgo.Session, *discordgo.Disconnect) {
		select {
		case s.disconnected <- struct{}{}:
		default:
		}
	})
	return s
}

// known answers every request with the gateway's address.
type known string

// RoundTrip implements [http.RoundTripper].
func (k known) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := json.Marshal(map[string]string{"url": string(k)})
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// dial makes the connection a wire.
func (s *session) dial(how interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := how.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		w := newWire(c)
		s.mu.Lock()
		s.wire = w
		s.mu.Unlock()
		return w, nil
	}
}

func (s *session) current() *wire {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wire
}

// run opens the session and stays with it until it ends, hangs or falls
// silent. Whatever discordgo still does afterwards, it has no connection.
func (s *session) run(ctx context.Context, limit time.Duration) end {
	select {
	case <-s.disconnected: // said twice of an earlier connection
	default:
	}
	s.mu.Lock()
	s.wire = nil
	s.mu.Unlock()
	opened := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				opened <- fmt.Errorf("discordgo panicked: %v", p)
			}
		}()
		opened <- s.dg.Open()
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	tick := time.NewTicker(min(slowWatch, limit/watchEvery))
	defer tick.Stop()
	isOpen := false
	for {
		w := s.current()
		var ended chan struct{}
		if w != nil {
			ended = w.ended
		}
		select {
		case err := <-opened:
			if err != nil {
				return s.dropped(end{Why: err.Error(), Lost: s.hopeless()})
			}
			isOpen, s.failures = true, 0
		case <-ended:
			w.Conn.Close()
			e := w.end
			e.Stood = w.isReady()
			s.begun = s.begun || e.Stood
			if !s.closed(isOpen, opened) {
				e.Lost = true
			}
			return e
		case <-late.C:
			if w == nil || !w.isReady() {
				return s.dropped(end{Why: "the gateway did not get ready in time", Lost: true})
			}
		case <-tick.C:
			if w != nil && w.beat() > 0 {
				tick.Reset(max(w.beat()/watchEvery, minInterval))
				if w.silent() {
					w.finish(end{Why: "Discord does not answer heartbeats"})
				}
			}
		case <-ctx.Done():
			s.bye()
			return end{Why: "the end"}
		}
	}
}

// dropped ends the connection of a session that did not open. What the wire
// saw says more than what discordgo made of it.
func (s *session) dropped(e end) end {
	w := s.current()
	if w == nil {
		return e
	}
	w.Conn.Close()
	select {
	case <-w.ended:
		e.Lost = e.Lost || w.end.Lost
		if w.end.Code != 0 {
			e.Code, e.Why = w.end.Code, w.end.Why
		}
	default:
	}
	return e
}

// hopeless says, of a session that did not open, whether to give it up.
func (s *session) hopeless() bool {
	s.failures++
	return !s.begun || s.failures >= resumeTries
}

// closed waits for discordgo to be done with a connection that has ended, be
// it in Open or after; whether the session may be opened again.
func (s *session) closed(isOpen bool, opened <-chan error) bool {
	if !isOpen {
		select {
		case err := <-opened:
			if err != nil {
				return !s.hopeless()
			}
		case <-time.After(closeLimit):
			return false
		}
	}
	return s.settle()
}

// settle waits for discordgo to be done with a connection, false if it isn't.
func (s *session) settle() bool {
	select {
	case <-s.disconnected:
		s.mu.Lock()
		s.wire = nil
		s.mu.Unlock()
		return true
	case <-time.After(closeLimit):
		return false
	}
}

// bye closes the connection so that Discord shows the bot as gone.
func (s *session) bye() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }() // the session is thrown away
		_ = s.dg.Close()
	}()
	select {
	case <-done:
	case <-time.After(closeLimit / 2):
	}
	if w := s.current(); w != nil {
		w.Conn.Close()
	}
}
