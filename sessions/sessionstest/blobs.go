package sessionstest

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"threadbook/sessions"
)

// RunBlobs runs the suite; open returns an empty blob store.
func RunBlobs(t *testing.T, open func(t *testing.T) sessions.Blobs) {
	const limit = 1 << 20
	one, two := sessions.NewThreadID("test", "one"), sessions.NewThreadID("test", "two")
	put := func(t *testing.T, b sessions.Blobs, thread sessions.ThreadID, content string) string {
		t.Helper()
		name, size, err := b.Put(t.Context(), thread, strings.NewReader(content), limit)
		if err != nil || size != int64(len(content)) {
			t.Fatalf("size %d, error %v", size, err)
		}
		return name
	}
	t.Run("what is put comes back", func(t *testing.T) {
		b := open(t)
		for _, content := range []string{"", "héllo", strings.Repeat("x", limit)} {
			r, err := b.Get(t.Context(), one, put(t, b, one, content))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != content {
				t.Errorf("got %d bytes, %v; want %d", len(got), err, len(content))
			}
			if at, err := r.Seek(0, io.SeekStart); at != 0 || err != nil {
				t.Errorf("seeking: %v", err)
			}
			r.Close()
		}
	})
	t.Run("equal bytes have one name", func(t *testing.T) {
		b := open(t)
		const want = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of hello
		if first, second := put(t, b, one, "hello"), put(t, b, one, "hello"); first != want || second != want {
			t.Errorf("got %s and %s", first, second)
		}
	})
	t.Run("a thread sees its own alone, and is deleted alone", func(t *testing.T) {
		b := open(t)
		name := put(t, b, one, "mine")
		_, err := b.Get(t.Context(), two, name)
		wantCode(t, err, sessions.NotFound)
		put(t, b, two, "mine")
		if err := b.Delete(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		_, err = b.Get(t.Context(), one, name)
		wantCode(t, err, sessions.NotFound)
		r, err := b.Get(t.Context(), two, name)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if err := b.Delete(t.Context(), one); err != nil {
			t.Errorf("deleting again: %v", err)
		}
	})
	t.Run("names that are none", func(t *testing.T) {
		b := open(t)
		for _, name := range []string{"", "..", "../tmp", "/etc/passwd", strings.Repeat("A", 64), strings.Repeat("0", 64)} {
			_, err := b.Get(t.Context(), one, name)
			wantCode(t, err, sessions.NotFound)
		}
	})
	t.Run("over the limit", func(t *testing.T) {
		_, _, err := open(t).Put(t.Context(), one, strings.NewReader(strings.Repeat("x", limit+1)), limit)
		wantCode(t, err, sessions.TooLarge)
	})
	t.Run("a reader that fails", func(t *testing.T) {
		if _, _, err := open(t).Put(t.Context(), one, iotest.ErrReader(errors.New("cut")), limit); err == nil {
			t.Error("no error")
		}
	})
}
