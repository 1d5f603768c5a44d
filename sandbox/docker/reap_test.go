package docker

import (
	"strings"
	"testing"

	"github.com/docker/docker/api/types/volume"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// save leaves a checkpoint of that name and nothing else.
func save(t *testing.T, p *Provider, name string) {
	t.Helper()
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.begin(t.Context(), plan, blueprint{
		name: p.poolPrefix() + "saved", role: rolePool, saveAs: name, restore: plan.template,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.stop(errLetGo)
	if err := p.checkpoint(t.Context(), c.container); err != nil {
		t.Fatal(err)
	}
	p.discardLate(t.Context(), c.container)
}

// TestReapCheckpoints: what belongs to nobody goes. What belongs to a thread, to
// another host, or to somebody else, stays, however much it looks like ours.
func TestReapCheckpoints(t *testing.T) {
	t.Parallel()
	b, other := sleeper(t), sleeper(t)
	p, q := b.attached(t), other.attached(t)

	asleep := sandboxtest.Open(t, p, "asleep")
	asleep.Python(t, "x = 41").Want(t, sandbox.OK)
	putToSleep(t, p, "asleep")
	awake := sandboxtest.Open(t, p, "awake")
	awake.Python(t, "x = 42").Want(t, sandbox.OK)

	orphan, theirs := p.newCheckpoint(), q.newCheckpoint()
	foreign := "threadbook-sandbox-" + strings.ToLower(p.hostKey()[:9])
	save(t, p, orphan)
	save(t, q, theirs)
	save(t, q, foreign)
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := q.errand(t.Context(), plan, foreign); err != nil {
			t.Error(err)
		}
	}()
	// A volume that has our name and isn't ours.
	strange, err := p.engine.VolumeCreate(t.Context(), volume.CreateOptions{Name: sleepPrefix + p.hostKey() + "-strange"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.engine.VolumeRemove(t.Context(), strange.Name, false); err != nil {
			t.Errorf("somebody's volume: %v", err)
		}
	}()

	if n, err := p.Reap(t.Context()); err != nil || n != 1 {
		t.Errorf("reaped %d, %v", n, err)
	}
	l, err := p.errand(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{orphan: false, theirs: true, foreign: true, plan.template: true} {
		if l.lists(name) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
	for _, th := range []*sandboxtest.Thread{asleep, awake} {
		th.Reopen(t)
		th.Python(t, "print(x)").Want(t, sandbox.OK)
		if th.Fresh() {
			t.Errorf("thread %s has lost its state", th.ID)
		}
	}
}

// TestTemplateIsMadeAgain: one that is gone costs a cold start, and Keep makes
// another.
func TestTemplateIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, testConfig(t, runtimeOurs))
	b.config.Limits.Disk += 3 << 20 // so that it is this test's alone
	p := b.attached(t)
	th := sandboxtest.Open(t, p, "cold")
	th.Python(t, "x = 41").Want(t, sandbox.OK)
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.hasTemplate(plan) {
		t.Error("a template that isn't there is thought to be")
	}
	b.config.Pool = 1
	q := b.attached(t)
	keep(t, q)
	awaitPool(t, q, 1) // after the template
	if !q.hasTemplate(plan) {
		t.Error("Keep has made no template")
	}
	l, err := q.errand(t.Context(), plan)
	if err != nil || !l.has(plan.template) {
		t.Errorf("the template isn't there: %v", err)
	}
	if _, err := q.errand(t.Context(), plan, plan.template); err != nil {
		t.Fatal(err)
	}
	b.config.Pool = 0
	r := b.attached(t)
	sandboxtest.Open(t, r, "again").Python(t, "x = 41").Want(t, sandbox.OK)
	if r.hasTemplate(plan) {
		t.Error("a template that was deleted is thought to be there")
	}
}
