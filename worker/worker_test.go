package worker_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"threadbook/bots"
	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/redisstore"
	"threadbook/worker"
	"threadbook/worker/agenttest"
	"threadbook/worker/openai"
)

const patience = time.Minute

// bench is a Redis, a fake engine of sandboxes and a scripted model, on which
// workers can be started.
type bench struct {
	url    string // of the Redis
	store  *redisstore.Store
	blobs  sessions.Blobs
	engine *sandboxtest.Engine
	model  *openai.Model
	intake *bots.Intake
	log    *slog.Logger
	ctx    context.Context
}

func newBench(t *testing.T, script agenttest.Script) *bench {
	t.Helper()
	b := &bench{engine: sandboxtest.NewEngine(t), log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	b.ctx = ctx
	private, err := redisstore.StartPrivate(t.Context(), t.TempDir(), b.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { private.Close() })
	b.url = private.URL
	if b.store, err = redisstore.Open(b.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.store.Close() })
	if b.blobs, err = blobs.NewFolder(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(agenttest.Handler(script))
	t.Cleanup(server.Close)
	b.model = openai.New(openai.Config{BaseURL: server.URL + "/v1", Model: "m", Log: b.log})
	waker := worker.NewWaker(b.store, b.store)
	t.Cleanup(func() { waker.Close() })
	b.intake = &bots.Intake{Store: b.store, Blobs: b.blobs, Wake: waker.Wake, Log: b.log}
	return b
}

// work starts a worker, which ends with the test or when stop is called.
func (b *bench) work(t *testing.T) (stop func()) {
	t.Helper()
	stop, _ = b.workAs(t, nil)
	return stop
}

// workAs is work with a changed configuration; over is closed when the worker
// has ended.
func (b *bench) workAs(t *testing.T, change func(*worker.Config)) (stop func(), over <-chan struct{}) {
	t.Helper()
	c := worker.Config{Name: "tester", Store: b.store, Blobs: b.blobs, Sandbox: b.engine.Provider(), Redis: b.store,
		Model: b.model, Concurrency: 4, CellTimeout: patience, TurnTimeout: patience, TurnSteps: 10, Grace: time.Second,
		HibernateAfter: time.Hour, ExpireAfter: time.Hour,
		Metrics: worker.NewMetrics(prometheus.NewRegistry()), Log: b.log}
	if change != nil {
		change(&c)
	}
	w := worker.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.Run(ctx); err != nil {
			t.Errorf("worker %s ended with: %v", c.Name, err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop, ended
}

func (b *bench) send(t *testing.T, thread sessions.ThreadID, text string, files ...string) {
	t.Helper()
	m := bots.Message{Thread: thread, User: sessions.User{ID: "ada", Name: "Ada"}, Text: text}
	for _, name := range files {
		m.Files = append(m.Files, bots.File{Name: name, Open: func(context.Context) (io.ReadCloser, error) {
			if strings.HasPrefix(name, "bad") {
				return nil, &sessions.Error{Code: sessions.Invalid, Text: "The link had expired."}
			}
			return io.NopCloser(strings.NewReader("a,b\n1,2\n")), nil
		}})
	}
	if _, err := b.intake.Submit(b.ctx, m); err != nil {
		t.Fatal(err)
	}
}

// until reads the log up to the first event that is accepted.
func (b *bench) until(t *testing.T, thread sessions.ThreadID, accept func(sessions.Event) bool) []sessions.Event {
	t.Helper()
	var log []sessions.Event
	for {
		events, err := b.store.Read(b.ctx, thread, int64(len(log)), 1, patience)
		if err != nil {
			t.Fatalf("%v; the log so far: %s", err, kinds(log))
		}
		if log = append(log, events...); len(events) > 0 && accept(log[len(log)-1]) {
			return log
		}
	}
}

// finished waits for the end of a turn and gives it, with the log up to there.
func (b *bench) finished(t *testing.T, thread sessions.ThreadID, turn int64) (*sessions.TurnFinished, []sessions.Event) {
	t.Helper()
	log := b.until(t, thread, func(ev sessions.Event) bool {
		_, ok := ev.Body.(*sessions.TurnFinished)
		return ok && ev.Turn == turn
	})
	return log[len(log)-1].Body.(*sessions.TurnFinished), log
}

// kinds is a log in short, without what says that work was cut off.
func kinds(log []sessions.Event) string {
	var all []string
	for _, ev := range log {
		if n, ok := ev.Body.(*sessions.Notice); ok {
			if n.Code != "resumed" {
				all = append(all, "notice:"+n.Code)
			}
			continue
		}
		all = append(all, string(ev.Body.Kind()))
	}
	return strings.Join(all, " ")
}

// A turn goes on from wherever a holder left it, and comes to the same log;
// no cell runs twice. The logs to begin with are every prefix of a whole one.
func TestEveryCrashPoint(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:whole")
	const text = "python print one\\nfile outputs/a.txt hello\npython show x\nsay {result}"
	whole := newBench(t, agenttest.Words)
	stop := whole.work(t)
	whole.send(t, thread, text, "a.csv")
	end, want := whole.finished(t, thread, 1)
	if end.Status != sessions.TurnOK {
		t.Fatalf("the turn ended as %s: %s", end.Status, kinds(want))
	}
	stop()
	for cut := 1; cut < len(want); cut++ {
		b := newBench(t, agenttest.Words)
		put := want[0].Body.(*sessions.Message)
		if _, _, err := b.blobs.Put(b.ctx, thread, strings.NewReader("a,b\n1,2\n"), 100); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.store.Submit(b.ctx, thread, put); err != nil {
			t.Fatal(err)
		}
		lease, err := b.store.Lease(b.ctx, thread, "dead")
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range want[1:cut] {
			if _, err := lease.Append(b.ctx, ev.Turn, ev.Body); err != nil {
				t.Fatal(err)
			}
		}
		if err := lease.Drop(b.ctx); err != nil { // as if it had run out
			t.Fatal(err)
		}
		b.work(t)
		end, got := b.finished(t, thread, 1)
		if end.Status != sessions.TurnOK {
			t.Errorf("cut after %d events: the turn ended as %s: %s", cut, end.Status, kinds(got))
		}
		// The engine here has never seen the cells of the log, so one that
		// was running is lost, and told so; nothing is run twice.
		cells := map[int64]bool{}
		for _, ev := range got {
			if c, ok := ev.Body.(*sessions.CellStarted); ok {
				if cells[c.Cell] {
					t.Errorf("cut after %d events: cell %d was started twice", cut, c.Cell)
				}
				cells[c.Cell] = true
			}
		}
		if len(cells) != 2 {
			t.Errorf("cut after %d events: %d cells, want 2: %s", cut, len(cells), kinds(got))
		}
	}
}

// A turn that was taken up too often is given up with a sentence.
func TestPoison(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:poison")
	b := newBench(t, agenttest.Words)
	b.left(t, thread, "say hi", func(seq int64) []sessions.Body {
		again := &sessions.Notice{Code: "resumed"}
		return []sessions.Body{&sessions.TurnStarted{Messages: []int64{seq}}, again, again, again}
	})
	b.work(t)
	if end, log := b.finished(t, thread, 1); end.Status != sessions.TurnFailed || !strings.Contains(kinds(log), "notice:failed") {
		t.Errorf("got %s: %s", end.Status, kinds(log))
	}
	b.send(t, thread, "say hi")
	if end, log := b.finished(t, thread, 2); end.Status != sessions.TurnOK {
		t.Errorf("the next turn: %s: %s", end.Status, kinds(log))
	}
}

// Whoever lost its lease writes nothing more, and lets the other work.
func TestLostLease(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:lost")
	asked := make(chan struct{}, 10)
	answer := make(chan struct{})
	b := newBench(t, func(r agenttest.Request) agenttest.Reply {
		asked <- struct{}{}
		return agenttest.Reply{Text: "hi", Wait: answer}
	})
	b.work(t)
	b.send(t, thread, "hello")
	<-asked
	// As if it had slept past its lease's end, and another had come and died.
	redisClient := b.store.MakeRedisClient().(redis.UniversalClient)
	defer redisClient.Close()
	if n, err := redisClient.Del(b.ctx, "tb:{"+string(thread)+"}:lease").Result(); err != nil || n != 1 {
		t.Fatalf("the lease was not there: %v", err)
	}
	close(answer)
	// The holder's reply is refused; a sweep finds the turn, and it ends once.
	end, log := b.finished(t, thread, 1)
	if end.Status != sessions.TurnOK {
		t.Errorf("got %s: %s", end.Status, kinds(log))
	}
	if diff := cmp.Diff("message turn.started model.reply turn.finished", kinds(log)); diff != "" {
		t.Error(diff)
	}
	if len(log) != 5 {
		t.Errorf("nobody took the turn up: %d events", len(log))
	}
}

// A sandbox that can't be had fails the turn with a sentence, and the next
// message is answered.
func TestSandboxFails(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Open", "Run"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, agenttest.Words)
			b.engine.Fail(call, errors.New("the engine is on fire"))
			b.work(t)
			const thread = sessions.ThreadID("test:fails")
			b.send(t, thread, "```python\nprint hi\n```")
			end, log := b.finished(t, thread, 1)
			if end.Status != sessions.TurnFailed {
				t.Errorf("got %s: %s", end.Status, kinds(log))
			}
			for _, ev := range log {
				if n, ok := ev.Body.(*sessions.Notice); ok && strings.Contains(n.Text, "fire") {
					t.Errorf("people are told what only operators should know: %q", n.Text)
				}
			}
			b.send(t, thread, "```python\nprint hi\n```")
			if end, log := b.finished(t, thread, 2); end.Status != sessions.TurnOK {
				t.Errorf("the next turn: %s: %s", end.Status, kinds(log))
			}
		})
	}
}

