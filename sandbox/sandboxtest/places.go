package sandboxtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"threadbook/sandbox"
)

func (th *Thread) write(t *testing.T, path, text string) {
	t.Helper()
	if err := th.Put(t.Context(), path, strings.NewReader(text), int64(len(text))); err != nil {
		t.Fatal(err)
	}
}

func (th *Thread) read(t *testing.T, path string) string {
	t.Helper()
	var b strings.Builder
	if err := th.Get(t.Context(), path, &b, 1<<30); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (th *Thread) paths(t *testing.T, dir string) []string {
	t.Helper()
	files, more, err := th.List(t.Context(), dir)
	if err != nil || more {
		t.Fatalf("listing %q: %v, more %v", dir, err, more)
	}
	var paths []string
	for _, f := range files {
		paths = append(paths, f.Path)
	}
	return paths
}

func testFiles(t *testing.T, s Suite) {
	th := Open(t, s.New(t), "files")
	t.Run("RoundTrip", func(t *testing.T) {
		for _, path := range []string{"a.txt", "sub/folder/b.txt", "späť 日本.txt", "with space (2).txt", "./c.txt"} {
			th.write(t, path, "in "+path)
			if got := th.read(t, path); got != "in "+path {
				t.Errorf("%s has %q", path, got)
			}
		}
		th.write(t, "a.txt", "another")
		if got := th.read(t, "a.txt"); got != "another" {
			t.Errorf("a file that was replaced has %q", got)
		}
		th.write(t, "empty", "")
		if got := th.read(t, "empty"); got != "" {
			t.Errorf("an empty file has %q", got)
		}
	})
	t.Run("List", func(t *testing.T) {
		got := th.paths(t, ".")
		want := []string{"a.txt", "c.txt", "empty", "späť 日本.txt", "sub/folder/b.txt", "with space (2).txt"}
		if !slices.Equal(got, want) {
			t.Errorf("files %q, want %q", got, want)
		}
		if got := th.paths(t, "sub"); !slices.Equal(got, []string{"sub/folder/b.txt"}) {
			t.Errorf("files of sub: %q", got)
		}
		files, _, err := th.List(t.Context(), "sub")
		if err != nil || len(files) != 1 || files[0].Size != 19 || files[0].ModTime.IsZero() {
			t.Errorf("files of sub: %+v, %v", files, err)
		}
		if _, _, err := th.List(t.Context(), "none"); !errors.Is(err, sandbox.ErrNotFound) {
			t.Errorf("listing no folder: %v", err)
		}
	})
	t.Run("FilesOfCells", func(t *testing.T) {
		th.Python(t, s.Code.Write).Want(t, sandbox.OK)
		if got := th.read(t, "outputs/made.txt"); got != "made here" {
			t.Errorf("the cell's file has %q", got)
		}
	})
	t.Run("Refused", func(t *testing.T) {
		for path, want := range map[string]error{
			"none":          sandbox.ErrNotFound,
			"../etc/passwd": sandbox.ErrBadPath,
			"/etc/passwd":   sandbox.ErrBadPath,
			"sub/../a.txt":  sandbox.ErrBadPath,
			"sub":           sandbox.ErrBadPath,
			".":             sandbox.ErrBadPath,
		} {
			if err := th.Get(t.Context(), path, io.Discard, 1<<20); !errors.Is(err, want) {
				t.Errorf("reading %q: %v, want %v", path, err, want)
			}
			if want == sandbox.ErrNotFound {
				continue
			}
			if err := th.Put(t.Context(), path, strings.NewReader("x"), 1); !errors.Is(err, want) {
				t.Errorf("writing %q: %v, want %v", path, err, want)
			}
		}
		var b bytes.Buffer
		if err := th.Get(t.Context(), "a.txt", &b, 3); !errors.Is(err, sandbox.ErrTooLarge) || b.Len() > 0 {
			t.Errorf("reading a file over the limit: %v, %d bytes", err, b.Len())
		}
	})
	t.Run("PutThatBreaksOff", func(t *testing.T) {
		broken := io.MultiReader(strings.NewReader("half"), errReader{})
		if err := th.Put(t.Context(), "a.txt", broken, 8); !errors.Is(err, errBroken) {
			t.Errorf("writing what can't be read: %v", err)
		}
		if err := th.Put(t.Context(), "a.txt", strings.NewReader("short"), 8); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("writing less than was said: %v", err)
		}
		if got := th.read(t, "a.txt"); got != "another" {
			t.Errorf("the file has %q now", got)
		}
		if paths := th.paths(t, "."); len(paths) != 7 {
			t.Errorf("files %q", paths)
		}
	})
	t.Run("Large", func(t *testing.T) {
		const size = 30 << 20
		source := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }
		want, got := sha256.New(), sha256.New()
		if err := th.Put(t.Context(), "large.bin", io.TeeReader(source(), want), size); err != nil {
			t.Fatal(err)
		}
		if err := th.Get(t.Context(), "large.bin", got, size); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Error("the file came back another one")
		}
	})
}

