package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/bots/botstest"
	"threadbook/sessions/redisstore"
	"threadbook/sessions/sessionstest"
	"threadbook/worker/agenttest"
)

// What a process that is this test binary once more should be.
const (
	playVar     = "TEST_PLAY" // "recorder", or a command: "bot", "worker", "serve"
	recorderVar = "TEST_RECORDER"
)

// TestMain plays another process where the environment says so.
func TestMain(m *testing.M) {
	switch play := os.Getenv(playVar); play {
	case "":
		os.Exit(m.Run())
	case "recorder":
		playRecorder()
	default:
		if err := playProgram(play, os.Getenv(recorderVar)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// playRecorder is the recording platform; it says where it listens.
func playRecorder() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("http://%s\n", l.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(l, botstest.New(1).Handler()))
}

// playProgram is threadbook with the recording platform beside its own.
func playProgram(command, recorder string) error {
	roles := map[string]Roles{"bot": {Bot: true}, "worker": {Worker: true}, "serve": {Bot: true, Worker: true}}[command]
	cfg, err := loadConfig(os.Environ(), newCommand(nil, nil, nil).PersistentFlags())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := New(ctx, cfg, roles, log, withRecorder(recorder))
	if err != nil {
		return err
	}
	return errors.Join(p.Run(ctx), p.Close())
}

func withRecorder(url string) func(chatConfig) (chat, error) {
	return func(c chatConfig) (chat, error) {
		client := &botstest.Client{URL: url, Blobs: c.Blobs, Intake: c.Intake}
		return chat{name: botstest.Name, poster: client, run: client.Run}, nil
	}
}

// process is one that a test starts, kills and starts again.
type process struct {
	name string
	env  []string
	log  string
	cmd  *exec.Cmd
	dead chan struct{}
}

// start starts it. What it prints first is returned where that is asked for.
func (p *process) start(t testing.TB, firstLine bool) string {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out io.Reader
	if firstLine {
		if out, err = p.cmd.StdoutPipe(); err != nil {
			t.Fatal(err)
		}
	} else {
		p.cmd.Stdout = log
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n := 0
	if firstLine {
		n, err = out.Read(line)
		if err != nil {
			t.Fatal(err)
		}
	}
	p.dead = make(chan struct{})
	go func(cmd *exec.Cmd, dead chan struct{}) {
		cmd.Wait() // it is killed as often as not
		close(dead)
	}(p.cmd, p.dead)
	return strings.TrimSpace(string(line[:n]))
}

// end sends the signal and waits for the process's death.
func (p *process) end(s syscall.Signal) {
	p.cmd.Process.Signal(s) // it may be dead
	<-p.dead
}

// fleet is threadbook as several processes, on a Redis of its own, with a
// recording platform and a scripted model.
type fleet struct {
	testing.TB
	dir      string
	redis    *redisstore.Private
	store    *redisstore.Store
	recorder string // its address
	workers  []*process
	bot      *process
	lines    []*sessionstest.Line // to Redis: the workers', then the bot's
}

// newFleet starts a fleet. hosts names the machine that each worker is to take
// itself for, env says more to all processes.
func newFleet(t testing.TB, script agenttest.Script, env []string, hosts ...string) *fleet {
	t.Helper()
	f := &fleet{TB: t, dir: t.TempDir()}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	var err error
	if f.redis, err = redisstore.StartPrivate(t.Context(), filepath.Join(f.dir, "r"), log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.redis.Close() })
	if f.store, err = redisstore.Open(f.redis.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.store.Close() })
	model := httptest.NewServer(agenttest.Handler(script))
	t.Cleanup(model.Close)
	recorder := &process{name: "recorder", env: []string{playVar + "=recorder"}, log: filepath.Join(f.dir, "recorder.log")}
	f.recorder = recorder.start(t, true)
	t.Cleanup(func() { recorder.end(syscall.SIGKILL) })
	process := func(name, play, host string) *process {
		line := sessionstest.NewLine(t, f.redis.URL)
		f.lines = append(f.lines, line)
		p := &process{name: name, log: filepath.Join(f.dir, name+".log"), env: append([]string{playVar + "=" + play, recorderVar + "=" + f.recorder,
			"REDIS_URL=" + line.URL, "THREADBOOK_DATA=" + filepath.Join(f.dir, "data"), "THREADBOOK_ADDR=127.0.0.1:0",
			"OPENAI_BASE_URL=" + model.URL + "/v1", "THREADBOOK_CONCURRENCY=4", "THREADBOOK_POOL=0", "THREADBOOK_HOST=" + host}, env...)}
		p.start(t, false)
		t.Cleanup(func() { p.end(syscall.SIGKILL) })
		return p
	}
	for i, host := range hosts {
		f.workers = append(f.workers, process(fmt.Sprintf("worker-%d", i), "worker", host))
	}
	f.bot = process("bot", "bot", "bots")
	name, err := fleetOf(t.Context(), f.store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeContainers(t, name) }) // after the processes' end
	return f
}

