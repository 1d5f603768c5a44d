package blobs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/sessionstest"
)

func TestFolder(t *testing.T) {
	sessionstest.RunBlobs(t, func(t *testing.T) (sessionstest.BlobStore, func(time.Duration)) {
		dir := t.TempDir()
		b, err := blobs.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return b, func(by time.Duration) { age(t, dir, by) }
	})
}

// age makes the files in a folder older.
func age(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	for path, info := range files(t, dir) {
		at := info.ModTime().Add(-by)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// files are the regular files in a folder.
func files(t *testing.T, dir string) map[string]fs.FileInfo {
	t.Helper()
	found := map[string]fs.FileInfo{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		found[path], err = d.Info()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What a put that was cut off leaves in the folder goes once it is old.
func TestFolderRests(t *testing.T) {
	dir := t.TempDir()
	b, err := blobs.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Put(t.Context(), "test:t", iotest.ErrReader(fs.ErrInvalid), 1); err == nil || len(files(t, dir)) != 0 {
		t.Errorf("a put that failed left %v; %v", files(t, dir), err)
	}
	old, young := filepath.Join(dir, "tmp", "OLD"), filepath.Join(dir, "tmp", "YOUNG")
	for _, rest := range []string{old, young} {
		if err := os.WriteFile(rest, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now().Add(-2 * sessions.PruneMin)
	if err := os.Chtimes(old, at, at); err != nil {
		t.Fatal(err)
	}
	if err := b.Prune(t.Context(), "", 0); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) != 1 || left[young] == nil {
		t.Errorf("left are %v", left)
	}
}
