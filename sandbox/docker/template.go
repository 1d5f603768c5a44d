package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"

	"threadbook/sandbox"
)

// templateTimeout bounds the making of a template.
const templateTimeout = 2 * time.Minute

// A plan is how sandboxes are made now.
type plan struct {
	machine *machine
	image   string // id
	// template is the name of the one that such sandboxes begin as. It changes
	// with all that a copy must have in common with it, but for the version of
	// runsc, which the runtime looks at.
	template string
}

// plan asks the engine how sandboxes are made; an image can be rebuilt at any
// time.
func (p *Provider) plan(ctx context.Context) (*plan, error) {
	m, err := p.askEngine(ctx)
	if err != nil {
		return nil, err
	}
	image, err := p.engine.ImageInspect(ctx, p.config.Image)
	if cerrdefs.IsNotFound(err) {
		return nil, p.noImage(err)
	}
	if err != nil {
		return nil, fmt.Errorf("the sandbox image: %w", err)
	}
	config, host := p.spec(m, image.ID, blueprint{})
	config.Labels = nil
	text, err := json.Marshal([]any{protocolVersion, config, host})
	if err != nil {
		return nil, err
	}
	return &plan{machine: m, image: image.ID, template: templatePrefix + digest(string(text))[:20]}, nil
}

// hasTemplate is whether a template is worth a try.
func (p *Provider) hasTemplate(plan *plan) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return plan.machine.runtime == runtimeOurs && p.badTemplate != plan.template
}

// templateFailed notes that sandboxes can't begin as the template, until Keep has
// made it again.
func (p *Provider) templateFailed(plan *plan, err error) {
	p.mu.Lock()
	known := p.badTemplate == plan.template
	p.badTemplate, p.goodTemplate = plan.template, ""
	p.mu.Unlock()
	switch {
	case known:
	case faultOf(err) == faultNoCheckpoint:
		p.log.Info("there is no template yet: sandboxes start from nothing", "template", plan.template)
	default:
		p.log.Warn("the template does not work, and is to be made again; sandboxes start from nothing", "template", plan.template, "err", err)
	}
	p.nudge()
}

// MakeTemplate makes the template, whether there is one or not. Where the runtime
// can't, that is sandbox.ErrCantSleep.
func (p *Provider) MakeTemplate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, templateTimeout)
	defer cancel()
	plan, err := p.plan(ctx)
	if err != nil {
		return err
	}
	if plan.machine.runtime != runtimeOurs {
		return sandbox.ErrCantSleep
	}
	began := time.Now()
	if err := p.makeTemplate(ctx, plan); err != nil {
		return fmt.Errorf("making the template: %w", err)
	}
	p.trustTemplate(plan)
	p.log.Info("made the template that sandboxes begin as", "template", plan.template, "seconds", time.Since(began).Seconds())
	return nil
}

// trustTemplate notes that the template is there.
func (p *Provider) trustTemplate(plan *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.goodTemplate, p.badTemplate = plan.template, ""
}

func (p *Provider) makeTemplate(ctx context.Context, plan *plan) error {
	c, err := p.begin(ctx, plan, blueprint{
		name: templatePrefix + p.hostKey(), role: roleTemplate, saveAs: plan.template,
	})
	if errors.Is(err, errTryAgain) {
		return errors.New("another process makes it; if none does, the reaper will remove what is in the way")
	}
	if err != nil {
		return err
	}
	defer p.discardLate(ctx, c.container)
	defer c.stop(errLetGo)
	for _, op := range []string{"warm", "rest"} {
		if _, err := c.ask(ctx, request{Op: op}, nil); err != nil {
			return err
		}
	}
	c.stop(errLetGo)
	return p.checkpoint(ctx, c.container)
}

// checkpoint puts a container to disk and returns once it has ended.
func (p *Provider) checkpoint(ctx context.Context, id string) error {
	err := p.engine.CheckpointCreate(ctx, id, checkpoint.CreateOptions{CheckpointID: p.checkpointID(), Exit: true})
	if err != nil {
		return err
	}
	ended, failed := p.engine.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case <-ended:
		return nil
	case err := <-failed:
		if cerrdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
}
