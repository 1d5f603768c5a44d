// Package web is the page: the way into threadbook that needs no account
// anywhere, served by the binary itself.
//
// The page is a reader of the log. A thread's events go to it as Server-Sent
// Events, each with its sequence number as the id, so that a page that was
// closed, reloaded or cut off asks for what comes after the last one it has
// and misses nothing. What the model is writing right now comes on the same
// stream as "draft" messages, which have no id and are forgotten. Sending is
// a plain POST whose key the page makes up, so that one which is sent again
// after a cut is not a second message. No state is kept here: any process
// with the same store serves any page.
//
// An event goes out as in the log, with fields added that only the server can
// make: html (markdown rendered, code coloured, HTML outputs sanitised), url
// (where a blob can be had), inline (the url may be shown as a picture), head
// (the beginning of a text that is in a blob). Nothing of what people, models
// and programs write becomes markup in the browser; see [rendering].
//
// Who may read: with a token, who has logged in with it; without, programs on
// this machine alone, by the address they come from and the name they ask
// for, since a page elsewhere can point a name of its own at 127.0.0.1.
// Downloads are the exception: their addresses are signed and expire, so
// that they work from a chat as well.
package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// Platform is the page's name in the ids of threads.
const Platform = "web"

// Limits on what the page takes and holds open.
const (
	maxReaders = 512              // streams open at once in a process
	maxListed  = 200              // threads in the list
	readBatch  = 256              // events read from the log at a time
	heartbeat  = 15 * time.Second // proxies cut what is silent for 30 or 60
	draftEvery = 80 * time.Millisecond
	writeLimit = 30 * time.Second // a reader that takes no byte for so long is gone
	storeLimit = 10 * time.Second // for one short question to the store
	retryAfter = time.Second      // what the stream tells a browser to wait
	maxDraft   = 48 << 10         // bytes of a draft that are shown while it is written
	linkLife   = 7 * 24 * time.Hour
)

// Store is what the page needs of the sessions' store.
type Store interface {
	Read(ctx context.Context, thread sessions.ThreadID, after int64, limit int, wait time.Duration) ([]sessions.Event, error)
	Drafts(ctx context.Context, thread sessions.ThreadID) (<-chan sessions.Draft, error)
	Threads(ctx context.Context, limit int, platforms ...string) ([]sessions.Thread, error)
	Secret(ctx context.Context) ([]byte, error)
}

// Config is all that a page needs.
type Config struct {
	Store  Store
	Blobs  sessions.Blobs
	Submit func(ctx context.Context, m bots.Message) (sessions.Event, error)
	// Token is what people log in with. Empty: no login, and the page is
	// for this machine alone.
	Token string
	// PublicURL is where people reach the page; download links that leave
	// the page need it.
	PublicURL string
	Banner    string // a line on top of every page
	Version   string
	Log       *slog.Logger // nil: none
}

// Server serves the page. It starts nothing and keeps nothing but the
// streams that are open; Close ends those.
type Server struct {
	cfg     Config
	log     *slog.Logger
	render  *rendering
	page    *template.Template
	static  map[string]asset
	handler http.Handler
	public  *url.URL // nil where there is none
	signer  signer
	tries   tries
	readers chan struct{}
	closing context.Context
	close   context.CancelFunc
	// For tests.
	now       func() time.Time
	heartbeat time.Duration
}

// New makes a server; it fails only on a bad PublicURL.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, log: cfg.Log, render: newRendering(), readers: make(chan struct{}, maxReaders),
		now: time.Now, heartbeat: heartbeat}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.signer.ask = cfg.Store.Secret
	s.closing, s.close = context.WithCancel(context.Background())
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail(w, r, http.StatusForbidden, "This came from another site's page, so it was not done.")
	}))
	if cfg.PublicURL != "" {
		u, err := url.Parse(cfg.PublicURL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" {
			return nil, fmt.Errorf("the public URL is %q; expected is one like https://threadbook.example.com, without a path", cfg.PublicURL)
		}
		if err := guard.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, fmt.Errorf("the public URL %q: %w", cfg.PublicURL, err)
		}
		s.public = u
	}
	var err error
	if s.static, s.page, err = loadAssets(); err != nil {
		return nil, err
	}
	s.handler = secured(guard.Handler(s.routes()))
	return s, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.forPeople(s.home))
	mux.HandleFunc("GET /t/{thread}", s.forPeople(s.thread))
	mux.HandleFunc("GET /api/threads", s.forScript(s.threads))
	mux.HandleFunc("POST /api/threads/new", s.forScript(s.newThread))
	mux.HandleFunc("GET /api/threads/{thread}/events", s.forScript(s.events))
	mux.HandleFunc("POST /api/threads/{thread}/messages", s.forScript(s.message))
	mux.HandleFunc("POST /api/threads/{thread}/stop", s.forScript(s.stop))
	mux.HandleFunc("GET /login", s.loginPage)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("GET /files/{blob}", s.file)
	mux.HandleFunc("GET /static/{name}", s.asset)
	return mux
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends the open streams, and those that begin later at once. Hand it to
// [http.Server.RegisterOnShutdown]: Shutdown waits for handlers, and a stream
// has no end of its own.
func (s *Server) Close() { s.close() }

// threadWords are the ids that the page gives out and takes.
var threadWords = regexp.MustCompile(`^` + Platform + `:[A-Za-z0-9_-]{1,64}$`)

// noThread is said of an id that can't be one of the page's.
const noThread = "There is no such thread."

// threadOf reads the thread's id from the path. The page shows its own
// threads alone: those of other platforms have readers of their own.
func threadOf(r *http.Request) (sessions.ThreadID, bool) {
	id := r.PathValue("thread")
	return sessions.ThreadID(id), threadWords.MatchString(id)
}

// statusOf is the HTTP status of an error of ours.
func statusOf(err error) int {
	switch sessions.CodeOf(err) {
	case sessions.Invalid:
		return http.StatusBadRequest
	case sessions.NotFound:
		return http.StatusNotFound
	case sessions.TooLarge:
		return http.StatusRequestEntityTooLarge
	case sessions.Unavailable, sessions.Busy, sessions.LeaseLost:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// failed answers with what people may know of err, and logs the rest.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.ErrorContext(r.Context(), "a request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	fail(w, r, status, sessions.TextOf(err))
}
