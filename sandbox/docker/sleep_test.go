package docker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/checkpoint"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// template makes the template that the tests' sandboxes begin as, once.
var template = sync.OnceValue(func() error {
	p, err := New(testLimits(runtimeOurs))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), templateTimeout)
	defer cancel()
	return errors.Join(p.MakeTemplate(ctx), p.Close())
})

// sleeper is a bench on our runtime, with a template.
func sleeper(t testing.TB) *bench {
	t.Helper()
	if err := template(); err != nil {
		t.Fatal(err)
	}
	return newBench(t, testConfig(t, runtimeOurs))
}

func putToSleep(t *testing.T, p *Provider, thread string) {
	t.Helper()
	if err := p.Sleep(t.Context(), thread); err != nil {
		t.Fatalf("Sleep: %v", err)
	}
	if _, err := p.engine.ContainerInspect(t.Context(), p.containerName(thread)); err == nil {
		t.Error("a sleeping sandbox has a container")
	}
	wantThreads(t, p.Asleep, thread)
	wantThreads(t, p.Awake)
}

func wantThreads(t *testing.T, list func(context.Context) ([]string, error), want ...string) {
	t.Helper()
	got, err := list(t.Context())
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("threads %q, %v; want %q", got, err, want)
	}
}

// checkpoints are the names of what this bench has on disk.
func (b *bench) checkpoints(t *testing.T) []string {
	t.Helper()
	p := b.attached(t)
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.errand(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range l.Checkpoints {
		if strings.HasPrefix(c.Name, sandboxPrefix+p.hostKey()) {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestSleepAndWake(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	th := sandboxtest.Open(t, p, "slack:T1/C_1.5")
	if !th.Fresh() {
		t.Error("a new sandbox isn't fresh")
	}
	th.Python(t, `
import threading, time, pandas as pd, matplotlib.pyplot as plt
frame = pd.DataFrame({"a": range(1000)})
axes = plt.figure().add_subplot()
axes.plot([1, 2])
plt.close("none")
ticks = []
def count():
    while True:
        ticks.append(1)
        time.sleep(0.01)
threading.Thread(target=count, daemon=True).start()
kept = open("kept.txt", "w")
print("half", file=kept, flush=True)`).Want(t, sandbox.OK)
	th.Bash(t, "x=43").Want(t, sandbox.OK)
	for range 2 {
		putToSleep(t, p, th.ID)
		if _, err := th.Run(t.Context(), th.Next(sandbox.Python, "1"), nil); !errors.Is(err, errAsleep) {
			t.Errorf("Run in a sandbox that sleeps: %v", err)
		}
		p = b.attached(t) // another process wakes it
		th.Provider = p
		th.Reopen(t)
		if th.Fresh() {
			t.Error("a sandbox that was woken is called fresh")
		}
		wantThreads(t, p.Asleep)
		wantThreads(t, p.Awake, th.ID)
		if names := b.checkpoints(t); len(names) != 0 {
			t.Errorf("it is awake, and there are %q", names)
		}
		ran := th.Python(t, `
before = len(ticks)
while len(ticks) == before:
    time.sleep(0.01)
print("whole", file=kept, flush=True)
print(frame.a.sum(), len(axes.lines), open("kept.txt").read().split()[0])
axes.figure`).Want(t, sandbox.OK)
		if got := ran.Text("stdout"); got != "499500 1 half\n" || len(ran.Data("image/png")) != 1 {
			t.Errorf("it remembers %q, %d figures", got, len(ran.Data("image/png")))
		}
		if got := th.Bash(t, `echo "$x"`).Want(t, sandbox.OK).Text("stdout"); got != "43\n" {
			t.Errorf("Bash remembers %q", got)
		}
	}
	putToSleep(t, p, th.ID)
	if err := p.Remove(t.Context(), th.ID); err != nil {
		t.Fatal(err)
	}
	wantThreads(t, p.Asleep)
	if names := b.checkpoints(t); len(names) != 0 {
		t.Errorf("it is removed, and there are %q", names)
	}
}

// TestSleepRefused: a cell runs, there is nothing, the runtime can't.
func TestSleepRefused(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	if err := p.Sleep(t.Context(), "none"); err != nil {
		t.Errorf("Sleep of a thread without a sandbox: %v", err)
	}
	th := sandboxtest.Open(t, p, "busy")
	ran := th.Start(t.Context(), th.Next(sandbox.Python, code().Gates))
	ran.Seen(t, "1\n")
	if err := p.Sleep(t.Context(), "busy"); !errors.Is(err, sandbox.ErrBusy) {
		t.Errorf("Sleep in the middle of a cell: %v", err)
	}
	for _, gate := range []string{"go1", "go2"} {
		if err := th.Put(t.Context(), gate, strings.NewReader(""), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := ran.Wait(); err != nil {
		t.Fatal(err)
	}
	ran.Want(t, sandbox.OK)
	wantThreads(t, p.Asleep)

	for _, runtime := range []string{runtimeGVisor, runtimeRunc} {
		q := newBench(t, testConfig(t, runtime)).attached(t)
		sandboxtest.Open(t, q, "awake").Python(t, "x = 41").Want(t, sandbox.OK)
		if err := q.Sleep(t.Context(), "awake"); !errors.Is(err, sandbox.ErrCantSleep) {
			t.Errorf("Sleep on %s: %v", runtime, err)
		}
		wantThreads(t, q.Awake, "awake")
	}
}

// TestUnacknowledged: a cell that ended while nobody looked is resumed after sleep.
func TestUnacknowledgedOutputSleepsToo(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	th := sandboxtest.Open(t, p, "unacked")
	cell := th.Next(sandbox.Python, code().Hello)
	refuse := errors.New("not taken")
	if _, err := th.Run(t.Context(), cell, func(sandbox.Output) error { return refuse }); !errors.Is(err, refuse) {
		t.Fatal(err)
	}
	for {
		err := p.Sleep(t.Context(), th.ID)
		if err == nil {
			break
		}
		if !errors.Is(err, sandbox.ErrBusy) { // it is about to end
			t.Fatal(err)
		}
	}
	th.Reopen(t)
	cell.Resume = true
	if got := th.Do(t, cell).Want(t, sandbox.OK).Text("stdout"); got != "hello\n" {
		t.Errorf("resumed, the cell printed %q", got)
	}
}

// TestCopiesDiffer: two threads that begin as one template draw other numbers.
func TestCopiesDiffer(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	seen := map[string]string{}
	for _, id := range []string{"a", "b", "c"} {
		th := sandboxtest.Open(t, p, id)
		for _, line := range strings.Split(strings.TrimSpace(th.Python(t, `
import random, numpy, tempfile, uuid
print(random.random())
print(numpy.random.rand())
print(uuid.uuid4())
print(tempfile.mktemp())`).Want(t, sandbox.OK).Text("stdout")), "\n") {
			if other, twice := seen[line]; twice {
				t.Errorf("threads %s and %s both have %s", other, id, line)
			}
			seen[line] = id
		}
		names := th.Python(t, "print([n for n in globals() if not n.startswith('_')], In[:-1], Out)").Want(t, sandbox.OK).Text("stdout")
		if !strings.HasPrefix(names, "['In', 'Out', 'get_ipython', 'exit', 'quit', 'open', 'random', 'numpy', 'tempfile', 'uuid']") {
			t.Errorf("names in a new sandbox: %s", names)
		}
		if seconds := th.Python(t, "import os\nprint([n for n in os.environ if 'THREADBOOK' in n])").Want(t, sandbox.OK).Text("stdout"); seconds != "[]\n" {
			t.Errorf("the code's environment has %s", seconds)
		}
	}
}

// TestWakeFails: the thread gets a new sandbox, and nothing is left of the old.
func TestWakeFails(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, p *Provider, config *Config){
		"the checkpoint is gone": func(t *testing.T, p *Provider, _ *Config) {
			note, err := p.engine.VolumeInspect(t.Context(), p.noteName("t"))
			if err != nil {
				t.Fatal(err)
			}
			plan, err := p.plan(t.Context())
			if err == nil {
				_, err = p.errand(t.Context(), plan, note.Labels[labelCheckpoint])
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"other limits": func(_ *testing.T, _ *Provider, config *Config) { config.Limits.Disk += 1 << 20 },
		"no runtime":   func(_ *testing.T, _ *Provider, config *Config) { config.Runtime = runtimeGVisor },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := sleeper(t)
			p := b.attached(t)
			th := sandboxtest.Open(t, p, "t")
			th.Python(t, "x = 41").Want(t, sandbox.OK)
			putToSleep(t, p, "t")
			spoil(t, p, &b.config)
			p = b.attached(t)
			th.Provider = p
			th.Reopen(t)
			if !th.Fresh() {
				t.Error("the new sandbox isn't fresh")
			}
			th.Python(t, "x = 42").Want(t, sandbox.OK)
			wantThreads(t, p.Asleep)
			b.config = testConfig(t, runtimeOurs)
			b.config.Host = p.config.Host
			if _, err := b.attached(t).Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			if names := b.checkpoints(t); len(names) != 0 {
				t.Errorf("left are %q", names)
			}
			th.Reopen(t)
			if got := th.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "42\n" {
				t.Errorf("x is %q", got)
			}
		})
	}
}

// TestSleepBreaksOff: a process dies at each point of putting a sandbox to disk.
func TestSleepBreaksOff(t *testing.T) {
	t.Parallel()
	for name, until := range map[string]func(ctx context.Context, p *Provider, id, checkpoint string) error{
		"after the note": func(ctx context.Context, p *Provider, _, checkpoint string) error {
			return p.noteSleep(ctx, "t", checkpoint)
		},
		"after the checkpoint": func(ctx context.Context, p *Provider, id, checkpoint string) error {
			return errors.Join(p.noteSleep(ctx, "t", checkpoint), p.checkpoint(ctx, id))
		},
	} {
		for _, reap := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := sleeper(t)
				p := b.attached(t)
				th := sandboxtest.Open(t, p, "t")
				th.Python(t, "x = 41").Want(t, sandbox.OK)
				found, err := p.engine.ContainerInspect(t.Context(), p.containerName("t"))
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				p = b.provider(t)
				if err := until(t.Context(), p, found.ID, found.Config.Labels[labelCheckpoint]); err != nil {
					t.Fatal(err)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				p = b.attached(t)
				th.Provider = p
				if reap {
					if _, err := p.Reap(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				th.Reopen(t)
				if got := th.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "41\n" || th.Fresh() {
					t.Errorf("x is %q, fresh %v", got, th.Fresh())
				}
				wantThreads(t, p.Asleep)
				wantThreads(t, p.Awake, "t")
			})
		}
	}
}

// TestSleepFails: the sandbox stays as it was.
func TestSleepFails(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	th := sandboxtest.Open(t, p, "t")
	th.Python(t, "x = 41").Want(t, sandbox.OK)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Sleep(ctx, "t"); err == nil {
		t.Error("Sleep with a context that has ended succeeds")
	}
	// The engine refuses a name that it has a checkpoint of already.
	p.checkpointID = func() string { return "taken" }
	err := p.engine.CheckpointCreate(t.Context(), p.containerName("t"), checkpoint.CreateOptions{CheckpointID: "taken"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Sleep(t.Context(), "t"); err == nil {
		t.Error("Sleep succeeds where the checkpoint can't be made")
	}
	if got := th.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "41\n" {
		t.Errorf("x is %q", got)
	}
	wantThreads(t, p.Asleep)
}
