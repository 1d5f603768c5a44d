package main

import (
	"slices"
	"strings"
	"testing"

	"threadbook/sessions/redisstore"
)

func TestDrainCommand(t *testing.T) {
	t.Parallel()
	private, err := redisstore.StartPrivate(t.Context(), t.TempDir(), testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { private.Close() })
	args := []string{"worker", "--drain", "--redis-url=" + private.URL, "--host=drained"}
	if out, errs, code := command(t, "", args...); code != 0 || out != "No worker runs on host drained.\n" {
		t.Fatalf("with none: exit %d, %q, %s", code, out, errs)
	}
	if out, errs, code := command(t, "", "worker", "--drain"); code != exitUsage || !strings.Contains(errs, "REDIS_URL") {
		t.Errorf("without a store: exit %d, %q, %s", code, out, errs)
	}

	c := testConfig(t)
	c.RedisURL, c.Host, c.Pool = private.URL, "drained", 0
	r := start(t, c)
	thread := r.thread(t)
	r.ask(t, thread, 1, "```python\nx = 41\n```")
	out, errs, code := command(t, "", args...)
	if code != 0 || !strings.HasPrefix(out, "Asked 1 of host drained's workers to end.\n") || !strings.HasSuffix(out, "They have ended.\n") {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	if err := <-r.done; err != nil {
		t.Errorf("the process ended with %v", err)
	}
	close(r.done) // nothing is left to stop

	again := start(t, c)
	provider, err := openProvider(c, again.fleet, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Close()
	if asleep, err := provider.Asleep(t.Context()); err != nil || !slices.Contains(asleep, string(thread)) {
		t.Errorf("on disk: %v, %v", asleep, err)
	}
	if log := again.ask(t, thread, 2, "```python\nprint(x)\n```"); printed(log) != "41\n" {
		t.Errorf("got %s", show(log))
	}
}
