package worker

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Machine is what the machine has, in bytes. FreeMemory is what programs may
// take without others being swapped out, and FreeDisk what an ordinary user may
// write where files are kept; the disk is 0 where they are not kept on one.
type Machine struct {
	Memory, FreeMemory int64
	Disk, FreeDisk     int64
}

// ReadMachine reads what this machine has: memory from /proc/meminfo, the disk
// that folder is on. An empty folder is none.
func ReadMachine(folder string) (Machine, error) {
	var m Machine
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return m, fmt.Errorf("reading the machine's memory: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		// "MemAvailable:   22340000 kB", where kB is 1024 bytes (proc(5)).
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err != nil:
		case name == "MemTotal":
			m.Memory = n << 10
		case name == "MemAvailable":
			m.FreeMemory = n << 10
		}
	}
	if m.Memory == 0 || m.FreeMemory == 0 {
		return m, errors.New("reading the machine's memory: /proc/meminfo doesn't say MemTotal and MemAvailable")
	}
	if folder == "" {
		return m, nil
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil {
		return m, fmt.Errorf("reading the disk's size: %s: %w", folder, err)
	}
	m.Disk, m.FreeDisk = int64(fs.Blocks)*fs.Bsize, int64(fs.Bavail)*fs.Bsize
	return m, nil
}
