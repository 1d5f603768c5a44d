package botstest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"threadbook/bots"
)

// retryAfter is what the platform asks for with a 429.
const retryAfter = "1"

// pollFor is how long a request for events waits for one.
const pollFor = time.Second

// request is what the adapter sends.
type request struct {
	Thread string    `json:"thread"`
	ID     string    `json:"id,omitempty"`
	Key    string    `json:"key,omitempty"`
	Post   bots.Post `json:"post"`
	// Uploads are those that the post shows.
	Uploads map[string]string `json:"uploads,omitempty"`
}

// Handler is the platform's HTTP face: the adapter's requests, and under
// /control/ the test's.
func (p *Platform) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /posts", p.post)
	mux.HandleFunc("POST /edits", p.edit)
	mux.HandleFunc("POST /uploads", p.upload)
	mux.HandleFunc("POST /signs", p.sign)
	mux.HandleFunc("GET /posts", p.find)
	mux.HandleFunc("GET /events", p.poll)
	mux.HandleFunc("POST /acks", func(_ http.ResponseWriter, r *http.Request) { p.acknowledge(r.FormValue("id")) })
	mux.HandleFunc("POST /control/say", func(w http.ResponseWriter, r *http.Request) {
		var e Event
		if read(w, r, &e) {
			write(w, p.Say(e))
		}
	})
	mux.HandleFunc("POST /control/faults", func(w http.ResponseWriter, r *http.Request) {
		var f Faults
		if read(w, r, &f) {
			p.SetFaults(f)
		}
	})
	mux.HandleFunc("GET /control/posts", func(w http.ResponseWriter, r *http.Request) { write(w, p.Posts(r.FormValue("thread"))) })
	return mux
}

// answer finishes a request as its fault wants it.
func answer(w http.ResponseWriter, f fault, v any) {
	switch f {
	case lost:
		panic(http.ErrAbortHandler)
	case failed:
		http.Error(w, "broken", http.StatusInternalServerError)
	case limited:
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "too many", http.StatusTooManyRequests)
	default:
		write(w, v)
	}
}

func (p *Platform) post(w http.ResponseWriter, r *http.Request) {
	var req request
	if !read(w, r, &req) {
		return
	}
	id := ""
	f := p.do(func() {
		id = fmt.Sprintf("m%d", len(p.posts)+1)
		m := &Posted{ID: id, Thread: req.Thread, Key: req.Key, Post: req.Post, At: time.Now(), Files: map[string]int64{}}
		for name, upload := range req.Uploads {
			m.Files[name] = p.uploads[upload]
		}
		p.posts = append(p.posts, m)
	})
	answer(w, f, id)
}

func (p *Platform) edit(w http.ResponseWriter, r *http.Request) {
	var req request
	if !read(w, r, &req) {
		return
	}
	f := p.do(func() {
		for _, m := range p.posts {
			if m.ID == req.ID {
				m.Post = req.Post
				m.Edits, m.Edited = m.Edits+1, time.Now()
			}
		}
	})
	answer(w, f, req.ID)
}

func (p *Platform) upload(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := ""
	f := p.do(func() {
		id = fmt.Sprintf("u%d", len(p.uploads)+1)
		p.uploads[id] = n
	})
	answer(w, f, id)
}

func (p *Platform) sign(_ http.ResponseWriter, r *http.Request) {
	key := r.FormValue("key")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signs[key]++
	p.touch()
}

func (p *Platform) find(w http.ResponseWriter, r *http.Request) {
	id := ""
	f := p.do(func() {
		for _, m := range p.posts {
			if m.Key == r.FormValue("key") {
				id = m.ID
			}
		}
	})
	answer(w, f, id)
}

func (p *Platform) poll(w http.ResponseWriter, r *http.Request) {
	late := time.NewTimer(pollFor)
	defer late.Stop()
	for {
		due, changed := p.next(time.Now())
		if len(due) > 0 {
			write(w, due)
			return
		}
		select {
		case <-changed:
		case <-late.C:
			write(w, []Event{})
			return
		case <-r.Context().Done():
			return
		}
	}
}

func read(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // the other side may have gone
}
