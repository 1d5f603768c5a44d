package docker

import (
	"context"
	"errors"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"threadbook/sandbox"
)

// Exit codes of a container that say more than that it ended.
const (
	exitKilled       = 137 // SIGKILL: the host's kernel for memory, or a person
	exitNoMoreThread = 2   // gVisor could not make another thread of the host's
)

// errBackstop is why a sandbox is ended whose agent has not ended a cell.
var errBackstop = errors.New("the cell did not end when it was told to")

// An end is how a conn ended: with its container, or by itself.
type end struct {
	gone   bool
	status sandbox.Status // of the cell that was running, where gone
	words  string         // what happened, where gone
	why    error          // where not gone
}

func died(status sandbox.Status, format string, args ...any) end {
	return end{gone: true, status: status, words: fmt.Sprintf(format, args...)}
}

// err is what every later call on the conn returns.
func (e end) err() error {
	if e.gone {
		return fmt.Errorf("%w: %s", sandbox.ErrGone, e.words)
	}
	return e.why
}

// result is that of a cell that was running.
func (e end) result(seconds float64) sandbox.Result {
	return sandbox.Result{
		Status:  e.status,
		Seconds: seconds,
		Error:   &sandbox.CellError{Name: "SandboxDied", Value: e.words},
		Lost:    true,
		Gone:    true,
	}
}

// autopsy finds out how a conn ended that nothing can be read from any more,
// and removes what is left of its container if that is dead.
func (p *Provider) autopsy(c *conn, why error) end {
	ctx, cancel := context.WithTimeout(context.Background(), autopsyTimeout)
	defer cancel()
	switch {
	case c.fellAsleep(ctx):
		return end{why: errAsleep}
	case errors.Is(why, errLetGo), errors.Is(why, errReplaced):
		return end{why: why}
	case errors.Is(why, errBackstop):
		p.discard(ctx, c.container)
		return died(sandbox.Timeout, "%v; its sandbox was ended", why)
	case errors.Is(why, errProtocol):
		p.discard(ctx, c.container)
		return died(sandbox.KernelDied, "%v", why)
	}
	state, err := p.lastState(ctx, c.container)
	switch {
	case cerrdefs.IsNotFound(err), err == nil && state.Status == container.StateRemoving:
		return died(sandbox.KernelDied, "it was removed")
	case err != nil:
		return end{why: fmt.Errorf("the connection to the sandbox ended (%v), and the engine does not say why: %w", why, err)}
	case state.Running || state.Paused:
		return end{why: fmt.Errorf("the connection to the sandbox ended while it runs: %v", why)}
	}
	p.discard(ctx, c.container)
	switch {
	case state.OOMKilled:
		return died(sandbox.OutOfMemory, "it ran out of memory")
	case state.ExitCode == exitKilled:
		return died(sandbox.OutOfMemory, "it was killed, most likely for want of memory")
	case state.ExitCode == exitNoMoreThread:
		return died(sandbox.KernelDied, "it ran out of processes or threads")
	case c.stderr.last != "":
		return died(sandbox.KernelDied, "it ended with exit code %d: %s", state.ExitCode, c.stderr.last)
	}
	return died(sandbox.KernelDied, "it ended with exit code %d", state.ExitCode)
}

// lastState is the state of a container that is ending, once it has ended, or
// of one that goes on. The end of its output comes a little before its own.
func (p *Provider) lastState(ctx context.Context, id string) (*container.State, error) {
	waiting, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	ended, failed := p.engine.ContainerWait(waiting, id, container.WaitConditionNotRunning)
	select {
	case <-ended:
	case err := <-failed:
		if waiting.Err() == nil {
			return nil, err
		}
	}
	inspected, err := p.engine.ContainerInspect(ctx, id)
	if err != nil {
		return nil, err
	}
	return inspected.State, nil
}

// discard removes a container, running or not. That it is gone already, or
// going, is as good.
func (p *Provider) discard(ctx context.Context, id string) {
	if err := p.removeContainer(ctx, id); err != nil {
		p.log.Warn("removing a sandbox's container failed; the reaper will try again", "container", id, "err", err)
	}
}

func (p *Provider) removeContainer(ctx context.Context, id string) error {
	err := p.engine.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	switch {
	case cerrdefs.IsNotFound(err):
		return nil
	case cerrdefs.IsConflict(err): // somebody else is removing it
		removed, failed := p.engine.ContainerWait(ctx, id, container.WaitConditionRemoved)
		select {
		case <-removed:
			return nil
		case err := <-failed:
			if cerrdefs.IsNotFound(err) {
				return nil
			}
			return err
		}
	}
	return err
}
