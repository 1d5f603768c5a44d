package web

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"threadbook/sessions"
)

const publicURL = "https://threadbook.example.com/"

// fetch follows a link as somebody would who has nothing but the link.
func fetch(f *fixture, link string, change func(*http.Request)) *http.Response {
	return ask(f, "GET", "/"+strings.TrimPrefix(strings.TrimPrefix(link, publicURL), "/"), func(r *http.Request) {
		r.RemoteAddr, r.Host = "203.0.113.9:1", "threadbook.example.com"
		if change != nil {
			change(r)
		}
	}).Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFileLinks(t *testing.T) {
	const thread = sessions.ThreadID("slack:T1/C1/123.45")
	f := serve(t, func(c *Config) { c.PublicURL, c.Token = publicURL, "secret" })
	blob := f.blobs.put(t, thread, []byte("a,b\n1,2\n"))
	link, err := f.FileURL(t.Context(), thread, blob, "Übersicht \"2026\".csv")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(link, publicURL+"files/"+blob+"?") {
		t.Fatalf("the link is %s", link)
	}
	r := fetch(f, link, nil)
	if got := body(t, r); r.StatusCode != http.StatusOK || got != "a,b\n1,2\n" {
		t.Errorf("%d %q", r.StatusCode, got)
	}
	for name, want := range map[string]string{
		"Content-Type":            "application/octet-stream",
		"Content-Disposition":     `attachment; filename="_bersicht _2026_.csv"; filename*=UTF-8''%C3%9Cbersicht%20%222026%22.csv`,
		"Content-Security-Policy": filePolicy,
		"X-Content-Type-Options":  "nosniff",
		"Accept-Ranges":           "bytes",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	r = fetch(f, link, func(r *http.Request) { r.Header.Set("Range", "bytes=4-6") })
	if got := body(t, r); r.StatusCode != http.StatusPartialContent || got != "1,2" {
		t.Errorf("a range: %d %q", r.StatusCode, got)
	}
	r = fetch(f, link, func(r *http.Request) { r.Header.Set("If-None-Match", `"`+blob+`"`) })
	if r.StatusCode != http.StatusNotModified {
		t.Errorf("asked again: %d", r.StatusCode)
	}
	again, _ := f.FileURL(t.Context(), thread, blob, "Übersicht \"2026\".csv")
	if again != link {
		t.Error("the same file has another link a moment later, so that no cache can hold it")
	}
}

func TestFileLinksCantBeChanged(t *testing.T) {
	const thread = sessions.ThreadID("web:abc")
	f := serve(t, func(c *Config) { c.PublicURL, c.Token = publicURL, "secret" })
	blob, other := f.blobs.put(t, thread, []byte("mine")), f.blobs.put(t, thread, []byte("other"))
	f.blobs.put(t, "web:def", []byte("mine"))
	link, err := f.FileURL(t.Context(), thread, blob, "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	set := func(key, value string) string {
		u, _ := url.Parse(link)
		q := u.Query()
		q.Set(key, value)
		u.RawQuery = q.Encode()
		return u.String()
	}
	for name, changed := range map[string]string{
		"another name":   set("name", "a.svg"),
		"another thread": set("thread", "web:def"),
		"a later end":    set("expires", "99999999999"),
		"no end":         set("expires", ""),
		"another blob":   strings.Replace(link, blob, other, 1),
		"a path":         strings.Replace(link, blob, "..%2f"+blob, 1),
		"no signature":   set("sig", ""),
		"half of it":     set("sig", "AAAA"),
		"no query":       link[:strings.Index(link, "?")],
	} {
		if r := fetch(f, changed, nil); r.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
}

func TestFileLinksExpire(t *testing.T) {
	const thread = sessions.ThreadID("web:abc")
	f := serve(t, func(c *Config) { c.PublicURL, c.Token = publicURL, "secret" })
	blob := f.blobs.put(t, thread, []byte("mine"))
	link, err := f.FileURL(t.Context(), thread, blob, "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	cookie := logIn(f, "203.0.113.9:1", "secret", "/", nil).Result().Cookies()[0]
	f.now = func() time.Time { return time.Now().Add(linkLife - time.Minute) }
	if r := fetch(f, link, nil); r.StatusCode != http.StatusOK {
		t.Errorf("at the end of its life: %d", r.StatusCode)
	}
	f.now = func() time.Time { return time.Now().Add(linkLife + 25*time.Hour) }
	if r := fetch(f, link, nil); r.StatusCode != http.StatusGone || !strings.Contains(body(t, r), "expired") {
		t.Errorf("after its life: %d", r.StatusCode)
	}
	if r := fetch(f, link, withCookie(cookie)); r.StatusCode != http.StatusOK {
		t.Errorf("after its life, for who may read the thread: %d", r.StatusCode)
	}
}

func TestOnlyPicturesOpenInPlace(t *testing.T) {
	const thread = sessions.ThreadID("web:abc")
	f := serve(t, func(c *Config) { c.PublicURL = publicURL })
	blob := f.blobs.put(t, thread, []byte("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"))
	for name, want := range map[string]string{
		"a.png": "image/png", "a.JPG": "image/jpeg", "a.gif": "image/gif", "a.webp": "image/webp", "a.svg": "image/svg+xml",
		"a.html": "", "a.pdf": "", "a.xml": "", "a.js": "", "a": "", "a.svg.html": "", "a.svgz": "",
	} {
		link, err := f.FileURL(t.Context(), thread, blob, name)
		if err != nil {
			t.Fatal(err)
		}
		r := fetch(f, link, nil)
		mime, disposition := r.Header.Get("Content-Type"), r.Header.Get("Content-Disposition")
		switch {
		case want == "" && (mime != "application/octet-stream" || !strings.HasPrefix(disposition, "attachment;")):
			t.Errorf("%s: %s, %s", name, mime, disposition)
		case want != "" && (mime != want || !strings.HasPrefix(disposition, "inline;")):
			t.Errorf("%s: %s, %s", name, mime, disposition)
		}
		if csp := r.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "sandbox") || !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("%s: policy %q", name, csp)
		}
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	f := serve(t, func(c *Config) { c.PublicURL = publicURL })
	link, err := f.FileURL(t.Context(), "web:abc", strings.Repeat("a", 64), "x.csv")
	if err != nil {
		t.Fatal(err)
	}
	if r := fetch(f, link, nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("a blob that was deleted: %d", r.StatusCode)
	}
	f.store.fail(&sessions.Error{Code: sessions.Unavailable, Text: "Redis does not answer."})
	f.signer.key = nil
	if r := fetch(f, link, nil); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a store: %d", r.StatusCode)
	}
	f = serve(t, nil)
	if _, err := f.FileURL(t.Context(), "web:abc", strings.Repeat("a", 64), "x.csv"); err == nil || !strings.Contains(err.Error(), "THREADBOOK_PUBLIC_URL") {
		t.Errorf("without a public address: %v", err)
	}
}
