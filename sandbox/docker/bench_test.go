package docker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"

	"threadbook/sandbox"
)

// Benchmarks of what a person waits for, and of what a sandbox costs; `make
// bench-sandbox` runs them. Each prints the median and the 99th percentile of its
// runs in milliseconds, and beside ours stand: a container for each cell (docker
// run --rm), jupyter_client in the same image with no engine in between, and the
// engine's own checkpoints.

// A timer collects how long something took.
type timer struct {
	b    *testing.B
	took map[string][]time.Duration
}

func newTimer(b *testing.B) *timer { return &timer{b, map[string][]time.Duration{}} }

func (m *timer) time(what string, run func()) {
	began := time.Now()
	run()
	m.took[what] = append(m.took[what], time.Since(began))
}

func (m *timer) report() {
	m.b.ReportMetric(0, "ns/op")
	for what, took := range m.took {
		slices.Sort(took)
		at := func(q float64) float64 {
			return float64(took[int(q*float64(len(took)-1)+0.5)].Microseconds()) / 1000
		}
		m.b.ReportMetric(at(0.5), what+"-p50-ms")
		m.b.ReportMetric(at(0.99), what+"-p99-ms")
	}
}

// benchProvider is a provider with the limits of a thread on a small machine, or
// with more memory.
func benchProvider(b *testing.B, runtime string, memory int64) *Provider {
	b.Helper()
	config := testLimits(runtime)
	config.Limits = sandbox.Limits{Memory: memory}
	p := newBench(b, config).attached(b)
	if runtime == runtimeOurs {
		if err := p.MakeTemplate(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	return p
}

// runCell runs code and fails the benchmark unless it succeeds.
func runCell(b *testing.B, s sandbox.Session, id int64, code string) {
	b.Helper()
	result, err := s.Run(b.Context(), sandbox.Cell{
		ID: id, Language: sandbox.Python, Code: code, Timeout: time.Minute,
	}, func(sandbox.Output) error { return nil })
	if err != nil || result.Status != sandbox.OK {
		b.Fatalf("%v, %+v", err, result)
	}
}

func openThread(b *testing.B, p *Provider, thread string) sandbox.Session {
	b.Helper()
	s, err := p.Open(b.Context(), thread)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func removeThread(b *testing.B, p *Provider, thread string) {
	b.Helper()
	if err := p.Remove(b.Context(), thread); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFirst is from nothing to the result of 1+1.
func BenchmarkFirst(b *testing.B) {
	first := func(b *testing.B, p *Provider, before func()) {
		m := newTimer(b)
		for b.Loop() {
			before()
			m.time("first", func() { runCell(b, openThread(b, p, "bench"), 1, "1+1") })
			removeThread(b, p, "bench")
		}
		m.report()
	}
	b.Run("template", func(b *testing.B) {
		first(b, benchProvider(b, runtimeOurs, 1<<30), func() {})
	})
	b.Run("pool", func(b *testing.B) {
		p := benchProvider(b, runtimeOurs, 1<<30)
		p.config.Pool = 1
		plan, err := p.plan(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		first(b, p, func() {
			if err := p.fill(b.Context(), plan); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("cold", func(b *testing.B) {
		p := benchProvider(b, runtimeOurs, 1<<30)
		plan, err := p.plan(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		first(b, p, func() { p.badTemplate = plan.template })
	})
	b.Run("cold-runc", func(b *testing.B) {
		first(b, benchProvider(b, runtimeRunc, 1<<30), func() {})
	})
	for _, runtime := range []string{runtimeGVisor, runtimeRunc} {
		b.Run("docker-run-"+runtime, func(b *testing.B) {
			p := benchProvider(b, runtime, 1<<30)
			m := newTimer(b)
			for b.Loop() {
				m.time("first", func() {
					out, err := exec.Command("docker", "run", "--rm", "--network=none", "--runtime="+runtime,
						"--entrypoint=python3", p.config.Image, "-c", "import numpy, pandas, matplotlib.pyplot; print(1+1)").CombinedOutput()
					if err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
				})
			}
			m.report()
		})
	}
}

const chartCode = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"

// BenchmarkCell is a cell in a sandbox that is up.
func BenchmarkCell(b *testing.B) {
	const cells = 20
	for _, runtime := range []string{runtimeOurs, runtimeRunc} {
		b.Run(runtime, func(b *testing.B) {
			s := openThread(b, benchProvider(b, runtime, 1<<30), "bench")
			runCell(b, s, 1, "1+1")
			runCell(b, s, 2, chartCode)
			m, id := newTimer(b), int64(2)
			for b.Loop() {
				for range cells {
					m.time("trivial", func() { id++; runCell(b, s, id, "1+1") })
				}
				m.time("chart", func() { id++; runCell(b, s, id, chartCode) })
			}
			m.report()
		})
		b.Run("jupyter-in-"+runtime, func(b *testing.B) {
			benchmarkJupyter(b, func(b *testing.B, image string) *exec.Cmd {
				return exec.Command("docker", "run", "--rm", "--network=none", "--runtime="+runtime, "--cpus=1", "--entrypoint=python3", image)
			})
		})
	}
	b.Run("jupyter-without-docker", func(b *testing.B) { benchmarkJupyter(b, chrooted) })
}

// chrooted runs the image's own Python as a process of this machine: the files
// are those of a container, and nothing else of it is.
func chrooted(b *testing.B, image string) *exec.Cmd {
	id, err := exec.Command("docker", "run", "-d", "--rm", "--network=none", "--runtime="+runtimeRunc, "--entrypoint=sleep", image, "600").Output()
	if err != nil {
		b.Fatal(err)
	}
	name := strings.TrimSpace(string(id))
	b.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", name).Run() })
	root, err := exec.Command("docker", "inspect", "--format", "{{.GraphDriver.Data.MergedDir}}", name).Output()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("chroot", strings.TrimSpace(string(root)), "python3")
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8"}
	return cmd
}

// jupyterCode drives a kernel by jupyter_client alone, and prints how long each cell
// took, in milliseconds.
const jupyterCode = `
import json, time
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3", extra_arguments=[])
def run(code):
    began = time.perf_counter()
    client.execute_interactive(code, output_hook=lambda _: None)
    return 1000 * (time.perf_counter() - began)
chart = %q
run("1+1"); run(chart)
print(json.dumps({"trivial": [run("1+1") for _ in range(200)], "chart": [run(chart) for _ in range(20)]}))
manager.shutdown_kernel(now=True)
`

func benchmarkJupyter(b *testing.B, python func(b *testing.B, image string) *exec.Cmd) {
	p := benchProvider(b, runtimeRunc, 1<<30)
	m := newTimer(b)
	for b.Loop() {
		if len(m.took) > 0 {
			continue // one run has enough cells
		}
		cmd := python(b, p.config.Image)
		cmd.Args = append(cmd.Args, "-c", fmt.Sprintf(jupyterCode, chartCode))
		out, err := cmd.Output()
		took := map[string][]float64{}
		if err == nil {
			err = json.Unmarshal(out[max(0, bytes.LastIndexByte(out, '{')):], &took)
		}
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		for what, all := range took {
			for _, ms := range all {
				m.took[what] = append(m.took[what], time.Duration(ms*float64(time.Millisecond)))
			}
		}
	}
	m.report()
}

const fileSize = 100 << 20

// zeros reads as a pattern without end.
type zeros struct{ pattern []byte }

func (z zeros) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], z.pattern)
	}
	return n, nil
}

// csv is a table of that many bytes, of random numbers.
func csv(size int) []byte {
	var block bytes.Buffer
	random := make([]byte, 6)
	for block.Len() < 1<<20 {
		_, _ = rand.Read(random)
		fmt.Fprintf(&block, "%d,%d.%d,name %d\n", random[0], random[1], random[2], random[3])
	}
	table := []byte("a,b,c\n")
	for len(table) < size {
		table = append(table, block.Bytes()...)
	}
	return table[:bytes.LastIndexByte(table[:size], '\n')+1]
}

// BenchmarkTable is a table of 100 MB: in, read, out.
func BenchmarkTable(b *testing.B) {
	table := csv(fileSize)
	for _, runtime := range []string{runtimeOurs, runtimeRunc} {
		b.Run(runtime, func(b *testing.B) {
			s := openThread(b, benchProvider(b, runtime, 2<<30), "bench")
			m, id := newTimer(b), int64(0)
			for b.Loop() {
				m.time("in", func() {
					if err := s.Put(b.Context(), "t.csv", bytes.NewReader(table), int64(len(table))); err != nil {
						b.Fatal(err)
					}
				})
				m.time("read", func() { id++; runCell(b, s, id, "import pandas\nt = pandas.read_csv('t.csv')") })
				m.time("out", func() {
					if err := s.Get(b.Context(), "t.csv", io.Discard, fileSize); err != nil {
						b.Fatal(err)
					}
				})
			}
			m.report()
		})
	}
}

// stateOf is code that holds that many megabytes of what can't be compressed.
func stateOf(megabytes int) string {
	return fmt.Sprintf("import os\nstate = [os.urandom(1 << 20) for _ in range(%d)]", megabytes)
}

// BenchmarkSleep puts a sandbox to disk and wakes it, to the result of a cell.
func BenchmarkSleep(b *testing.B) {
	for _, megabytes := range []int{0, 100, 500, 1000} {
		b.Run(fmt.Sprintf("%dMB", megabytes), func(b *testing.B) {
			p := benchProvider(b, runtimeOurs, 2<<30)
			runCell(b, openThread(b, p, "bench"), 1, stateOf(megabytes))
			m, id := newTimer(b), int64(1)
			for b.Loop() {
				m.time("sleep", func() {
					if err := p.Sleep(b.Context(), "bench"); err != nil {
						b.Fatal(err)
					}
				})
				m.time("resume", func() {
					s := openThread(b, p, "bench")
					id++
					runCell(b, s, id, "len(state)")
				})
			}
			m.report()
		})
	}
	for _, megabytes := range []int{0, 100} {
		b.Run(fmt.Sprintf("engine-%dMB", megabytes), func(b *testing.B) { benchmarkEngine(b, megabytes) })
	}
}

// benchmarkEngine does the same with the engine's own checkpoints.
func benchmarkEngine(b *testing.B, megabytes int) {
	p := benchProvider(b, runtimeGVisor, 2<<30)
	runCell(b, openThread(b, p, "bench"), 1, stateOf(megabytes))
	m := newTimer(b)
	ctx, name, n := b.Context(), p.containerName("bench"), 0
	// Let go of it first, or its end is taken for a death and it is removed.
	p.mu.Lock()
	c := p.threads["bench"].conn
	p.mu.Unlock()
	c.stop(errLetGo)
	<-c.ended
	for b.Loop() {
		n++
		id := fmt.Sprintf("engine%d", n)
		m.time("sleep", func() {
			err := p.engine.CheckpointCreate(ctx, name, checkpoint.CreateOptions{CheckpointID: id, Exit: true})
			if err != nil {
				b.Fatal(err)
			}
			ended, failed := p.engine.ContainerWait(ctx, name, container.WaitConditionNotRunning)
			select {
			case <-ended:
			case err := <-failed:
				b.Fatal(err)
			}
		})
		m.time("resume", func() {
			if err := p.engine.ContainerStart(ctx, name, container.StartOptions{CheckpointID: id}); err != nil {
				b.Fatal(err)
			}
		})
	}
	m.report()
}

// BenchmarkCost is what a sandbox takes while it is idle, in memory and time.
func BenchmarkCost(b *testing.B) {
	const watch = 10 * time.Second
	p := benchProvider(b, runtimeOurs, 1<<30)
	runCell(b, openThread(b, p, "bench"), 1, "1+1")
	read := func() container.StatsResponse {
		reader, err := p.engine.ContainerStatsOneShot(b.Context(), p.containerName("bench"))
		if err != nil {
			b.Fatal(err)
		}
		defer reader.Body.Close()
		var stats container.StatsResponse
		if err := json.NewDecoder(reader.Body).Decode(&stats); err != nil {
			b.Fatal(err)
		}
		return stats
	}
	for b.Loop() {
		before := read()
		<-time.After(watch)
		after := read()
		cpu := float64(after.CPUStats.CPUUsage.TotalUsage-before.CPUStats.CPUUsage.TotalUsage) / float64(watch)
		b.ReportMetric(100*cpu, "idle-cpu-%")
		b.ReportMetric(float64(after.MemoryStats.Usage)/(1<<20), "awake-MB")
	}
	if err := p.Sleep(b.Context(), "bench"); err != nil {
		b.Fatal(err)
	}
	found, err := p.engine.ContainerList(b.Context(), container.ListOptions{All: true, Filters: p.ours()})
	if err != nil || len(found) > 0 {
		b.Fatalf("asleep it has containers: %v, %v", found, err)
	}
	b.ReportMetric(0, "asleep-MB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkTwenty opens twenty threads at once, to the result of a cell in each.
func BenchmarkTwenty(b *testing.B) {
	p := benchProvider(b, runtimeOurs, 1<<30)
	m := newTimer(b)
	for b.Loop() {
		var each sync.Mutex
		began := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				s, err := p.Open(context.WithoutCancel(b.Context()), fmt.Sprint("bench", i))
				if err == nil {
					_, err = s.Run(b.Context(), sandbox.Cell{ID: 1, Language: sandbox.Python, Code: "1+1", Timeout: time.Minute},
						func(sandbox.Output) error { return nil })
				}
				if err != nil {
					b.Error(err)
				}
				each.Lock()
				defer each.Unlock()
				m.took["each"] = append(m.took["each"], time.Since(began))
			})
		}
		all.Wait()
		m.took["all"] = append(m.took["all"], time.Since(began))
		for i := range 20 {
			removeThread(b, p, fmt.Sprint("bench", i))
		}
	}
	m.report()
}
