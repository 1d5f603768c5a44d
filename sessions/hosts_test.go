package sessions_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"threadbook/sessions"
)

func TestMachines(t *testing.T) {
	t.Parallel()
	now := time.Now()
	got := sessions.Machines([]sessions.Host{
		{Name: "b", Worker: "1", Load: 1, Concurrency: 4, FreeMemory: 7, At: now},
		{Name: "a", Worker: "2", Load: 9, Concurrency: 4, Draining: true},
		{Name: "a", Worker: "3", Load: 2, Concurrency: 8, FreeMemory: 5},
		{Name: "b", Worker: "4", Load: 2, Concurrency: 4, FreeMemory: 6, At: now.Add(time.Second)},
		{Name: "b", Worker: "5", Load: 7, Concurrency: 4, Draining: true},
		{Name: "c", Worker: "6", Load: 1, Concurrency: 2, Draining: true},
	})
	want := []sessions.Host{
		{Name: "a", Load: 2, Concurrency: 8, FreeMemory: 5},
		{Name: "b", Load: 3, Concurrency: 8, FreeMemory: 6, At: now.Add(time.Second)},
		{Name: "c", Load: 1, Concurrency: 2, Draining: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
