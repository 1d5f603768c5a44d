package web

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// policy is what a page of ours may do: run the scripts and styles that the
// binary holds, talk to the server it came from, and show pictures that are
// in the page or on that server.
const policy = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; " +
	"form-action 'self'; frame-ancestors 'none'"

// secured puts the headers on every answer that keep a browser strict.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// fail answers with a sentence: to the page's scripts as JSON, to a person as
// it is.
func fail(w http.ResponseWriter, r *http.Request, status int, sentence string) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		answer(w, status, map[string]string{"error": sentence})
		return
	}
	http.Error(w, sentence, status)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a reader that has left is told nothing
}

// access is whether a request may read threads.
type access int

const (
	allowed   access = iota
	elsewhere        // there is no token, and it is not from this machine
	loggedOut        // there is one, and it has not been given
)

const elsewhereText = "Without THREADBOOK_WEB_TOKEN this page is for loopback addresses alone, such as http://127.0.0.1:8080. " +
	"Set it to a long random word, restart, and the page asks for that word instead."

func (s *Server) access(r *http.Request) access {
	if s.cfg.Token == "" {
		if fromThisMachine(r) {
			return allowed
		}
		return elsewhere
	}
	if cookie, err := r.Cookie(loginCookie); err == nil && s.goodLogin(r, cookie.Value) {
		return allowed
	}
	return loggedOut
}

// fromThisMachine wants a loopback address on both sides: of the sender, and
// in the name that the browser asked for, since any site can give a name of
// its own the address 127.0.0.1 and have its pages read ours. What a proxy
// passes on comes from elsewhere.
func fromThisMachine(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// forPeople guards a page: who may not read it is sent to the login.
func (s *Server) forPeople(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch s.access(r) {
		case allowed:
			next(w, r)
		case loggedOut:
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.Path), http.StatusSeeOther)
		case elsewhere:
			fail(w, r, http.StatusForbidden, elsewhereText)
		}
	}
}

// forScript guards what the page's scripts ask for.
func (s *Server) forScript(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch s.access(r) {
		case allowed:
			next(w, r)
		case loggedOut:
			fail(w, r, http.StatusUnauthorized, "Please log in.")
		case elsewhere:
			fail(w, r, http.StatusForbidden, elsewhereText)
		}
	}
}
