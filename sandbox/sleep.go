package sandbox

import (
	"context"
	"errors"
)

// A Sleeper is a [Provider] that can put a sandbox to disk, where it costs no
// memory, and bring it back with its variables, its files and all that runs in
// it. Which sandboxes sleep is the provider's own to know: Open wakes one, and
// Remove deletes one, without being told.
type Sleeper interface {
	// Awake lists the threads whose sandboxes are in memory on this machine,
	// whoever opened them.
	Awake(ctx context.Context) ([]string, error)
	// Sleep puts the thread's sandbox to disk; the caller holds the thread's
	// lease, and every Session of it ends, with an error that is not ErrGone, for
	// nothing is lost. A thread with none in memory is no error. ErrCantSleep says that this engine can't, ErrBusy that a cell
	// runs; after any other error the sandbox is as it was.
	Sleep(ctx context.Context, thread string) error
	// Asleep lists the threads whose sandboxes are on this machine's disk.
	Asleep(ctx context.Context) ([]string, error)
}

// ErrCantSleep: the runtime can't put sandboxes to disk.
var ErrCantSleep = errors.New("the runtime in use can't put sandboxes to disk")
