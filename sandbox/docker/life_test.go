package docker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

func TestChooseRuntime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		wanted     string
		registered string
		want       string
	}{
		{auto, "runc runsc threadbook", "threadbook"},
		{auto, "runc runsc", "runsc"},
		{auto, "io.containerd.runc.v2 runc", "runc"},
		{auto, "kata", ""},
		{"runc", "runc runsc", "runc"},
		{"runsc", "runc", ""},
	} {
		got, err := chooseRuntime(test.wanted, strings.Fields(test.registered))
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s of %s is %q, %v; want %q", test.wanted, test.registered, got, err, test.want)
		}
	}
}

func TestAProviderThatCannotRun(t *testing.T) {
	t.Parallel()
	config := testConfig(t, auto)
	config.Image = "threadbook/no-such-image"
	p := newBench(t, config).attached(t)
	if _, err := p.Open(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "deploy/setup.sh") {
		t.Errorf("Open without an image: %v", err)
	}
	if _, err := p.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "deploy/setup.sh") {
		t.Errorf("Probe without an image: %v", err)
	}
	config = testConfig(t, "no-such-runtime")
	p = newBench(t, config).attached(t)
	if _, err := p.Open(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "no-such-runtime") {
		t.Errorf("Open without a runtime: %v", err)
	}
}

func TestOpenSharesOneConnection(t *testing.T) {
	t.Parallel()
	p := newBench(t, testConfig(t, runtimeRunc)).attached(t)
	ctx, cancel := context.WithCancel(t.Context())
	two, err := p.Open(ctx, "shared")
	if err != nil {
		t.Fatal(err)
	}
	cancel() // an Open's context ends with it, the connection doesn't
	one := sandboxtest.Open(t, p, "shared")
	ran := one.Start(t.Context(), one.Next(sandbox.Python, code().Gates))
	ran.Seen(t, "1\n")
	for _, gate := range []string{"go1", "go2"} {
		if err := two.Put(t.Context(), gate, strings.NewReader(""), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := ran.Wait(); err != nil {
		t.Fatal(err)
	}
	ran.Want(t, sandbox.OK)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(t.Context(), "shared"); !errors.Is(err, errClosed) {
		t.Errorf("Open after Close: %v", err)
	}
}

func TestTakingOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, testConfig(t, runtimeRunc))
	first := sandboxtest.Open(t, b.attached(t), "taken")
	ran := first.Start(t.Context(), first.Next(sandbox.Python, code().Gates))
	ran.Seen(t, "1\n")
	if _, err := b.attached(t).Open(t.Context(), "taken"); err != nil {
		t.Fatal(err)
	}
	if err := ran.Wait(); !errors.Is(err, errReplaced) {
		t.Errorf("Run of the one before: %v", err)
	}
}

// TestAPredecessorsHalfLine: a process was killed while it wrote.
func TestAPredecessorsHalfLine(t *testing.T) {
	t.Parallel()
	b := newBench(t, testConfig(t, runtimeRunc))
	dying := b.attached(t)
	th := sandboxtest.Open(t, dying, "half")
	th.Python(t, "x = 41").Want(t, sandbox.OK)
	s, err := dying.Open(t.Context(), "half")
	if err != nil {
		t.Fatal(err)
	}
	c := s.(*session).conn
	call, err := c.open(request{Op: "put", Path: "half.txt", Size: 100}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close(call)
	if err := c.write([]byte(`{"id":9,"client":"` + c.client + `","op":"data"}` + "\tAAAA")); err != nil {
		t.Fatal(err)
	}
	if err := dying.Close(); err != nil {
		t.Fatal(err)
	}
	th.Provider = b.attached(t)
	th.Reopen(t)
	if got := th.Python(t, "import os\nprint(x, os.listdir())").Want(t, sandbox.OK).Text("stdout"); got != "41 ['outputs']\n" {
		t.Errorf("the next process finds %q", got)
	}
}

func TestDeaths(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		p := b.attached(t)
		for name, end := range map[string]func(ctx context.Context, id string) error{
			"killed": func(ctx context.Context, id string) error {
				return p.engine.ContainerKill(ctx, id, "KILL")
			},
			"stopped": func(ctx context.Context, id string) error {
				return p.engine.ContainerStop(ctx, id, container.StopOptions{})
			},
			"removed": func(ctx context.Context, id string) error {
				return p.engine.ContainerRemove(ctx, id, container.RemoveOptions{Force: true})
			},
		} {
			t.Run(name, func(t *testing.T) {
				th := sandboxtest.Open(t, p, name)
				ran := th.Start(t.Context(), th.Next(sandbox.Python, code().Sleep))
				ran.Seen(t, "begun")
				if err := end(t.Context(), p.containerName(name)); err != nil {
					t.Fatal(err)
				}
				if err := ran.Wait(); err != nil {
					t.Fatalf("Run: %v", err)
				}
				if !ran.Gone || !ran.Lost || ran.Error == nil || ran.Status != sandbox.KernelDied && ran.Status != sandbox.OutOfMemory {
					t.Errorf("result %+v, error %+v", ran.Result, ran.Error)
				}
				if _, err := th.Run(t.Context(), th.Next(sandbox.Python, "1"), nil); !errors.Is(err, sandbox.ErrGone) {
					t.Errorf("Run afterwards: %v", err)
				}
				if _, err := p.engine.ContainerInspect(t.Context(), p.containerName(name)); err == nil {
					t.Error("the dead container is still there")
				}
				th.Reopen(t)
				if !th.Fresh() {
					t.Error("the new sandbox is not fresh")
				}
			})
		}
	})
}

