package docker

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"go.uber.org/goleak"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runtimes are those that tests run on: the whole path of a sandbox differs
// between them.
func runtimes() []string { return []string{runtimeOurs, runtimeGVisor, runtimeRunc} }

// A bench is an engine for one test: its containers are told from others by
// the host, and go with the test however it ends.
type bench struct {
	config Config
}

func testConfig(t testing.TB, runtime string) Config {
	config := testLimits(runtime)
	config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	return config
}

func testLimits(runtime string) Config {
	return Config{
		Image:   os.Getenv("THREADBOOK_SANDBOX_IMAGE"),
		Runtime: runtime,
		Limits:  sandbox.Limits{Memory: 768 << 20, Disk: 256 << 20, PIDs: 128},
		Host:    "test-" + rand.Text(),
	}
}

func newBench(t testing.TB, config Config) *bench {
	t.Helper()
	b := &bench{config: config}
	p := b.provider(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		found, err := p.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: p.ours()})
		if err != nil {
			t.Errorf("listing what the test made: %v", err)
		}
		for _, c := range found {
			if err := p.removeContainer(ctx, c.ID); err != nil {
				t.Errorf("removing what the test made: %v", err)
			}
		}
		if err := p.removeAsleep(ctx); err != nil {
			t.Errorf("removing what the test put to disk: %v", err)
		}
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

// removeAsleep deletes all checkpoints and notes of sleep of the host.
func (p *Provider) removeAsleep(ctx context.Context) error {
	notes, err := p.notes(ctx)
	if err != nil {
		return err
	}
	for _, note := range notes {
		if err := p.forgetSleep(ctx, note.Labels[labelThread]); err != nil {
			return err
		}
	}
	if p.config.Runtime != runtimeOurs {
		return nil
	}
	plan, err := p.plan(ctx)
	if err != nil {
		return err
	}
	l, err := p.errand(ctx, plan)
	if err == nil {
		_, err = p.deleteCheckpoints(ctx, plan, p.orphans(ctx, l, map[string]bool{}))
	}
	return err
}

// provider makes another provider on the test's engine, as another process
// would.
func (b *bench) provider(t testing.TB) *Provider {
	t.Helper()
	p, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// attached makes a provider that lets go with the test.
func (b *bench) attached(t testing.TB) *Provider {
	p := b.provider(t)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

// onEach runs a test on each runtime.
func onEach(t *testing.T, run func(t *testing.T, b *bench)) {
	t.Parallel()
	for _, runtime := range runtimes() {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			if runtime == runtimeOurs {
				run(t, sleeper(t))
				return
			}
			run(t, newBench(t, testConfig(t, runtime)))
		})
	}
}

func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		sandboxtest.Suite{
			New: func(t *testing.T) sandbox.Provider { return b.attached(t) },
			Elsewhere: func(t *testing.T) sandbox.Provider {
				config := b.config
				config.Host += "-elsewhere"
				return newBench(t, config).attached(t)
			},
			Code: code(),
		}.Run(t)
	})
}

// code is the suite's in Python and Bash.
func code() sandboxtest.Code {
	return sandboxtest.Code{
		Hello:    "print('hello')",
		Streams:  "import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('three')",
		SetX:     "x = 41",
		ShowX:    "print(x)",
		BashSetX: "x=43",
		BashX:    `echo "${x:?is not set}"`,
		Gates: `
import os, time
def gate(path):
    while not os.path.exists(path):
        time.sleep(0.01)
print(1)
gate('go1')
print(2)
gate('go2')
print(3)`,
		Sleep:  "import time\nprint('begun')\ntime.sleep(10000)",
		Fail:   "raise ValueError('boom')",
		Figure: "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()",
		Table:  "import pandas as pd\npd.DataFrame({'a': [1, 2]})",
		Write:  "import os\nos.makedirs('outputs', exist_ok=True)\nopen('outputs/made.txt', 'w').write('made here');",
		Flood:  "for i in range(30_000):\n    print(f'{i:>99}')",
		Memory: "def grow():\n    big = []\n    while True:\n        big.append('x' * 1_000_000)\ngrow()",
		Disk: `
import os
try:
    with open('big', 'wb') as f:
        while True:
            f.write(bytes(1 << 20))
finally:
    os.remove('big')`,
		Die: "import os\nos._exit(3)",
	}
}
