package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
	"threadbook/worker/agenttest"
)

// patience bounds a test's waiting; a sandbox on a busy machine takes seconds.
const patience = 3 * time.Minute

// testConfig is one in a folder of its own, on any free port.
func testConfig(t *testing.T) Config {
	t.Helper()
	c, err := load(t, []string{"THREADBOOK_DATA=" + t.TempDir(), "THREADBOOK_ADDR=127.0.0.1:0", "THREADBOOK_CONCURRENCY=4"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withWords makes the model one that obeys the words of messages.
func withWords(t *testing.T, c Config) Config {
	t.Helper()
	return withScript(t, c, agenttest.Words)
}

func withScript(t *testing.T, c Config, script agenttest.Script) Config {
	t.Helper()
	server := httptest.NewServer(agenttest.Handler(script))
	t.Cleanup(server.Close)
	c.OpenAIBaseURL = server.URL + "/v1"
	return c
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// running is a program at work.
type running struct {
	*Program
	fleet  string
	cancel context.CancelFunc
	done   chan error
}

// start runs a program until the test ends or stop is called.
func start(t *testing.T, c Config) *running {
	t.Helper()
	p, err := New(t.Context(), c, Roles{Bot: true, Worker: true}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	fleet, err := fleetOf(t.Context(), p.store)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Program: p, fleet: fleet, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- errors.Join(p.Run(ctx), p.Close()) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends the program as a signal would.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err, ok := <-r.done; ok && err != nil {
		t.Errorf("the program ended with: %v", err)
	}
	select {
	case <-r.done:
	default:
		close(r.done)
	}
}

// thread is a thread of a test; its sandbox is removed at the end.
func (r *running) thread(t *testing.T) sessions.ThreadID {
	t.Helper()
	id := sessions.NewThreadID("web", strings.ToLower(strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())), time.Now().Format("150405.000000"))
	t.Cleanup(func() { removeSandbox(t, r.cfg, r.fleet, id) })
	return id
}

// removeSandbox removes a thread's sandbox as an operator might, from outside
// of the program.
func removeSandbox(t *testing.T, c Config, fleet string, thread sessions.ThreadID) {
	provider, err := openProvider(c, fleet, testLog(t))
	if err != nil {
		t.Errorf("removing a sandbox: %v", err)
		return
	}
	if err := errors.Join(provider.Remove(context.Background(), string(thread)), provider.Close()); err != nil {
		t.Errorf("removing a sandbox: %v", err)
	}
}

// send submits a message.
func (r *running) send(t *testing.T, thread sessions.ThreadID, text string, files ...string) int64 {
	t.Helper()
	m := bots.Message{Thread: thread, User: sessions.User{ID: "ada", Name: "Ada"}, Text: text}
	for _, f := range files {
		m.Files = append(m.Files, bots.File{Name: filepath.Base(f), Open: func(context.Context) (io.ReadCloser, error) { return os.Open(f) }})
	}
	ev, err := r.intake.Submit(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ev.Seq
}

// until reads the thread's log, from its beginning, up to the first event that
// is accepted.
func (r *running) until(t *testing.T, thread sessions.ThreadID, accept func(sessions.Event) bool) []sessions.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var log []sessions.Event
	for {
		events, err := r.store.Read(ctx, thread, int64(len(log)), 100, patience)
		if err != nil {
			t.Fatalf("waiting for an event: %v; the log so far:\n%s", err, show(log))
		}
		for _, ev := range events {
			log = append(log, ev)
			if accept(ev) {
				return log
			}
		}
	}
}

// turns waits for the end of that many turns.
func (r *running) turns(t *testing.T, thread sessions.ThreadID, n int64) []sessions.Event {
	t.Helper()
	return r.until(t, thread, func(ev sessions.Event) bool {
		_, ok := ev.Body.(*sessions.TurnFinished)
		return ok && ev.Turn == n
	})
}

// ask sends a message and waits for the end of the n-th turn.
func (r *running) ask(t *testing.T, thread sessions.ThreadID, n int64, text string, files ...string) []sessions.Event {
	t.Helper()
	r.send(t, thread, text, files...)
	var turn []sessions.Event
	for _, ev := range r.turns(t, thread, n) {
		if ev.Turn == n {
			turn = append(turn, ev)
		}
	}
	return turn
}

func show(log []sessions.Event) string {
	var b strings.Builder
	for _, ev := range log {
		data, err := json.Marshal(ev)
		if err != nil {
			data = []byte(err.Error())
		}
		b.Write(data)
		b.WriteByte('\n')
	}
	return b.String()
}

// bodies are the bodies of one type in a log.
func bodies[B sessions.Body](log []sessions.Event) []B {
	var all []B
	for _, ev := range log {
		if b, ok := ev.Body.(B); ok {
			all = append(all, b)
		}
	}
	return all
}

// printed is what the cells of a log wrote, streams and plain displays.
func printed(log []sessions.Event) string {
	var b strings.Builder
	for _, out := range bodies[*sessions.CellOutput](log) {
		if out.Stream != "" || out.MIME == "text/plain" {
			b.WriteString(out.Text)
		}
	}
	return b.String()
}

func status(log []sessions.Event) sessions.TurnStatus {
	if ends := bodies[*sessions.TurnFinished](log); len(ends) > 0 {
		return ends[len(ends)-1].Status
	}
	return ""
}

func (r *running) blob(t *testing.T, thread sessions.ThreadID, name string) []byte {
	t.Helper()
	f, err := r.blobs.Get(t.Context(), thread, name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const weatherCSV = "../../deploy/demo/seattle-weather.csv"

// The main job: a question with a file, code that fails and is mended, a
// chart, a file, an answer; and the variables are there in the next turn.
func TestQuestion(t *testing.T) {
	t.Parallel()
	r := start(t, withWords(t, testConfig(t)))
	thread := r.thread(t)
	log := r.ask(t, thread, 1, strings.Join([]string{
		`please look`,
		`python import pandas as pd; w = pd.read_csv("seattle-weather.csv"); w["rain"].sum()`,
		`python print(round(w["precipitation"].sum(), 1))`,
		`python import matplotlib.pyplot as plt; w["temp_max"].plot(); plt.title("Highs"); plt.show()`,
		`python import os; os.makedirs("outputs", exist_ok=True); w.head(3).to_csv("outputs/head.csv", index=False)`,
		`say It rained {result}`,
	}, "\n"), weatherCSV)
	if status(log) != sessions.TurnOK {
		t.Fatalf("the turn ended as %q:\n%s", status(log), show(log))
	}
	cells := bodies[*sessions.CellFinished](log)
	if len(cells) != 4 || cells[0].Status != "error" || cells[0].Error.Name != "KeyError" || cells[1].Status != "ok" {
		t.Fatalf("the cells ended otherwise:\n%s", show(log))
	}
	if !strings.Contains(printed(log), "4426.0") {
		t.Errorf("the sum was not printed: %q", printed(log))
	}
	var figure *sessions.CellOutput
	for _, out := range bodies[*sessions.CellOutput](log) {
		if out.MIME == "image/png" {
			figure = out
		}
	}
	if figure == nil || !bytes.HasPrefix(r.blob(t, thread, figure.Blob), []byte("\x89PNG")) {
		t.Error("there is no figure")
	}
	var placed, given *sessions.File
	for _, f := range bodies[*sessions.File](log) {
		if f.Message != 0 {
			placed = f
		} else {
			given = f
		}
	}
	if placed == nil || placed.Path != "seattle-weather.csv" || !strings.Contains(placed.Profile, "1461 rows") {
		t.Errorf("the attachment was placed as %+v", placed)
	}
	if given == nil || given.Path != "outputs/head.csv" || given.Cell != 4 || !bytes.HasPrefix(r.blob(t, thread, given.Blob), []byte("date,")) {
		t.Errorf("the output was given as %+v", given)
	}
	if end := bodies[*sessions.TurnFinished](log)[0]; end.Tokens.In == 0 || end.Tokens.Out == 0 || end.Seconds <= 0 {
		t.Errorf("the turn's end counts nothing: %+v", end)
	}
	replies := bodies[*sessions.Reply](log)
	if last := replies[len(replies)-1]; !strings.HasPrefix(last.Text, "It rained ") {
		t.Errorf("the answer is %q", last.Text)
	}

	log = r.ask(t, thread, 2, "python print(len(w))\nsay {result}")
	if !strings.Contains(printed(log), "1461") {
		t.Errorf("the variable was gone:\n%s", show(log))
	}
}

// Direct cells need no model; with none, anything else gets a short answer.
func TestDirect(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t))
	thread := r.thread(t)
	for n, c := range []struct{ send, want string }{
		{"```python\nx = 20\nx + 1\n```", "21"},
		{"```bash\ncd /tmp; export V=seven; pwd\n```", "/tmp"},
		{"!run bash\n```\npwd; echo $V\n```", "/tmp\nseven"},
		{"```py\nx * 2\n```\n```sh\necho also\n```", "40also"},
	} {
		log := r.ask(t, thread, int64(n+1), c.send)
		if got := strings.TrimSpace(printed(log)); got != c.want || status(log) != sessions.TurnOK {
			t.Errorf("%q printed %q, want %q", c.send, got, c.want)
		}
		for _, start := range bodies[*sessions.CellStarted](log) {
			if start.By != sessions.ByUser {
				t.Errorf("the cell is by %q", start.By)
			}
		}
	}
	log := r.ask(t, thread, 5, "what is the weather?")
	if n := bodies[*sessions.Notice](log); len(n) != 1 || n[0].Code != "no_model" || !strings.Contains(n[0].Text, "OPENAI_API_KEY") {
		t.Errorf("got %s", show(log))
	}
}

// The process says that it lives, and that it is ready once a cell has run.
func TestHealth(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t))
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + r.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d %s", code, body)
	}
	for end := time.Now().Add(patience); ; {
		code, body := get("/readyz") // each waits a little for the trial's end
		if code == http.StatusOK {
			break
		}
		if time.Now().After(end) || !strings.Contains(body, "being tried") {
			t.Fatalf("readyz: %d %s", code, body)
		}
	}
	if code, body := get("/metrics"); code != http.StatusOK || !strings.Contains(body, "threadbook_recovered_turns_total 0") {
		t.Errorf("metrics: %d %s", code, body)
	}
}

// Commands: listing, getting, resetting, what there is.
func TestCommands(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t))
	thread := r.thread(t)
	r.ask(t, thread, 1, "```python\nx = 1\nopen('made.txt', 'w').write('hello')\n```", weatherCSV)
	notice := func(n int64, text string) string {
		t.Helper()
		for _, b := range bodies[*sessions.Notice](r.ask(t, thread, n, text)) {
			return b.Text
		}
		return ""
	}
	if got := notice(2, "!files"); !strings.Contains(got, "made.txt (5 bytes)") || !strings.Contains(got, "seattle-weather.csv") {
		t.Errorf("!files: %q", got)
	}
	if f := bodies[*sessions.File](r.ask(t, thread, 3, "!get made.txt")); len(f) != 1 || string(r.blob(t, thread, f[0].Blob)) != "hello" {
		t.Errorf("!get gave %+v", f)
	}
	if got := notice(4, "!get nothing"); !strings.Contains(got, `no file "nothing"`) {
		t.Errorf("!get of nothing: %q", got)
	}
	notice(5, "!reset")
	log := r.ask(t, thread, 6, "```python\nimport os\nos.path.exists('made.txt'), 'x' in globals()\n```")
	if got := printed(log); got != "(True, False)" {
		t.Errorf("after !reset: %s", got)
	}
	if got := notice(7, "!usage"); !strings.Contains(got, "2 cells") {
		t.Errorf("!usage: %q", got)
	}
	if got := notice(8, "!dance"); !strings.Contains(got, "no command `!dance`") || !strings.Contains(got, "!help") {
		t.Errorf("!dance: %q", got)
	}
	// The same name again gets a number.
	log = r.ask(t, thread, 9, "```bash\nls *.csv\n```", weatherCSV)
	if got := printed(log); got != "seattle-weather (2).csv\nseattle-weather.csv\n" {
		t.Errorf("two files of one name: %q", got)
	}
}

