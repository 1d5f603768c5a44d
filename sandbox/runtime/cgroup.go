package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroups is where Linux shows them.
const cgroups = "/sys/fs/cgroup"

// A knob is a file of a cgroup, in each of the two versions of cgroups.
type knob struct {
	controller string // of version 1
	v1, v2     string
	unlimited  [2]string // what stands there for no limit, in either
}

var (
	memoryUsed     = knob{"memory", "memory.usage_in_bytes", "memory.current", [2]string{}}
	processorQuota = knob{"cpu", "cpu.cfs_quota_us", "cpu.max", [2]string{"-1", "max"}}
)

// find is the knob's file in the cgroup that a process is in, by that process's
// /proc/PID/cgroup, and what would lift its limit; "" where there is none.
func (k knob) find(membership string) (file, unlimited string) {
	f, err := os.Open(membership)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for _, controller := range strings.Split(fields[1], ",") {
			name := ""
			switch controller {
			case k.controller:
				name, unlimited = filepath.Join(cgroups, k.controller, fields[2], k.v1), k.unlimited[0]
			case "":
				name, unlimited = filepath.Join(cgroups, fields[2], k.v2), k.unlimited[1]
			default:
				continue
			}
			if _, err := os.Stat(name); err == nil {
				return name, unlimited
			}
		}
	}
	return "", ""
}

// ownCgroup is whether the container's cgroup is its own and nobody else's.
func (box *container) ownCgroup() bool {
	path, _ := object(box.spec["linux"])["cgroupsPath"].(string)
	return path != ""
}

// initPID is where containerd has the runtime put the sandbox's process id.
const initPID = "init.pid"

// unthrottled runs something with no limit on how much of the machine's
// processors the sandbox may use. gVisor itself is bound by that limit, and while
// it restores a checkpoint on several threads it would stand still for a good
// part of each tenth of a second; the code in the sandbox runs at the very end.
//
// A cgroup that can't be found is left alone. If the limit can't be put back that
// is an error, after which the container must not run on.
func (box *container) unthrottled(run func() error) error {
	text, err := os.ReadFile(filepath.Join(box.bundle, initPID))
	if err != nil || !box.ownCgroup() {
		return run()
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return run()
	}
	file, unlimited := processorQuota.find(fmt.Sprintf("/proc/%d/cgroup", pid))
	if file == "" {
		return run()
	}
	limit, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(unlimited), 0)
	}
	if err != nil {
		return run() // slower, and right all the same
	}
	err = run()
	// The cgroup is gone with the sandbox, where that has ended.
	if back := os.WriteFile(file, limit, 0); back != nil && !errors.Is(back, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("the limit on processors can't be put back: %w", back))
	}
	return err
}
