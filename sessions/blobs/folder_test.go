package blobs_test

import (
	"testing"

	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/sessionstest"
)

func TestFolder(t *testing.T) {
	sessionstest.RunBlobs(t, func(t *testing.T) sessions.Blobs {
		f, err := blobs.NewFolder(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}
