package redisstore_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/sessions"
	"threadbook/sessions/redisstore"
	"threadbook/sessions/sessionstest"
)

func TestRealRedis(t *testing.T) {
	sessionstest.RunStore(t, func(t *testing.T) sessions.Store {
		p := start(t, t.TempDir())
		if p.Forgets {
			t.Fatal("there is no redis-server; deploy/setup.sh installs it")
		}
		return open(t, p.URL)
	})
}

func TestInProcess(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	p := start(t, t.TempDir())
	if !p.Forgets {
		t.Fatal("a redis-server was found on an empty PATH")
	}
	sessionstest.RunStore(t, func(t *testing.T) sessions.Store {
		// The in-process server is one for all the suite's threads, save for
		// the tests that look at all of them.
		q := start(t, t.TempDir())
		return open(t, q.URL)
	})
}

func start(t *testing.T, dir string) *redisstore.Private {
	t.Helper()
	p, err := redisstore.StartPrivate(t.Context(), dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("stopping the private Redis: %v", err)
		}
	})
	return p
}

func open(t *testing.T, url string) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A private Redis keeps its threads over a stop, a kill and a second opener.
func TestPrivateKeeps(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// Long, so that the socket can't lie in it.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	thread := sessions.NewThreadID("test", "t")

	first, err := redisstore.StartPrivate(ctx, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, first.URL)
	if _, _, err := s.Submit(ctx, thread, &sessions.Message{Text: "one"}); err != nil {
		t.Fatal(err)
	}
	second, err := redisstore.StartPrivate(ctx, dir, log)
	if err != nil || second.URL != first.URL {
		t.Fatalf("the second opener got %+v, %v; want the first one's address", second, err)
	}
	second.Close()

	old := redisPID(ctx, s)
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for pid := old; pid == old || pid == 0; pid = redisPID(ctx, s) {
		if ctx.Err() != nil {
			t.Fatal("the child did not come back")
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third := start(t, dir)
	events, err := open(t, third.URL).Read(ctx, thread, 0, 10, 0)
	if err != nil || len(events) != 1 {
		t.Errorf("got %d events, %v; want the one", len(events), err)
	}
}

// redisPID asks the server for its process id; 0 while it does not answer.
func redisPID(ctx context.Context, s *redisstore.Store) int {
	client := s.MakeRedisClient().(redis.UniversalClient)
	defer client.Close()
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(info, "process_id:")
	line, _, _ := strings.Cut(rest, "\r")
	pid, _ := strconv.Atoi(line)
	return pid
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://u:p@h:1/2":                              "h:1 db 2",
		"rediss://h:1":                                   "h:1 db 0 tls",
		"unix:///run/r.sock?db=3":                        "/run/r.sock db 3",
		"redis://h:1?addr=h2:2":                          "h:1 h2:2 db 0",
		"redis-sentinel://u:p@a:1,b:2/4?master=m":        "a:1 b:2 db 4 master m",
		"redis-sentinel://a:1":                           "error",
		"http://h":                                       "error",
		"redis://h:1/x":                                  "error",
		"redis-sentinel://a:1/x?master=m":                "error",
		"redis://user:sesame@h:1/notanumber?dial=sesame": "error",
	} {
		got := "error"
		if o, err := redisstore.ParseURL(raw); err == nil {
			got = strings.Join(o.Addrs, " ") + " db " + strconv.Itoa(o.DB)
			if o.TLSConfig != nil {
				got += " tls"
			}
			if o.MasterName != "" {
				got += " master " + o.MasterName
			}
		} else if strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: the error shows the password: %v", raw, err)
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}
