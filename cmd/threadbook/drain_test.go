package main

import (
	"context"
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
	p, err := New(t.Context(), c, Roles{Worker: true}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	for hosts := 0; hosts == 0; {
		found, err := p.store.Hosts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		hosts = len(found)
	}
	out, errs, code := command(t, "", args...)
	if code != 0 || !strings.HasPrefix(out, "Asked 1 of host drained's workers to end.\n") || !strings.HasSuffix(out, "They have ended.\n") {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	if err := <-done; err != nil || ctx.Err() != nil {
		t.Errorf("the worker's process ended with %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
