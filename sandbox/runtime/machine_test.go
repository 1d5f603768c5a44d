package runtime

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asRuntime makes the test binary be the runtime.
const asRuntime = "THREADBOOK_TEST_AS_RUNTIME"

// patience is for what should take a moment and may take long on a busy machine.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(asRuntime) != "" {
		os.Exit(Main(os.Args[1:]))
	}
	code := m.Run()
	guest.clean()
	os.Exit(code)
}

// guest is the program that all sandboxes of the tests run.
var guest guestProgram

type guestProgram struct {
	once sync.Once
	dir  string
	err  error
}

// root makes a root file system with the guest in it.
func (g *guestProgram) root(t *testing.T, dir string) {
	t.Helper()
	g.once.Do(func() {
		if g.dir, g.err = os.MkdirTemp("", "tb-guest-"); g.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", g.dir+"/guest", "./testdata/guest")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			g.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if g.err != nil {
		t.Fatal(g.err)
	}
	if err := errors.Join(os.MkdirAll(dir+"/proc", 0o755), os.Link(g.dir+"/guest", dir+"/guest")); err != nil {
		t.Fatal(err)
	}
}

func (g *guestProgram) clean() {
	if g.dir != "" {
		os.RemoveAll(g.dir)
	}
}

// A machine is an engine's part of one: it calls the runtime as containerd does.
type machine struct {
	t           *testing.T
	dir         string // short, since it holds sockets
	checkpoints string
	flags       []string // runtimeArgs
}

// newMachine needs root and runsc, which `deploy/setup.sh test` installs.
func newMachine(t *testing.T, flags ...string) *machine {
	t.Helper()
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("these tests run real sandboxes, which takes root")
	}
	if _, err := os.Stat(DefaultRunsc); err != nil {
		t.Fatalf("these tests run real sandboxes: deploy/setup.sh test installs gVisor (%v)", err)
	}
	dir, err := os.MkdirTemp("", "tb-")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, checkpoints: dir + "/checkpoints"}
	m.flags = append([]string{
		"--runsc=" + DefaultRunsc, "--checkpoints=" + m.checkpoints, "--checkpoints-reserve=0",
		"--ignore-cgroups", "--network=none", "--overlay2=root:self,size=64m",
	}, flags...)
	t.Cleanup(func() {
		// runsc leaves a network namespace mounted beside its state.
		syscall.Unmount(dir+"/state/null-netns", syscall.MNT_DETACH)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return m
}

// command is a call of the runtime for a container.
func (m *machine) command(id string, words ...string) *exec.Cmd {
	global := []string{
		"--root", m.dir + "/state", "--log", m.bundle(id) + "/log.json", "--log-format", "json",
	}
	return m.bare(append(append(append([]string{}, m.flags...), global...), words...)...)
}

// bare is a call of the runtime with just these words.
func (m *machine) bare(words ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(self, words...)
	cmd.Env = append(os.Environ(), asRuntime+"=1")
	return cmd
}

// call runs a command and returns what it printed; its failure is what the
// engine would show: the last error in the log, or the first line of stderr.
func (m *machine) call(id string, words ...string) (string, error) {
	m.t.Helper()
	cmd := m.command(id, words...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	from := logSize(m.bundle(id) + "/log.json")
	if err := cmd.Run(); err != nil {
		text := lastError(m.bundle(id)+"/log.json", from)
		if words[0] == "checkpoint" {
			text, _, _ = strings.Cut(stderr.String(), "\n")
		}
		return stdout.String(), fmt.Errorf("%s: %w: %s", words[0], err, text)
	}
	return stdout.String(), nil
}

func (m *machine) must(id string, words ...string) string {
	m.t.Helper()
	out, err := m.call(id, words...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *machine) bundle(id string) string { return m.dir + "/" + id }

// A box is a container on the machine.
type box struct {
	*machine
	id     string
	stdin  *os.File
	stdout *os.File
	lines  *bufio.Reader
}

// box makes a container's bundle. change may alter its configuration.
func (m *machine) box(id string, env []string, change func(spec map[string]any)) *box {
	m.t.Helper()
	b := &box{machine: m, id: id}
	spec := map[string]any{
		"ociVersion": "1.0.2",
		"hostname":   id,
		"root":       map[string]any{"path": "rootfs"},
		"process": map[string]any{
			"args": []string{"/guest"}, "cwd": "/", "env": env, "noNewPrivileges": true,
			"user":         map[string]any{"uid": 0, "gid": 0},
			"capabilities": map[string]any{"bounding": []string{"CAP_KILL", "CAP_CHOWN"}},
		},
		"mounts": []any{map[string]any{"destination": "/proc", "type": "proc", "source": "proc"}},
		"linux": map[string]any{"namespaces": []any{
			map[string]any{"type": "pid"}, map[string]any{"type": "network"}, map[string]any{"type": "mount"},
		}},
	}
	if change != nil {
		change(spec)
	}
	text, err := json.Marshal(spec)
	if err := errors.Join(err, os.Mkdir(m.bundle(id), 0o700)); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.bundle(id)+"/config.json", text, 0o600); err != nil {
		m.t.Fatal(err)
	}
	guest.root(m.t, m.bundle(id)+"/rootfs")
	m.t.Cleanup(func() {
		b.command(id, "delete", "--force", id).Run()
	})
	return b
}

// create is the engine's create, or a restore that creates.
func (b *box) create(words ...string) error {
	b.t.Helper()
	if len(words) == 0 {
		words = []string{"create"}
	}
	words = append(words, "--bundle", b.bundle(b.id), "--pid-file", b.bundle(b.id)+"/init.pid", b.id)
	theirIn, ourIn, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	ourOut, theirOut, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.stdin, b.stdout, b.lines = ourIn, ourOut, bufio.NewReader(ourOut)
	b.t.Cleanup(func() {
		ourIn.Close()
		ourOut.Close()
	})
	cmd := b.command(b.id, words...)
	cmd.Stdin, cmd.Stdout = theirIn, theirOut
	from := logSize(b.bundle(b.id) + "/log.json")
	err = cmd.Run()
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", words[0], err, lastError(b.bundle(b.id)+"/log.json", from))
	}
	return nil
}

func (b *box) start() *box {
	b.t.Helper()
	if err := b.create(); err != nil {
		b.t.Fatal(err)
	}
	b.must(b.id, "start", b.id)
	return b
}

// ask tells the guest something and returns its answer.
func (b *box) ask(line string) string {
	b.t.Helper()
	b.stdout.SetReadDeadline(time.Now().Add(patience))
	if _, err := b.stdin.WriteString(line + "\n"); err != nil {
		b.t.Fatalf("%s: %q: %v", b.id, line, err)
	}
	answer, err := b.lines.ReadString('\n')
	if err != nil {
		b.t.Fatalf("%s: %q: %v", b.id, line, err)
	}
	return strings.TrimSpace(answer)
}

// expect asks and compares.
func (b *box) expect(line, want string) {
	b.t.Helper()
	if got := b.ask(line); got != want {
		b.t.Errorf("%s: %q was answered with %q, not %q", b.id, line, got, want)
	}
}

// checkpoint does what containerd does, and returns what the engine gets.
func (b *box) checkpoint(flags ...string) (dir string, err error) {
	b.t.Helper()
	dir, err = os.MkdirTemp(b.dir, "engine-")
	if err != nil {
		b.t.Fatal(err)
	}
	b.must(b.id, "pause", b.id)
	words := append([]string{"checkpoint", "--image-path", dir, "--work-path", dir + "/criu"}, flags...)
	_, err = b.call(b.id, append(words, b.id)...)
	b.must(b.id, "resume", b.id)
	return dir, err
}

// sleep is a checkpoint that ends the container, and the engine's clean-up.
func (b *box) sleep() (dir string) {
	b.t.Helper()
	dir, err := b.checkpoint()
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.lines.ReadString('\n'); err == nil {
		b.t.Errorf("%s goes on after its checkpoint", b.id)
	}
	b.must(b.id, "delete", b.id)
	return dir
}

// wantCode makes sure that the failure is told with that code.
func wantCode(t *testing.T, err error, code string, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no failure; %s was to come", code)
	}
	for _, text := range append(words, program+": "+code+": ") {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q lacks %q", err, text)
		}
	}
}

