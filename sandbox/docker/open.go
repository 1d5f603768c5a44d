package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"threadbook/sandbox"
)

// openTries bounds how often Open starts over when another process makes or
// removes the container meanwhile.
const openTries = 3

// A thread is what the provider knows of one. Whoever holds the lock may use
// conn; Close alone reads it under the provider's.
type thread struct {
	lock  chan struct{} // holds an element while somebody has the thread
	users int           // who have it or wait for it; under Provider.mu
	conn  *conn         // set under both
}

// lock takes a thread for one caller.
func (p *Provider) lock(ctx context.Context, id string) (*thread, error) {
	p.mu.Lock()
	t := p.threads[id]
	if t == nil {
		t = &thread{lock: make(chan struct{}, 1)}
		p.threads[id] = t
	}
	t.users++
	p.mu.Unlock()
	select {
	case t.lock <- struct{}{}:
		return t, nil
	case <-ctx.Done():
		p.release(id, t)
		return nil, context.Cause(ctx)
	}
}

func (p *Provider) unlock(id string, t *thread) {
	<-t.lock
	p.release(id, t)
}

func (p *Provider) release(id string, t *thread) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.users--
	if t.users == 0 && (t.conn == nil || !t.conn.alive()) {
		delete(p.threads, id)
	}
}

// Open returns the thread's sandbox, making one if there is none. In one
// process every Open of a thread shares one connection.
func (p *Provider) Open(ctx context.Context, id string) (sandbox.Session, error) {
	t, err := p.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer p.unlock(id, t)
	if t.conn != nil && !t.conn.alive() {
		p.forget(t)
	}
	how := sandbox.Live
	for try := 1; t.conn == nil; try++ {
		c, err := p.connect(ctx, id)
		if err == nil {
			err = p.keep(t, c)
		}
		if err == nil {
			how = c.how
			break
		}
		if !errors.Is(err, errTryAgain) || try == openTries {
			return nil, fmt.Errorf("opening the thread's sandbox: %w", err)
		}
	}
	return &session{conn: t.conn, fresh: t.conn.lastCell.Load() == 0, how: how}, nil
}

func (p *Provider) keep(t *thread, c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.stop(errLetGo)
		return errClosed
	}
	t.conn = c
	return nil
}

func (p *Provider) forget(t *thread) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.conn = nil
}

var errTryAgain = errors.New("the sandbox came or went meanwhile")

// connect finds the thread's container, or makes it, and greets its agent.
func (p *Provider) connect(ctx context.Context, id string) (*conn, error) {
	name := p.containerName(id)
	found, err := p.engine.ContainerInspect(ctx, name)
	switch {
	case cerrdefs.IsNotFound(err):
		return p.wakeOrCreate(ctx, id)
	case err != nil:
		return nil, err
	case !p.isOf(found.Config.Labels, id):
		return nil, fmt.Errorf("container %s has the name of this thread's sandbox and isn't it; remove it", name)
	case found.State.Paused:
		if err := p.engine.ContainerUnpause(ctx, found.ID); err != nil {
			return nil, err
		}
	case !found.State.Running:
		p.log.Info("removing a dead sandbox", "thread", id, "container", found.ID, "exit", found.State.ExitCode)
		if err := p.removeContainer(ctx, found.ID); err != nil {
			return nil, err
		}
		return p.wakeOrCreate(ctx, id)
	}
	// It runs, so it isn't asleep: a process died after it had noted that, or
	// just before the sandbox was awake and that was noted.
	if err := p.forgetSleep(ctx, id); err != nil {
		return nil, err
	}
	c, err := p.attach(ctx, id, found.ID)
	if err == nil {
		if err = p.greet(ctx, c); err == nil {
			c.how = sandbox.Live
			return c, nil
		}
		c.stop(errLetGo)
	}
	if ctx.Err() != nil {
		return nil, err
	}
	// It runs and can't be talked to: its state is out of reach, so the thread
	// gets a new one.
	p.log.Warn("removing a sandbox that does not answer", "thread", id, "container", found.ID, "err", err)
	if err := p.removeContainer(ctx, found.ID); err != nil {
		return nil, err
	}
	return p.create(ctx, id)
}

