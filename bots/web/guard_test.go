package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// ask sends a request straight to the handler, from loopback to loopback
// unless the change says otherwise.
func ask(s http.Handler, method, target string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:40000", "127.0.0.1:8080"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestWithoutTokenForThisMachineAlone(t *testing.T) {
	f := serve(t, nil)
	for _, c := range []struct {
		name, from, host, header string
		want                     int
	}{
		{"loopback", "127.0.0.1:1", "127.0.0.1:8080", "", http.StatusOK},
		{"another loopback", "127.8.8.8:1", "127.8.8.8", "", http.StatusOK},
		{"localhost", "[::1]:1", "localhost:8080", "", http.StatusOK},
		{"IPv6", "[::1]:1", "[::1]:8080", "", http.StatusOK},
		{"IPv6 without a port", "[::1]:1", "[::1]", "", http.StatusOK},
		{"mapped", "[::ffff:127.0.0.1]:1", "127.0.0.1", "", http.StatusOK},
		{"another machine", "192.168.1.7:1", "127.0.0.1:8080", "", http.StatusForbidden},
		{"rebinding", "127.0.0.1:1", "evil.example:8080", "", http.StatusForbidden},
		{"rebinding to a likely name", "127.0.0.1:1", "localhost.evil.example", "", http.StatusForbidden},
		{"a number that is no address", "127.0.0.1:1", "127.0.0.1.evil.example", "", http.StatusForbidden},
		{"no host", "127.0.0.1:1", "", "", http.StatusForbidden},
		{"no sender", "@", "127.0.0.1", "", http.StatusForbidden},
		{"a proxy on this machine", "127.0.0.1:1", "127.0.0.1:8080", "X-Forwarded-For", http.StatusForbidden},
		{"another proxy", "127.0.0.1:1", "127.0.0.1:8080", "Forwarded", http.StatusForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{"/", "/t/web:abc", "/api/threads"} {
				w := ask(f, "GET", path, func(r *http.Request) {
					r.RemoteAddr, r.Host = c.from, c.host
					if c.header != "" {
						r.Header.Set(c.header, "203.0.113.9")
					}
				})
				if w.Code != c.want {
					t.Errorf("%s: %d, want %d", path, w.Code, c.want)
				}
				if c.want != http.StatusOK && !strings.Contains(w.Body.String(), "THREADBOOK_WEB_TOKEN") {
					t.Errorf("%s does not say what to set: %s", path, w.Body)
				}
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	f := serve(t, nil)
	for _, path := range []string{"/", "/t/web:abc", "/login", "/static/app.js", "/api/threads", "/files/x", "/nothing"} {
		h := ask(f, "GET", path, nil).Header()
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'self'") && path != "/files/x" || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	for _, name := range []string{"thread.html", "login.html"} {
		page := string(must(files.ReadFile("pages/" + name)))
		for _, bad := range []string{"<style", "style=", " on", "javascript:", "http://", "https://"} {
			if strings.Contains(strings.ReplaceAll(page, " on ", " "), bad) {
				t.Errorf("%s holds %q, which its policy forbids", name, bad)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestOtherSitesCanDoNothing(t *testing.T) {
	f := serve(t, func(c *Config) { c.PublicURL = "https://threadbook.example.com" })
	post := func(header, value string) int {
		return ask(f, "POST", "/api/threads/new", func(r *http.Request) { r.Header.Set(header, value) }).Code
	}
	for _, c := range []struct {
		header, value string
		want          int
	}{
		{"Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		{"Sec-Fetch-Site", "same-site", http.StatusForbidden},
		{"Origin", "https://evil.example", http.StatusForbidden},
		{"Origin", "null", http.StatusForbidden},
		{"Sec-Fetch-Site", "same-origin", http.StatusCreated},
		{"Origin", "http://127.0.0.1:8080", http.StatusCreated},
		{"Origin", "https://threadbook.example.com", http.StatusCreated},
	} {
		if got := post(c.header, c.value); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.header, c.value, got, c.want)
		}
	}
}

// logIn posts the form from an address.
func logIn(s http.Handler, from, token, next string, change func(*http.Request)) *httptest.ResponseRecorder {
	form := url.Values{"token": {token}, "next": {next}}.Encode()
	r := httptest.NewRequest("POST", "/login", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = from
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func withCookie(c *http.Cookie) func(*http.Request) {
	return func(r *http.Request) {
		r.RemoteAddr, r.Host = "203.0.113.9:1", "threadbook.example.com"
		if c != nil {
			r.AddCookie(c)
		}
	}
}

func TestLogin(t *testing.T) {
	const token, from = "correct horse battery staple", "203.0.113.9:1"
	f := serve(t, func(c *Config) { c.Token = token })

	if w := ask(f, "GET", "/t/web:abc", withCookie(nil)); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/login?next=%2Ft%2Fweb%3Aabc" {
		t.Errorf("without a login: %d to %q", w.Code, w.Header().Get("Location"))
	}
	if w := ask(f, "GET", "/api/threads", nil); w.Code != http.StatusUnauthorized {
		t.Errorf("the API without a login, even from loopback: %d", w.Code)
	}
	if w := logIn(f, from, "wrong", "/", nil); w.Code != http.StatusUnauthorized || len(w.Result().Cookies()) != 0 || !strings.Contains(w.Body.String(), "not the token") {
		t.Errorf("with a wrong token: %d %s", w.Code, w.Body)
	}
	w := logIn(f, from, token, "/t/web:abc", nil)
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/t/web:abc" {
		t.Fatalf("with the token: %d to %q", w.Code, w.Header().Get("Location"))
	}
	cookie := w.Result().Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Secure {
		t.Errorf("the cookie over HTTP is %v", cookie)
	}
	if w := ask(f, "GET", "/api/threads", withCookie(cookie)); w.Code != http.StatusOK {
		t.Errorf("logged in: %d", w.Code)
	}
	if w := ask(f, "GET", "/login?next=/t/web:abc", withCookie(cookie)); w.Code != http.StatusSeeOther {
		t.Errorf("the login for who has logged in: %d", w.Code)
	}
	forged := *cookie
	forged.Value = "9" + cookie.Value
	if w := ask(f, "GET", "/api/threads", withCookie(&forged)); w.Code != http.StatusUnauthorized {
		t.Errorf("with a later expiry than was signed: %d", w.Code)
	}
	other := serve(t, func(c *Config) { c.Token = "another" })
	if w := ask(other, "GET", "/api/threads", withCookie(cookie)); w.Code != http.StatusUnauthorized {
		t.Errorf("after the token was changed: %d", w.Code)
	}
	same := serve(t, func(c *Config) { c.Token = token })
	if w := ask(same, "GET", "/api/threads", withCookie(cookie)); w.Code != http.StatusOK {
		t.Errorf("in another process of the fleet: %d", w.Code)
	}
	f.now = func() time.Time { return time.Now().Add(loginLife + time.Minute) }
	if w := ask(f, "GET", "/api/threads", withCookie(cookie)); w.Code != http.StatusUnauthorized {
		t.Errorf("after the login's life: %d", w.Code)
	}
	if c := ask(f, "POST", "/logout", withCookie(cookie)).Result().Cookies()[0]; c.Value != "" || c.MaxAge != -1 {
		t.Errorf("logging out leaves %v", c)
	}
}

func TestLoginOverHTTPS(t *testing.T) {
	f := serve(t, func(c *Config) { c.Token, c.PublicURL = "secret", "https://threadbook.example.com" })
	for name, change := range map[string]func(*http.Request){
		"a proxy says so":    func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") },
		"the public address": func(r *http.Request) { r.Host = "threadbook.example.com" },
	} {
		if c := logIn(f, "203.0.113.9:1", "secret", "/", change).Result().Cookies()[0]; !c.Secure {
			t.Errorf("%s: the cookie may go over HTTP: %v", name, c)
		}
	}
}

func TestLoginLeadsNowhereElse(t *testing.T) {
	f := serve(t, func(c *Config) { c.Token = "secret" })
	for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "/t/web:a/../../x", "/logout", "javascript:alert(1)", "/t/web:a\nb", ""} {
		if got := logIn(f, "203.0.113.9:1", "secret", next, nil).Header().Get("Location"); got != "/" {
			t.Errorf("next=%q leads to %q", next, got)
		}
		if body := ask(f, "GET", "/login?next="+url.QueryEscape(next), withCookie(nil)).Body.String(); !strings.Contains(body, `value="/"`) {
			t.Errorf("next=%q is in the form", next)
		}
		f.tries = tries{}
	}
}

func TestGuessingIsSlow(t *testing.T) {
	f := serve(t, func(c *Config) { c.Token = "secret" })
	for range maxTries {
		if w := logIn(f, "203.0.113.9:1", "guess", "/", nil); w.Code != http.StatusUnauthorized {
			t.Fatalf("a guess: %d", w.Code)
		}
	}
	if w := logIn(f, "203.0.113.9:2", "secret", "/", nil); w.Code != http.StatusTooManyRequests {
		t.Errorf("after many guesses: %d", w.Code)
	}
	if w := logIn(f, "203.0.113.10:1", "secret", "/", nil); w.Code != http.StatusSeeOther {
		t.Errorf("from another address: %d", w.Code)
	}
	for i := range maxTries {
		logIn(f, "[2001:db8::"+string(rune('1'+i))+"]:1", "guess", "/", nil)
	}
	if w := logIn(f, "[2001:db8::ffff]:1", "secret", "/", nil); w.Code != http.StatusTooManyRequests {
		t.Errorf("from another address of the same network: %d", w.Code)
	}
}

func TestWithoutTokenThereIsNoLogin(t *testing.T) {
	f := serve(t, nil)
	if w := logIn(f, "203.0.113.9:1", "", "/", nil); w.Code == http.StatusSeeOther && len(w.Result().Cookies()) > 0 {
		t.Error("an empty token logs in")
	}
	if w := ask(f, "GET", "/login", nil); w.Code != http.StatusSeeOther {
		t.Errorf("the login page: %d", w.Code)
	}
}

func TestBadPublicURL(t *testing.T) {
	for _, u := range []string{"threadbook.example.com", "ftp://x", "https://x/path", "https://", "://"} {
		if _, err := New(Config{Store: newFakeStore(), PublicURL: u}); err == nil || !strings.Contains(err.Error(), u) {
			t.Errorf("%q: %v", u, err)
		}
	}
}