// A stop reaches a running cell and a running model call; variables are kept.
func TestStop(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	r := start(t, withScript(t, testConfig(t), func(req agenttest.Request) agenttest.Reply {
		if text, _ := req.LastUser(); strings.Contains(text, "think for ever") {
			asked <- struct{}{}
			return agenttest.Reply{Wait: make(chan struct{})}
		}
		return agenttest.Words(req)
	}))
	thread := r.thread(t)
	r.send(t, thread, `python import time; x = 5; print("begun", flush=True); time.sleep(600)`)
	r.until(t, thread, func(ev sessions.Event) bool {
		out, ok := ev.Body.(*sessions.CellOutput)
		return ok && strings.Contains(out.Text, "begun")
	})
	r.send(t, thread, "!stop")
	log := r.turns(t, thread, 1)
	if end := bodies[*sessions.CellFinished](log); status(log) != sessions.TurnStopped || len(end) != 1 || end[0].Status != "interrupted" || end[0].State != sessions.StateKept {
		t.Fatalf("the turn ended otherwise:\n%s", show(log))
	}
	if log := r.ask(t, thread, 2, "python print(x)"); !strings.Contains(printed(log), "5") {
		t.Errorf("the variable was lost:\n%s", show(log))
	}
	r.send(t, thread, "think for ever")
	<-asked
	r.send(t, thread, "!stop")
	if log := r.turns(t, thread, 3); status(log) != sessions.TurnStopped {
		t.Errorf("the model call was not stopped:\n%s", show(log))
	}
	// A stop with nothing running does nothing, and holds up nothing.
	r.send(t, thread, "!stop")
	if log := r.ask(t, thread, 4, "say still here"); status(log) != sessions.TurnOK {
		t.Errorf("got %s", show(log))
	}
}

