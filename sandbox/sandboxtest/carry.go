package sandboxtest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"threadbook/sandbox"
)

// testPort is the contract of sandbox.Porter.
func testPort(t *testing.T, s Suite) {
	here, ok := s.New(t).(sandbox.Porter)
	if !ok {
		return
	}
	there := s.Elsewhere(t).(sandbox.Porter)
	if err := here.Export(t.Context(), "port", io.Discard); !errors.Is(err, sandbox.ErrNotAsleep) {
		t.Errorf("Export of a thread without a sandbox: %v", err)
	}
	if err := there.Import(t.Context(), "port", strings.NewReader("nothing of ours")); !errors.Is(err, sandbox.ErrCantImport) {
		t.Errorf("Import of something else: %v", err)
	}
	th := Open(t, here.(sandbox.Provider), "port")
	th.Python(t, s.Code.SetX).Want(t, sandbox.OK)
	th.Bash(t, s.Code.BashSetX).Want(t, sandbox.OK)
	th.write(t, "kept.txt", "kept")
	if err := here.Export(t.Context(), "port", io.Discard); !errors.Is(err, sandbox.ErrNotAsleep) {
		t.Errorf("Export of a sandbox that is awake: %v", err)
	}
	err := here.(sandbox.Sleeper).Sleep(t.Context(), "port")
	if errors.Is(err, sandbox.ErrCantSleep) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	if err := here.Export(t.Context(), "port", &sent); err != nil {
		t.Fatalf("Export: %v", err)
	}
	if err := here.Export(t.Context(), "port", brokenWriter{}); !errors.Is(err, errBroken) {
		t.Errorf("Export to what takes nothing: %v", err)
	}
	asleep := func(p sandbox.Porter) bool {
		t.Helper()
		names, err := p.(sandbox.Sleeper).Asleep(t.Context())
		if err != nil {
			t.Error(err)
		}
		return slices.Contains(names, "port")
	}
	if !asleep(here) {
		t.Error("what was sent away does not sleep any more")
	}

	flipped := bytes.Clone(sent.Bytes())
	flipped[len(flipped)/2] ^= 1
	for name, r := range map[string]io.Reader{
		"half of it":         bytes.NewReader(sent.Bytes()[:sent.Len()/2]),
		"a flipped bit":      bytes.NewReader(flipped),
		"nothing":            strings.NewReader(""),
		"a fault at its end": io.MultiReader(bytes.NewReader(sent.Bytes()), errReader{}),
	} {
		want := sandbox.ErrCantImport
		if strings.Contains(name, "fault") {
			want = errBroken
		}
		if err := there.Import(t.Context(), "port", r); !errors.Is(err, want) {
			t.Errorf("Import of %s: %v", name, err)
		}
		if asleep(there) {
			t.Errorf("after the import of %s the thread sleeps there", name)
		}
	}

	if err := here.(sandbox.Provider).Remove(t.Context(), "port"); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for _, thread := range []string{"port", "port 2"} {
		both.Go(func() {
			for range 2 { // the second time it takes the place of the first
				if err := there.Import(t.Context(), thread, bytes.NewReader(sent.Bytes())); err != nil {
					t.Errorf("Import: %v", err)
				}
			}
		})
	}
	both.Wait()
	if asleep(here) || !asleep(there) {
		t.Error("the thread does not sleep there alone")
	}
	for _, thread := range []string{"port", "port 2"} {
		moved := Open(t, there.(sandbox.Provider), thread)
		if moved.Fresh() {
			t.Error("a sandbox that was carried here is called fresh")
		}
		moved.wantOpened(t, sandbox.Resumed)
		moved.cell = th.cell
		if got := moved.Python(t, s.Code.ShowX).Want(t, sandbox.OK).Text("stdout"); strings.TrimSpace(got) != "41" {
			t.Errorf("it remembers %q", got)
		}
		if got := moved.Bash(t, s.Code.BashX).Want(t, sandbox.OK).Text("stdout"); strings.TrimSpace(got) != "43" {
			t.Errorf("in Bash it remembers %q", got)
		}
		if got := moved.read(t, "kept.txt"); got != "kept" {
			t.Errorf("the file has %q", got)
		}
	}
	th.Reopen(t)
	if !th.Fresh() {
		t.Error("what was removed after it was sent is there")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }
