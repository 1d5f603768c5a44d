package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/klauspost/compress/zstd"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// elsewhere is a bench that passes for another machine, with limits that differ by
// so many bytes of disk.
func elsewhere(t *testing.T, disk int64) *bench {
	config := testConfig(t, runtimeOurs)
	config.Limits.Disk += disk
	return newBench(t, config)
}

// away puts a thread to disk and carries it away.
func away(t *testing.T, p *Provider, thread string) []byte {
	t.Helper()
	putToSleep(t, p, thread)
	var sent bytes.Buffer
	if err := p.Export(t.Context(), thread, &sent); err != nil {
		t.Fatal(err)
	}
	return sent.Bytes()
}

// TestPortCarriesAll: what runs goes on, in every language, and files outside the
// workspace are there too.
func TestPortCarriesAll(t *testing.T) {
	t.Parallel()
	b, other := sleeper(t), elsewhere(t, 0)
	p, q := b.attached(t), other.attached(t)
	th := sandboxtest.Open(t, p, "slack:T1/C_1.5")
	th.Python(t, `
import threading, time
ticks = []
def count():
    while True:
        ticks.append(1)
        time.sleep(0.01)
threading.Thread(target=count, daemon=True).start()
kept = open("/tmp/kept.txt", "w")
print("half", file=kept, flush=True)`).Want(t, sandbox.OK)
	th.Do(t, th.Next(sandbox.R, "x <- 41")).Want(t, sandbox.OK)
	sent := away(t, p, th.ID)
	if err := q.Import(t.Context(), th.ID, bytes.NewReader(sent)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Remove(context.Background(), th.ID); err != nil {
			t.Error(err)
		}
	})
	wantThreads(t, q.Asleep, th.ID)
	wantThreads(t, p.Asleep, th.ID)
	if n, err := q.Reap(t.Context()); err != nil || n != 0 {
		t.Errorf("reaped %d, %v", n, err)
	}
	th.Provider = q
	th.Reopen(t)
	got := th.Python(t, `
before = len(ticks)
time.sleep(0.5)
print("whole", file=kept, flush=True)
print(len(ticks) > before, open("/tmp/kept.txt").read().split())`).Want(t, sandbox.OK).Text("stdout")
	if got != "True ['half', 'whole']\n" {
		t.Errorf("it prints %q", got)
	}
	if got := th.Do(t, th.Next(sandbox.R, "cat(x + 1)")).Want(t, sandbox.OK).Text("stdout"); got != "42" {
		t.Errorf("R prints %q", got)
	}
	putToSleep(t, q, th.ID) // like any other
	th.Reopen(t)
	th.Python(t, "print(before)").Want(t, sandbox.OK)
}

// nothingLeft makes sure that a bench has no container, note or checkpoint of any
// kind, and nothing on the way to one.
func nothingLeft(t *testing.T, b *bench) {
	t.Helper()
	p := b.attached(t)
	wantThreads(t, p.Asleep)
	found, err := p.engine.ContainerList(t.Context(), container.ListOptions{All: true, Filters: p.ours()})
	if err != nil || len(found) != 0 {
		t.Errorf("left are the containers %+v, %v", found, err)
	}
	if names := b.checkpoints(t); len(names) != 0 {
		t.Errorf("left are the checkpoints %q", names)
	}
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	place, err := p.place(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(place.Dir, incomingFolder, sandboxPrefix+p.hostKey()+"-*")); len(left) != 0 {
		t.Errorf("left is %q", left)
	}
}

// TestPortRefuses: what can't be woken here, and what breaks off, leaves nothing.
func TestPortRefuses(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	th := sandboxtest.Open(t, p, "t")
	th.Python(t, "x = 41").Want(t, sandbox.OK)
	sent := away(t, p, "t")

	limits := elsewhere(t, 1<<20)
	err := limits.attached(t).Import(t.Context(), "t", bytes.NewReader(sent))
	if !errors.Is(err, sandbox.ErrCantImport) || !strings.Contains(err.Error(), "these differ: disk") {
		t.Errorf("with other limits: %v", err)
	}
	nothingLeft(t, limits)

	image := elsewhere(t, 0)
	image.config.Image = imageWithoutR(t)
	err = image.attached(t).Import(t.Context(), "t", bytes.NewReader(sent))
	if !errors.Is(err, sandbox.ErrCantImport) || !strings.Contains(err.Error(), "its image is") {
		t.Errorf("with another image: %v", err)
	}
	nothingLeft(t, image)

	runtime := elsewhere(t, 0)
	runtime.config.Runtime = runtimeGVisor
	if err := runtime.attached(t).Import(t.Context(), "t", bytes.NewReader(sent)); !errors.Is(err, sandbox.ErrCantImport) {
		t.Errorf("with another runtime: %v", err)
	}

	// In the middle of it the caller goes.
	cut := elsewhere(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	half := &cancelling{Reader: io.LimitReader(bytes.NewReader(sent), int64(len(sent)/2)), ctx: ctx, cancel: cancel}
	if err := cut.attached(t).Import(ctx, "t", half); err == nil || errors.Is(err, sandbox.ErrCantImport) {
		t.Errorf("cut off: %v", err)
	}
	nothingLeft(t, cut)
}

// cancelling ends a context where its reader ends.
type cancelling struct {
	io.Reader
	ctx    context.Context
	cancel context.CancelFunc
}

func (c *cancelling) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		c.cancel()
		err = context.Cause(c.ctx)
	}
	return n, err
}