// A cell that is too slow is interrupted and told; a turn likewise.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	c := withWords(t, testConfig(t))
	c.CellTimeout, c.TurnTimeout = time.Second, 20*time.Second
	r := start(t, c)
	thread := r.thread(t)
	log := r.ask(t, thread, 1, "python import time; time.sleep(600)\nsay {result}")
	if end := bodies[*sessions.CellFinished](log); len(end) != 1 || end[0].Status != "timeout" || end[0].State != sessions.StateKept || status(log) != sessions.TurnOK {
		t.Errorf("got %s", show(log))
	}
}

// What goes wrong at the model's server ends in a sentence, and the next
// message is answered.
func TestModelFails(t *testing.T) {
	t.Parallel()
	r := start(t, withWords(t, testConfig(t)))
	thread := r.thread(t)
	log := r.ask(t, thread, 1, "status 401")
	if n := bodies[*sessions.Notice](log); status(log) != sessions.TurnFailed || len(n) != 1 || !strings.Contains(n[0].Text, "refuses the key") {
		t.Errorf("got %s", show(log))
	}
	if log := r.ask(t, thread, 2, "say well again"); status(log) != sessions.TurnOK {
		t.Errorf("got %s", show(log))
	}
}

// A question of the model's ends the turn; the next message answers it.
func TestAskUser(t *testing.T) {
	t.Parallel()
	r := start(t, withWords(t, testConfig(t)))
	thread := r.thread(t)
	log := r.ask(t, thread, 1, `call ask_user {"question":"Which year?","options":["2012","2013"]}`)
	q := bodies[*sessions.Question](log)
	if status(log) != sessions.TurnOK || len(q) != 1 || len(q[0].Options) != 2 {
		t.Fatalf("got %s", show(log))
	}
	log = r.ask(t, thread, 2, "2013")
	if a := bodies[*sessions.Question](log); len(a) != 1 || a[0].ID != q[0].ID || a[0].Answer != "2013" || a[0].By.Name != "Ada" {
		t.Errorf("got %s", show(log))
	}
}

