package web

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"threadbook/sessions"
)

// await waits for the thread's events to satisfy a condition.
func (f *fakeStore) await(t *testing.T, thread sessions.ThreadID, what string, ok func([]sessions.Event) bool) []sessions.Event {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		f.mu.Lock()
		log, changed := f.logs[thread], f.changed
		f.mu.Unlock()
		if ok(log) {
			return log
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("waiting for %s: the log has %d events", what, len(log))
		}
	}
}

// awaitMessage waits for the n-th message of the thread.
func (f *fakeStore) awaitMessage(t *testing.T, thread sessions.ThreadID, n int) (m *sessions.Message, seq int64) {
	t.Helper()
	f.await(t, thread, fmt.Sprintf("message %d", n), func(log []sessions.Event) bool {
		count := 0
		for _, ev := range log {
			if b, ok := ev.Body.(*sessions.Message); ok {
				if count++; count == n {
					m, seq = b, ev.Seq
				}
			}
		}
		return m != nil
	})
	return m, seq
}

const dropFile = `(() => {
	const data = new DataTransfer();
	data.items.add(new File(["day,rain\n1,0.4\n2,1.9\n"], "rain.csv", { type: "text/csv" }));
	const fire = (type) => document.querySelector("#log").dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
	fire("dragenter");
	window.overlay = document.querySelector("#drop").classList.contains("on");
	fire("drop");
})()`

func has(selector, text string) step {
	return until(fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => e.textContent.includes(%q))", selector, text))
}

func text(t *testing.T, ctx context.Context, expr string) string {
	t.Helper()
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](expr))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var ready = until(`document.querySelector("#log")?.getAttribute("aria-busy") === "false"`)

const logText = `document.querySelector("#log").innerText`

