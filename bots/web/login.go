package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The login.
const (
	loginCookie = "threadbook_login"
	loginLife   = 30 * 24 * time.Hour
	maxLogin    = 4 << 10 // bytes of the form
	maxTries    = 8       // logins tried from one address, then one in tryEvery
	tryEvery    = 5 * time.Second
	maxTriers   = 4096 // addresses that are remembered
)

// loginWords is what a login's signature covers. The token is in it, so that
// a new token ends the logins made with the old one.
func (s *Server) loginWords(expires string) string {
	sum := sha256.Sum256([]byte(s.cfg.Token))
	return expires + "\x00" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *Server) goodLogin(r *http.Request, value string) bool {
	expires, sig, _ := strings.Cut(value, ".")
	at, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || s.now().Unix() > at {
		return false
	}
	ok, err := s.signer.check(r.Context(), forLogin, s.loginWords(expires), sig)
	if err != nil {
		s.log.ErrorContext(r.Context(), "a login could not be checked", "err", err)
	}
	return ok
}

// localPath is where a login may lead: a page of ours.
var localPath = regexp.MustCompile(`^/(?:t/` + Platform + `:[A-Za-z0-9_-]{1,64})?$`)

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	s.showLogin(w, r, http.StatusOK, r.URL.Query().Get("next"), "")
}

func (s *Server) showLogin(w http.ResponseWriter, r *http.Request, status int, next, problem string) {
	if !localPath.MatchString(next) {
		next = "/"
	}
	if s.cfg.Token == "" || s.access(r) == allowed {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	s.show(w, r, status, "login.html", map[string]string{"Next": next, "Problem": problem})
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	next := r.FormValue("next")
	if !s.tries.allow(r) {
		s.showLogin(w, r, http.StatusTooManyRequests, next, "That was tried too often; wait a few seconds.")
		return
	}
	// Sums are compared, not words, so that not even the length shows.
	given, want := sha256.Sum256([]byte(r.FormValue("token"))), sha256.Sum256([]byte(s.cfg.Token))
	if s.cfg.Token == "" || subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
		s.log.WarnContext(r.Context(), "a login with a wrong token", "from", r.RemoteAddr)
		s.showLogin(w, r, http.StatusUnauthorized, next, "That is not the token.")
		return
	}
	expires := strconv.FormatInt(s.now().Add(loginLife).Unix(), 10)
	sig, err := s.signer.sign(r.Context(), forLogin, s.loginWords(expires))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	s.setLogin(w, r, expires+"."+sig, int(loginLife.Seconds()))
	if !localPath.MatchString(next) {
		next = "/"
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	s.setLogin(w, r, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (s *Server) setLogin(w http.ResponseWriter, r *http.Request, value string, seconds int) {
	https := r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" ||
		s.public != nil && s.public.Scheme == "https" && s.public.Host == r.Host
	http.SetCookie(w, &http.Cookie{Name: loginCookie, Value: value, Path: "/", MaxAge: seconds,
		HttpOnly: true, Secure: https, SameSite: http.SameSiteStrictMode})
}

// tries slows down who guesses at the token, by the address they come from.
type tries struct {
	mu   sync.Mutex
	from map[netip.Prefix]*rate.Limiter
}

// allow counts one. An IPv6 network is one sender: a house has 2^64
// addresses. Once too many are known all are forgotten, which gives a guesser
// who has that many networks eight more tries at a long random word.
func (t *tries) allow(r *http.Request) bool {
	var sender netip.Prefix
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		addr := from.Addr().Unmap()
		sender, _ = addr.Prefix(min(addr.BitLen(), 64))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.from[sender]
	if l == nil {
		if t.from == nil || len(t.from) >= maxTriers {
			t.from = map[netip.Prefix]*rate.Limiter{}
		}
		l = rate.NewLimiter(rate.Every(tryEvery), maxTries)
		t.from[sender] = l
	}
	return l.Allow()
}
