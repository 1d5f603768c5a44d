package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

const (
	// reapAfter is how long a container may be made and not started, or be about
	// some work of ours: longer than any of that takes.
	reapAfter = 5 * time.Minute
	// carryAge is how long a container may be about carrying a checkpoint.
	carryAge = carryTimeout + reapAfter
	// templateAge is how long a template is kept that other processes may use.
	templateAge = 14 * 24 * time.Hour
	// errandNames is how many checkpoints one errand deletes.
	errandNames = 50
)

// Reap removes what crashes of this host's processes have left: containers that
// ended while nobody watched, were made and never started, or were to become
// something else and didn't; checkpoints and notes of sleep that belong to none;
// templates that nothing can begin as. It returns how many. Sandboxes that run are
// their threads', and those that sleep; it touches nothing else on the engine.
func (p *Provider) Reap(ctx context.Context) (int, error) {
	containers, err := p.reapContainers(ctx)
	plan, planErr := p.plan(ctx)
	if planErr != nil || plan.machine.runtime != runtimeOurs {
		return containers, err // what sleeps is out of reach
	}
	checkpoints, more := p.reapCheckpoints(ctx, plan)
	return containers + checkpoints, errors.Join(err, more)
}

func (p *Provider) reapContainers(ctx context.Context) (int, error) {
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
		p.log.Info("removed a container that nobody uses", "thread", p.threadOf(c), "container", c.ID, "state", c.State)
		reaped++
	}
	return reaped, failed
}

func (p *Provider) isDead(c container.Summary) bool {
	age := time.Since(time.Unix(c.Created, 0))
	switch role := c.Labels[labelRole]; {
	case role == roleTemplate:
		return age > templateTimeout // its maker is done with it, or dead
	case role == roleErrand:
		return age > errandTimeout // likewise
	case role == roleCarry:
		return age > carryAge
	case p.inPool(c) && age > 2*poolAge:
		return true
	}
	switch c.State {
	case container.StateExited, container.StateDead:
	case container.StateCreated:
		if age < reapAfter {
			return false
		}
	default:
		return false
	}
	// One that is in use has just died, and its reader wants to see why.
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.threads[p.threadOf(c)]
	return t == nil || t.users == 0 && (t.conn == nil || !t.conn.alive())
}

// reapCheckpoints removes checkpoints and notes of sleep that have lost each other.
// The checkpoints are listed first: one that is listed has had a container or a
// note since before it was made, and keeps it for as long as it exists.
func (p *Provider) reapCheckpoints(ctx context.Context, plan *plan) (int, error) {
	l, err := p.errand(ctx, plan)
	if err != nil {
		return 0, err
	}
	containers, err := p.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: p.ours()})
	if err != nil {
		return 0, err
	}
	notes, err := p.notes(ctx)
	if err != nil {
		return 0, err
	}
	owned := map[string]bool{plan.template: true}
	for _, c := range containers {
		owned[c.Labels[labelCheckpoint]] = true
	}
	for _, n := range notes {
		owned[n.Labels[labelCheckpoint]] = true
	}
	reaped, failed := p.deleteCheckpoints(ctx, plan, p.orphans(ctx, l, owned))
	for _, n := range notes {
		made, err := time.Parse(time.RFC3339, n.CreatedAt)
		if err != nil || time.Since(made) < reapAfter || l.lists(n.Labels[labelCheckpoint]) {
			continue
		}
		if err := p.forgetSleep(ctx, n.Labels[labelThread]); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		reaped++
	}
	return reaped, failed
}

// lists is whether there is anything of that name, good or not.
func (l *listing) lists(name string) bool {
	for _, c := range l.Checkpoints {
		if c.Name == name {
			return true
		}
	}
	for _, broken := range l.Broken {
		if broken == name {
			return true
		}
	}
	return false
}

// orphans are the checkpoints of this host that nothing owns, and templates that
// are of no use to anybody.
func (p *Provider) orphans(ctx context.Context, l *listing, owned map[string]bool) []string {
	ours := sandboxPrefix + p.hostKey() + "-"
	var names []string
	for _, c := range l.Checkpoints {
		switch {
		case owned[c.Name]:
		case strings.HasPrefix(c.Name, ours):
			names = append(names, c.Name)
		case strings.HasPrefix(c.Name, templatePrefix):
			// Others on this machine may use a template that isn't ours.
			_, err := p.engine.ImageInspect(ctx, c.Base)
			if cerrdefs.IsNotFound(err) || c.Runsc != l.Runsc || time.Since(c.Created) > templateAge {
				names = append(names, c.Name)
			}
		}
	}
	for _, name := range l.Broken {
		if !owned[name] && strings.HasPrefix(name, ours) {
			names = append(names, name)
		}
	}
	return names
}

func (p *Provider) deleteCheckpoints(ctx context.Context, plan *plan, names []string) (int, error) {
	for done := 0; done < len(names); done += errandNames {
		some := names[done:min(done+errandNames, len(names))]
		if _, err := p.errand(ctx, plan, some...); err != nil {
			return done, err
		}
		p.log.Info("removed checkpoints that nobody has", "names", some)
	}
	return len(names), nil
}