// create gives the thread a new sandbox: one that is ready, or a copy of the
// template, or one from nothing.
func (p *Provider) create(ctx context.Context, id string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	plan, err := p.plan(ctx)
	if err != nil {
		return nil, err
	}
	if c := p.take(ctx, plan, id); c != nil {
		c.how = sandbox.Warm
		return c, nil
	}
	c, err := p.makeNew(ctx, plan, blueprint{name: p.containerName(id), thread: id, role: roleThread})
	if err == nil {
		c.how = sandbox.Cold
	}
	return c, err
}

// makeNew makes a sandbox that no cell has been run in, from the template where
// there is one.
func (p *Provider) makeNew(ctx context.Context, plan *plan, b blueprint) (*conn, error) {
	b.plan, b.saveAs = plan.template, p.newCheckpoint()
	if p.hasTemplate(plan) {
		b.restore = plan.template
		c, err := p.begin(ctx, plan, b)
		if err == nil {
			// All copies of the template would draw the same random numbers.
			if _, err = c.ask(ctx, request{Op: "reseed"}, nil); err == nil {
				return c, nil
			}
			c.stop(errLetGo)
			p.discardLate(ctx, c.container)
		}
		if ctx.Err() != nil || errors.Is(err, errTryAgain) {
			return nil, err
		}
		p.templateFailed(plan, err)
		b.restore = ""
	}
	return p.begin(ctx, plan, b)
}

// begin makes a container, attaches to it and starts it.
func (p *Provider) begin(ctx context.Context, plan *plan, b blueprint) (*conn, error) {
	config, host := p.spec(plan.machine, plan.image, b)
	id, err := p.register(ctx, config, host, b.name)
	switch {
	case cerrdefs.IsConflict(err):
		return nil, errTryAgain
	case cerrdefs.IsNotFound(err) && strings.Contains(err.Error(), "image"):
		return nil, p.noImage(err)
	case err != nil:
		return nil, err
	}
	c, err := p.start(ctx, b.thread, id)
	if err != nil {
		p.discardLate(ctx, id)
		return nil, err
	}
	return c, nil
}

// register has the engine make a container, by a name or with none. The request goes on when
// ctx ends: the engine would make the container all the same, and nobody would
// know of it.
func (p *Provider) register(ctx context.Context, config *container.Config, host *container.HostConfig, name string) (string, error) {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	created, err := p.engine.ContainerCreate(late, config, host, nil, nil, name)
	if err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		p.discardLate(ctx, created.ID)
		return "", context.Cause(ctx)
	}
	return created.ID, nil
}

// discardLate discards a container even where ctx has ended.
func (p *Provider) discardLate(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), autopsyTimeout)
	defer cancel()
	p.discard(ctx, id)
}

// start starts a new container, attached to before, or its first words would
// be lost.
func (p *Provider) start(ctx context.Context, thread, id string) (*conn, error) {
	c, err := p.attach(ctx, thread, id)
	if err != nil {
		return nil, err
	}
	err = p.engine.ContainerStart(ctx, id, container.StartOptions{})
	if err == nil {
		err = p.greet(ctx, c)
	}
	if err != nil {
		c.stop(errLetGo)
		return nil, err
	}
	return c, nil
}

// attach takes hold of a container's stdio and begins to read.
func (p *Provider) attach(ctx context.Context, thread, id string) (*conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	p.reads.Add(1)
	p.mu.Unlock()
	raw, err := p.engine.ContainerAttach(ctx, id, container.AttachOptions{
		Stream: true, Stdin: true, Stdout: true, Stderr: true,
	})
	if err != nil {
		p.reads.Done()
		return nil, err
	}
	c := newConn(id, raw, p.log.With("thread", thread, "container", shortID(id)))
	go func() {
		defer p.reads.Done()
		c.finish(p.autopsy(c, c.read()))
	}()
	return c, nil
}

// greet makes the agent ours and tells it the limits.
func (p *Provider) greet(ctx context.Context, c *conn) error {
	// Ends whatever half line a client that was killed has left.
	if err := c.write([]byte{'\n'}); err != nil {
		return err
	}
	hello, err := c.ask(ctx, request{Op: "hello"}, nil)
	if err != nil {
		return err
	}
	if hello.Protocol != protocolVersion {
		return fmt.Errorf("its agent speaks version %d of the protocol, not %d", hello.Protocol, protocolVersion)
	}
	c.lastCell.Store(hello.Last)
	limits := p.config.Limits
	_, err = c.ask(ctx, request{
		Op: "limits", Memory: limits.Memory, PIDs: limits.PIDs, Disk: limits.Disk,
	}, nil)
	return err
}
