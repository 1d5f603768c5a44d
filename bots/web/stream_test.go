package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"threadbook/sessions"
)

// message is one Server-Sent Event.
type message struct {
	id, event, data, comment string
}

// reader reads a stream as a browser does.
type reader struct {
	t    *testing.T
	body *bufio.Scanner
	stop context.CancelFunc
}

// listen opens a thread's stream. The header, where it is not empty, is a
// Last-Event-ID.
func listen(t *testing.T, f *fixture, path, lastID string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", f.http.URL+"/api/threads/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	res, err := f.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("%d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	scanner := bufio.NewScanner(res.Body)
	scanner.Buffer(nil, 4<<20)
	return &reader{t, scanner, cancel}
}

// next reads one message, and io.EOF's absence of one as ok == false.
func (r *reader) next() (m message, ok bool) {
	r.t.Helper()
	for r.body.Scan() {
		name, value, _ := strings.Cut(r.body.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case r.body.Text() == "" && m != (message{}):
			return m, true
		case name == "id":
			m.id = value
		case name == "event":
			m.event = value
		case name == "data":
			m.data += value
		case name == "" && r.body.Text() != "":
			m.comment = value
		}
	}
	return m, false
}

// until reads up to the first message that is one of the event's name.
func (r *reader) until(event string) (before []message, m message) {
	r.t.Helper()
	for {
		m, ok := r.next()
		if !ok {
			r.t.Fatalf("the stream ended before %q: %v", event, r.body.Err())
		}
		if m.event == event {
			return before, m
		}
		before = append(before, m)
	}
}

func ids(ms []message) string {
	var s []string
	for _, m := range ms {
		if m.id != "" {
			s = append(s, m.id)
		}
	}
	return strings.Join(s, " ")
}

func notices(n int) []sessions.Body {
	var bodies []sessions.Body
	for i := range n {
		bodies = append(bodies, &sessions.Notice{Code: "test", Text: fmt.Sprintf("notice *%d*", i+1)})
	}
	return bodies
}

func TestStreamResumes(t *testing.T) {
	f := serve(t, nil)
	f.store.append("web:abc", 0, notices(5)...)
	for _, c := range []struct{ query, lastID, want string }{
		{"", "", "1 2 3 4 5"},
		{"?after=3", "", "4 5"},
		{"?after=1", "4", "5"}, // the browser's own word is newer than the page's
		{"?after=5", "", ""},
		{"?after=99", "", ""},
		{"?after=-1", "", "1 2 3 4 5"},
		{"?after=x", "y", "1 2 3 4 5"},
	} {
		before, _ := listen(t, f, "web:abc/events"+c.query, c.lastID).until("ready")
		if got := ids(before); got != c.want {
			t.Errorf("%s Last-Event-ID %q: %q, want %q", c.query, c.lastID, got, c.want)
		}
	}
}

// What is kept for the thread's next machine is given to nobody.
func TestStreamHidesSavedFiles(t *testing.T) {
	f := serve(t, nil)
	f.store.append("web:abc", 1, &sessions.File{Path: "a", Blob: "x"}, &sessions.File{Path: "a", Blob: "x", Saved: true}, &sessions.File{Path: "a", Saved: true})
	before, _ := listen(t, f, "web:abc/events", "").until("ready")
	if got := ids(before); got != "1" {
		t.Errorf("events %q, want the first", got)
	}
}

func TestStreamGoesOn(t *testing.T) {
	f := serve(t, nil)
	f.store.append("web:abc", 0, notices(2*readBatch+3)...)
	r := listen(t, f, "web:abc/events", "")
	if before, _ := r.until("ready"); len(before) != 2*readBatch+3 {
		t.Errorf("%d events before ready", len(before))
	}
	f.store.append("web:other", 0, notices(1)...)
	f.store.append("web:abc", 3, &sessions.Reply{Text: "**new**", Calls: []sessions.Call{{ID: "1", Name: "run_code", Arguments: "{"}}})
	m, _ := r.next()
	var ev struct {
		Seq, Turn        int64
		Kind, Text, HTML string
		Calls            []sessions.Call
	}
	if err := json.Unmarshal([]byte(m.data), &ev); err != nil {
		t.Fatal(err)
	}
	if m.id != fmt.Sprint(2*readBatch+4) || ev.Turn != 3 || ev.Kind != "model.reply" || ev.Text != "**new**" || ev.HTML != "<p><strong>new</strong></p>\n" || ev.Calls[0].Arguments != "{" {
		t.Errorf("got %s %s", m.id, m.data)
	}
}

func TestStreamShowsDrafts(t *testing.T) {
	f := serve(t, nil)
	r := listen(t, f, "web:abc/events", "")
	r.until("ready")
	f.store.draft("web:other", sessions.Draft{Turn: 1, Text: "not for us"})
	f.store.draft("web:abc", sessions.Draft{Turn: 2, Text: "It is **going", Code: "x = 1 <"})
	_, m := r.until("draft")
	var d struct {
		Turn     int64
		HTML     string
		CodeHTML string `json:"code_html"`
	}
	if err := json.Unmarshal([]byte(m.data), &d); err != nil {
		t.Fatal(err)
	}
	if m.id != "" || d.Turn != 2 || d.HTML != "<p>It is **going</p>\n" || !strings.Contains(d.CodeHTML, "&lt;") {
		t.Errorf("got %+v", m)
	}
	f.store.draft("web:abc", sessions.Draft{Turn: 2, Text: strings.Repeat("long ", maxDraft)})
	if _, m = r.until("draft"); len(m.data) > 2*maxDraft || !strings.Contains(m.data, "…") {
		t.Errorf("a long draft has %d bytes", len(m.data))
	}
	f.store.draft("web:abc", sessions.Draft{Turn: 2})
	if _, m = r.until("draft"); m.data != `{"turn":2,"text":"","html":""}` {
		t.Errorf("an empty draft is %s", m.data)
	}
}

// A draft that comes after its reply would show the reply twice.
func TestLateDrafts(t *testing.T) {
	written := sessions.Event{Turn: 2, Body: &sessions.Reply{Text: "Let me look.", Calls: []sessions.Call{{Name: "list_files", Arguments: "{"}, {Name: "run_code", Arguments: `{"code":"x = 1\nprint(x)"}`}}}}
	for _, c := range []struct {
		d    sessions.Draft
		want bool
	}{
		{sessions.Draft{Turn: 2, Text: "Let me"}, true},
		{sessions.Draft{Turn: 2, Text: "Let me look.", Code: "x = 1\npri"}, true},
		{sessions.Draft{Turn: 2, Code: "x = 1"}, true},
		{sessions.Draft{Turn: 2, Text: "Let me look.", Code: "y"}, false},
		{sessions.Draft{Turn: 2, Text: "Now"}, false},
		{sessions.Draft{Turn: 3, Text: "Let me"}, false},
		{sessions.Draft{Turn: 2}, false}, // takes back what was shown
	} {
		if got := late(c.d, written); got != c.want {
			t.Errorf("%+v: %v", c.d, got)
		}
	}
	f := serve(t, nil)
	r := listen(t, f, "web:abc/events", "")
	r.until("ready")
	f.store.append("web:abc", 2, written.Body)
	r.until("")
	f.store.draft("web:abc", sessions.Draft{Turn: 2, Text: "Let me"})
	f.store.draft("web:abc", sessions.Draft{Turn: 2, Text: "Next"})
	if _, m := r.until("draft"); !strings.Contains(m.data, "Next") {
		t.Errorf("got %s", m.data)
	}
}

func TestStreamShowsThatItLives(t *testing.T) {
	f := serve(t, nil)
	f.heartbeat = 5 * time.Millisecond
	r := listen(t, f, "web:abc/events", "")
	r.until("ready")
	for range 3 {
		if m, ok := r.next(); !ok || m.comment != "alive" {
			t.Errorf("got %+v", m)
		}
	}
}

func TestStreamEnds(t *testing.T) {
	f := serve(t, nil)
	for _, c := range []struct {
		name string
		end  func()
	}{
		{"with the store", func() { f.store.fail(errors.New("Redis went away")) }},
		{"with the shutdown", f.Close},
	} {
		f.store.fail(nil)
		r := listen(t, f, "web:abc/events", "")
		r.until("ready")
		c.end()
		if m, ok := r.next(); ok {
			t.Errorf("%s: the stream goes on with %+v", c.name, m)
		}
	}
}

func TestShutdownDoesNotWaitForReaders(t *testing.T) {
	f := serve(t, nil)
	r := listen(t, f, "web:abc/events", "")
	r.until("ready")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := f.http.Config.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestStreamsAreCounted(t *testing.T) {
	f := serve(t, nil)
	f.readers = make(chan struct{}, 1)
	first := listen(t, f, "web:abc/events", "")
	first.until("ready")
	if w := ask(f, "GET", "/api/threads/web:abc/events", nil); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "Too many") {
		t.Errorf("one too many: %d %s", w.Code, w.Body)
	}
	first.stop()
	f.readers <- struct{}{} // once the first has given its place back
	<-f.readers
	listen(t, f, "web:abc/events", "").until("ready")
}

func TestStreamsOfThePageAlone(t *testing.T) {
	f := serve(t, func(c *Config) { c.Token = "secret" })
	if w := ask(f, "GET", "/api/threads/web:abc/events", nil); w.Code != http.StatusUnauthorized {
		t.Errorf("without a login: %d", w.Code)
	}
	f = serve(t, nil)
	for _, id := range []string{"slack:T1", "web:", "web:a%2Fb", "web:a%20b", "web:" + strings.Repeat("a", 65), "nothing", "discord:1"} {
		if w := ask(f, "GET", "/api/threads/"+id+"/events", nil); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", id, w.Code)
		}
	}
	f.store.fail(&sessions.Error{Code: sessions.Unavailable, Text: "Redis does not answer."})
	if w := ask(f, "GET", "/api/threads/web:abc/events", nil); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "Redis does not answer.") {
		t.Errorf("without a store: %d %s", w.Code, w.Body)
	}
}
