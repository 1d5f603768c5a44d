package main

import (
	"testing"
	"time"

	"threadbook/sessions"
)

// What code leaves in the workspace comes back in a new sandbox, and nothing is
// copied or given out that hasn't changed. "!rerun" brings the variables.
func TestWorkspaceIsKept(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t))
	thread := r.thread(t)
	files := func() (given, saved []string) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for { // until it has been let go of
			lease, err := r.store.Lease(t.Context(), thread, "looker")
			if err == nil {
				err = lease.Drop(t.Context())
			}
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		log, err := r.store.Read(t.Context(), thread, 0, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range bodies[*sessions.File](log) {
			if f.Saved {
				saved = append(saved, f.Path)
			} else {
				given = append(given, f.Path)
			}
		}
		return given, saved
	}
	r.ask(t, thread, 1, "```python\nimport os, pickle\nx = 41\nos.makedirs('outputs', exist_ok=True)\nopen('outputs/a.txt', 'w').write('a')\nos.makedirs('models')\npickle.dump([1, 2], open('models/m.pkl', 'wb'))\n```", weatherCSV)
	if given, saved := files(); len(given) != 2 || len(saved) != 1 || saved[0] != "models/m.pkl" {
		t.Fatalf("given %v, saved %v", given, saved)
	}
	r.ask(t, thread, 2, "```python\nprint(x)\n```")
	if _, saved := files(); len(saved) != 1 {
		t.Errorf("saved again: %v", saved)
	}
	removeSandbox(t, r.cfg, r.fleet, thread)
	if log := r.ask(t, thread, 3, "```python\nimport pickle\nprint(pickle.load(open('models/m.pkl', 'rb')))\n```"); printed(log) != "[1, 2]\n" {
		t.Errorf("got %s", show(log))
	}
	// The new sandbox's times were noted, and nothing else.
	if given, saved := files(); len(given) != 2 || len(saved) != 1+3 {
		t.Errorf("given %v, saved %v", given, saved)
	}
	r.ask(t, thread, 4, "!rerun") // makedirs fails, for models is there
	if log := r.ask(t, thread, 5, "```python\nprint(x)\n```"); printed(log) != "41\n" {
		t.Errorf("got %s", show(log))
	}
}
