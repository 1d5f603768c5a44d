package sessionstest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"threadbook/sessions"
)

// A BlobStore is one under test.
type BlobStore interface {
	sessions.Blobs
	sessions.BlobKeeper
}

// RunBlobs runs the suite; open returns an empty blob store, and a function that
// makes the blobs in it older than they are.
func RunBlobs(t *testing.T, open func(t *testing.T) (b BlobStore, age func(by time.Duration))) {
	const limit = 1 << 20
	one, two := sessions.NewThreadID("test", "one"), sessions.NewThreadID("test", "two")
	put := func(t *testing.T, b BlobStore, thread sessions.ThreadID, content string) string {
		t.Helper()
		name, size, err := b.Put(t.Context(), thread, strings.NewReader(content), limit)
		if err != nil || size != int64(len(content)) {
			t.Fatalf("size %d, error %v", size, err)
		}
		return name
	}
	t.Run("what is put comes back", func(t *testing.T) {
		b, _ := open(t)
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
		b, _ := open(t)
		const want = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of hello
		if first, second := put(t, b, one, "hello"), put(t, b, one, "hello"); first != want || second != want {
			t.Errorf("got %s and %s", first, second)
		}
	})
	t.Run("a thread sees its own alone, and is deleted alone", func(t *testing.T) {
		b, _ := open(t)
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
	t.Run("reading goes on from any place", func(t *testing.T) {
		b, _ := open(t)
		content := strings.Repeat("0123456789", limit/10)
		r, err := b.Get(t.Context(), one, put(t, b, one, content))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if size, err := r.Seek(0, io.SeekEnd); size != int64(len(content)) || err != nil {
			t.Errorf("it ends at %d, %v", size, err)
		}
		for _, at := range []int64{limit / 2, 3, int64(len(content)) - 5} {
			if _, err := r.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != content[at:at+5] {
				t.Errorf("at %d: got %q, %v", at, got, err)
			}
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("behind the end: got %d bytes, %v", n, err)
		}
	})
	t.Run("what is kept is told", func(t *testing.T) {
		b, _ := open(t)
		if got := kept(t, b); len(got) != 0 {
			t.Errorf("an empty store keeps %v", got)
		}
		// Names that a store might mix up or cut apart.
		for _, thread := range []sessions.ThreadID{one, two, one + "/more", "test:one-2", "test:One_2f%2F+~&='<>,;!", sessions.ThreadID("test:" + strings.Repeat("/x", 97))} {
			put(t, b, thread, "a")
			put(t, b, thread, "a")
			put(t, b, thread, "bcd"+string(thread))
			k := kept(t, b)[thread]
			if k.Blobs != 2 || k.Bytes != int64(4+len(thread)) || time.Since(k.Newest).Abs() > patience {
				t.Errorf("of %s are kept: %+v", thread, k)
			}
			if err := b.Delete(t.Context(), thread); err != nil {
				t.Fatal(err)
			}
			if k, there := kept(t, b)[thread]; there {
				t.Errorf("of %s are kept after its deletion: %+v", thread, k)
			}
		}
		put(t, b, one, "a")
		put(t, b, two, "b")
		for range b.Kept(t.Context()) {
			break // which a caller may
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var failed error
		for _, err := range b.Kept(ctx) {
			failed = err
		}
		if failed == nil {
			t.Error("listing with a context that has ended gave no error")
		}
	})
	t.Run("what is unused is pruned, and only that", func(t *testing.T) {
		b, age := open(t)
		old, again := put(t, b, one, "old"), put(t, b, one, "again")
		put(t, b, two, "other")
		for _, unused := range []time.Duration{0, sessions.PruneMin} {
			if err := b.Prune(t.Context(), one, unused); err != nil || kept(t, b)[one].Blobs != 2 {
				t.Fatalf("young blobs were pruned; %v", err)
			}
		}
		age(2 * sessions.PruneMin)
		put(t, b, one, "again") // which makes it young
		young := put(t, b, one, "young")
		if err := b.Prune(t.Context(), one, 3*sessions.PruneMin); err != nil || kept(t, b)[one].Blobs != 3 {
			t.Fatalf("blobs that were used in that time were pruned; %v", err)
		}
		if err := b.Prune(t.Context(), one, sessions.PruneMin); err != nil {
			t.Fatal(err)
		}
		_, err := b.Get(t.Context(), one, old)
		wantCode(t, err, sessions.NotFound)
		for _, name := range []string{again, young} {
			r, err := b.Get(t.Context(), one, name)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
		if k := kept(t, b); k[one].Blobs != 2 || k[two].Blobs != 1 {
			t.Errorf("are kept: %v", k)
		}
		age(2 * sessions.PruneMin)
		for _, thread := range []sessions.ThreadID{one, one, "", "test:none"} {
			if err := b.Prune(t.Context(), thread, sessions.PruneMin); err != nil {
				t.Errorf("pruning %q: %v", thread, err)
			}
		}
		if k := kept(t, b); len(k) != 1 || k[two].Blobs != 1 {
			t.Errorf("are kept: %v", k)
		}
		if got := put(t, b, one, "old"); got != old || kept(t, b)[one].Blobs != 1 {
			t.Error("what was pruned can't be put again")
		}
	})
	t.Run("one is dropped, and only that", func(t *testing.T) {
		b, _ := open(t)
		name, other := put(t, b, one, "a"), put(t, b, one, "b")
		put(t, b, two, "a")
		for _, drop := range []string{name, name, strings.Repeat("0", 64), "", "..", "thread", "../../x"} {
			if err := b.Drop(t.Context(), one, drop); err != nil {
				t.Errorf("dropping %q: %v", drop, err)
			}
		}
		if err := b.Drop(t.Context(), "test:none", name); err != nil {
			t.Errorf("dropping of a thread that has none: %v", err)
		}
		_, err := b.Get(t.Context(), one, name)
		wantCode(t, err, sessions.NotFound)
		if k := kept(t, b); k[one].Blobs != 1 || k[two].Blobs != 1 {
			t.Errorf("are kept: %v", k)
		}
		r, err := b.Get(t.Context(), one, other)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	})
	t.Run("names that are none", func(t *testing.T) {
		b, _ := open(t)
		for _, name := range []string{"", "..", "../tmp", "/etc/passwd", strings.Repeat("A", 64), strings.Repeat("0", 64)} {
			_, err := b.Get(t.Context(), one, name)
			wantCode(t, err, sessions.NotFound)
		}
	})
	t.Run("over the limit", func(t *testing.T) {
		b, _ := open(t)
		_, _, err := b.Put(t.Context(), one, strings.NewReader(strings.Repeat("x", limit+1)), limit)
		wantCode(t, err, sessions.TooLarge)
	})
	t.Run("a reader that fails", func(t *testing.T) {
		b, _ := open(t)
		if _, _, err := b.Put(t.Context(), one, iotest.ErrReader(errors.New("cut")), limit); err == nil {
			t.Error("no error")
		}
	})
}

// kept is the list of what is kept, by thread.
func kept(t *testing.T, b BlobStore) map[sessions.ThreadID]sessions.Kept {
	t.Helper()
	all := map[sessions.ThreadID]sessions.Kept{}
	for k, err := range b.Kept(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[k.Thread]; twice {
			t.Errorf("%s is listed twice", k.Thread)
		}
		all[k.Thread] = k
	}
	return all
}