// Several messages before the turn are one turn; those that come during it are
// the next, and none is lost.
func TestMessagesDuringATurn(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	asked := make(chan string, 10)
	r := start(t, withScript(t, testConfig(t), func(req agenttest.Request) agenttest.Reply {
		text, _ := req.LastUser()
		asked <- text
		if strings.Contains(text, "first") {
			return agenttest.Reply{Text: "one", Wait: release}
		}
		return agenttest.Reply{Text: "two"}
	}))
	thread := r.thread(t)
	r.send(t, thread, "first")
	<-asked
	second, third := r.send(t, thread, "second"), r.send(t, thread, "third")
	close(release)
	log := r.turns(t, thread, 2)
	began := bodies[*sessions.TurnStarted](log)
	if len(began) != 2 || len(began[1].Messages) != 2 || began[1].Messages[0] != second || began[1].Messages[1] != third {
		t.Errorf("got %s", show(log))
	}
	if text := <-asked; !strings.Contains(text, "second") || !strings.Contains(text, "third") {
		t.Errorf("the model was asked %q", text)
	}
}

// A sandbox that is gone between two turns, or in the middle of a cell, is told
// and made anew, with the files that the log holds.
func TestSandboxLost(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t))
	thread := r.thread(t)
	r.ask(t, thread, 1, "```python\nimport os\nx = 1\nos.makedirs('outputs', exist_ok=True)\nopen('outputs/a.txt', 'w').write('a')\n```", weatherCSV)
	lost := func(log []sessions.Event) bool {
		for _, n := range bodies[*sessions.Notice](log) {
			if n.Code == "state_lost" {
				return true
			}
		}
		return false
	}
	removeSandbox(t, r.cfg, r.fleet, thread)
	log := r.ask(t, thread, 2, "```bash\nls -1 . outputs; sleep 0.1\n```")
	if got := printed(log); got != ".:\noutputs\nseattle-weather.csv\n\noutputs:\na.txt\n" || !lost(log) {
		t.Errorf("printed %q; %s", got, show(log))
	}
	r.send(t, thread, "```python\nimport time\nprint('begun', flush=True)\ntime.sleep(600)\n```")
	r.until(t, thread, func(ev sessions.Event) bool {
		out, ok := ev.Body.(*sessions.CellOutput)
		return ok && strings.Contains(out.Text, "begun")
	})
	removeSandbox(t, r.cfg, r.fleet, thread)
	log = r.turns(t, thread, 3)
	if end := bodies[*sessions.CellFinished](log); end[len(end)-1].Status != "kernel_died" || end[len(end)-1].State != sessions.StateLost || !lost(log) {
		t.Errorf("got %s", show(log))
	}
	if log := r.ask(t, thread, 4, "```bash\nls\n```"); printed(log) != "outputs\nseattle-weather.csv\n" {
		t.Errorf("got %s", show(log))
	}
}