var errBroken = errors.New("the reader broke")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }

func testResume(t *testing.T, s Suite) {
	first := Open(t, s.New(t), "resume")

	// A process that dies in the middle of a cell: it lets go without a word.
	ctx, die := context.WithCancelCause(t.Context())
	cell := first.Next(sandbox.Python, s.Code.Gates)
	ran := first.Start(ctx, cell)
	ran.Seen(t, "1\n")
	die(errBroken)
	if err := ran.Wait(); !errors.Is(err, errBroken) {
		t.Fatalf("Run whose context ended: %v", err)
	}

	second := &Thread{Provider: s.New(t), ID: first.ID, t: t}
	second.Reopen(t)
	if second.Fresh() {
		t.Error("a sandbox that runs a cell is called fresh")
	}
	t.Run("AnotherCellIsRefused", func(t *testing.T) {
		other := cell
		other.ID, other.Code = cell.ID+1, s.Code.Hello
		_, err := second.Run(t.Context(), other, ran.take)
		if !errors.Is(err, sandbox.ErrBusy) {
			t.Errorf("running another cell meanwhile: %v", err)
		}
	})
	cell.Resume = true
	cell.After = ran.Outputs()[len(ran.Outputs())-1].N
	t.Run("EachOutputOnce", func(t *testing.T) {
		second.write(t, "go1", "")
		rest := second.Start(t.Context(), cell)
		rest.Seen(t, "2\n")
		second.write(t, "go2", "")
		<-rest.done
		rest.Want(t, sandbox.OK).checkNumbers(t, cell.After)
		if got := ran.Text("stdout") + rest.Text("stdout"); got != "1\n2\n3\n" {
			t.Errorf("both processes together saw %q", got)
		}
		cell.After = rest.Outputs()[len(rest.Outputs())-1].N
	})
	t.Run("AnEndIsToldAgain", func(t *testing.T) {
		again := second.Do(t, cell).Want(t, sandbox.OK)
		if len(again.Outputs()) != 0 {
			t.Errorf("outputs %+v", again.Outputs())
		}
	})
	t.Run("EmitThatFails", func(t *testing.T) {
		cell := first.Next(sandbox.Python, s.Code.Hello)
		refuse := func(sandbox.Output) error { return errBroken }
		if _, err := second.Run(t.Context(), cell, refuse); !errors.Is(err, errBroken) {
			t.Fatalf("Run whose emit fails: %v", err)
		}
		cell.Resume = true
		if got := second.Do(t, cell).Want(t, sandbox.OK).Text("stdout"); got != "hello\n" {
			t.Errorf("taken up again, the cell printed %q", got)
		}
	})
	t.Run("ACellThatNeverCame", func(t *testing.T) {
		cell := first.Next(sandbox.Python, s.Code.Hello)
		cell.Resume = true
		ran := second.Do(t, cell).Want(t, sandbox.KernelDied)
		if ran.Lost || len(ran.Outputs()) != 0 {
			t.Errorf("result %+v, outputs %+v", ran.Result, ran.Outputs())
		}
	})
}

