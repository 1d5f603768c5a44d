package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"threadbook/sandbox"
)

// A Finding is one thing that Examine looked at.
type Finding struct {
	OK   bool
	Text string // one line, which says how to mend what isn't OK
}

// cellTimeout bounds a cell of Examine.
const cellTimeout = 30 * time.Second

// Examine tries for real what sandboxes are to do, in one of its own: that cells
// run, that what is outside stays out of their reach, that limits hold, and how long
// it takes to put a sandbox to disk and back. It says the same of the template,
// and makes it if there is none.
func (p *Provider) Examine(ctx context.Context) []Finding {
	info, err := p.Probe(ctx)
	if err != nil {
		return []Finding{{Text: err.Error()}}
	}
	e := &examination{Provider: p, thread: "doctor:" + rand.Text()}
	began := time.Now()
	if e.session, err = p.Open(ctx, e.thread); err != nil {
		return []Finding{{Text: err.Error()}}
	}
	defer e.remove(ctx)
	printed, err := e.run(ctx, "print(6*7)")
	if err == nil && strings.TrimSpace(printed) != "42" {
		err = fmt.Errorf("it printed %.100q", printed)
	}
	if err != nil {
		return []Finding{{Text: fmt.Sprintf("a cell that prints 42 failed: %v", err)}}
	}
	engine := fmt.Sprintf("%s, runtime %s, image %s, a cell ran after %.2f s", info.Engine, info.Runtime, info.Image, time.Since(began).Seconds())
	for _, w := range info.Warnings {
		engine += "; note: " + w
	}
	e.add(true, "%s", engine)
	e.isolation(ctx)
	e.memory(ctx)
	if info.Runtime == runtimeOurs {
		e.template(ctx)
		e.disk(ctx)
		e.sleep(ctx)
	} else {
		e.add(true, "sandboxes start from nothing and can't be put to disk on runtime %s: deploy/setup.sh installs runtime %s", info.Runtime, runtimeOurs)
	}
	return e.found
}

type examination struct {
	*Provider
	thread  string
	session sandbox.Session
	cell    int64
	found   []Finding
}

func (e *examination) add(ok bool, format string, args ...any) {
	e.found = append(e.found, Finding{ok, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")})
}

// remove takes back the examination's own sandbox, whatever has become of ctx.
func (e *examination) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), autopsyTimeout)
	defer cancel()
	if err := e.Remove(ctx, e.thread); err != nil {
		e.add(false, "%v", err)
	}
}

// run runs a cell that has to succeed.
func (e *examination) run(ctx context.Context, code string) (printed string, err error) {
	result, printed, err := e.try(ctx, code)
	if err == nil && result.Status != sandbox.OK {
		err = fmt.Errorf("the cell ended as %s", result.Status)
		if result.Error != nil {
			err = fmt.Errorf("%w: %s: %s", err, result.Error.Name, result.Error.Value)
		}
	}
	return printed, err
}

func (e *examination) try(ctx context.Context, code string) (sandbox.Result, string, error) {
	var printed strings.Builder
	e.cell++
	result, err := e.session.Run(ctx, sandbox.Cell{ID: e.cell, Language: sandbox.Python, Code: code, Timeout: cellTimeout},
		func(o sandbox.Output) error { printed.WriteString(o.Text); return nil })
	return result, printed.String(), err
}

// probes prints what code can see and do; each line is a word and what it found.
const probes = `
import os, socket
print("kernel", os.uname().release)
try:
    open("/etc/threadbook-probe", "w")
    print("write", "allowed")
except OSError as error:
    print("write", "refused")
try:
    socket.create_connection(("192.0.2.1", 9), 1).close()
    print("network", "allowed")
except TimeoutError:
    print("network", "silent")
except OSError:
    print("network", "refused")
print("user", os.getuid())
`

