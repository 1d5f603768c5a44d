package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"threadbook/bots"
	"threadbook/sessions"
)

// sent is a message's form as the page sends it.
type sent struct {
	key, text string
	files     []string // name=content
	list      string   // in place of the files' list
}

func (u sent) form(t *testing.T) (contentType string, body *bytes.Buffer) {
	t.Helper()
	body = &bytes.Buffer{}
	w := multipart.NewWriter(body)
	field := func(name, value string) {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if u.key != "" {
		field("key", u.key)
	}
	field("text", u.text)
	list := []map[string]any{}
	for _, f := range u.files {
		name, content, _ := strings.Cut(f, "=")
		list = append(list, map[string]any{"name": name, "type": "text/csv", "size": len(content)})
	}
	if u.list == "" {
		data, _ := json.Marshal(list)
		u.list = string(data)
	}
	field("files", u.list)
	for _, f := range u.files {
		name, content, _ := strings.Cut(f, "=")
		part, err := w.CreateFormFile("file", name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(part, content)
	}
	w.Close()
	return w.FormDataContentType(), body
}

// post sends a form to a thread.
func post(t *testing.T, f *fixture, thread string, u sent) (status int, answer struct {
	Seq   int64
	Error string
}) {
	t.Helper()
	contentType, body := u.form(t)
	r, err := http.NewRequestWithContext(t.Context(), "POST", f.http.URL+"/api/threads/"+thread+"/messages", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	res, err := f.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Errorf("%d, and the answer is no JSON: %v", res.StatusCode, err)
	}
	return res.StatusCode, answer
}

const key = "0123456789abcdef"

func TestMessage(t *testing.T) {
	f := serve(t, nil)
	status, answer := post(t, f, "web:abc", sent{key: key, text: "What is in here?", files: []string{"a.csv=1,2", "sub/../b.csv=", "a.csv=3,4"}})
	if status != http.StatusCreated || answer.Seq != 1 {
		t.Fatalf("%d %+v", status, answer)
	}
	m := f.store.logs["web:abc"][0].Body.(*sessions.Message)
	if m.Text != "What is in here?" || m.Key != "web:"+key || m.User != visitor || len(m.Files) != 3 {
		t.Errorf("the message is %+v", m)
	}
	for i, want := range []string{"a.csv 1,2", "b.csv ", "a.csv 3,4"} {
		r, err := f.blobs.Get(t.Context(), "web:abc", m.Files[i].Blob)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r)
		if got := m.Files[i].Name + " " + string(data); got != want || m.Files[i].MIME != "text/csv" {
			t.Errorf("file %d is %q of type %q, want %q", i, got, m.Files[i].MIME, want)
		}
	}
}

func TestMessageIsNotDoubled(t *testing.T) {
	f := serve(t, nil)
	u := sent{key: key, text: "once", files: []string{"a.csv=1"}}
	for range 3 {
		if status, answer := post(t, f, "web:abc", u); status != http.StatusCreated || answer.Seq != 1 {
			t.Errorf("%d %+v", status, answer)
		}
	}
	if n := len(f.store.logs["web:abc"]); n != 1 {
		t.Errorf("%d messages", n)
	}
	if status, _ := post(t, f, "web:def", u); status != http.StatusCreated || len(f.store.logs["web:def"]) != 1 {
		t.Error("the same key in another thread is another message")
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	f := serve(t, nil)
	var many []string
	for range bots.MaxFiles + 1 {
		many = append(many, "a=1")
	}
	for _, c := range []struct {
		name   string
		thread string
		sent
		status int
		words  string
	}{
		{"empty", "web:abc", sent{key: key}, 400, "empty"},
		{"long", "web:abc", sent{key: key, text: strings.Repeat("x", bots.MaxText+1)}, 413, "256 KB"},
		{"too many files", "web:abc", sent{key: key, files: many}, 413, "20 is the limit"},
		{"a large file", "web:abc", sent{key: key, list: `[{"name":"big.csv","size":536870913}]`}, 413, "big.csv has 512 MB"},
		{"no key", "web:abc", sent{text: "x"}, 400, "key"},
		{"a bad key", "web:abc", sent{key: "../../../../x", text: "x"}, 400, "key"},
		{"a long key", "web:abc", sent{key: strings.Repeat("a", 65), text: "x"}, 400, "key"},
		{"a bad list", "web:abc", sent{key: key, list: "{"}, 400, "list"},
		{"a long list", "web:abc", sent{key: key, list: strings.Repeat("[", maxList+1)}, 413, "limit"},
		{"files without a list", "web:abc", sent{key: key, list: "[]", files: []string{"a=1"}}, 400, "before"},
		{"fewer files than named", "web:abc", sent{key: key, list: `[{"name":"a"}]`}, 400, "whole"},
		{"another platform", "slack:T1", sent{key: key, text: "x"}, 404, "thread"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, answer := post(t, f, c.thread, c.sent)
			if status != c.status || !strings.Contains(answer.Error, c.words) {
				t.Errorf("%d %q, want %d and %q", status, answer.Error, c.status, c.words)
			}
		})
	}
	if n := len(f.store.logs); n != 0 {
		t.Errorf("%d threads have a message", n)
	}
	w := ask(f, "POST", "/api/threads/web:abc/messages", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("x")) })
	if w.Code != http.StatusBadRequest {
		t.Errorf("no form: %d", w.Code)
	}
	w = ask(f, "POST", "/api/threads/web:abc/messages", func(r *http.Request) { r.ContentLength = maxBody + 1 })
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over all limits: %d", w.Code)
	}
}

