package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
)

// reapAfter is how long a container may be made and not started: longer than
// any Open takes.
const reapAfter = 5 * time.Minute

// Reap removes this host's dead sandboxes: containers that ended while nobody
// watched, or were made and never started. It returns how many. Those that run
// are their threads'; it touches nothing else on the engine.
func (p *Provider) Reap(ctx context.Context) (int, error) {
	found, err := p.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: p.ours()})
	if err != nil {
		return 0, fmt.Errorf("listing sandboxes: %w", err)
	}
	var reaped int
	var failed error
	for _, c := range found {
		if !p.isDead(c) {
			continue
		}
		if err := p.removeContainer(ctx, c.ID); err != nil {
			failed = errors.Join(failed, fmt.Errorf("removing container %s: %w", c.ID, err))
			continue
		}
		p.log.Info("removed a dead sandbox", "thread", c.Labels[labelThread], "container", c.ID)
		reaped++
	}
	return reaped, failed
}

func (p *Provider) isDead(c container.Summary) bool {
	switch c.State {
	case container.StateExited, container.StateDead:
	case container.StateCreated:
		if time.Since(time.Unix(c.Created, 0)) < reapAfter {
			return false
		}
	default:
		return false
	}
	// One that is in use has just died, and its reader wants to see why.
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.threads[c.Labels[labelThread]]
	return t == nil || t.users == 0 && (t.conn == nil || !t.conn.alive())
}