// TestReapCarriers: one that was left by a crash goes, and one that carries stays.
func TestReapCarriers(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := p.carrier(t.Context(), plan, t.TempDir()+":"+carryPoint)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.Reap(t.Context()); err != nil || n != 0 {
		t.Errorf("reaped %d, %v", n, err)
	}
	found, err := p.engine.ContainerList(t.Context(), container.ListOptions{All: true, Filters: p.ours()})
	if err != nil || len(found) != 1 || found[0].ID != id || p.isDead(found[0]) {
		t.Fatalf("there are %+v, %v", found, err)
	}
	found[0].Created = time.Now().Add(-carryAge - time.Second).Unix()
	if !p.isDead(found[0]) {
		t.Error("an old one is not dead")
	}
}

// TestManyCheckpoints: a listing is whole however long it is.
func TestManyCheckpoints(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	place, err := p.place(t.Context(), plan)
	if err != nil || len(place.Checkpoints) != 0 {
		t.Fatalf("%+v, %v", place, err)
	}
	const n = 3500
	name := func(i int) string { return fmt.Sprintf("%s%s-many-%05d", sandboxPrefix, p.hostKey(), i) }
	t.Cleanup(func() {
		for i := range n {
			os.Remove(filepath.Join(place.Dir, name(i)+".json"))
		}
	})
	for i := range n {
		text := fmt.Sprintf(`{"layout":1,"name":%q,"created":"2026-11-20T12:00:00Z","bytes":1,"container":%q,"base":%q,"runsc":"none",`+
			`"id":"ABCDEFGHIJKLMNOPQRSTUVWXYZ","files":{"pages.img":1}}`, name(i), strings.Repeat("c", 64), plan.image)
		if err := os.WriteFile(filepath.Join(place.Dir, name(i)+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names := b.checkpoints(t); len(names) != n {
		t.Errorf("listed are %d of %d", len(names), n)
	}
}

// BenchmarkPort is what it takes to carry a sleeping sandbox to another machine,
// without and with 100 MB of state, of which a half can't be compressed.
func BenchmarkPort(b *testing.B) {
	for _, megabytes := range []int{0, 100} {
		b.Run(fmt.Sprintf("%dMB", megabytes), func(b *testing.B) {
			one, two := benchProvider(b, runtimeOurs, 1<<30), benchProvider(b, runtimeOurs, 1<<30)
			m := newTimer(b)
			var sent bytes.Buffer
			var size int
			for b.Loop() {
				runCell(b, openThread(b, one, "bench"), 1, fmt.Sprintf(
					"import os\nx = [os.urandom(1 << 20) if i %% 2 else os.urandom(1 << 10) * (1 << 10) for i in range(%d)]", megabytes))
				must := func(err error) {
					if err != nil {
						b.Fatal(err)
					}
				}
				m.time("sleep", func() { must(one.Sleep(b.Context(), "bench")) })
				sent.Reset()
				m.time("export", func() { must(one.Export(b.Context(), "bench", &sent)) })
				size = sent.Len()
				m.time("import", func() { must(two.Import(b.Context(), "bench", &sent)) })
				var s sandbox.Session
				m.time("wake", func() { s = openThread(b, two, "bench") })
				runCell(b, s, 2, "x")
				removeThread(b, one, "bench")
				removeThread(b, two, "bench")
			}
			m.report()
			b.ReportMetric(float64(size>>20), "sent-MB")
		})
	}
}

// FuzzArchive: what comes from elsewhere is refused or is what it says, with names
// that are harmless.
func FuzzArchive(f *testing.F) {
	for _, d := range []string{`{"ID":"A","Files":{"a.img":3}}`, `{"ID":"A","Files":{"../a":3}}`, `{`} {
		var sent bytes.Buffer
		packed, err := zstd.NewWriter(&sent)
		if err != nil {
			f.Fatal(err)
		}
		a := tar.NewWriter(packed)
		for _, file := range [][2]string{{descriptionFile, d}, {"a.img", "abc"}} {
			if err := a.WriteHeader(plainFile(file[0], int64(len(file[1])))); err != nil {
				f.Fatal(err)
			}
			if _, err := io.WriteString(a, file[1]); err != nil {
				f.Fatal(err)
			}
		}
		if err := errors.Join(a.Close(), packed.Close()); err != nil {
			f.Fatal(err)
		}
		f.Add(sent.Bytes())
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		a, text, d, err := openArchive(bytes.NewReader(sent))
		if err != nil {
			return
		}
		defer a.close()
		var carried bytes.Buffer
		if err := a.copyTo(&carried, text, d); err != nil {
			return
		}
		for files := tar.NewReader(&carried); ; {
			head, err := files.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil || head.Typeflag != tar.TypeReg || filepath.Base(head.Name) != head.Name || strings.HasPrefix(head.Name, ".") {
				t.Fatalf("%v: %+v", err, head)
			}
		}
	})
}
