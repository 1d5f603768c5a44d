// Package blobs keeps the bytes of threads: [sessions.Blobs] in a folder, or in a
// bucket of anything that speaks S3. Open tells the two apart by their address.
//
// Both write a blob under its name only once all of it has been read and its
// length and SHA-256 are known, so half a blob is never seen. A put of what is
// there already makes it young again, which keeps it from whoever prunes; in a
// bucket only once it is older than freshFor, since that costs an upload.
//
// A blob of a thread that is pruned may be put again in the instant between the
// look at its age and its removal; neither a file system nor S3 can do both in one
// step. So callers prune only what no thread in the store can name.
package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"threadbook/sessions"
)

// Store is what both kinds are.
type Store interface {
	sessions.Blobs
	sessions.BlobKeeper
}

// Open opens the blobs of an installation whose data are kept at an address: a
// folder, which may also hold other things and has them in its subfolder
// "blobs", or s3://bucket[/prefix][?…] as in [CheckAddress]. Of a bucket it makes
// sure that it can be read.
func Open(ctx context.Context, where string) (Store, error) {
	if IsFolder(where) {
		return NewFolder(filepath.Join(where, "blobs"))
	}
	return newS3(ctx, where)
}

// IsFolder says whether the address is that of a folder.
func IsFolder(where string) bool { return !strings.Contains(where, "://") }

// isName says whether it can be the name of a blob; nothing else becomes part
// of a path.
func isName(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == name
}

func notFound(err error) error {
	return &sessions.Error{Code: sessions.NotFound, Text: "There is no such file any more.", Err: err}
}

func failed(doing string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &sessions.Error{Code: sessions.Unavailable, Text: "The file store does not work just now; please try again in a moment.",
		Err: fmt.Errorf("%s blobs: %w", doing, err)}
}

// readerCtx ends reading when its context ends.
type readerCtx struct {
	ctx context.Context
	r   io.Reader
}

func (r readerCtx) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// copyAndName copies what is put and finds out its name and size.
func copyAndName(ctx context.Context, w io.Writer, r io.Reader, limit int64) (name string, size int64, err error) {
	sum := sha256.New()
	// One byte over the limit tells a file that is too large from one that
	// just fits.
	size, err = io.Copy(io.MultiWriter(w, sum), io.LimitReader(readerCtx{ctx, r}, limit+1))
	if err != nil {
		return "", 0, failed("writing", err)
	}
	if size > limit {
		return "", 0, &sessions.Error{Code: sessions.TooLarge, Text: fmt.Sprintf("It is larger than %d MiB, the limit.", limit>>20)}
	}
	return hex.EncodeToString(sum.Sum(nil)), size, nil
}

// pruneBefore is the time of whose like and older a prune removes.
func pruneBefore(unused time.Duration) time.Time {
	return time.Now().Add(-max(unused, sessions.PruneMin))
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
