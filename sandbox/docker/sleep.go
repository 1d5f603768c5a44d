package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"

	"threadbook/sandbox"
)

// A thread that sleeps is a checkpoint, kept by our runtime, and a note of whose
// it is: an empty volume of the engine's, for that has a name and labels, costs
// nothing and, unlike a container, holds on to no image. A process may die at any
// point of this:
//
//	note     the container runs: Open finds that and drops the note
//	save     the same; the checkpoint is written over or reaped
//	end      the container is dead and there is a note: Open wakes it
//	remove   asleep
//	start    awake, and the runtime has dropped the checkpoint; Open as at first
//	forget   awake
//
// so that a sandbox is never in two states, and an old one can't come back.

// errAsleep is what a session says whose sandbox was put to disk.
var errAsleep = errors.New("the sandbox was put to disk; opening it wakes it up")

// sleepTimeout bounds the way to disk: a gigabyte takes some seconds.
const sleepTimeout = 2 * time.Minute

// A sleep is one try to put a conn's sandbox to disk.
type sleep struct {
	over chan struct{} // closed once it is known
	fell bool          // whether it did; after over
}

// fellAsleep is whether the conn ended because its sandbox sleeps.
func (c *conn) fellAsleep(ctx context.Context) bool {
	c.mu.Lock()
	s := c.sleeping
	c.mu.Unlock()
	if s == nil {
		return false
	}
	select {
	case <-s.over:
		return s.fell
	case <-ctx.Done():
		return false
	}
}

// Awake: see sandbox.Sleeper.
func (p *Provider) Awake(ctx context.Context) ([]string, error) {
	found, err := p.engine.ContainerList(ctx, container.ListOptions{Filters: p.ours()})
	if err != nil {
		return nil, fmt.Errorf("listing sandboxes: %w", err)
	}
	threads := []string{}
	for _, c := range found {
		if thread := p.threadOf(c); thread != "" {
			threads = append(threads, thread)
		}
	}
	return threads, nil
}

// Asleep: see sandbox.Sleeper.
func (p *Provider) Asleep(ctx context.Context) ([]string, error) {
	notes, err := p.notes(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing sleeping sandboxes: %w", err)
	}
	threads := []string{}
	for _, note := range notes {
		threads = append(threads, note.Labels[labelThread])
	}
	return threads, nil
}

// Sleep: see sandbox.Sleeper.
func (p *Provider) Sleep(ctx context.Context, id string) error {
	t, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer p.unlock(id, t)
	m, err := p.askEngine(ctx)
	if err != nil {
		return err
	}
	if m.runtime != runtimeOurs {
		return sandbox.ErrCantSleep
	}
	ctx, cancel := context.WithTimeout(ctx, sleepTimeout)
	defer cancel()
	found, err := p.engine.ContainerInspect(ctx, p.containerName(id))
	switch {
	case cerrdefs.IsNotFound(err), err == nil && !found.State.Running:
		return nil
	case err != nil:
		return fmt.Errorf("putting a sandbox to disk: %w", err)
	case !p.isOf(found.Config.Labels, id) || found.HostConfig.Runtime != runtimeOurs || found.Config.Labels[labelCheckpoint] == "":
		return sandbox.ErrCantSleep // made while another runtime was in use
	}
	if err := p.sleep(ctx, t, id, found.ID, found.Config.Labels[labelCheckpoint]); err != nil {
		return fmt.Errorf("putting a sandbox to disk: %w", err)
	}
	return nil
}

func (p *Provider) sleep(ctx context.Context, t *thread, id, containerID, name string) error {
	if t.conn == nil || !t.conn.alive() {
		c, err := p.attach(ctx, id, containerID)
		if err != nil {
			return err
		}
		if err := p.keep(t, c); err != nil {
			return err
		}
		if err := p.greet(ctx, c); err != nil {
			return p.letGo(t, err)
		}
	}
	c := t.conn
	if _, err := c.ask(ctx, request{Op: "rest"}, nil); err != nil {
		return err
	}
	if err := p.noteSleep(ctx, id, name); err != nil {
		return p.stayAwake(ctx, t, id, err)
	}
	s := &sleep{over: make(chan struct{})}
	c.mu.Lock()
	c.sleeping = s
	c.mu.Unlock()
	err := p.checkpoint(ctx, containerID)
	s.fell = err == nil
	close(s.over)
	if err != nil {
		return p.stayAwake(ctx, t, id, err)
	}
	<-c.ended
	p.forget(t)
	// That it is removed is not what sleeping means; Open and Reap do it too.
	p.discardLate(ctx, containerID)
	return nil
}

