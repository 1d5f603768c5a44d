package docker

import (
	"fmt"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/strslice"

	"threadbook/sandbox"
)

const (
	// memoryHeadroom is what the container may use over the code's limit. The
	// agent's watchdog ends code that is over its own; the engine's limit
	// would end the whole sandbox.
	memoryHeadroom = 256 << 20
	// hostPIDs is the engine's limit under gVisor, which counts the host's
	// threads that the sandbox's kernel uses and not the code's: 34 at rest,
	// two for each process of the code. The code's own are limited inside.
	hostPIDs = 1024
	// agentPIDs is the agent's share of the engine's limit under runc, where
	// that is the only one.
	agentPIDs = 32

	openFiles  = 4096
	sharedSize = 64 << 20 // of /dev/shm
	runSize    = 8 << 20  // of /run, where the agent keeps what code may not change
)

// What our runtime reads in a container's environment, as package runtime has
// it. The agent hides it from the code.
const (
	envSaveAs  = "THREADBOOK_SAVE_AS"
	envRestore = "THREADBOOK_RESTORE"
	envBase    = "THREADBOOK_BASE"
	envDisk    = "THREADBOOK_DISK"
	envErrand  = "THREADBOOK_ERRAND"
)

// diskSlack is how far the end of the disk is behind the agent's limit, which
// ends a cell with words instead of an error of the system's.
const diskSlack = 32 << 20

// A blueprint is a container that is to be made.
type blueprint struct {
	name    string
	thread  string // whose it is; empty where that is not known yet
	role    string // see labelRole
	plan    string // see plan.template
	saveAs  string // name of its checkpoints
	restore string // name of the checkpoint that it begins as; empty for none
}

// spec is a container, in two parts of the engine's making.
//
// No folder of the host is mounted, so none can be reached. Under gVisor the
// files are in the container's own layer, which gVisor keeps in one file on
// disk with a hard size, given to it where the runtime is registered. On runc
// that layer would have no limit, so the root is read-only there and the
// workspace is in memory, which is added to the container's.
func (p *Provider) spec(m *machine, image string, b blueprint) (*container.Config, *container.HostConfig) {
	limits := p.config.Limits
	config := &container.Config{
		Image:     image,
		Labels:    p.labelsOf(b),
		Hostname:  "sandbox",
		User:      "0:0", // the agent; it starts kernels as uid 1000
		OpenStdin: true,  // and stays open when a client goes
		// Never NetworkDisabled: without a loopback interface kernels abort.
	}
	if m.runtime == runtimeOurs {
		config.Env = []string{
			envBase + "=" + image,
			envDisk + "=" + strconv.FormatInt(limits.Disk+diskSlack, 10),
			envSaveAs + "=" + b.saveAs,
		}
		if b.restore != "" {
			config.Env = append(config.Env, envRestore+"="+b.restore)
		}
	}
	pids := int64(hostPIDs)
	host := &container.HostConfig{
		Runtime:     m.runtime,
		NetworkMode: container.NetworkMode(p.config.Network),
		CapDrop:     strslice.StrSlice{"ALL"},
		// For the agent, to start and end processes of another user and reach
		// their files. Kernels have none.
		CapAdd:        strslice.StrSlice{"KILL", "SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE"},
		SecurityOpt:   []string{"no-new-privileges"},
		LogConfig:     container.LogConfig{Type: "none"},
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		ShmSize:       sharedSize,
		Tmpfs: map[string]string{
			"/tmp": fmt.Sprintf("size=%d,mode=1777,exec", limits.Memory/4),
			"/run": fmt.Sprintf("size=%d,mode=755", runSize),
		},
	}
	memory := limits.Memory + memoryHeadroom
	if !m.isolated {
		pids = limits.PIDs + agentPIDs
		size := workspaceInMemory(limits)
		memory += size
		host.ReadonlyRootfs = true
		host.Tmpfs["/workspace"] = fmt.Sprintf("size=%d,mode=755,uid=1000,gid=1000,exec", size)
	}
	host.Resources = container.Resources{
		Memory:     memory,
		MemorySwap: memory, // the sum of both, so none
		NanoCPUs:   int64(min(limits.CPUs, float64(m.cpus)) * 1e9),
		PidsLimit:  &pids,
		Ulimits: []*container.Ulimit{
			{Name: "nofile", Soft: openFiles, Hard: openFiles},
			{Name: "fsize", Soft: limits.Disk, Hard: limits.Disk},
			{Name: "core", Soft: 0, Hard: 0},
		},
	}
	return config, host
}

// workspaceInMemory is the size of a workspace that is in memory: less than on
// disk, or one thread's files could fill the machine's memory.
func workspaceInMemory(limits sandbox.Limits) int64 {
	return min(limits.Disk, limits.Memory/2)
}
