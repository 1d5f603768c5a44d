package sessions

import (
	"context"
	"io"
)

// Blobs keep bytes under a thread and the SHA-256 of their content, so that
// the same bytes are kept once in a thread, a name can't be guessed, and
// deleting a thread deletes what is its own. All methods may be called
// concurrently and be repeated.
type Blobs interface {
	// Put keeps what r holds, at most limit bytes (else TooLarge, and nothing
	// is kept), and returns its name, a lower-case hexadecimal SHA-256, and size.
	Put(ctx context.Context, thread ThreadID, r io.Reader, limit int64) (name string, size int64, err error)
	// Get opens a blob; NotFound where the thread has none of that name. The
	// caller closes it.
	Get(ctx context.Context, thread ThreadID, name string) (io.ReadSeekCloser, error)
	// Delete removes every blob of the thread.
	Delete(ctx context.Context, thread ThreadID) error
}
