package web

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"threadbook/sessions"
)

// TestView writes down what the page gets of each kind of event.
func TestView(t *testing.T) {
	const thread = sessions.ThreadID("web:abc")
	f := serve(t, nil)
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	f.now = func() time.Time { return at }
	put := func(data string) string { return f.blobs.put(t, thread, []byte(data)) }
	table := "<table><tr><td>" + strings.Repeat("x", 20) + "</td></tr></table><script>x</script>"
	bodies := []sessions.Body{
		&sessions.Message{User: sessions.User{ID: "web", Name: "Web user"}, Text: "one\n<b>two</b>", Key: "web:k", Files: []sessions.Attachment{
			{Name: "a b.csv", Size: 3, MIME: "text/csv", Blob: put("a,b")}, {Name: "p.png", Size: 4, MIME: "image/png", Blob: put("\x89PNG")},
			{Name: "big.bin", Error: "It is too large."}}},
		&sessions.Message{User: sessions.User{ID: "U1", Name: "Noor"}, Text: "!stop", Key: "web:l"},
		&sessions.TurnStarted{Messages: []int64{1}},
		&sessions.Reply{Text: "See [it](outputs/x.csv).", Model: "m"},
		&sessions.CellStarted{Cell: 1, Language: "python", Code: "x = 1", By: sessions.ByModel, Call: "c"},
		&sessions.CellOutput{Cell: 1, Stream: "stdout", Text: "<plain>\n"},
		&sessions.CellOutput{Cell: 1, Stream: "stderr", Blob: put("a long text"), Size: 11, Truncated: 7},
		&sessions.CellOutput{Cell: 1, MIME: "text/html", Text: table, Display: 1},
		&sessions.CellOutput{Cell: 1, MIME: "text/html", Blob: put(table), Size: int64(len(table)), Display: 2},
		&sessions.CellOutput{Cell: 1, MIME: "text/html", Blob: put("big"), Size: maxHTML + 1, Display: 3},
		&sessions.CellOutput{Cell: 1, MIME: "text/markdown", Text: "*md*"},
		&sessions.CellOutput{Cell: 1, MIME: "application/json", Text: `{"a": 1}`},
		&sessions.CellOutput{Cell: 1, MIME: "image/svg+xml", Text: "<svg/>"},
		&sessions.CellOutput{Cell: 1, MIME: "image/png", Blob: put("\x89PNG"), Size: 4, Display: 4},
		&sessions.CellOutput{Cell: 1, MIME: "application/pdf", Blob: put("%PDF"), Size: 4},
		&sessions.CellOutput{Cell: 1, MIME: "text/plain", Blob: strings.Repeat("0", 64), Size: 4}, // was deleted
		&sessions.CellFinished{Cell: 1, Status: "error", Seconds: 1.5, Error: &sessions.CellError{Name: "E", Value: "<v>"}, State: sessions.StateKept},
		&sessions.File{Path: "outputs/x.csv", Size: 3, SHA256: "s", MIME: "text/csv", Blob: put("a,b"), Cell: 1},
		&sessions.Question{ID: "q", Text: "Which `one`?", Options: []string{"a", "b"}},
		&sessions.Notice{Code: "c", Text: "A <notice>."},
		&sessions.TurnFinished{Status: sessions.TurnOK, Seconds: 2},
	}
	var all bytes.Buffer
	for i, b := range bodies {
		data, err := f.view(t.Context(), sessions.Event{Seq: int64(i + 1), At: at, Thread: thread, Turn: 1, Body: b})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Indent(&all, data, "", "  "); err != nil {
			t.Fatal(err)
		}
		all.WriteByte('\n')
		var back sessions.Event
		if err := json.Unmarshal(data, &back); err != nil || back.Body.Kind() != b.Kind() || back.Seq != int64(i+1) {
			t.Errorf("a reader of the log can't read %s: %v", data, err)
		}
	}
	golden(t, "testdata/events.golden", all.String())
}

func TestViewOfALaterVersion(t *testing.T) {
	f := serve(t, nil)
	var ev sessions.Event
	raw := `{"seq":7,"at":"2026-03-04T05:06:07Z","thread":"web:abc","kind":"approval","id":"x","text":"May I?"}`
	if err := json.Unmarshal([]byte(raw), &ev); err != nil {
		t.Fatal(err)
	}
	data, err := f.view(t.Context(), ev)
	if err != nil || !strings.Contains(string(data), `"text":"May I?"`) {
		t.Errorf("%s %v", data, err)
	}
}

func TestHeadOfABlobIsText(t *testing.T) {
	f := serve(t, nil)
	for _, text := range []string{"aé", "a€", "a😀", "ascii"} {
		blob := f.blobs.put(t, "web:abc", []byte(text))
		for limit := range int64(len(text)) {
			got, err := f.head(t.Context(), "web:abc", blob, limit+1)
			if err != nil || !utf8.ValidString(got) || !strings.HasPrefix(text, got) {
				t.Errorf("the first %d bytes of %q are %q, %v", limit+1, text, got, err)
			}
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	made := 0
	make10KB := func() string { made++; return strings.Repeat("x", 10<<10) }
	for i := range 2 * maxCached >> 10 / 10 {
		c.get(string(rune(i)), make10KB)
	}
	if c.size > maxCached || len(c.order) != len(c.of) {
		t.Errorf("%d bytes, %d entries of %d", c.size, len(c.order), len(c.of))
	}
	before := made
	c.get(string(rune(2*maxCached>>10/10-1)), make10KB)
	if made != before {
		t.Error("the last one was made again")
	}
}
