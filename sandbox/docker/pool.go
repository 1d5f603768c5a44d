package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"threadbook/sandbox"
)

// poolAge is how long a sandbox waits for a thread before it is replaced. A
// container of the pool that is twice as old has no process that looks after it.
const poolAge = time.Hour

// A ready is a sandbox of the pool: up, reseeded, its limits set, its libraries
// loaded, nobody's.
//
// It becomes a thread's by its agent and then by its name. The agent lets itself
// be claimed once, so of two processes that take one container (the second has
// adopted it, thinking that the first was dead) one gets it. Renaming is atomic,
// and from then on every process finds it as the thread's.
type ready struct {
	conn *conn
	plan string // what it was made like
	made time.Time
}

// take gives a thread a sandbox of the pool, nil if there is none.
func (p *Provider) take(ctx context.Context, plan *plan, id string) *conn {
	if !canRename(id) {
		return nil
	}
	for {
		p.mu.Lock()
		if len(p.ready) == 0 {
			p.mu.Unlock()
			return nil
		}
		r := p.ready[0]
		p.ready = slices.Delete(p.ready, 0, 1)
		p.mu.Unlock()
		p.nudge()
		err := p.claim(ctx, r, plan, id)
		if err == nil {
			return r.conn
		}
		switch {
		case errors.Is(err, errReplaced): // it is another process's
		case errors.Is(err, sandbox.ErrBusy):
			r.conn.stop(errLetGo) // the same
		default:
			p.log.Info("a sandbox of the pool was not used", "container", r.conn.container, "err", err)
			p.dropReady(ctx, r)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (p *Provider) claim(ctx context.Context, r *ready, plan *plan, id string) error {
	if r.plan != plan.template {
		return errors.New("sandboxes are made in another way now")
	}
	name := p.containerName(id)
	if _, err := r.conn.ask(ctx, request{Op: "claim", Owner: name}, nil); err != nil {
		return err
	}
	return p.engine.ContainerRename(ctx, r.conn.container, name)
}

func (p *Provider) dropReady(ctx context.Context, r *ready) {
	r.conn.stop(errLetGo)
	p.discardLate(ctx, r.conn.container)
}

// fill brings the pool to its size.
func (p *Provider) fill(ctx context.Context, plan *plan) error {
	for p.prune(ctx, plan) < p.config.Pool {
		if err := p.addReady(ctx, plan); err != nil {
			return fmt.Errorf("a sandbox for the pool: %w", err)
		}
	}
	return nil
}

// prune drops what is no good any more and returns how many are left.
func (p *Provider) prune(ctx context.Context, plan *plan) int {
	var drop []*ready
	p.mu.Lock()
	p.ready = slices.DeleteFunc(p.ready, func(r *ready) bool {
		if !r.conn.alive() {
			return true // its end has seen to the container
		}
		if r.plan == plan.template && time.Since(r.made) < poolAge {
			return false
		}
		drop = append(drop, r)
		return true
	})
	left := len(p.ready)
	p.mu.Unlock()
	for _, r := range drop {
		p.dropReady(ctx, r)
	}
	return left
}

func (p *Provider) addReady(ctx context.Context, plan *plan) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	c, err := p.makeNew(ctx, plan, blueprint{
		name: p.poolPrefix() + strings.ToLower(rand.Text()), role: rolePool,
	})
	if err != nil {
		return err
	}
	return p.pool(ctx, plan, c)
}

// pool makes a sandbox ready and adds it.
func (p *Provider) pool(ctx context.Context, plan *plan, c *conn) error {
	r := &ready{conn: c, plan: plan.template, made: time.Now()}
	_, err := c.ask(ctx, request{Op: "warm"}, nil)
	if err == nil {
		p.mu.Lock()
		if p.closed {
			err = errClosed
		} else {
			p.ready = append(p.ready, r)
		}
		p.mu.Unlock()
	}
	if err != nil {
		p.dropReady(ctx, r)
	}
	return err
}

// adopt takes over what a process before this one has left of its pool. If that
// lives, it will notice and make itself another.
func (p *Provider) adopt(ctx context.Context, plan *plan) error {
	found, err := p.engine.ContainerList(ctx, container.ListOptions{Filters: p.ours()})
	if err != nil {
		return err
	}
	for _, c := range found {
		if !p.inPool(c) || p.prune(ctx, plan) >= p.config.Pool {
			continue
		}
		if err := p.adoptOne(ctx, plan, c.ID); err != nil {
			p.log.Info("a leftover of a pool is of no use", "container", c.ID, "err", err)
			p.discardLate(ctx, c.ID)
		}
	}
	return nil
}

func (p *Provider) adoptOne(ctx context.Context, plan *plan, id string) error {
	found, err := p.engine.ContainerInspect(ctx, id)
	if err != nil {
		return err
	}
	if found.Config.Labels[labelPlan] != plan.template {
		return errors.New("sandboxes are made in another way now")
	}
	c, err := p.attach(ctx, "", id)
	if err != nil {
		return err
	}
	if err := p.greet(ctx, c); err != nil {
		c.stop(errLetGo)
		return err
	}
	return p.pool(ctx, plan, c)
}

// drain removes the pool; no other process has its containers.
func (p *Provider) drain(ctx context.Context) {
	p.mu.Lock()
	left := p.ready
	p.ready = nil
	p.mu.Unlock()
	for _, r := range left {
		if r.conn.alive() {
			p.dropReady(ctx, r)
		}
	}
}

// Ready: see sandbox.Warmer.
func (p *Provider) Ready() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready)
}
