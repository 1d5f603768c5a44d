package sandboxtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"threadbook/sandbox"
)

// testSleep is the contract of sandbox.Sleeper. A provider that is none, or can't
// put sandboxes to disk on this engine, keeps them awake.
func testSleep(t *testing.T, s Suite) {
	p := s.New(t)
	sleeper, ok := p.(sandbox.Sleeper)
	if !ok {
		return
	}
	if err := sleeper.Sleep(t.Context(), "sleep-none"); err != nil && !errors.Is(err, sandbox.ErrCantSleep) {
		t.Errorf("Sleep of a thread without a sandbox: %v", err)
	}
	th := Open(t, p, "sleep")
	th.wantOpened(t, sandbox.Warm, sandbox.Cold)
	th.Python(t, s.Code.SetX).Want(t, sandbox.OK)
	th.write(t, "kept.txt", "kept")
	lists := func(list func(context.Context) ([]string, error)) bool {
		t.Helper()
		names, err := list(t.Context())
		if err != nil {
			t.Error(err)
		}
		return slices.Contains(names, "sleep")
	}
	if !lists(sleeper.Awake) || lists(sleeper.Asleep) {
		t.Error("a sandbox that was opened is not listed as awake alone")
	}

	running := th.Start(t.Context(), th.Next(sandbox.Python, s.Code.Gates))
	running.Seen(t, "1\n")
	if err := sleeper.Sleep(t.Context(), "sleep"); !errors.Is(err, sandbox.ErrBusy) && !errors.Is(err, sandbox.ErrCantSleep) {
		t.Errorf("Sleep in the middle of a cell: %v", err)
	}
	th.write(t, "go1", "")
	th.write(t, "go2", "")
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	running.Want(t, sandbox.OK)

	err := sleeper.Sleep(t.Context(), "sleep")
	if slept := err == nil; !slept && !errors.Is(err, sandbox.ErrCantSleep) {
		t.Fatalf("Sleep: %v", err)
	} else if lists(sleeper.Awake) == slept || lists(sleeper.Asleep) != slept {
		t.Errorf("it sleeps: %v; listed as awake: %v", slept, lists(sleeper.Awake))
	} else if slept {
		if _, err := th.Run(t.Context(), th.Next(sandbox.Python, s.Code.ShowX), nil); err == nil || errors.Is(err, sandbox.ErrGone) {
			t.Errorf("Run in a session of a sandbox that sleeps: %v", err)
		}
	}
	th.Provider = s.New(t) // another process
	th.Reopen(t)
	if th.Fresh() {
		t.Error("a sandbox that was woken is called fresh")
	}
	if err == nil {
		th.wantOpened(t, sandbox.Resumed)
	} else {
		th.wantOpened(t, sandbox.Live)
	}
	if got := th.Python(t, s.Code.ShowX).Want(t, sandbox.OK).Text("stdout"); strings.TrimSpace(got) != "41" {
		t.Errorf("it remembers %q", got)
	}
	if got := th.read(t, "kept.txt"); got != "kept" {
		t.Errorf("the file has %q", got)
	}
	if !lists(sleeper.Awake) || lists(sleeper.Asleep) {
		t.Error("a sandbox that was woken is not listed as awake alone")
	}

	if err := sleeper.Sleep(t.Context(), "sleep"); err != nil && !errors.Is(err, sandbox.ErrCantSleep) {
		t.Fatalf("Sleep: %v", err)
	}
	if err := th.Provider.Remove(t.Context(), "sleep"); err != nil {
		t.Fatal(err)
	}
	if lists(sleeper.Awake) || lists(sleeper.Asleep) {
		t.Error("a sandbox that was removed is listed")
	}
	th.Reopen(t)
	if !th.Fresh() {
		t.Error("the sandbox after it is not fresh")
	}
}

// wantOpened checks how the session came to be open, where it says that.
func (th *Thread) wantOpened(t *testing.T, want ...sandbox.How) {
	t.Helper()
	if o, ok := th.Session.(sandbox.Opened); ok && !slices.Contains(want, o.Opened()) {
		t.Errorf("opened %q, want %q", o.Opened(), want)
	}
}