// stop ends the processes as a signal would.
func (f *fleet) stop() {
	f.Helper()
	for _, p := range append(f.workers, f.bot) {
		p.end(syscall.SIGTERM)
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			f.Errorf("%s ended with the code %d", p.name, code)
		}
	}
}

// containers are those of a fleet's sandboxes, on all that pass for its hosts.
func containers(t testing.TB, fleet string) []string {
	t.Helper()
	out, err := exec.Command("docker", "ps", "-a", "--no-trunc", "--format", `{{.ID}} {{.Label "threadbook.host"}}`).Output()
	if err != nil {
		t.Fatalf("listing containers: %v", err)
	}
	var ids []string
	for line := range strings.Lines(string(out)) {
		if id, host, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasSuffix(host, "/"+fleet) {
			ids = append(ids, id)
		}
	}
	return ids
}

func removeContainers(t testing.TB, fleet string) {
	t.Helper()
	if ids := containers(t, fleet); len(ids) > 0 {
		if out, err := exec.Command("docker", append([]string{"rm", "-f"}, ids...)...).CombinedOutput(); err != nil {
			t.Errorf("removing containers: %v: %s", err, out)
		}
	}
}

// say is what a person does on the platform.
func (f *fleet) say(e botstest.Event) {
	f.Helper()
	f.control(http.MethodPost, "/control/say", e, nil)
}

func (f *fleet) faults(x botstest.Faults) {
	f.Helper()
	f.control(http.MethodPost, "/control/faults", x, nil)
}

// posts are the platform's, of all threads.
func (f *fleet) posts() (posts []botstest.Posted) {
	f.Helper()
	f.control(http.MethodGet, "/control/posts", nil, &posts)
	return posts
}

func (f *fleet) control(method, path string, in, out any) {
	f.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		f.Fatal(err)
	}
	req, err := http.NewRequest(method, f.recorder+path, bytes.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.Fatalf("asking the recording platform: %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.Fatalf("the recording platform says %s", resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			f.Fatal(err)
		}
	}
}

// eventually waits until a condition holds.
func (f *fleet) eventually(within time.Duration, what string, ok func() bool) {
	f.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(within); ; {
		if ok() {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			f.tell()
			f.Fatalf("not within %v: %s", within, what)
		}
	}
}

// tell shows the containers and the ends of the processes' logs.
func (f *fleet) tell() {
	if out, err := exec.Command("docker", "ps", "-a", "--filter", "label=threadbook.sandbox", "--format",
		`{{.Names}} {{.Label "threadbook.host"}} {{.Label "threadbook.role"}} {{.Status}}`).Output(); err == nil {
		f.Logf("containers:\n%s", out)
	}
	for _, p := range append(f.workers, f.bot) {
		data, err := os.ReadFile(p.log)
		if err != nil {
			continue
		}
		var lines []string
		for line := range strings.Lines(string(data)) {
			if !strings.Contains(line, "level=DEBUG") {
				lines = append(lines, line)
			}
		}
		f.Logf("%s:\n%s", p.name, strings.Join(lines[max(0, len(lines)-40):], ""))
	}
}

// redisPID is the process id of the store's server.
func redisPID(ctx context.Context, s *redisstore.Store) (int, error) {
	client := s.MakeRedisClient().(redis.UniversalClient)
	defer client.Close()
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(info, "process_id:")
	line, _, _ := strings.Cut(rest, "\r")
	return strconv.Atoi(line)
}