func testLife(t *testing.T, s Suite) {
	p := s.New(t)
	th := Open(t, p, "life")
	fresh := func(t *testing.T, want bool) {
		t.Helper()
		if th.Fresh() != want {
			t.Fatalf("fresh is %v", !want)
		}
	}
	fresh(t, true)
	th.write(t, "a.txt", "a")
	th.Reopen(t)
	fresh(t, true) // no cell yet: the one before may have died while it put files
	th.Python(t, s.Code.SetX).Want(t, sandbox.OK)
	th.Reopen(t)
	fresh(t, false)
	third := s.New(t)
	t.Run("ItOutlivesItsProvider", func(t *testing.T) {
		other := s.New(t)
		session, err := other.Open(t.Context(), th.ID)
		if err != nil {
			t.Fatal(err)
		}
		if session.Fresh() {
			t.Error("a sandbox with state is called fresh")
		}
		if err := other.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		// The one before has lost its hold to that, and takes it again.
		th.Provider = third
		th.Reopen(t)
		if got := th.Python(t, s.Code.ShowX).Want(t, sandbox.OK).Text("stdout"); got != "41\n" {
			t.Errorf("x is %q", got)
		}
	})
	t.Run("ResumeInANewSandbox", func(t *testing.T) {
		if err := th.Provider.Remove(t.Context(), th.ID); err != nil {
			t.Fatal(err)
		}
		th.Reopen(t)
		cell := th.Next(sandbox.Python, s.Code.Hello)
		cell.Resume = true
		if ran := th.Do(t, cell).Want(t, sandbox.KernelDied); !ran.Lost {
			t.Errorf("result %+v", ran.Result)
		}
	})
	t.Run("Remove", func(t *testing.T) {
		ran := th.Start(t.Context(), th.Next(sandbox.Python, s.Code.Sleep))
		ran.Seen(t, "begun")
		for range 2 { // the second time there is nothing to remove
			if err := th.Provider.Remove(t.Context(), th.ID); err != nil {
				t.Fatalf("Remove: %v", err)
			}
		}
		<-ran.done
		if !ran.Want(t, sandbox.KernelDied).Gone || !ran.Lost {
			t.Errorf("result %+v", ran.Result)
		}
		if _, err := th.Run(t.Context(), th.Next(sandbox.Python, s.Code.Hello), ran.take); !errors.Is(err, sandbox.ErrGone) {
			t.Errorf("Run in a sandbox that was removed: %v", err)
		}
		if _, _, err := th.List(t.Context(), "."); !errors.Is(err, sandbox.ErrGone) {
			t.Errorf("List of a sandbox that was removed: %v", err)
		}
		if err := th.Interrupt(t.Context()); !errors.Is(err, sandbox.ErrGone) {
			t.Errorf("Interrupt of a sandbox that was removed: %v", err)
		}
		th.Reopen(t)
		fresh(t, true)
		if paths := th.paths(t, "."); len(paths) != 0 {
			t.Errorf("a new sandbox has files %q", paths)
		}
	})
	t.Run("Probe", func(t *testing.T) {
		info, err := th.Provider.Probe(t.Context())
		if err != nil || info.Engine == "" || info.Runtime == "" || info.Image == "" {
			t.Errorf("Probe: %+v, %v", info, err)
		}
	})
}

func testThreads(t *testing.T, s Suite) {
	p := s.New(t)
	one, two := Open(t, p, "one of two"), Open(t, p, "two of two")
	ran := one.Start(t.Context(), one.Next(sandbox.Python, s.Code.Gates))
	ran.Seen(t, "1\n")
	two.write(t, "go1", "")
	two.Python(t, s.Code.ShowX).Want(t, sandbox.Failed)
	if got := one.paths(t, "."); len(got) != 0 {
		t.Errorf("one thread's file is in another: %q", got)
	}
	one.write(t, "go1", "")
	one.write(t, "go2", "")
	<-ran.done
	ran.Want(t, sandbox.OK)
}