// list is what an errand says is there.
func (m *machine) list(words ...string) Listing {
	m.t.Helper()
	out, err := m.bare(append(append([]string{}, m.flags...), append([]string{operatorCommand}, words...)...)...).Output()
	if err != nil {
		m.t.Fatal(err)
	}
	var list Listing
	if err := json.Unmarshal(out, &list); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	return list
}

// wantNames makes sure that there are just these checkpoints, and no data but
// theirs.
func (m *machine) wantNames(want ...string) {
	m.t.Helper()
	var got []string
	for _, k := range m.list().Checkpoints {
		got = append(got, k.Name)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		m.t.Errorf("there are the checkpoints %v, not %v", got, want)
	}
	folders, _ := filepath.Glob(m.checkpoints + "/*.*")
	if len(folders) != 2*len(want) {
		m.t.Errorf("for %d checkpoints there are %v", len(want), folders)
	}
}

// dataOf is the folder of a checkpoint's data.
func (m *machine) dataOf(name string) string {
	m.t.Helper()
	found, _ := filepath.Glob(m.checkpoints + "/" + name + ".??????????????????????????")
	if len(found) != 1 {
		m.t.Fatalf("checkpoint %s has the data %v", name, found)
	}
	return found[0]
}

// sizes are the files below a folder.
func sizes(t *testing.T, dir string) (files int, bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		files, bytes = files+1, bytes+info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, bytes
}
