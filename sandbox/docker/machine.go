package docker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"

	"threadbook/sandbox"
)

// auto picks the runtime that does most for a sandbox.
const auto = "auto"

// Runtimes that we know, the best first.
const (
	runtimeOurs   = "threadbook" // ours in front of runsc
	runtimeGVisor = "runsc"
	runtimeRunc   = "runc"
)

// A machine is what the engine says of itself.
type machine struct {
	version  string
	runtime  string // the one in use
	isolated bool   // whether that keeps code off the host's kernel
	cpus     int
	arch     string
}

// askEngine asks the engine once; engines don't change under a running
// process, but for new runtimes, and those come with a restart of ours.
func (p *Provider) askEngine(ctx context.Context) (*machine, error) {
	p.mu.Lock()
	known := p.machine
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	info, err := p.engine.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("the Docker engine at %s: %w", p.engine.DaemonHost(), err)
	}
	registered := slices.Sorted(maps.Keys(info.Runtimes))
	runtime, err := chooseRuntime(p.config.Runtime, registered)
	if err != nil {
		return nil, err
	}
	m := &machine{
		version:  info.ServerVersion,
		runtime:  runtime,
		isolated: runtime == runtimeOurs || runtime == runtimeGVisor,
		cpus:     info.NCPU,
		arch:     info.Architecture,
	}
	p.mu.Lock()
	p.machine = m
	p.mu.Unlock()
	return m, nil
}

func chooseRuntime(wanted string, registered []string) (string, error) {
	if wanted != auto {
		if slices.Contains(registered, wanted) {
			return wanted, nil
		}
		return "", fmt.Errorf("the engine has no runtime %q; it has %s", wanted, strings.Join(registered, ", "))
	}
	for _, name := range []string{runtimeOurs, runtimeGVisor, runtimeRunc} {
		if slices.Contains(registered, name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("the engine has neither runsc nor runc; it has %s", strings.Join(registered, ", "))
}

// Probe asks the engine what it is. An error says what keeps sandboxes from
// running at all; a warning, what they do without.
func (p *Provider) Probe(ctx context.Context) (sandbox.Info, error) {
	m, err := p.askEngine(ctx)
	if err != nil {
		return sandbox.Info{}, err
	}
	info := sandbox.Info{
		Engine:   "Docker " + m.version,
		Runtime:  m.runtime,
		Isolated: m.isolated,
	}
	image, err := p.engine.ImageInspect(ctx, p.config.Image)
	if cerrdefs.IsNotFound(err) {
		return info, p.noImage(err)
	}
	if err != nil {
		return info, fmt.Errorf("the sandbox image: %w", err)
	}
	info.Image = fmt.Sprintf("%s (%s)", p.config.Image, shortID(image.ID))
	if !m.isolated {
		info.Warnings = append(info.Warnings,
			"code runs on this machine's own kernel, for the runtime is "+m.runtime+
				": register gVisor's runsc with the engine",
			fmt.Sprintf("the workspace is in memory, %d MB at most", workspaceInMemory(p.config.Limits)>>20))
	}
	if p.config.Network != "none" {
		info.Warnings = append(info.Warnings, "code has the network "+p.config.Network)
	}
	return info, nil
}

func (p *Provider) noImage(err error) error {
	return fmt.Errorf("the engine has no image %s; deploy/setup.sh builds it: %w", p.config.Image, err)
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