// stayAwake undoes what a sleep that failed has begun.
func (p *Provider) stayAwake(ctx context.Context, t *thread, id string, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	if err := p.forgetSleep(ctx, id); err != nil {
		why = errors.Join(why, err)
	}
	// It rests, and listens to nothing but a hello.
	if err := p.greet(ctx, t.conn); err != nil {
		return p.letGo(t, errors.Join(why, err))
	}
	return why
}

// letGo drops a conn that is of no use; the next Open finds out why.
func (p *Provider) letGo(t *thread, why error) error {
	t.conn.stop(errLetGo)
	<-t.conn.ended
	p.forget(t)
	return why
}

// wakeOrCreate gives a thread without a container the sandbox that sleeps, or a
// new one.
func (p *Provider) wakeOrCreate(ctx context.Context, id string) (*conn, error) {
	note, err := p.engine.VolumeInspect(ctx, p.noteName(id))
	if cerrdefs.IsNotFound(err) {
		return p.create(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	name := note.Labels[labelCheckpoint]
	c, err := p.wake(ctx, id, name)
	if err != nil && !isLost(err) && ctx.Err() == nil && !errors.Is(err, errTryAgain) {
		p.log.Warn("waking a sandbox failed; trying once more", "thread", id, "err", err)
		c, err = p.wake(ctx, id, name)
	}
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, errTryAgain) || errors.Is(err, errStillThere) {
			return nil, err
		}
		p.log.Warn("a sleeping sandbox can't be woken; the thread gets a new one", "thread", id, "checkpoint", name, "err", err)
		// The old one is given up only once there is a new one.
		if c, err = p.create(ctx, id); err != nil {
			return nil, err
		}
	}
	if err := p.forgetSleep(ctx, id); err != nil {
		c.stop(errLetGo)
		return nil, err
	}
	return c, nil
}

// isLost is whether a checkpoint can never be restored.
func isLost(err error) bool {
	switch faultOf(err) {
	case faultNoCheckpoint, faultBadCheckpoint, faultDoesNotFit:
		return true
	}
	return errors.Is(err, sandbox.ErrCantSleep)
}

// errStillThere: a wake-up failed for a reason that may pass.
var errStillThere = errors.New("the sleeping sandbox could not be woken now")

// wake restores the thread's checkpoint into a new container. It isn't broken
// off when ctx ends, since a sandbox that is half awake is lost.
func (p *Provider) wake(ctx context.Context, id, name string) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	plan, err := p.plan(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStillThere, err)
	}
	if plan.machine.runtime != runtimeOurs {
		return nil, fmt.Errorf("the runtime is %s now: %w", plan.machine.runtime, sandbox.ErrCantSleep)
	}
	c, err := p.begin(ctx, plan, blueprint{
		name: p.containerName(id), thread: id, role: roleThread, saveAs: name, restore: name,
	})
	if err == nil {
		c.how = sandbox.Resumed
	}
	return c, err
}

// Notes.

func (p *Provider) noteName(thread string) string {
	return sleepPrefix + p.hostKey() + "-" + digest(thread)[:40]
}

func (p *Provider) notes(ctx context.Context) ([]*volume.Volume, error) {
	filter := p.ours()
	filter.Add("label", labelRole+"="+roleSleep)
	found, err := p.engine.VolumeList(ctx, volume.ListOptions{Filters: filter})
	return found.Volumes, err
}

func (p *Provider) noteSleep(ctx context.Context, thread, checkpoint string) error {
	// There may be an old one, and making a volume that is there changes nothing.
	if err := p.forgetSleep(ctx, thread); err != nil {
		return err
	}
	_, err := p.engine.VolumeCreate(ctx, volume.CreateOptions{
		Name:   p.noteName(thread),
		Labels: p.labelsOf(blueprint{thread: thread, role: roleSleep, saveAs: checkpoint}),
	})
	return err
}

func (p *Provider) forgetSleep(ctx context.Context, thread string) error {
	err := p.engine.VolumeRemove(ctx, p.noteName(thread), false)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// removeSleeping deletes the thread's checkpoint. The note goes last, so that what
// is broken off can be done again.
func (p *Provider) removeSleeping(ctx context.Context, id string) error {
	note, err := p.engine.VolumeInspect(ctx, p.noteName(id))
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	plan, err := p.plan(ctx)
	if err != nil {
		return err
	}
	if plan.machine.runtime == runtimeOurs {
		if _, err := p.errand(ctx, plan, note.Labels[labelCheckpoint]); err != nil {
			return err
		}
	}
	return p.forgetSleep(ctx, id)
}