// TestPage plays a whole visit: a first message with a file, a turn that
// streams, a stop, a reload, a server that goes away and comes back.
func TestPage(t *testing.T) {
	f := serve(t, nil)
	ctx := browser(t)
	css := func(s string) chromedp.CSS { return chromedp.CSS(s) }

	do(t, ctx, screen(1200, 800, false), chromedp.Navigate(f.http.URL+"/"), ready, has(".start h2", "Ask about your data"),
		js(dropFile), until("window.overlay && !document.querySelector('#drop').classList.contains('on')"), has(".chip", "rain.csv"),
		chromedp.SendKeys(css("#text"), "What is the mean?\r"))
	thread := sessions.ThreadID(strings.TrimPrefix(text(t, ctx, "decodeURIComponent(location.pathname)"), "/t/"))
	m, seq := f.store.awaitMessage(t, thread, 1)
	if m.Text != "What is the mean?" || len(m.Files) != 1 || m.Files[0].Name != "rain.csv" || m.Files[0].Size != 21 {
		t.Fatalf("the message is %+v", m)
	}
	do(t, ctx, has(".queue .message", "What is the mean?"), has(".message .file", "rain.csv"), until("document.querySelector('#text').value === ''"),
		until("document.querySelectorAll('.chip').length === 0"), has("#threads a[aria-current]", "What is the mean?"))

	// The turn streams.
	f.store.append(thread, 1, &sessions.TurnStarted{Messages: []int64{seq}})
	do(t, ctx, until("document.querySelectorAll('.queue .message').length === 0 && !document.querySelector('#stop').hidden"), has(".working", "Working"))
	f.store.draft(thread, sessions.Draft{Turn: 1, Text: "I'll **read", Code: ""})
	do(t, ctx, has(".draft .reply", "I'll **read"))
	f.store.draft(thread, sessions.Draft{Turn: 1, Text: "I'll **read** it.", Code: "import pandas"})
	do(t, ctx, has(".draft .reply strong", "read"), has(".draft-cell", "import pandas"))
	f.store.append(thread, 1, &sessions.Reply{Text: "I'll **read** it.", Calls: []sessions.Call{{ID: "a", Name: "run_code"}}})
	do(t, ctx, until("document.querySelectorAll('.reply').length === 1"), has(".draft-cell", "Starting"))
	f.store.append(thread, 1, &sessions.CellStarted{Cell: 1, Language: "python", Code: "import pandas as pd", By: sessions.ByModel},
		&sessions.CellOutput{Cell: 1, Stream: "stdout", Text: "10%\r50%\rdo"})
	do(t, ctx, has(".cell.running .stream.stdout", "do"), has(".cell .k, .cell .kn", "import"), until("!document.querySelector('.draft-cell')"))
	f.store.append(thread, 1, &sessions.CellOutput{Cell: 1, Stream: "stdout", Text: "ne\n"}, &sessions.CellOutput{Cell: 1, Stream: "stderr", Text: "a warning\n"})
	do(t, ctx, has(".stream.stderr", "a warning"))
	if got := text(t, ctx, "document.querySelector('.stream.stdout').textContent"); got != "done\n" {
		t.Errorf("the output is %q", got)
	}
	chart := readTestdata(t, "chart.png")
	blob := f.blobs.put(t, thread, chart)
	f.store.append(thread, 1,
		&sessions.CellOutput{Cell: 1, MIME: "text/plain", Text: "day rain", Display: 1},
		&sessions.CellOutput{Cell: 1, MIME: "text/html", Text: string(readTestdata(t, "frame.html")), Display: 1},
		&sessions.CellOutput{Cell: 1, MIME: "image/png", Blob: blob, Size: int64(len(chart)), Display: 2},
		&sessions.CellOutput{Cell: 1, MIME: "text/plain", Text: "<Figure>", Display: 2},
		&sessions.CellOutput{Cell: 1, MIME: "text/plain", Text: "Bar chart: rain by day.", Display: 3},
		&sessions.CellOutput{Cell: 1, MIME: "image/png", Blob: blob, Size: int64(len(chart)), Display: 3},
		&sessions.CellOutput{Cell: 1, MIME: "application/vnd.threadbook.chart+json", Text: `{"alt": "for bots"}`, Display: 3})
	do(t, ctx, until("document.querySelectorAll('.rich tbody tr').length === 30"), until("document.querySelectorAll('.figure img')[1]?.naturalWidth === 880"),
		until("document.querySelector('#scroll').scrollHeight - document.querySelector('#scroll').scrollTop - document.querySelector('#scroll').clientHeight < 5"))
	if got := text(t, ctx, "[...document.querySelectorAll('.figure img')].map((i) => i.alt).join('; ')"); got != "Figure 1 of cell 1; Bar chart: rain by day." {
		t.Errorf("the figures' alternative texts are %q", got)
	}
	if got := text(t, ctx, logText); strings.Contains(got, "day rain") || strings.Contains(got, "<Figure>") || strings.Contains(got, "for bots") || strings.Contains(got, "Bar chart") {
		t.Error("a poorer representation is shown beside the richer one")
	}
	do(t, ctx, chromedp.Click(css(".figure")), until("document.querySelector('#viewer').open"), chromedp.KeyEvent("\u001b"), until("!document.querySelector('#viewer').open"))

	// Somebody stops it.
	do(t, ctx, chromedp.Click(css("#stop")))
	if m, _ := f.store.awaitMessage(t, thread, 2); m.Text != "!stop" {
		t.Errorf("the stop is %+v", m)
	}
	f.store.append(thread, 1,
		&sessions.CellFinished{Cell: 1, Status: "interrupted", Seconds: 2.5, State: sessions.StateKept, Error: &sessions.CellError{Name: "KeyboardInterrupt", Traceback: "line 1"}},
		&sessions.File{Path: "outputs/mean.csv", Size: 21, Blob: m.Files[0].Blob, Cell: 1},
		&sessions.Reply{Text: "The file is [here](sandbox:/mnt/data/outputs/mean.csv)."},
		&sessions.Question{ID: "q", Text: "Go on?", Options: []string{"Yes, go on", "No"}},
		&sessions.TurnFinished{Status: sessions.TurnStopped, Seconds: 4})
	do(t, ctx, has(".cell.failed", "Interrupted · 2.5 s"), has(".error", "KeyboardInterrupt"), has(".cell .file", "mean.csv"), has(".reply a[download]", "here"),
		has(".turn-foot", "Stopped"), has(".line", "You asked to stop."), until("document.querySelector('#stop').hidden"))

	// What is there is there again.
	do(t, ctx, js("document.querySelector('#text').value = 'half a thought'; document.querySelector('#text').dispatchEvent(new Event('input'))"))
	before := text(t, ctx, logText)
	do(t, ctx, chromedp.Reload(), ready, until("document.querySelector('.figure img')?.naturalWidth === 880"))
	if after := text(t, ctx, logText); after != before {
		t.Errorf("after the reload the thread reads\n%s\nand before it\n%s", after, before)
	}
	do(t, ctx, until("document.querySelector('#text').value === 'half a thought'"))
	do(t, ctx, chromedp.Click(css("#new-thread")), has(".start", "Ask"), until("document.querySelector('#text').value === ''"),
		chromedp.NavigateBack(), has(".message", "What is the mean?"), until("document.querySelector('#text').value === 'half a thought'"))

	// A button answers the question.
	do(t, ctx, ready, chromedp.Click(css(".option")))
	if m, _ := f.store.awaitMessage(t, thread, 3); m.Text != "Yes, go on" {
		t.Errorf("the answer is %+v", m)
	}
	do(t, ctx, has(".option.chosen", "Yes, go on"), until("[...document.querySelectorAll('.option')].every((o) => o.disabled)"))

	// The server goes away and comes back.
	f.store.fail(&sessions.Error{Code: sessions.Unavailable, Text: "Redis does not answer.", Err: errors.New("a test")})
	do(t, ctx, has("#connection", "Reconnecting"), until("!document.querySelector('#connection').hidden"),
		chromedp.SendKeys(css("#text"), " to the end\r"), has("#problem", "Redis does not answer."),
		until("document.querySelector('#text').value === 'half a thought to the end'"))
	f.store.fail(nil)
	f.store.append(thread, 0, &sessions.Notice{Code: "missed", Text: "Said while nobody heard."})
	do(t, ctx, has(".notice", "Said while nobody heard."), until("document.querySelector('#connection').hidden"), chromedp.KeyEvent("\r"))
	if m, _ := f.store.awaitMessage(t, thread, 4); m.Text != "half a thought to the end" {
		t.Errorf("the message that was sent again is %+v", m)
	}
	do(t, ctx, until("document.querySelector('#text').value === ''"), until("document.querySelector('#problem').hidden"))

	// Who reads further up is told of what is new, and left there.
	const atEnd = "document.querySelector('#scroll').scrollHeight - document.querySelector('#scroll').scrollTop - document.querySelector('#scroll').clientHeight < 5"
	do(t, ctx, until(atEnd), js("document.querySelector('#scroll').scrollTop = 0"), until("document.querySelector('#scroll').scrollTop === 0"), js("new Promise(requestAnimationFrame)"))
	f.store.append(thread, 0, &sessions.Notice{Code: "new", Text: "Something new."})
	do(t, ctx, has(".notice", "Something new."), until("!document.querySelector('#pill').hidden && document.querySelector('#scroll').scrollTop === 0"),
		chromedp.Click(css("#pill")), until(atEnd), until("document.querySelector('#pill').hidden"))
}