func (e *examination) isolation(ctx context.Context) {
	printed, err := e.run(ctx, probes)
	if err != nil {
		e.add(false, "isolation can't be proved: %v", err)
		return
	}
	seen := map[string]string{}
	for line := range strings.Lines(printed) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		seen[word] = value
	}
	host, err := e.engine.Info(ctx)
	if err != nil {
		e.add(false, "%v", err)
		return
	}
	if own := seen["kernel"] != host.KernelVersion; own {
		e.add(true, "isolated from this machine's kernel: code sees %s, not %s", seen["kernel"], host.KernelVersion)
	} else {
		// Probe has warned of it; it is how a machine without gVisor is set up.
		e.add(true, "NOT isolated from this machine's kernel: code sees %s, the machine's own; register gVisor for code that you don't trust", seen["kernel"])
	}
	network := seen["network"] == "refused" || e.config.Network != "none"
	ok := seen["write"] == "refused" && network && seen["user"] == "1000"
	e.add(ok, "outside /workspace a write is %s; the network (%s) is %s; code runs as user %s",
		seen["write"], e.config.Network, seen["network"], seen["user"])
}

// hungry takes more than the limit, in pieces that are used.
const hungry = `
kept = []
while len(kept) < %d:
    kept.append(b"x" * (16 << 20))
print("took it all")`

func (e *examination) memory(ctx context.Context) {
	limit := e.config.Limits.Memory
	result, _, err := e.try(ctx, fmt.Sprintf(hungry, 2*limit>>24))
	switch {
	case err != nil:
		e.add(false, "the memory limit can't be tried: %v", err)
	case result.Gone:
		e.add(false, "code that takes more than %d MB of memory ends its whole sandbox", limit>>20)
	case result.Status != sandbox.OutOfMemory:
		e.add(false, "code that takes more than %d MB of memory ends as %s", limit>>20, result.Status)
	default:
		e.add(true, "code that takes more than %d MB of memory is stopped, and its sandbox goes on", limit>>20)
	}
}

func (e *examination) template(ctx context.Context) {
	plan, err := e.plan(ctx)
	if err != nil {
		e.add(false, "%v", err)
		return
	}
	l, err := e.errand(ctx, plan)
	if err != nil {
		e.add(false, "the runtime %s: %v", runtimeOurs, err)
		return
	}
	if l.has(plan.template) {
		e.add(true, "the template is there: %s", plan.template)
		return
	}
	began := time.Now()
	if err := e.MakeTemplate(ctx); err != nil {
		e.add(false, "%v", err)
		return
	}
	e.add(true, "there was no template; made %s in %.1f s", plan.template, time.Since(began).Seconds())
}

func (e *examination) disk(ctx context.Context) {
	plan, err := e.plan(ctx)
	if err != nil {
		e.add(false, "%v", err)
		return
	}
	l, err := e.errand(ctx, plan)
	if err != nil {
		e.add(false, "the runtime %s: %v", runtimeOurs, err)
		return
	}
	e.add(l.Free > e.config.Limits.Memory, "%d checkpoints take %d MB in %s, and there is room for %d MB",
		len(l.Checkpoints), l.Bytes>>20, l.Dir, l.Free>>20)
}

func (e *examination) sleep(ctx context.Context) {
	if _, err := e.run(ctx, "kept = None\nanswer = 42"); err != nil {
		e.add(false, "a cell failed: %v", err)
		return
	}
	began := time.Now()
	if err := e.Sleep(ctx, e.thread); err != nil {
		e.add(false, "%v", err)
		return
	}
	slept := time.Since(began)
	began = time.Now()
	var err error
	if e.session, err = e.Open(ctx, e.thread); err == nil && e.session.Fresh() {
		err = errors.New("it came back without its variables")
	}
	var printed string
	if err == nil {
		printed, err = e.run(ctx, "print(answer)")
	}
	if err == nil && strings.TrimSpace(printed) != "42" {
		err = fmt.Errorf("it printed %.100q", printed)
	}
	if err != nil {
		e.add(false, "waking a sandbox failed: %v", err)
		return
	}
	e.add(true, "a sandbox was put to disk in %.2f s, and back with its variables in %.2f s", slept.Seconds(), time.Since(began).Seconds())
}
