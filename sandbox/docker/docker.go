// Package docker runs sandboxes as containers of a Docker engine.
//
// A thread has one container, found by a name that follows from the thread's
// id, so any process can find it and no list of them is kept anywhere. Inside
// runs the agent of sandbox/image, which the package talks to over the
// container's attached stdio (sandbox/image/agent/PROTOCOL.md); there is no
// port, no mount of the host's and no network.
//
// A new sandbox is one of the pool (pool.go), or a copy of the template
// (template.go), a checkpoint of a sandbox with the usual libraries loaded, or,
// where neither can be had, begins from nothing; each falls back to the next.
// An idle one is put to disk (sleep.go), and can be carried to another machine from
// there (port.go). Checkpoints take our runtime; on others
// the rest works. Keep (keep.go) sees to the template, the pool and to what crashes
// have left behind (reap.go). All that is known of containers, checkpoints and who
// sleeps is in the engine, in names and labels (names.go), so that a process can
// die at any point and another one go on.
//
// The parts, from the outside in: a [Provider] finds and makes containers
// (open.go, container.go, machine.go) and keeps one conn for each that it has
// opened. A conn (conn.go, line.go) carries requests and what comes back.
// A session is a conn as callers see it (run.go, files.go). When nothing more
// can be read, end.go finds out what became of the container.
//
// Code in a sandbox can't reach the agent, but whatever comes from inside is
// handled as if it could: see outputs.go. A sandbox that breaks the protocol is
// removed, for nothing else it says can be relied on.
//
// What the container itself enforces, and why so, is in container.go; most of
// the limits on code are the agent's, since under gVisor an engine's limits end
// the whole sandbox, with the files in it.
package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/docker/docker/client"

	"threadbook/sandbox"
)

// How long each step may take. A step is nearly always a hundred times faster;
// these are for a machine under load, and bound a stuck engine.
const (
	agreeTimeout   = 5 * time.Second  // on a version of the API
	createTimeout  = 90 * time.Second // create, attach, start, and the agent's first answer
	answerTimeout  = 30 * time.Second // from a request to the agent's answer
	writeTimeout   = 30 * time.Second // of one line, to an agent that does not read
	endTimeout     = 5 * time.Second  // from the end of a container's output to its own
	autopsyTimeout = 20 * time.Second // to find out why it ended, and remove it
	// backstopGrace is how long after a cell's limit the agent may take: 5 s of
	// interrupts, and up to 20 s before that to start the kernel. Then the
	// container is killed.
	backstopGrace = 40 * time.Second
)

// Config says how to run sandboxes. The zero value of a field is its default.
type Config struct {
	// Image is that of the sandboxes: threadbook/sandbox:latest.
	Image string
	// Runtime is an OCI runtime that the engine has registered. By default it
	// is "auto": the best one there is, see Probe.
	Runtime string
	// Limits bound each sandbox.
	Limits sandbox.Limits
	// Network is the network to join: "none", or a Docker network that leads
	// to a proxy.
	Network string
	// Pool is how many sandboxes Keep has ready for threads to come; 0 is none.
	Pool int
	// Host sets the sandboxes of this machine, or this test, apart from others
	// on the same engine.
	Host string
	// Logger is for operators. By default nothing is logged.
	Logger *slog.Logger
}

// A Provider is a [sandbox.Provider] on the engine that DOCKER_HOST names.
type Provider struct {
	config Config
	engine *client.Client
	log    *slog.Logger
	reads  sync.WaitGroup // the goroutines that read from conns

	mu      sync.Mutex
	threads map[string]*thread
	machine *machine // what the engine is, once asked
	ready   []*ready // the pool, the oldest first
	// Names of the template that is known to be there, and of one that isn't there
	// or doesn't work.
	goodTemplate, badTemplate string
	templateMade              time.Time
	closed                    bool

	nudges chan struct{} // wakes Keep
	// checkpointID makes the engine's name for a checkpoint; our runtime knows it by
	// another. It is never the same, for one that broke off may be in the way.
	checkpointID func() string
}

var (
	_ sandbox.Provider = (*Provider)(nil)
	_ sandbox.Sleeper  = (*Provider)(nil)
	_ sandbox.Porter   = (*Provider)(nil)
	_ sandbox.Warmer   = (*Provider)(nil)
)

// New makes a provider. An engine that does not answer is no error yet.
func New(config Config) (*Provider, error) {
	engine, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("the Docker engine's address: %w", err)
	}
	// The client agrees on a version of the API in its first call, and that
	// only safely where no two are first. An engine that is down is told of
	// by the first call that matters.
	ctx, cancel := context.WithTimeout(context.Background(), agreeTimeout)
	defer cancel()
	engine.NegotiateAPIVersion(ctx)
	if config.Image == "" {
		config.Image = "threadbook/sandbox:latest"
	}
	if config.Runtime == "" {
		config.Runtime = auto
	}
	if config.Network == "" {
		config.Network = "none"
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.Limits = withDefaults(config.Limits)
	return &Provider{
		config:  config,
		engine:  engine,
		log:     config.Logger,
		threads: map[string]*thread{},
		nudges:  make(chan struct{}, 1),

		checkpointID: rand.Text,
	}, nil
}

func withDefaults(l sandbox.Limits) sandbox.Limits {
	d := sandbox.DefaultLimits()
	if l.Memory == 0 {
		l.Memory = d.Memory
	}
	if l.CPUs == 0 {
		l.CPUs = d.CPUs
	}
	if l.PIDs == 0 {
		l.PIDs = d.PIDs
	}
	if l.Disk == 0 {
		l.Disk = d.Disk
	}
	return l
}

var errClosed = errors.New("the sandbox provider is closed")

// Close lets go of every sandbox. They run on.
func (p *Provider) Close() error {
	p.mu.Lock()
	p.closed = true
	for _, t := range p.threads {
		if t.conn != nil {
			t.conn.stop(errLetGo)
		}
	}
	for _, r := range p.ready {
		r.conn.stop(errLetGo)
	}
	p.mu.Unlock()
	p.reads.Wait()
	return p.engine.Close()
}

// Remove deletes the thread's sandbox and what is in it.
func (p *Provider) Remove(ctx context.Context, id string) error {
	t, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer p.unlock(id, t)
	return p.remove(ctx, t, id)
}

// remove is Remove for who has the thread.
func (p *Provider) remove(ctx context.Context, t *thread, id string) error {
	if err := p.removeContainer(ctx, p.containerName(id)); err != nil {
		return fmt.Errorf("removing the sandbox: %w", err)
	}
	if t.conn != nil {
		<-t.conn.ended // its reader sees the container go
		p.forget(t)
	}
	if err := p.removeSleeping(ctx, id); err != nil {
		return fmt.Errorf("removing the sleeping sandbox: %w", err)
	}
	return nil
}
