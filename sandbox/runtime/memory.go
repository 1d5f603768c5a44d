package runtime

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroups is where Linux shows them.
const cgroups = "/sys/fs/cgroup"

// memory is at least what the sandbox has in memory: what its cgroup says, or
// else the most that it may have; 0 if it may have any.
func (box *container) memory(pid int) int64 {
	linux := object(box.spec["linux"])
	if own, _ := linux["cgroupsPath"].(string); own != "" { // else it is in somebody else's
		if used, ok := memoryOf(fmt.Sprintf("/proc/%d/cgroup", pid)); ok {
			return used
		}
	}
	limit, _ := object(object(linux["resources"])["memory"])["limit"].(json.Number)
	n, _ := limit.Int64()
	return max(n, 0)
}

// memoryOf reads the use of the memory cgroup that a process is in, whichever of
// the two versions it is.
func memoryOf(membership string) (int64, bool) {
	f, err := os.Open(membership)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		file := ""
		switch fields[1] {
		case "memory":
			file = filepath.Join(cgroups, "memory", fields[2], "memory.usage_in_bytes")
		case "":
			file = filepath.Join(cgroups, fields[2], "memory.current")
		default:
			continue
		}
		if text, err := os.ReadFile(file); err == nil {
			n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
