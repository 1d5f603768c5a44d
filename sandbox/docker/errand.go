package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// A listing is what our runtime says of its checkpoints; package runtime has the
// whole of it.
type listing struct {
	Layout      int
	Dir         string
	Free, Quota int64
	Bytes       int64
	Runsc       string
	Checkpoints []struct {
		Name    string
		Created time.Time
		Bytes   int64
		Base    string
		Runsc   string
	}
	Broken []string
	More   string // where the next page begins
}

const (
	listingLayout = 1
	maxListing    = 8 << 20
	errandTimeout = time.Minute
)

// has is whether there is a checkpoint of that name that this machine's runsc
// can restore.
func (l *listing) has(name string) bool {
	for _, c := range l.Checkpoints {
		if c.Name == name {
			return c.Runsc == l.Runsc
		}
	}
	return false
}

// errand has our runtime delete the named checkpoints, or with no names list all
// that there are.
func (p *Provider) errand(ctx context.Context, plan *plan, remove ...string) (*listing, error) {
	if len(remove) > 0 {
		return p.runErrand(ctx, plan, "delete "+strings.Join(remove, " "))
	}
	all, err := p.runErrand(ctx, plan, "list")
	for err == nil && all.More != "" {
		var l *listing
		from := all.More
		if l, err = p.runErrand(ctx, plan, "list "+from); err != nil {
			break
		}
		all.Checkpoints, all.Broken = append(all.Checkpoints, l.Checkpoints...), append(all.Broken, l.Broken...)
		if all.More = l.More; all.More != "" && all.More <= from {
			err = fmt.Errorf("an errand: the listing goes on with %q after %q", all.More, from)
		}
	}
	if err != nil {
		return nil, err
	}
	return all, nil
}

// pastAll is a name that comes after all of ours.
const pastAll = "zzz"

// place is a listing without the checkpoints: where they are, and what room there is.
func (p *Provider) place(ctx context.Context, plan *plan) (*listing, error) {
	return p.runErrand(ctx, plan, "list "+pastAll)
}

// runErrand has our runtime do something and say what there is, a page of it. The
// engine has no way to talk to a runtime but by a container.
func (p *Provider) runErrand(ctx context.Context, plan *plan, words string) (*listing, error) {
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	id, err := p.register(ctx, &container.Config{
		Image:      plan.image,
		Labels:     p.labelsOf(blueprint{role: roleErrand}),
		Env:        []string{envErrand + "=" + words},
		Entrypoint: []string{"true"},
	}, &container.HostConfig{
		Runtime: runtimeOurs, NetworkMode: "none", LogConfig: container.LogConfig{Type: "none"},
		AutoRemove: true, // though we die before its end
	}, "")
	if err != nil {
		return nil, fmt.Errorf("an errand: %w", err)
	}
	defer p.discardLate(ctx, id)
	output, err := p.engine.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return nil, fmt.Errorf("an errand: %w", err)
	}
	defer output.Close()
	defer context.AfterFunc(ctx, output.Close)()
	if err := p.engine.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return nil, fmt.Errorf("an errand: %w", err)
	}
	var said, complained bytes.Buffer
	if _, err := stdcopy.StdCopy(&said, &complained, io.LimitReader(output.Reader, maxListing)); err != nil {
		return nil, fmt.Errorf("an errand: reading what it says: %w", err)
	}
	l := new(listing)
	if err := json.Unmarshal(said.Bytes(), l); err != nil {
		return nil, fmt.Errorf("an errand ended with %.200q and %.400q", said.String(), complained.String())
	}
	if l.Layout != listingLayout {
		return nil, fmt.Errorf("the runtime %s on this machine is of another version: deploy/setup.sh installs the right one", runtimeOurs)
	}
	return l, nil
}

// Codes of our runtime's failures, as package runtime has them.
const (
	faultNoCheckpoint  = "no-checkpoint"
	faultBadCheckpoint = "bad-checkpoint"
	faultDoesNotFit    = "does-not-fit"
	faultAdopted       = "adopted" // which is none
)

var faultPattern = regexp.MustCompile(`threadbook-runtime: ([a-z-]+): `)

// faultOf is the code of our runtime's failure in what the engine says, or "".
func faultOf(err error) string {
	if err == nil {
		return ""
	}
	if found := faultPattern.FindStringSubmatch(err.Error()); found != nil {
		return found[1]
	}
	return ""
}