// Every way a cell can end is in the log and told to the model.
func TestCellEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, agenttest.Words)
	b.work(t)
	for code, want := range map[string]struct {
		status sandbox.Status
		state  sessions.State
		told   string
	}{
		"fail boom": {sandbox.Failed, sessions.StateKept, "boom"},
		"oom":       {sandbox.OutOfMemory, sessions.StateKept, "out_of_memory"},
		"full":      {sandbox.DiskFull, sessions.StateKept, "disk_full"},
		"die":       {sandbox.KernelDied, sessions.StateLost, "variables lost"},
		"perish":    {sandbox.OutOfMemory, sessions.StateLost, "variables lost"},
	} {
		thread := sessions.NewThreadID("test", strings.Fields(code)[0])
		b.send(t, thread, "python "+code+"\nsay {result}")
		turn, log := b.finished(t, thread, 1)
		if turn.Status != sessions.TurnOK {
			t.Errorf("%s: the turn ended as %s: %s", code, turn.Status, kinds(log))
		}
		for _, ev := range log {
			switch body := ev.Body.(type) {
			case *sessions.CellFinished:
				if body.Status != string(want.status) || body.State != want.state {
					t.Errorf("%s: ended as %+v", code, body)
				}
			case *sessions.ToolResult:
				if !strings.Contains(body.Text, want.told) {
					t.Errorf("%s: the model is told %q", code, body.Text)
				}
			}
		}
	}
}

