package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memory is at least what the sandbox has in memory: what its cgroup says, or
// else the most that it may have; 0 if it may have any.
func (box *container) memory(pid int) int64 {
	if box.ownCgroup() { // else it is in somebody else's
		file, _ := memoryUsed.find(fmt.Sprintf("/proc/%d/cgroup", pid))
		if text, err := os.ReadFile(file); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
				return n
			}
		}
	}
	linux := object(box.spec["linux"])
	limit, _ := object(object(linux["resources"])["memory"])["limit"].(json.Number)
	n, _ := limit.Int64()
	return max(n, 0)
}
