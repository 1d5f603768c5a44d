package sessionstest

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The credentials of the server that StartS3 starts.
const (
	S3AccessKey = "threadbook-test"
	S3SecretKey = "correct-horse-battery-staple"
)

// s3Region is the one that versitygw takes itself to be in.
const s3Region = "us-east-1"

// An S3 is a server of S3 on this machine, with one bucket.
type S3 struct {
	// Address is the bucket's, for blobs.Open, without a prefix.
	Address string
	// Folder has an object a file.
	Folder string
}

// StartS3 starts versitygw, pinned in deploy/versitygw, until the test ends.
func StartS3(t testing.TB) S3 {
	t.Helper()
	program, err := findTool("versitygw")
	if err != nil {
		t.Fatal("there is no bin/versitygw; deploy/setup.sh test builds it")
	}
	root, bucket := t.TempDir(), "threadbook"
	if err := os.Mkdir(filepath.Join(root, bucket), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil { // somebody else may take the port that was free
		where := FreePort(t)
		var said bytes.Buffer
		ended := Start(t, &said, exec.Command(program, "--quiet", "--port", where, "--region", s3Region, "--health", "/health",
			"--access", S3AccessKey, "--secret", S3SecretKey, "posix", "--sidecar", t.TempDir(), root))
		if answers(ctx, "http://"+where+"/health", ended) {
			return S3{Folder: filepath.Join(root, bucket),
				Address: "s3://" + bucket + "?endpoint=http://" + where + "&region=" + s3Region + "&path-style=true"}
		}
		<-ended
		t.Logf("versitygw at %s: %s", where, said.Bytes())
	}
	t.Fatal("versitygw does not start")
	return S3{}
}

// findTool finds a program that set-up builds, from a test's folder.
func findTool(name string) (string, error) {
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if path, err := exec.LookPath(filepath.Join(dir, "bin", name)); err == nil {
			return path, nil
		}
		dir = filepath.Dir(dir)
	}
	return exec.LookPath(name)
}

// answers waits until the address answers, and is false if the server ends first.
func answers(ctx context.Context, url string, ended <-chan struct{}) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}
		select {
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
