package docker

import (
	"context"
	"time"
)

const (
	// keepEvery is how often Keep looks, where nothing nudges it.
	keepEvery = time.Minute
	// reapEvery is how often it looks for all that crashes have left. For the
	// containers among that, which costs one call, it looks each time.
	reapEvery = 10 * time.Minute
)

// Keep sees to the template, the pool and leftovers until ctx ends. It is for one
// goroutine of a process that opens many sandboxes; without it all works, slower.
func (p *Provider) Keep(ctx context.Context) error {
	defer p.drain(ctx)
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	var reaped time.Time
	adopted := false
	for {
		plan, err := p.plan(ctx)
		if err == nil && !adopted {
			err = p.adopt(ctx, plan)
			adopted = err == nil
		}
		switch {
		case err != nil:
		case time.Since(reaped) > reapEvery:
			_, err = p.Reap(ctx)
			reaped = time.Now()
		default:
			_, err = p.reapContainers(ctx)
		}
		if err == nil {
			err = p.keepTemplate(ctx, plan)
		}
		if err == nil {
			err = p.fill(ctx, plan)
		}
		if err != nil && ctx.Err() == nil {
			p.log.Warn("keeping sandboxes ready failed; trying again in a while", "err", err)
		}
		// After a failure a nudge must not make us try at once, and for ever.
		nudges := p.nudges
		if err != nil {
			nudges = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-nudges:
		case <-tick.C:
		}
	}
}

// nudge makes Keep look again.
func (p *Provider) nudge() {
	select {
	case p.nudges <- struct{}{}:
	default:
	}
}

// templateAgain is how long a template that doesn't work is left at that.
const templateAgain = 10 * time.Minute

// keepTemplate makes the template if there is none that works.
func (p *Provider) keepTemplate(ctx context.Context, plan *plan) error {
	if plan.machine.runtime != runtimeOurs {
		return nil
	}
	p.mu.Lock()
	good, bad := p.goodTemplate == plan.template, p.badTemplate == plan.template
	tried := time.Since(p.templateMade) < templateAgain
	p.mu.Unlock()
	if good || bad && tried {
		return nil
	}
	if !bad {
		l, err := p.errand(ctx, plan)
		if err != nil {
			return err
		}
		if l.has(plan.template) {
			p.trustTemplate(plan)
			return nil
		}
	}
	p.mu.Lock()
	p.templateMade = time.Now()
	p.mu.Unlock()
	return p.MakeTemplate(ctx)
}