// A program that ends in the middle of a cell leaves it running; the next one
// takes it up, and every line of output is in the log once.
func TestRestartInMidCell(t *testing.T) {
	t.Parallel()
	c := withWords(t, testConfig(t))
	first := start(t, c)
	thread := first.thread(t)
	first.send(t, thread, `python import time\nfor i in range(100):\n    print("line", i, flush=True)\n    time.sleep(0.05)\nprint("end")`+"\nsay all done")
	first.until(t, thread, func(ev sessions.Event) bool {
		out, ok := ev.Body.(*sessions.CellOutput)
		return ok && strings.Contains(out.Text, "line 5\n")
	})
	first.stop(t)

	second := start(t, c)
	log := second.turns(t, thread, 1)
	if status(log) != sessions.TurnOK || len(bodies[*sessions.CellStarted](log)) != 1 {
		t.Fatalf("got %s", show(log))
	}
	var want strings.Builder
	for i := range 100 {
		fmt.Fprintln(&want, "line", i)
	}
	if got := printed(log); got != want.String()+"end\n" {
		t.Errorf("got %q", got)
	}
	if n := bodies[*sessions.Notice](log); len(n) != 1 || n[0].Code != "resumed" {
		t.Errorf("nobody was told that the work was cut off:\n%s", show(log))
	}
}
