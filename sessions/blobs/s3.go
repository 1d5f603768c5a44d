package blobs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"threadbook/sessions"
)

// freshFor is how long a blob in a bucket counts as just put: a put of the same
// bytes in that time uploads nothing. It is well under PruneMin.
const freshFor = sessions.PruneMin / 4

// S3 keeps blobs in a bucket: a blob is the object
// <prefix>/threads/<thread>/<sha256>, with the thread's id written by
// escapeThread. What is put is spooled in an unnamed file in the system's
// temporary folder (TMPDIR), since its name is known only at its end, and goes up
// in one request: an upload in parts would leave parts behind in a crash. That
// limits a blob to 5 GiB, which no caller comes near. Nothing else may write below
// <prefix>/threads/, and the bucket should not keep old versions.
type S3 struct {
	client *minio.Client
	bucket string
	root   string // ends in a slash
}

// newS3 opens the bucket at an address, see [CheckAddress], and looks into it.
func newS3(ctx context.Context, where string) (*S3, error) {
	a, err := parseAddress(where)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	client, err := a.newClient()
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", a, err)
	}
	s := &S3{client: client, bucket: a.bucket, root: strings.TrimPrefix(a.prefix+"/threads/", "/")}
	for object := range client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.root, MaxKeys: 1}) {
		err = object.Err
		break
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w; check that the bucket is there, its endpoint and region, and that the AWS_* credentials may list, read, write and delete in it", a, err)
	}
	return s, nil
}

// dir is the beginning of the names of the thread's blobs.
func (s *S3) dir(t sessions.ThreadID) string { return s.root + escapeThread(t) + "/" }

// Put implements [sessions.Blobs].
func (s *S3) Put(ctx context.Context, t sessions.ThreadID, r io.Reader, limit int64) (name string, size int64, err error) {
	tmp, err := os.CreateTemp("", "threadbook-blob-")
	if err != nil {
		return "", 0, failed("spooling", err)
	}
	defer tmp.Close()
	if err := os.Remove(tmp.Name()); err != nil { // it lives on until it is closed
		return "", 0, failed("spooling", err)
	}
	if name, size, err = copyAndName(ctx, tmp, r, limit); err != nil {
		return "", 0, err
	}
	there, err := s.client.StatObject(ctx, s.bucket, s.dir(t)+name, minio.StatObjectOptions{})
	switch {
	case err == nil && there.Size == size && time.Since(there.LastModified) < freshFor:
		return name, size, nil
	case err != nil && !isMissing(err):
		return "", 0, failed("looking for", err)
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return "", 0, failed("spooling", err)
	}
	_, err = s.client.PutObject(ctx, s.bucket, s.dir(t)+name, tmp, size,
		minio.PutObjectOptions{DisableMultipart: true, ContentType: "application/octet-stream"})
	if err != nil {
		return "", 0, failed("writing", err)
	}
	return name, size, nil
}

// Get implements [sessions.Blobs].
func (s *S3) Get(ctx context.Context, t sessions.ThreadID, name string) (io.ReadSeekCloser, error) {
	if !isName(name) {
		return nil, notFound(nil)
	}
	o, err := s.client.GetObject(ctx, s.bucket, s.dir(t)+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, failed("reading", err)
	}
	if _, err := o.Stat(); err != nil { // the first request; GetObject makes none
		o.Close()
		if isMissing(err) {
			return nil, notFound(err)
		}
		return nil, failed("reading", err)
	}
	return object{o}, nil
}

// object is an open blob, with errors of ours.
type object struct{ o *minio.Object }

func (o object) Close() error { return o.o.Close() }

func (o object) Seek(offset int64, whence int) (int64, error) { return o.o.Seek(offset, whence) }

func (o object) Read(p []byte) (int, error) {
	n, err := o.o.Read(p)
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, failed("reading", err)
}

// Delete implements [sessions.Blobs].
func (s *S3) Delete(ctx context.Context, t sessions.ThreadID) error {
	return failed("deleting", s.remove(ctx, t, func(minio.ObjectInfo) bool { return true }))
}

// Prune implements [sessions.BlobKeeper]. A put that was cut off leaves nothing.
func (s *S3) Prune(ctx context.Context, t sessions.ThreadID, unused time.Duration) error {
	if t == "" {
		return nil
	}
	before := pruneBefore(unused)
	return failed("pruning", s.remove(ctx, t, func(o minio.ObjectInfo) bool { return o.LastModified.Before(before) }))
}

