package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dying is how long a killed sandbox may take until it is dead.
const dying = 10 * time.Second

// A runsc is the real runtime with the global flags of one call.
type runsc struct {
	path    string
	globals []string
}

func (c *call) real() *runsc { return &runsc{c.runsc, c.globals} }

// become turns this process into runsc. It returns only if that fails.
func (r *runsc) become(words ...string) error {
	argv := append([]string{r.path}, r.globals...)
	err := syscall.Exec(r.path, append(argv, words...), os.Environ())
	return faultf(BadSetting, "%s can't be run (%v): install gVisor there, or give its place with --runsc=", r.path, err)
}

// run runs runsc to its end, with this process's standard streams, or those
// given. It dies with this process, as the engine expects of its runtime.
func (r *runsc) run(stdout, stderr *bytes.Buffer, words ...string) error {
	cmd := exec.Command(r.path, append(r.globals[:len(r.globals):len(r.globals)], words...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if stdout != nil {
		cmd.Stdout = stdout
	}
	if stderr != nil {
		cmd.Stderr = stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The signal comes at the end of the thread that started it.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	err := cmd.Run()
	if errors.Is(err, fs.ErrNotExist) {
		return faultf(BadSetting, "there is no %s: install gVisor there, or give its place with --runsc=", r.path)
	}
	return err
}

// ask runs a command of runsc's that answers on standard output.
func (r *runsc) ask(words ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	if err := r.run(&stdout, &stderr, words...); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, fmt.Errorf("runsc %s: %w", words[0], err)
	}
	return stdout.Bytes(), nil
}

// version is runsc's own.
func (r *runsc) version() (string, error) {
	out, err := (&runsc{path: r.path}).ask("--version")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(first, "runsc version "), nil
}

// versionOf is the version of the sandbox that wrote a checkpoint; an older one
// than that of the binary, if gVisor was updated since it started.
func (r *runsc) versionOf(stateFile string) (string, error) {
	out, err := (&runsc{path: r.path}).ask("statefile", "--get=runsc_version", stateFile)
	return strings.TrimSpace(string(out)), err
}

// binary stands for the file at runsc's path: the same text is the same file,
// so its version need not be asked for again, which takes 10 ms.
func (r *runsc) binary() string {
	info, err := os.Stat(r.path)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %d %d", info.Size(), info.ModTime().UnixNano(), stat.Ino)
}

// A sandbox is a container as runsc knows it.
type sandbox struct {
	status string
	pid    int
	fd     int // of the process, so that no other one can be taken for it
}

// The states of runsc's that matter here.
const (
	running = "running"
	paused  = "paused"
)

func (r *runsc) state(id string) (*sandbox, error) {
	out, err := r.ask("state", id)
	if err != nil {
		return nil, err
	}
	var state struct {
		Status string
		Pid    int
	}
	if err := json.Unmarshal(out, &state); err != nil {
		return nil, fmt.Errorf("runsc state: %w", err)
	}
	fd, err := unix.PidfdOpen(state.Pid, 0)
	if err != nil {
		return nil, fmt.Errorf("the sandbox has ended: %w", err)
	}
	return &sandbox{state.Status, state.Pid, fd}, nil
}

func (s *sandbox) close() { unix.Close(s.fd) }

// kill ends the sandbox from outside, paused or not, and with it everything in
// it. It returns when it is dead.
func (s *sandbox) kill() error {
	if err := unix.PidfdSendSignal(s.fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing the sandbox: %w", err)
	}
	for deadline := time.Now().Add(dying); ; {
		left := time.Until(deadline)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(max(left, 0).Milliseconds()))
		if n > 0 {
			return nil
		}
		if left <= 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("the sandbox, process %d, was killed and does not die", s.pid)
		}
	}
}
