package blobs_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/sessionstest"
)

// credentials are the server's, for as long as the test runs.
func credentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", sessionstest.S3AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", sessionstest.S3SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_REGION", "")
}

// under is the address with a prefix.
func under(address, prefix string) string { return strings.Replace(address, "?", "/"+prefix+"?", 1) }

func openS3(t *testing.T, address string) blobs.Store {
	t.Helper()
	b, err := blobs.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestS3(t *testing.T) {
	credentials(t)
	server := sessionstest.StartS3(t)
	n := 0
	sessionstest.RunBlobs(t, func(t *testing.T) (sessionstest.BlobStore, func(time.Duration)) {
		n++
		prefix := fmt.Sprintf("store-%d", n)
		return openS3(t, under(server.Address, prefix)), func(by time.Duration) { age(t, filepath.Join(server.Folder, prefix), by) }
	})
}

// A server lists and removes a thousand objects at a time.
func TestS3Pages(t *testing.T) {
	credentials(t)
	server := sessionstest.StartS3(t)
	b := openS3(t, server.Address)
	if _, _, err := b.Put(t.Context(), "test:one", strings.NewReader("x"), 100); err != nil {
		t.Fatal(err)
	}
	// Straight into the server's folder, since each put waits for the disk.
	const many = 1050
	dir := filepath.Join(server.Folder, "threads", "test_3amany")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range many {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%064x", i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	counts := func() map[sessions.ThreadID]int64 {
		found := map[sessions.ThreadID]int64{}
		for k, err := range b.Kept(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			found[k.Thread] += k.Blobs
		}
		return found
	}
	if got := counts(); got["test:many"] != many || got["test:one"] != 1 {
		t.Errorf("are kept: %v", got)
	}
	if err := b.Delete(t.Context(), "test:many"); err != nil {
		t.Fatal(err)
	}
	if got := counts(); len(got) != 1 || got["test:one"] != 1 {
		t.Errorf("are kept: %v", got)
	}
}

// What is there is not sent again while it is young, and a large file goes in one
// piece and leaves nothing in the temporary folder.
func TestS3Put(t *testing.T) {
	credentials(t)
	t.Setenv("TMPDIR", t.TempDir())
	server := sessionstest.StartS3(t)
	b := openS3(t, under(server.Address, "p"))
	large := make([]byte, 24<<20)
	rand.Read(large)
	var sent []time.Time
	for range 3 {
		if _, size, err := b.Put(t.Context(), "test:t", bytes.NewReader(large), 24<<20); err != nil || size != 24<<20 {
			t.Fatalf("size %d, %v", size, err)
		}
		dir := filepath.Join(server.Folder, "p")
		for _, info := range files(t, dir) {
			sent = append(sent, info.ModTime())
		}
		if len(sent) == 2 {
			age(t, dir, sessions.PruneMin/2)
		}
	}
	if len(sent) != 3 || !sent[0].Equal(sent[1]) || !sent[2].After(sent[1].Add(-sessions.PruneMin/2)) {
		t.Errorf("the times at which it was sent: %v", sent)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
}

// A reader that fails is told; a server or a bucket that isn't there stops the
// start.
func TestS3Fails(t *testing.T) {
	credentials(t)
	b := openS3(t, sessionstest.StartS3(t).Address)
	_, _, err := b.Put(t.Context(), "test:t", iotest.ErrReader(io.ErrNoProgress), 100)
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that fails: %v", err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "s3://threadbook?region=us-east-1&endpoint=http://" + l.Addr().String()
	l.Close()
	for address, want := range map[string]string{
		gone: "connection refused",
		strings.Replace(sessionstest.StartS3(t).Address, "threadbook", "elsewhere", 1): "bucket elsewhere",
	} {
		_, err := blobs.Open(t.Context(), address)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got the error %v, want %q in it", address, err, want)
		}
	}
}

// No credentials and wrong ones stop the start, and are not told.
func TestS3Credentials(t *testing.T) {
	credentials(t)
	address := sessionstest.StartS3(t).Address
	t.Setenv("AWS_SECRET_ACCESS_KEY", "sesame")
	if _, err := blobs.Open(t.Context(), address); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("a wrong secret: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/none") // no look at the machine's own role
	if _, err := blobs.Open(t.Context(), address); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("no credentials: %v", err)
	}
}

func TestCheckAddress(t *testing.T) {
	for address, ok := range map[string]bool{
		"s3://bucket": true,
		"s3://bucket/a/b/?endpoint=https://h:9000&region=eu-1&path-style=true": true,
		"s3://bucket?endpoint=http://h/":                                       true,
		"s3://":                                                                false,
		"s3://B_":                                                              false,
		"gs://bucket":                                                          false,
		"s3://key:sesame@bucket":                                               false,
		"s3://bucket?secret=sesame":                                            false,
		"s3://bucket?endpoint=h:9000":                                          false,
		"s3://bucket?endpoint=https://u:sesame@h":                              false,
		"s3://bucket?endpoint=https://h/path":                                  false,
		"s3://bucket?path-style=yes":                                           false,
		"s3://bucket?endpoint=https://h:9000;secret=%zz":                       false,
	} {
		err := blobs.CheckAddress(address)
		if (err == nil) != ok {
			t.Errorf("%s: got %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: the error shows the password: %v", address, err)
		}
	}
}