// Drop implements [sessions.BlobKeeper].
func (s *S3) Drop(ctx context.Context, t sessions.ThreadID, name string) error {
	if !isName(name) {
		return nil
	}
	err := s.client.RemoveObject(ctx, s.bucket, s.dir(t)+name, minio.RemoveObjectOptions{})
	if err != nil && !isMissing(err) {
		return failed("dropping", err)
	}
	return nil
}

// remove removes those of the thread's blobs that are chosen, a page at a time.
func (s *S3) remove(ctx context.Context, t sessions.ThreadID, chosen func(minio.ObjectInfo) bool) error {
	var failed error
	results, err := s.client.RemoveObjectsWithIter(ctx, s.bucket, func(yield func(minio.ObjectInfo) bool) {
		for o := range s.list(ctx, s.dir(t)) {
			if o.Err != nil {
				failed = o.Err
				return
			}
			if chosen(o) && !yield(minio.ObjectInfo{Key: o.Key}) {
				return
			}
		}
	}, minio.RemoveObjectsOptions{})
	if err != nil {
		return err
	}
	for r := range results {
		if r.Err != nil && !isMissing(r.Err) {
			failed = r.Err
		}
	}
	if failed == nil {
		failed = ctx.Err() // the library ends its lists in silence
	}
	return failed
}

// list lists objects, page by page. One with an error is the last.
func (s *S3) list(ctx context.Context, prefix string) iter.Seq[minio.ObjectInfo] {
	return s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true})
}

// Kept implements [sessions.BlobKeeper]. Objects whose names aren't ours are left
// out.
func (s *S3) Kept(ctx context.Context) iter.Seq2[sessions.Kept, error] {
	return func(yield func(sessions.Kept, error) bool) {
		var k sessions.Kept
		for o := range s.list(ctx, s.root) {
			if o.Err != nil {
				yield(sessions.Kept{}, failed("listing", o.Err))
				return
			}
			dir, name := path.Split(strings.TrimPrefix(o.Key, s.root))
			t, ok := unescapeThread(strings.TrimSuffix(dir, "/"))
			if !ok || !isName(name) {
				continue
			}
			// S3 lists by name, so that a thread's blobs stand together.
			if t != k.Thread {
				if k.Blobs > 0 && !yield(k, nil) {
					return
				}
				k = sessions.Kept{Thread: t}
			}
			k.Blobs++
			k.Bytes += o.Size
			k.Newest = latest(k.Newest, o.LastModified)
		}
		if err := ctx.Err(); err != nil {
			yield(sessions.Kept{}, err)
		} else if k.Blobs > 0 {
			yield(k, nil)
		}
	}
}

// isMissing says whether there is no such object.
func isMissing(err error) bool {
	return minio.ToErrorResponse(err).Code == minio.NoSuchKey
}

// maxPart bounds a part of an object's name between slashes: servers that keep
// objects in files have a file system's limit of 255 bytes.
const maxPart = 200

// escapeThread writes a thread's id as part of an object's name, in letters that no
// server and no signature treats in a way of its own: "_" and two hexadecimal
// digits stand for every other. What is longer than maxPart goes on after "_/".
func escapeThread(t sessions.ThreadID) string {
	var all, part strings.Builder
	for _, c := range []byte(t) {
		if part.Len() >= maxPart {
			all.WriteString(part.String() + "_/")
			part.Reset()
		}
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' {
			part.WriteByte(c)
		} else {
			fmt.Fprintf(&part, "_%02x", c)
		}
	}
	return all.String() + part.String()
}

// unescapeThread reads what escapeThread wrote, and says whether it did.
func unescapeThread(escaped string) (t sessions.ThreadID, ok bool) {
	first, rest, _ := strings.Cut(strings.ReplaceAll(escaped, "_/", ""), "_")
	id := []byte(first)
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "_")
		if len(part) < 2 {
			return "", false
		}
		c, err := hex.DecodeString(part[:2])
		if err != nil {
			return "", false
		}
		id = append(append(id, c...), part[2:]...)
	}
	t = sessions.ThreadID(id)
	return t, escapeThread(t) == escaped && t.Validate() == nil
}
