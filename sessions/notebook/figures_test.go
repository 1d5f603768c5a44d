package notebook

import (
	"io"
	"strings"
	"testing"

	"threadbook/sessions"
)

// The limits hold for what is read, whatever the log says of its size.
func TestLimits(t *testing.T) {
	t.Parallel()
	opened := 0
	f := &figures{each: 10, all: 25, open: func(name string) (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader(name)), nil
	}}
	for _, c := range []struct {
		blob    string
		size    int64
		leftOut string
		opened  int
	}{
		{"0123456789", 10, "", 1},
		{"01234567890", 11, "larger than 10 bytes", 1},
		{"01234567890", 1, "larger than 10 bytes", 2},
		{"0123456789", 10, "", 3},
		{"012345", 6, "used up the limit of 25 bytes in all", 3},
		{"012345", 1, "used up the limit of 25 bytes in all", 4},
		{"01234", 5, "", 5},
		{"0", 1, "used up", 5},
	} {
		data, leftOut, err := f.read(&sessions.CellOutput{Cell: 1, Display: 2, MIME: "image/png", Blob: c.blob, Size: c.size})
		if err != nil || opened != c.opened || (c.leftOut == "") != (leftOut == "") || !strings.Contains(leftOut, c.leftOut) || leftOut == "" && string(data) != c.blob {
			t.Errorf("%+v: got %q, %q, %v after %d", c, data, leftOut, err, opened)
		}
	}
}