// TestDeathBetweenProcesses: the sandbox dies while nobody is attached.
func TestDeathBetweenProcesses(t *testing.T) {
	t.Parallel()
	b := newBench(t, testConfig(t, runtimeRunc))
	p := b.attached(t)
	sandboxtest.Open(t, p, "dead")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	next := b.attached(t)
	if err := next.engine.ContainerKill(t.Context(), next.containerName("dead"), "KILL"); err != nil {
		t.Fatal(err)
	}
	th := sandboxtest.Open(t, next, "dead")
	if !th.Fresh() {
		t.Error("the new sandbox is not fresh")
	}
	th.Python(t, "1").Want(t, sandbox.OK)
}

func TestBackstop(t *testing.T) {
	t.Parallel()
	b := newBench(t, testConfig(t, runtimeRunc))
	p := b.attached(t)
	th := sandboxtest.Open(t, p, "backstop")
	ran := th.Start(t.Context(), th.Next(sandbox.Python, code().Sleep))
	ran.Seen(t, "begun")
	s, err := p.Open(t.Context(), "backstop")
	if err != nil {
		t.Fatal(err)
	}
	s.(*session).stop(errBackstop) // what its timer does
	if err := ran.Wait(); err != nil {
		t.Fatal(err)
	}
	if ran.Want(t, sandbox.Timeout); !ran.Gone {
		t.Errorf("result %+v", ran.Result)
	}
}

func TestReap(t *testing.T) {
	t.Parallel()
	b := newBench(t, testConfig(t, runtimeRunc))
	p := b.attached(t)
	living := sandboxtest.Open(t, p, "living")
	sandboxtest.Open(t, p, "dead")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = b.attached(t)
	if err := p.engine.ContainerKill(t.Context(), p.containerName("dead"), "KILL"); err != nil {
		t.Fatal(err)
	}
	waiting, failed := p.engine.ContainerWait(t.Context(), p.containerName("dead"), container.WaitConditionNotRunning)
	select {
	case <-waiting:
	case err := <-failed:
		t.Fatal(err)
	}
	// Another host's, and somebody else's, dead as well.
	for name, labels := range map[string]map[string]string{
		"other-host": {labelProject: "1", labelHost: "other" + b.config.Host, labelThread: "t"},
		"not-ours":   {labelHost: b.config.Host},
	} {
		created, err := p.engine.ContainerCreate(t.Context(), &container.Config{
			Image: p.config.Image, Labels: labels, Entrypoint: []string{"true"},
		}, &container.HostConfig{Runtime: runtimeRunc, NetworkMode: network.NetworkNone}, nil, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := p.removeContainer(ctx, created.ID); err != nil {
				t.Errorf("removing %s: %v", name, err)
			}
		})
		if err := p.engine.ContainerStart(t.Context(), created.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		ended, failed := p.engine.ContainerWait(t.Context(), created.ID, container.WaitConditionNotRunning)
		select {
		case <-ended:
		case err := <-failed:
			t.Fatal(err)
		}
		defer func() {
			if _, err := p.engine.ContainerInspect(t.Context(), created.ID); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}()
	}
	n, err := p.Reap(t.Context())
	if err != nil || n != 1 {
		t.Errorf("reaped %d, %v", n, err)
	}
	living.Provider = p
	living.Reopen(t)
	living.Python(t, "1").Want(t, sandbox.OK)
	if n, err := p.Reap(t.Context()); err != nil || n != 0 {
		t.Errorf("reaped %d the second time, %v", n, err)
	}
}
