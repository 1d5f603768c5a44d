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
	"iter"
	"os"
	"path/filepath"
	"time"

	"threadbook/sessions"
)

const (
	// tmpName is the folder of files that are not blobs yet.
	tmpName = "tmp"
	// signatureName is the file in a thread's folder with the thread's id.
	signatureName = "thread"
)

// Folder keeps blobs in a folder, which several processes may share: a blob is
// the file <folder>/<thread>/<sha256>, where <thread> is the SHA-256 of the
// thread's id, since ids have characters that file systems don't like, and may be
// longer than a name; the file "thread" beside the blobs holds the id. A blob
// appears under its name only once it is whole and on disk, so a crash leaves a
// nameless file in tmp/ and never half a blob.
type Folder struct {
	root string
}

// NewFolder makes the folder if there is none.
func NewFolder(root string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Join(root, tmpName), 0o700); err != nil {
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
	tmp, err := os.OpenFile(filepath.Join(f.root, tmpName, rand.Text()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, failed("writing", err)
	}
	defer func() {
		tmp.Close()
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	if name, size, err = copyAndName(ctx, tmp, r, limit); err != nil {
		return "", 0, err
	}
	if err = tmp.Sync(); err != nil {
		return "", 0, failed("writing", err)
	}
	if err = f.place(tmp.Name(), t, name); err != nil {
		return "", 0, failed("writing", err)
	}
	return name, size, nil
}

// place moves a file to where the blob belongs. Whoever prunes the thread may
// remove its folder in between, so it tries again.
func (f *Folder) place(file string, t sessions.ThreadID, name string) error {
	const tries = 5
	for try := 1; ; try++ {
		err := os.MkdirAll(f.dir(t), 0o700)
		if err == nil {
			err = f.sign(t)
		}
		if err == nil {
			err = os.Rename(file, filepath.Join(f.dir(t), name))
		}
		if try == tries || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// sign writes down whose folder it is.
func (f *Folder) sign(t sessions.ThreadID) error {
	signature := filepath.Join(f.dir(t), signatureName)
	if _, err := os.Lstat(signature); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp := filepath.Join(f.root, tmpName, rand.Text())
	if err := os.WriteFile(tmp, []byte(t), 0o600); err != nil {
		return err
	}
	err := os.Rename(tmp, signature)
	if err != nil {
		os.Remove(tmp)
	}
	return err
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

// Kept implements [sessions.BlobKeeper]. Folders that no thread has signed are
// left out: their thread's first put was cut off, or an earlier version made them.
func (f *Folder) Kept(ctx context.Context) iter.Seq2[sessions.Kept, error] {
	return func(yield func(sessions.Kept, error) bool) {
		dirs, err := os.ReadDir(f.root)
		if err != nil {
			yield(sessions.Kept{}, failed("listing", err))
			return
		}
		for _, dir := range dirs {
			if err := ctx.Err(); err != nil {
				yield(sessions.Kept{}, err)
				return
			}
			signed, err := os.ReadFile(filepath.Join(f.root, dir.Name(), signatureName))
			if err != nil {
				continue
			}
			k := sessions.Kept{Thread: sessions.ThreadID(signed)}
			if filepath.Base(f.dir(k.Thread)) != dir.Name() {
				continue
			}
			err = eachFile(filepath.Join(f.root, dir.Name()), func(info fs.FileInfo) error {
				if isName(info.Name()) {
					k.Blobs++
					k.Bytes += info.Size()
					k.Newest = latest(k.Newest, info.ModTime())
				}
				return nil
			})
			if (k.Blobs > 0 || err != nil) && !yield(k, failed("listing", err)) || err != nil {
				return
			}
		}
	}
}

// Prune implements [sessions.BlobKeeper].
func (f *Folder) Prune(ctx context.Context, t sessions.ThreadID, unused time.Duration) error {
	dir, before := filepath.Join(f.root, tmpName), pruneBefore(unused)
	if t != "" {
		dir = f.dir(t)
	}
	err := eachFile(dir, func(info fs.FileInfo) error {
		if t != "" && !isName(info.Name()) || !info.ModTime().Before(before) {
			return ctx.Err()
		}
		if err := os.Remove(filepath.Join(dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return ctx.Err()
	})
	if err == nil && t != "" {
		err = f.removeEmpty(t)
	}
	return failed("pruning", err)
}

// Drop implements [sessions.BlobKeeper].
func (f *Folder) Drop(ctx context.Context, t sessions.ThreadID, name string) error {
	if !isName(name) {
		return nil
	}
	if err := os.Remove(filepath.Join(f.dir(t), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("dropping", err)
	}
	return nil
}

// removeEmpty removes the thread's folder if no blob is in it.
func (f *Folder) removeEmpty(t sessions.ThreadID) error {
	blobs := 0
	err := eachFile(f.dir(t), func(info fs.FileInfo) error {
		if isName(info.Name()) {
			blobs++
		}
		return nil
	})
	if err != nil || blobs > 0 {
		return err
	}
	if err := os.Remove(filepath.Join(f.dir(t), signatureName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(f.dir(t)); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return f.sign(t) // a blob has come in between
}

// eachFile calls do for the files in a folder; of one that is gone, none.
func eachFile(dir string, do func(fs.FileInfo) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = do(info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