// An upload that breaks off in a file must not become a message without it:
// the page sends it again under the same key.
func TestUploadThatBreaksOff(t *testing.T) {
	f := serve(t, nil)
	contentType, form := sent{key: key, text: "x", files: []string{"a.csv=" + strings.Repeat("1,2\n", 50000)}}.form(t)
	half := form.Bytes()[:form.Len()/2]
	w := ask(f, "POST", "/api/threads/web:abc/messages", func(r *http.Request) {
		r.Header.Set("Content-Type", contentType)
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(half), broken{}))
	})
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "whole") {
		t.Errorf("cut in a file: %d %s", w.Code, w.Body)
	}
	w = ask(f, "POST", "/api/threads/web:abc/messages", func(r *http.Request) {
		r.Header.Set("Content-Type", contentType)
		r.Body = io.NopCloser(bytes.NewReader(half))
	})
	if w.Code != http.StatusBadRequest {
		t.Errorf("ended in a file: %d %s", w.Code, w.Body)
	}
	if len(f.store.logs["web:abc"]) != 0 {
		t.Error("half a message is in the log")
	}
	if status, _ := post(t, f, "web:abc", sent{key: key, text: "x", files: []string{"a.csv=1"}}); status != http.StatusCreated {
		t.Errorf("sent again: %d", status)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the connection was cut") }

// A file goes from the wire to the store as it comes.
func TestUploadIsNotHeld(t *testing.T) {
	got := make(chan string)
	f := serve(t, func(c *Config) {
		c.Submit = func(ctx context.Context, m bots.Message) (sessions.Event, error) {
			r, err := m.Files[0].Open(ctx)
			if err != nil {
				return sessions.Event{}, err
			}
			first := make([]byte, 5)
			if _, err := io.ReadFull(r, first); err != nil {
				return sessions.Event{}, err
			}
			got <- string(first)
			_, err = io.Copy(io.Discard, r)
			return sessions.Event{Seq: 1}, err
		}
	})
	contentType, form := sent{key: key, files: []string{"a=first" + strings.Repeat("x", 1<<20) + "last"}}.form(t)
	body, wire := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", f.http.URL+"/api/threads/web:abc/messages", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	done := make(chan int)
	go func() {
		res, err := f.http.Client().Do(r)
		if err != nil {
			t.Error(err)
			close(done)
			return
		}
		res.Body.Close()
		done <- res.StatusCode
	}()
	half := form.Len() / 2
	wire.Write(form.Bytes()[:half])
	if s := <-got; s != "first" { // with the other half still to come
		t.Errorf("the file begins with %q", s)
	}
	wire.Write(form.Bytes()[half:])
	wire.Close()
	if status := <-done; status != http.StatusCreated {
		t.Errorf("%d", status)
	}
}

func TestFilesAreOpenedInOrder(t *testing.T) {
	f := serve(t, func(c *Config) {
		c.Submit = func(ctx context.Context, m bots.Message) (sessions.Event, error) {
			r, err := m.Files[1].Open(ctx) // the first one is not wanted
			if err != nil {
				return sessions.Event{}, err
			}
			if data, _ := io.ReadAll(r); string(data) != "two" {
				return sessions.Event{}, errors.New("the second file is " + string(data))
			}
			if _, err := m.Files[0].Open(ctx); err == nil {
				return sessions.Event{}, errors.New("the first file can be read after the second")
			}
			return sessions.Event{Seq: 1}, nil
		}
	})
	if status, answer := post(t, f, "web:abc", sent{key: key, files: []string{"a=one", "b=two"}}); status != http.StatusCreated {
		t.Errorf("%d %s", status, answer.Error)
	}
}

func TestFailuresOfTheStore(t *testing.T) {
	f := serve(t, nil)
	f.store.fail(&sessions.Error{Code: sessions.Unavailable, Text: "Redis does not answer.", Err: errors.New("dial tcp: secret detail")})
	status, answer := post(t, f, "web:abc", sent{key: key, text: "x"})
	if status != http.StatusServiceUnavailable || answer.Error != "Redis does not answer." {
		t.Errorf("%d %q", status, answer.Error)
	}
	f.store.fail(errors.New("secret detail"))
	status, answer = post(t, f, "web:abc", sent{key: key, text: "x"})
	if status != http.StatusInternalServerError || strings.Contains(answer.Error, "secret") {
		t.Errorf("%d %q", status, answer.Error)
	}
}

func TestStop(t *testing.T) {
	f := serve(t, nil)
	for range 2 {
		if w := ask(f, "POST", "/api/threads/web:abc/stop", nil); w.Code != http.StatusCreated {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	log := f.store.logs["web:abc"]
	if len(log) != 2 || log[0].Body.(*sessions.Message).Text != "!stop" {
		t.Errorf("the log is %+v", log)
	}
	if w := ask(f, "POST", "/api/threads/slack:x/stop", nil); w.Code != http.StatusNotFound {
		t.Errorf("another platform's thread: %d", w.Code)
	}
}

func TestThreads(t *testing.T) {
	f := serve(t, nil)
	if w := ask(f, "GET", "/api/threads", nil); w.Body.String() != "{\"threads\":[]}\n" {
		t.Errorf("none: %s", w.Body)
	}
	fresh := ask(f, "GET", "/", nil).Body.String()
	if !strings.Contains(fresh, `data-thread="web:`) {
		t.Error("the page opens no new thread")
	}
	submit(t, f, "web:first", &sessions.Message{Text: "First", Key: "1"})
	submit(t, f, "slack:T1", &sessions.Message{Text: "Not for the page", Key: "1"})
	submit(t, f, "web:second", &sessions.Message{Text: "Second", Key: "1"})
	var list struct{ Threads []sessions.Thread }
	if err := json.Unmarshal(ask(f, "GET", "/api/threads", nil).Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Threads) != 2 || list.Threads[0].ID != "web:second" || list.Threads[1].Title != "First" {
		t.Errorf("got %+v", list.Threads)
	}
	if page := ask(f, "GET", "/", nil).Body.String(); !strings.Contains(page, `data-thread="web:second"`) {
		t.Error("the page does not open the latest thread")
	}
	if w := ask(f, "GET", "/t/slack:T1", nil); w.Code != http.StatusNotFound {
		t.Errorf("a thread of another platform: %d", w.Code)
	}
}

func TestNewThreads(t *testing.T) {
	f := serve(t, nil)
	seen := map[string]bool{}
	for range 50 {
		var answer struct{ ID string }
		w := ask(f, "POST", "/api/threads/new", nil)
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusCreated {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if seen[answer.ID] || !threadWords.MatchString(answer.ID) {
			t.Errorf("the id %q", answer.ID)
		}
		seen[answer.ID] = true
	}
}

func TestAssets(t *testing.T) {
	f := serve(t, func(c *Config) { c.Token = "secret"; c.Banner, c.Version = `No <model> is set.`, "1.2.3" })
	for name, want := range map[string]string{"app.js": "text/javascript; charset=utf-8", "base.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"} {
		w := ask(f, "GET", "/static/"+name, withCookie(nil))
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != want {
			t.Errorf("%s: %d %s", name, w.Code, w.Header().Get("Content-Type"))
		}
		again := ask(f, "GET", "/static/"+name, func(r *http.Request) { r.Header.Set("If-None-Match", w.Header().Get("ETag")) })
		if again.Code != http.StatusNotModified {
			t.Errorf("%s asked again: %d", name, again.Code)
		}
	}
	if w := ask(f, "GET", "/static/../web.go", nil); w.Code == http.StatusOK {
		t.Error("a file that is no asset is served")
	}
	cookie := logIn(f, "203.0.113.9:1", "secret", "/", nil).Result().Cookies()[0]
	page := ask(f, "GET", "/t/web:abc", withCookie(cookie)).Body.String()
	for _, want := range []string{`data-thread="web:abc"`, "No &lt;model&gt; is set.", "threadbook 1.2.3", `action="/logout"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
