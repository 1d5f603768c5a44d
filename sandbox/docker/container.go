package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/strslice"

	"threadbook/sandbox"
)

// Labels of a sandbox's container. The reaper goes by them and touches nothing
// that lacks one.
const (
	labelProject = "threadbook.sandbox"
	labelHost    = "threadbook.host"
	labelThread  = "threadbook.thread"
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

// containerName is the name of a thread's container: the same in every process.
func (p *Provider) containerName(thread string) string {
	sum := sha256.Sum256([]byte(p.config.Host + "\x00" + thread))
	return "threadbook-" + hex.EncodeToString(sum[:10])
}

func (p *Provider) labels(thread string) map[string]string {
	return map[string]string{labelProject: "1", labelHost: p.config.Host, labelThread: thread}
}

// ours finds the containers of this project and host.
func (p *Provider) ours() filters.Args {
	return filters.NewArgs(
		filters.Arg("label", labelProject+"=1"),
		filters.Arg("label", labelHost+"="+p.config.Host),
	)
}

// spec is a thread's container, in two parts of the engine's making.
//
// No folder of the host is mounted, so none can be reached. Under gVisor the
// files are in the container's own layer, which gVisor keeps in one file on
// disk with a hard size, given to it where the runtime is registered. On runc
// that layer would have no limit, so the root is read-only there and the
// workspace is in memory, which is added to the container's.
func (p *Provider) spec(thread string, m *machine) (*container.Config, *container.HostConfig) {
	limits := p.config.Limits
	config := &container.Config{
		Image:     p.config.Image,
		Labels:    p.labels(thread),
		Hostname:  "sandbox",
		User:      "0:0", // the agent; it starts kernels as uid 1000
		OpenStdin: true,  // and stays open when a client goes
		// Never NetworkDisabled: without a loopback interface kernels abort.
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
