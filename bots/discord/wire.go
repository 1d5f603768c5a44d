package discord

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// wire is a gateway's connection as discordgo gets to see it. It reads the
// frames that Discord sends, tells the watchdog of what matters, and lets
// through only what discordgo survives:
//
//   - Hello, READY and RESUMED, with nothing in them but what discordgo needs;
//   - a request to beat, and an acknowledgement once READY was seen;
//   - every other event under a name that discordgo doesn't know, so that it
//     counts it and hands it over raw.
//
// Ops 7 and 9 end the connection; what is no JSON object is dropped.
type wire struct {
	net.Conn
	in, out, frame []byte
	part           []byte // of a message in several frames
	upgraded       bool   // the HTTP answer has passed
	failed         error

	mu       sync.Mutex
	interval time.Duration // of heartbeats, once Hello was seen
	acked    time.Time
	ready    bool
	end      end
	ended    chan struct{}
}

// end is how a connection ended.
type end struct {
	Code int    // a close code, if Discord sent one
	Op   int    // 7 or 9, if that was it
	Why  string // for the log
	// Lost: the session can't be resumed.
	Lost bool
	// Stood: it had got ready.
	Stood bool
}

const (
	maxFrame    = 16 << 20 // bytes of a gateway message; a large server's GUILD_CREATE has a few MB
	maxUpgrade  = 64 << 10 // bytes of the HTTP answer
	rawPrefix   = "RAW_"   // before the names of events
	readSize    = 32 << 10
	minInterval = 10 * time.Millisecond // of heartbeats; Discord's is 41 s
)

// Gateway ops.
const (
	opDispatch  = 0
	opHeartbeat = 1
	opReconnect = 7
	opInvalid   = 9
	opHello     = 10
	opAck       = 11
)

func newWire(c net.Conn) *wire {
	return &wire{Conn: c, frame: make([]byte, readSize), ended: make(chan struct{})}
}

// finish notes the first reason for an end.
func (w *wire) finish(e end) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.ended:
	default:
		w.end = e
		close(w.ended)
	}
}

// silent says whether Discord has let a heartbeat go unanswered: a second one
// was due since.
func (w *wire) silent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.interval > 0 && time.Since(w.acked) > 2*w.interval+w.interval/4
}

// beat is the interval of heartbeats, 0 before Hello.
func (w *wire) beat() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.interval
}

func (w *wire) isReady() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready
}