// Files: each has its place or its reason, and a model is told of both.
func TestFiles(t *testing.T) {
	t.Parallel()
	var told string
	b := newBench(t, func(r agenttest.Request) agenttest.Reply {
		told, _ = r.LastUser()
		return agenttest.Reply{Text: "thanks"}
	})
	b.engine.Fail("Put", sandbox.ErrDiskFull)
	b.work(t)
	const thread = sessions.ThreadID("test:files")
	b.send(t, thread, "here", "big.csv", "a.csv", "a.csv", "../../etc/passwd", "bad.csv")
	_, log := b.finished(t, thread, 1)
	var places []string
	for _, ev := range log {
		switch body := ev.Body.(type) {
		case *sessions.File:
			places = append(places, body.Path)
		case *sessions.Notice:
			places = append(places, body.Text)
		}
	}
	want := []string{"big.csv was left out: the sandbox's disk is full.", "a.csv", "a (2).csv", "passwd", "bad.csv was left out: The link had expired."}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"/workspace/a (2).csv, 8 bytes", "Table, 1 rows, 2 columns", "bad.csv could not be taken"} {
		if !strings.Contains(told, want) {
			t.Errorf("the model was not told %q: %s", want, told)
		}
	}
}

// Redis is killed while a cell runs, and comes back: the turn goes on where it
// was, and nothing is lost or said twice.
func TestRedisDies(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:redis")
	b := newBench(t, agenttest.Words)
	b.work(t)
	b.send(t, thread, `python print one\nawait go\nprint two`+"\nsay {result}")
	b.until(t, thread, func(ev sessions.Event) bool {
		out, ok := ev.Body.(*sessions.CellOutput)
		return ok && strings.Contains(out.Text, "one")
	})
	client := b.store.MakeRedisClient().(redis.UniversalClient)
	defer client.Close()
	info, err := client.Info(b.ctx, "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "process_id:")
	line, _, _ := strings.Cut(rest, "\r")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	session, err := b.engine.Provider().Open(b.ctx, string(thread))
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Put(b.ctx, "go", strings.NewReader(""), 0); err != nil {
		t.Fatal(err)
	}
	end, log := b.finished(t, thread, 1)
	if end.Status != sessions.TurnOK {
		t.Errorf("got %s: %s", end.Status, kinds(log))
	}
	var printed strings.Builder
	for _, ev := range log {
		if out, ok := ev.Body.(*sessions.CellOutput); ok {
			printed.WriteString(out.Text)
		}
	}
	if printed.String() != "one\ntwo\n" {
		t.Errorf("printed %q", printed.String())
	}
}

// left submits a message, and appends what a worker that has died wrote of the
// turn with it. It returns the message's number.
func (b *bench) left(t *testing.T, thread sessions.ThreadID, text string, wrote func(message int64) []sessions.Body) int64 {
	t.Helper()
	ev, _, err := b.store.Submit(b.ctx, thread, &sessions.Message{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := b.store.Lease(b.ctx, thread, "dead")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Append(b.ctx, 1, wrote(ev.Seq)...); err != nil {
		t.Fatal(err)
	}
	if err := lease.Drop(b.ctx); err != nil {
		t.Fatal(err)
	}
	return ev.Seq
}