// What people, models and programs write stays words.
func TestPageIsNotTakenOver(t *testing.T) {
	f := serve(t, nil)
	const thread = sessions.ThreadID("web:hostile")
	const bad = `<img src=x onerror="window.taken=1"><script>window.taken=1</script>`
	m := submit(t, f, thread, &sessions.Message{User: sessions.User{ID: bad, Name: bad}, Text: bad, Key: "1", Files: []sessions.Attachment{{Name: bad, Error: bad}}})
	f.store.append(thread, 1,
		&sessions.TurnStarted{Messages: []int64{m.Seq}},
		&sessions.Reply{Text: bad + "\n\n[x](javascript:window.taken=1) ![x](http://127.0.0.1:1/leak)", Calls: []sessions.Call{{Name: "read_file", Arguments: `{"path":"` + strings.ReplaceAll(bad, `"`, `\"`) + `"}`}}},
		&sessions.CellStarted{Cell: 1, Language: bad, Code: bad, By: sessions.ByModel},
		&sessions.CellOutput{Cell: 1, Stream: "stdout", Text: bad + "\u202e"},
		&sessions.CellOutput{Cell: 1, MIME: "text/html", Text: bad + `<table><tr><td onclick="window.taken=1">cell</td></tr></table>`},
		&sessions.CellOutput{Cell: 1, MIME: "image/svg+xml", Text: `<svg xmlns="http://www.w3.org/2000/svg" onload="window.taken=1"><script>window.taken=1</script></svg>`},
		&sessions.CellOutput{Cell: 1, MIME: bad, Text: bad},
		&sessions.CellFinished{Cell: 1, Status: bad, Error: &sessions.CellError{Name: bad, Value: bad, Traceback: bad}},
		&sessions.File{Path: bad, Blob: f.blobs.put(t, thread, []byte("x")), Cell: 1, Title: bad},
		&sessions.Question{ID: "q", Text: bad, Options: []string{bad}},
		&sessions.Notice{Text: bad},
		&sessions.TurnFinished{Status: bad})
	f.store.titles[thread] = bad
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(f.http.URL+"/t/"+string(thread)), ready, has("#threads a", "onerror"), has(".rich td", "cell"), has(".stream", "⟨U+202E⟩"),
		js(`for (const e of document.querySelectorAll("#log *:not(a, summary)")) e.dispatchEvent(new MouseEvent("click"))`), until(`document.querySelectorAll("#log script, #log [onclick], #log iframe").length === 0`))
	if got := text(t, ctx, `String(window.taken) + [...document.querySelectorAll("#log img")].map((i) => i.src.slice(0, 5))`); got != "undefineddata:" {
		t.Errorf("the page was taken over, or loads pictures: %s", got)
	}
}