// Read implements [net.Conn].
func (w *wire) Read(p []byte) (int, error) {
	for len(w.out) == 0 {
		if w.failed != nil {
			return 0, w.failed
		}
		n, err := w.Conn.Read(w.frame)
		w.in = append(w.in, w.frame[:n]...)
		if werr := w.wash(); werr != nil && err == nil {
			err = werr
		}
		if err != nil {
			w.failed = err
			w.finish(end{Why: err.Error()})
		}
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

// Write implements [net.Conn]. Once the connection has ended nothing goes out
// any more: discordgo would close it with 1000, and that ends the session too.
func (w *wire) Write(p []byte) (int, error) {
	select {
	case <-w.ended:
		return 0, net.ErrClosed
	default:
		return w.Conn.Write(p)
	}
}

// wash takes whole frames from what was read.
func (w *wire) wash() error {
	if !w.upgraded {
		i := bytes.Index(w.in, []byte("\r\n\r\n"))
		if i < 0 {
			if len(w.in) > maxUpgrade {
				return errors.New("the gateway's answer has no end")
			}
			return nil
		}
		w.out = append(w.out, w.in[:i+4]...)
		w.in = w.in[i+4:]
		w.upgraded = true
		if !bytes.HasPrefix(w.out, []byte("HTTP/1.1 101")) {
			w.out = append(w.out, w.in...) // discordgo says what it was
			return errors.New("the gateway refuses a WebSocket")
		}
	}
	for {
		head, size, err := frameSize(w.in)
		if err != nil || head == 0 || len(w.in) < head+size {
			return err
		}
		payload := w.in[head : head+size]
		err = w.take(w.in[0], payload)
		w.in = w.in[head+size:]
		if err != nil {
			return err
		}
	}
}

// frameSize reads a frame's head (RFC 6455, 5.2); 0 where it isn't all there.
func frameSize(b []byte) (head, size int, err error) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	if b[1]&0x80 != 0 {
		return 0, 0, errors.New("the gateway masks its frames")
	}
	head, n := 2, uint64(b[1])
	switch {
	case n == 126 && len(b) >= 4:
		head, n = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case n == 127 && len(b) >= 10:
		head, n = 10, binary.BigEndian.Uint64(b[2:])
	case n >= 126:
		return 0, 0, nil
	}
	if n > maxFrame {
		return 0, 0, fmt.Errorf("a gateway message of %d bytes", n)
	}
	return head, int(n), nil
}

// take handles one frame.
func (w *wire) take(first byte, payload []byte) error {
	const fin, control, closing = 0x80, 0x8, 0x8
	op := first & 0x0f
	if op >= control {
		if op == closing && len(payload) >= 2 {
			code := int(binary.BigEndian.Uint16(payload))
			w.finish(end{Code: code, Why: fmt.Sprintf("Discord closed the connection: %d %s", code, payload[2:]), Lost: sessionEnds[code]})
		}
		w.pass(first, payload)
		return nil
	}
	if len(w.part)+len(payload) > maxFrame {
		return errors.New("a gateway message in too many parts")
	}
	w.part = append(w.part, payload...)
	if first&fin == 0 {
		return nil
	}
	whole := w.part
	w.part = nil
	if clean := w.message(whole); clean != nil {
		w.pass(0x81, clean)
	}
	return nil
}

// pass gives discordgo a frame.
func (w *wire) pass(first byte, payload []byte) {
	switch n := len(payload); {
	case n < 126:
		w.out = append(w.out, first, byte(n))
	case n < 1<<16:
		w.out = append(w.out, first, 126, byte(n>>8), byte(n))
	default:
		w.out = binary.BigEndian.AppendUint64(append(w.out, first, 127), uint64(n))
	}
	w.out = append(w.out, payload...)
}

// packet is a gateway message.
type packet struct {
	Op *int            `json:"op"`
	S  int64           `json:"s,omitempty"`
	T  string          `json:"t,omitempty"`
	D  json.RawMessage `json:"d"`
}

// message gives what discordgo gets of a gateway message, nil for nothing.
func (w *wire) message(raw []byte) []byte {
	var p packet
	if json.Unmarshal(raw, &p) != nil || p.Op == nil {
		return nil
	}
	w.mu.Lock()
	ready := w.ready
	w.mu.Unlock()
	switch *p.Op {
	case opHeartbeat:
		if !ready {
			return nil // there is nothing to beat for yet
		}
		p.D = json.RawMessage("null")
	case opHello:
		var d struct {
			Interval int64 `json:"heartbeat_interval"`
		}
		interval := time.Duration(0)
		if json.Unmarshal(p.D, &d) == nil && d.Interval < 1e7 {
			interval = time.Duration(d.Interval) * time.Millisecond
		}
		if interval < minInterval { // discordgo would panic on none
			return nil
		}
		w.mu.Lock()
		w.interval, w.acked = interval, time.Now()
		w.mu.Unlock()
		p.D, _ = json.Marshal(d)
	case opAck:
		w.mu.Lock()
		w.acked = time.Now()
		w.mu.Unlock()
		if !ready { // discordgo would lock up
			return nil
		}
		p.D = json.RawMessage("null")
	case opReconnect:
		w.finish(end{Op: opReconnect, Why: "Discord asks for a new connection"})
		return nil
	case opInvalid:
		w.finish(end{Op: opInvalid, Why: "Discord knows the session no more", Lost: string(p.D) != "true"})
		return nil
	case opDispatch:
		w.dispatch(&p)
	default:
		return nil
	}
	clean, err := json.Marshal(p)
	if err != nil {
		return nil
	}
	return clean
}

// dispatch makes an event one that discordgo can take.
func (w *wire) dispatch(p *packet) {
	switch p.T {
	case "READY":
		var d struct {
			Session string `json:"session_id"`
		}
		_ = json.Unmarshal(p.D, &d) // a session without a name can't be resumed, no more
		p.D, _ = json.Marshal(map[string]any{"v": 9, "session_id": d.Session, "guilds": []int{}})
	case "RESUMED":
		p.D = json.RawMessage("{}")
	default:
		p.T = rawPrefix + p.T
		return
	}
	w.mu.Lock()
	w.ready, w.acked = true, time.Now()
	w.mu.Unlock()
}
