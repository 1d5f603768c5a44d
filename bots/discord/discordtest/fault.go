package discordtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault makes requests fail. Those are meant whose method is the one named and
// whose path contains Path.
type Fault struct {
	Method, Path string
	Times        int // how many; 0: all
	Skip         int // let so many pass first

	// Lost: the request is done and its answer never comes. Otherwise it is
	// not done, and answered with Status, Code and Message, or not at all
	// where Status is 0.
	Lost    bool
	Status  int
	Code    int
	Message string
	After   time.Duration // of a 429
	Global  bool          // a 429 for everything
	Delay   time.Duration // before all that
}

// Fail adds a fault.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Times == 0 {
		f.Times = 1 << 30
	}
	s.faults = append(s.faults, &f)
}

// Mend takes all faults back.
func (s *Server) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault finds one for a request, and counts it.
func (s *Server) fault(method, path string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Method != "" && f.Method != method || !strings.Contains(path, f.Path) || f.Times == 0 {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		f.Times--
		c := *f
		return &c
	}
	return nil
}

// refusal is an answer that is an error.
type refusal struct {
	status, code int
	message      string
	after        time.Duration
	global       bool
	fields       any
}

func (r *refusal) write(w http.ResponseWriter) {
	body := map[string]any{"code": r.code, "message": r.message}
	if r.fields != nil {
		body["errors"] = r.fields
	}
	if r.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(int(r.after.Seconds())+1))
		body = map[string]any{"message": "You are being rate limited.", "retry_after": r.after.Seconds(), "global": r.global}
		if r.global {
			w.Header().Set("X-RateLimit-Global", "true")
		} else {
			w.Header().Set("X-RateLimit-Scope", "user")
		}
	}
	answer(w, r.status, body)
}

// invalid is Discord's answer to a form with mistakes.
func invalid(format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: 50035, message: "Invalid Form Body", fields: fmt.Sprintf(format, args...)}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) // the client may have gone
	}
}

// limited counts a request against its bucket and says in the headers how it
// stands, as Discord does; a refusal if it is empty.
func (s *Server) limited(w http.ResponseWriter, method, path string) *refusal {
	if strings.HasPrefix(path, "interactions/") {
		return nil
	}
	if ref := s.globally(); ref != nil {
		return ref
	}
	if s.opts.Rate == 0 || method != http.MethodPost && method != http.MethodPatch || !strings.Contains(path, "/messages") || strings.HasPrefix(path, "webhooks/") {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(path, "/")
	key := method + parts[1]
	win := s.windows[key]
	now := time.Now()
	if win == nil || now.After(win.reset) {
		win = &window{s.opts.Rate, now.Add(s.opts.RateWindow)}
		s.windows[key] = win
	}
	h := w.Header()
	h.Set("X-RateLimit-Bucket", "bucket"+method)
	h.Set("X-RateLimit-Limit", strconv.Itoa(s.opts.Rate))
	after := win.reset.Sub(now)
	h.Set("X-RateLimit-Reset-After", strconv.FormatFloat(after.Seconds(), 'f', 3, 64))
	if win.left == 0 {
		h.Set("X-RateLimit-Remaining", "0")
		return &refusal{status: http.StatusTooManyRequests, after: after}
	}
	win.left--
	h.Set("X-RateLimit-Remaining", strconv.Itoa(win.left))
	return nil
}

// globally counts a request against the limit for all routes, over the last
// second.
func (s *Server) globally() *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opts.GlobalRate < 0 {
		return nil
	}
	now := time.Now()
	s.recent = slices.DeleteFunc(s.recent, func(at time.Time) bool { return now.Sub(at) > time.Second })
	if len(s.recent) >= s.opts.GlobalRate {
		return &refusal{status: http.StatusTooManyRequests, after: time.Second - now.Sub(s.recent[0]), global: true}
	}
	s.recent = append(s.recent, now)
	return nil
}
