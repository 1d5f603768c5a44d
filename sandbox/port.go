package sandbox

import (
	"context"
	"errors"
	"io"
)

// A Porter is a [Sleeper] whose sleeping sandboxes can be carried to other
// machines, with all that is in them. For one thread the caller holds the lease.
type Porter interface {
	// Export writes the thread's sleeping sandbox to w, compressed, and leaves it
	// where it is: ErrNotAsleep where it doesn't sleep on this machine. After an
	// error what was written is worth nothing.
	Export(ctx context.Context, thread string, w io.Writer) error
	// Import makes what Export wrote the thread's sleeping sandbox on this
	// machine, in place of what the thread has here; Open wakes it. What can't be
	// woken here is ErrCantImport: it was cut off or changed on its way, or this
	// machine has another image, other limits, another runtime or another version
	// of it. An error in reading r comes back as it is. After any error the thread
	// has no sandbox here, or the one that it had before, and nothing is left of
	// what came.
	Import(ctx context.Context, thread string, r io.Reader) error
}

var (
	// ErrNotAsleep: no sandbox of the thread sleeps on this machine.
	ErrNotAsleep = errors.New("the thread's sandbox does not sleep here")
	// ErrCantImport: what another machine has written can't be woken on this one.
	ErrCantImport = errors.New("the sandbox can't be restored on this machine")
)
