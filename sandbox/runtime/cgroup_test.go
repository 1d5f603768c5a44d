package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnthrottled lifts the limit of a cgroup that a process is in, and puts it
// back whatever happens meanwhile.
func TestUnthrottled(t *testing.T) {
	t.Parallel()
	box, file, unlimited := throttled(t)
	before := read(t, file)
	failure := errors.New("failure")
	for _, fails := range []error{nil, failure} {
		err := box.unthrottled(func() error {
			if now := read(t, file); !strings.HasPrefix(now, unlimited) {
				t.Errorf("meanwhile the limit is %q", now)
			}
			return fails
		})
		if !errors.Is(err, fails) {
			t.Errorf("unthrottled: %v, want %v", err, fails)
		}
		if now := read(t, file); now != before {
			t.Errorf("the limit was %q and is %q", before, now)
		}
	}
	box.spec = nil // a cgroup that isn't the container's own
	ran := false
	err := box.unthrottled(func() error { ran = read(t, file) == before; return nil })
	if err != nil || !ran {
		t.Errorf("in another's cgroup: %v, left alone %v", err, ran)
	}
	for _, pid := range []string{"", "x", "4194304000"} {
		if err := os.WriteFile(box.bundle+"/"+initPID, []byte(pid), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := box.unthrottled(func() error { return failure }); !errors.Is(err, failure) {
			t.Errorf("of process %q: %v", pid, err)
		}
	}
}

// throttled is a container whose process is in a cgroup with a limit, in file.
func throttled(t *testing.T) (box *container, file, unlimited string) {
	t.Helper()
	name := fmt.Sprintf("threadbook-test-%d", os.Getpid())
	dir, limit := filepath.Join(cgroups, name), "50000 100000"
	file, unlimited = dir+"/cpu.max", "max"
	if _, err := os.Stat(cgroups + "/cpu"); err == nil {
		dir, limit = filepath.Join(cgroups, "cpu", name), "50000"
		file, unlimited = dir+"/cpu.cfs_quota_us", "-1"
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatalf("these tests take root and cgroups: %v", err)
	}
	process := exec.Command("sleep", "60")
	t.Cleanup(func() {
		if process.Process != nil {
			process.Process.Kill()
			process.Wait()
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(os.WriteFile(file, []byte(limit), 0), process.Start()); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprint(process.Process.Pid)
	box = &container{bundle: t.TempDir(), spec: map[string]any{"linux": map[string]any{"cgroupsPath": "/" + name}}}
	err := errors.Join(
		os.WriteFile(dir+"/cgroup.procs", []byte(pid), 0),
		os.WriteFile(box.bundle+"/"+initPID, []byte(pid), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return box, file, unlimited
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
