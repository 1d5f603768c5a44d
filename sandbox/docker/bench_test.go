package docker

import (
	"crypto/rand"
	"io"
	"testing"
	"time"

	"threadbook/sandbox"
)

// Benchmarks of what a person waits for, on each runtime that the engine has.

func onEachRuntime(b *testing.B, run func(b *testing.B, p *Provider)) {
	for _, runtime := range runtimes() {
		b.Run(runtime, func(b *testing.B) {
			config := testConfig(b, runtime)
			config.Limits = sandbox.DefaultLimits()
			run(b, newBench(b, config).attached(b))
		})
	}
}

// cell runs code and fails the benchmark unless it succeeds.
func runCell(b *testing.B, s sandbox.Session, id int64, code string) {
	b.Helper()
	result, err := s.Run(b.Context(), sandbox.Cell{
		ID: id, Language: sandbox.Python, Code: code, Timeout: time.Minute,
	}, func(sandbox.Output) error { return nil })
	if err != nil || result.Status != sandbox.OK {
		b.Fatalf("%v, %+v", err, result)
	}
}

func open(b *testing.B, p *Provider, thread string) sandbox.Session {
	b.Helper()
	s, err := p.Open(b.Context(), thread)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkCold is from nothing to the result of 1+1.
func BenchmarkCold(b *testing.B) {
	onEachRuntime(b, func(b *testing.B, p *Provider) {
		for b.Loop() {
			runCell(b, open(b, p, "bench"), 1, "1+1")
			b.StopTimer()
			if err := p.Remove(b.Context(), "bench"); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

func benchmarkCell(b *testing.B, first, code string) {
	onEachRuntime(b, func(b *testing.B, p *Provider) {
		s := open(b, p, "bench")
		id := int64(1)
		runCell(b, s, id, first)
		for b.Loop() {
			id++
			runCell(b, s, id, code)
		}
	})
}

func BenchmarkTrivialCell(b *testing.B) { benchmarkCell(b, "1+1", "1+1") }

func BenchmarkChartCell(b *testing.B) {
	const chart = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
	benchmarkCell(b, chart, chart)
}

const fileSize = 100 << 20

type zeros struct{ pattern []byte }

func (z zeros) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], z.pattern)
	}
	return n, nil
}

func BenchmarkPut(b *testing.B) {
	pattern := make([]byte, 1<<16)
	_, _ = rand.Read(pattern)
	onEachRuntime(b, func(b *testing.B, p *Provider) {
		s := open(b, p, "bench")
		b.SetBytes(fileSize)
		for b.Loop() {
			if err := s.Put(b.Context(), "large.bin", zeros{pattern}, fileSize); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	pattern := make([]byte, 1<<16)
	_, _ = rand.Read(pattern)
	onEachRuntime(b, func(b *testing.B, p *Provider) {
		s := open(b, p, "bench")
		if err := s.Put(b.Context(), "large.bin", zeros{pattern}, fileSize); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(fileSize)
		for b.Loop() {
			if err := s.Get(b.Context(), "large.bin", io.Discard, fileSize); err != nil {
				b.Fatal(err)
			}
		}
	})
}
