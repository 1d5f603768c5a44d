package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// The page is written by hand and served as it is written: what is in this
// folder is what runs in the browser.
//
//go:embed static pages
var files embed.FS

// asset is one file of the page.
type asset struct {
	data []byte
	mime string
	etag string
}

func loadAssets() (map[string]asset, *template.Template, error) {
	// Not the system's table, which may have them otherwise or not at all.
	mimes := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	static := map[string]asset{}
	names, err := fs.Glob(files, "static/*")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(data)
		static[path.Base(name)] = asset{data, mimes[path.Ext(name)], `"` + hex.EncodeToString(sum[:12]) + `"`}
	}
	pages, err := template.ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, nil, fmt.Errorf("reading the pages: %w", err)
	}
	return static, pages, nil
}

// asset serves a file of the page. It holds nothing private, so that the
// login can use it. Browsers ask each time whether it has changed, since
// modules name each other and could else be of two versions.
func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := s.static[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.mime)
	w.Header().Set("ETag", a.etag)
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
}

// show answers with a page.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var page bytes.Buffer
	if err := s.page.ExecuteTemplate(&page, name, data); err != nil {
		s.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // a reader that has left is told nothing
}

// home opens the latest thread, or a new one where there is none.
func (s *Server) home(w http.ResponseWriter, r *http.Request) {
	list, err := s.cfg.Store.Threads(r.Context(), 1, Platform)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	id := newID()
	if len(list) > 0 {
		id = list[0].ID
	}
	s.showThread(w, r, id)
}

func (s *Server) thread(w http.ResponseWriter, r *http.Request) {
	thread, ok := threadOf(r)
	if !ok {
		fail(w, r, http.StatusNotFound, noThread)
		return
	}
	s.showThread(w, r, thread)
}

func (s *Server) showThread(w http.ResponseWriter, r *http.Request, thread sessions.ThreadID) {
	s.show(w, r, http.StatusOK, "thread.html", map[string]any{
		"Thread":   thread,
		"Banner":   visible(s.cfg.Banner),
		"Version":  s.cfg.Version,
		"Login":    s.cfg.Token != "",
		"MaxFiles": bots.MaxFiles,
		"MaxSize":  bots.MaxFileSize,
		"MaxText":  bots.MaxText,
	})
}
