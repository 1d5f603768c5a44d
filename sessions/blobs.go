package sessions

import (
	"context"
	"io"
	"iter"
	"time"
)

// Blobs keep bytes under a thread and the SHA-256 of their content, so that
// the same bytes are kept once in a thread, a name can't be guessed, and
// deleting a thread deletes what is its own. All methods may be called
// concurrently and be repeated. Errors of the store itself have the code
// Unavailable.
type Blobs interface {
	// Put keeps what r holds, at most limit bytes (else TooLarge, and nothing
	// is kept), and returns its name, a lower-case hexadecimal SHA-256, and size.
	Put(ctx context.Context, thread ThreadID, r io.Reader, limit int64) (name string, size int64, err error)
	// Get opens a blob; NotFound where the thread has none of that name. ctx
	// bounds the reading too. The caller closes it.
	Get(ctx context.Context, thread ThreadID, name string) (io.ReadSeekCloser, error)
	// Delete removes every blob of the thread.
	Delete(ctx context.Context, thread ThreadID) error
}

// A BlobKeeper is a store of [Blobs] that can be cleaned up.
type BlobKeeper interface {
	// Kept lists the threads that have blobs, in no order, until the caller
	// stops or an error comes, which is the last of the list.
	Kept(ctx context.Context) iter.Seq2[Kept, error]
	// Prune removes the thread's blobs that nobody has put for as long as
	// unused, or for PruneMin if that is longer. Of the thread "" are the rests
	// of puts that were cut off.
	Prune(ctx context.Context, thread ThreadID, unused time.Duration) error
	// Drop removes one of the thread's blobs, however young: the caller knows
	// that nothing that is read any more names it. None of that name is no error.
	Drop(ctx context.Context, thread ThreadID, name string) error
}

// PruneMin is the least age at which a blob may be pruned. A blob is put before
// the message or event that names it is in the log, so younger ones may be about
// to be named; and the clock of a store may differ from ours.
const PruneMin = 6 * time.Hour

// Kept is what a thread has in the blob store.
type Kept struct {
	Thread ThreadID
	Blobs  int64
	Bytes  int64
	Newest time.Time // when the last of them was put, by the store's clock
}
