// Package blobs keeps the bytes of threads: [sessions.Blobs] in a folder.
//
// A blob is the file <folder>/<thread>/<sha256>, where <thread> is the
// SHA-256 of the thread's id: ids have characters that file systems don't
// like. A blob appears under its name only once it is whole and on disk, so a
// crash leaves a nameless file in tmp/ and never half a blob.
package blobs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"threadbook/sessions"
)

// Folder keeps blobs in a folder, which several processes may share.
type Folder struct {
	root string
}

// NewFolder makes the folder if there is none.
func NewFolder(root string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Join(root, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for blobs: %w", err)
	}
	return &Folder{root: root}, nil
}

func (f *Folder) dir(t sessions.ThreadID) string {
	sum := sha256.Sum256([]byte(t))
	return filepath.Join(f.root, hex.EncodeToString(sum[:]))
}

// Put implements [sessions.Blobs].
func (f *Folder) Put(ctx context.Context, t sessions.ThreadID, r io.Reader, limit int64) (name string, size int64, err error) {
	tmp, err := os.OpenFile(filepath.Join(f.root, "tmp", rand.Text()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, failed("writing", err)
	}
	defer func() {
		tmp.Close()
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	sum := sha256.New()
	// One byte over the limit tells a file that is too large from one that
	// just fits.
	size, err = io.Copy(io.MultiWriter(tmp, sum), io.LimitReader(readerCtx{ctx, r}, limit+1))
	if err != nil {
		return "", 0, failed("writing", err)
	}
	if size > limit {
		return "", 0, &sessions.Error{Code: sessions.TooLarge, Text: fmt.Sprintf("It is larger than %d MiB, the limit.", limit>>20)}
	}
	if err = tmp.Sync(); err != nil {
		return "", 0, failed("writing", err)
	}
	name = hex.EncodeToString(sum.Sum(nil))
	if err = os.MkdirAll(f.dir(t), 0o700); err != nil {
		return "", 0, failed("writing", err)
	}
	if err = os.Rename(tmp.Name(), filepath.Join(f.dir(t), name)); err != nil {
		return "", 0, failed("writing", err)
	}
	return name, size, nil
}

// Get implements [sessions.Blobs].
func (f *Folder) Get(ctx context.Context, t sessions.ThreadID, name string) (io.ReadSeekCloser, error) {
	if !isName(name) {
		return nil, notFound(nil)
	}
	file, err := os.Open(filepath.Join(f.dir(t), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(err)
	}
	if err != nil {
		return nil, failed("reading", err)
	}
	return file, nil
}

// Delete implements [sessions.Blobs].
func (f *Folder) Delete(ctx context.Context, t sessions.ThreadID) error {
	if err := os.RemoveAll(f.dir(t)); err != nil {
		return failed("deleting", err)
	}
	return nil
}

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
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &sessions.Error{Code: sessions.Unavailable, Text: "The file store does not work just now; please try again in a moment.",
		Err: fmt.Errorf("%s a blob: %w", doing, err)}
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
