package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"threadbook/sessions"
	"threadbook/sessions/redisstore"
	"threadbook/sessions/sessionstest"
)

// node is a redis-server process.
type node struct {
	addr   string
	client *redis.Client
	cmd    *exec.Cmd
}

// startNode starts one with settings of its own, in an argument and in lines of its
// file.
func startNode(t *testing.T, mode string, settings ...string) *node {
	t.Helper()
	n := &node{addr: sessionstest.FreePort(t)}
	host, port, _ := net.SplitHostPort(n.addr)
	dir := t.TempDir()
	conf := filepath.Join(dir, "redis.conf") // a sentinel wants one, and writes to it
	lines := append([]string{"port " + port, "bind " + host, "dir " + dir, `save ""`}, settings...)
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.cmd = exec.Command("redis-server", conf, mode)
	var said bytes.Buffer
	ended := sessionstest.Start(t, &said, n.cmd)
	n.client = redis.NewClient(&redis.Options{Addr: n.addr, MaxRetries: -1, Protocol: 2})
	t.Cleanup(func() { n.client.Close() })
	eventually(t, n.addr+" answers", func(ctx context.Context) bool {
		select {
		case <-ended:
			t.Fatalf("redis-server ended: %s", said.Bytes())
		default:
		}
		return n.client.Ping(ctx).Err() == nil
	})
	return n
}

func (n *node) do(t *testing.T, words ...any) {
	t.Helper()
	if err := n.client.Do(t.Context(), words...).Err(); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
}

// says is whether an INFO has the line.
func says(cmd *redis.StringCmd, line string) bool {
	return strings.Contains(cmd.Val(), line+"\r\n")
}

// eventually waits for something that nothing tells of.
func eventually(t *testing.T, what string, done func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute", what)
		case <-tick.C:
		}
	}
}

// oneByOne gives tests stores on servers that they share, empty and one test after
// the other.
func oneByOne(url string, primaries ...*node) func(*testing.T) sessions.Store {
	var mu sync.Mutex
	return func(t *testing.T) sessions.Store {
		mu.Lock()
		t.Cleanup(mu.Unlock)
		for _, n := range primaries {
			n.do(t, "FLUSHALL")
		}
		return open(t, url)
	}
}

// queue is asynq on the store's Redis.
type queue struct {
	*asynq.Client
	done chan string
}

func startQueue(t *testing.T, s *redisstore.Store) queue {
	t.Helper()
	q := queue{asynq.NewClient(s), make(chan string, 100)}
	server := asynq.NewServer(s, asynq.Config{Concurrency: 2, TaskCheckInterval: 5 * time.Millisecond,
		Queues: map[string]int{"threads": 2, "host:a": 1}, Logger: quiet{t.Output()}, ShutdownTimeout: 5 * time.Second})
	err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		q.done <- string(task.Payload())
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Shutdown()
		q.Close()
	})
	return q
}

// pass sends tasks through each queue and waits for them. An enqueue that fails is
// tried again.
func (q queue) pass(t *testing.T, name string) {
	t.Helper()
	want := map[string]bool{}
	for _, queue := range []string{"threads", "host:a"} {
		for i := range 5 {
			payload := fmt.Sprintf("%s %s %d", name, queue, i)
			want[payload] = true
			eventually(t, "enqueueing "+payload, func(ctx context.Context) bool {
				_, err := q.EnqueueContext(ctx, asynq.NewTask("wake", []byte(payload)), asynq.Queue(queue), asynq.MaxRetry(25), asynq.TaskID(payload))
				return err == nil || errors.Is(err, asynq.ErrTaskIDConflict)
			})
		}
	}
	late := time.After(time.Minute)
	for len(want) > 0 {
		select {
		case payload := <-q.done:
			delete(want, payload)
		case <-late:
			t.Fatalf("these tasks did not come: %v", want)
		}
	}
}

// quiet sends asynq's words to the test.
type quiet struct{ w io.Writer }

func (q quiet) Debug(args ...any) {}
func (q quiet) Info(args ...any)  {}
func (q quiet) Warn(args ...any)  { fmt.Fprintln(q.w, args...) }
func (q quiet) Error(args ...any) { fmt.Fprintln(q.w, args...) }
func (q quiet) Fatal(args ...any) { fmt.Fprintln(q.w, args...) }

// The store and the queue on a cluster of three nodes, of which the address names
// two.
func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := make([]*node, 3)
	for i := range nodes {
		_, bus, _ := net.SplitHostPort(sessionstest.FreePort(t))
		nodes[i] = startNode(t, "--cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-port "+bus, "cluster-node-timeout 5000")
		nodes[i].do(t, "CLUSTER", "ADDSLOTSRANGE", 16384*i/3, 16384*(i+1)/3-1)
		if i > 0 {
			host, port, _ := net.SplitHostPort(nodes[0].addr)
			_, firstBus, _ := strings.Cut(strings.Fields(nodes[0].client.ClusterNodes(t.Context()).Val())[1], "@")
			firstBus, _, _ = strings.Cut(firstBus, ",")
			nodes[i].do(t, "CLUSTER", "MEET", host, port, firstBus)
		}
	}
	for _, n := range nodes {
		eventually(t, n.addr+" knows the cluster", func(ctx context.Context) bool {
			info := n.client.ClusterInfo(ctx)
			return says(info, "cluster_state:ok") && says(info, "cluster_known_nodes:3")
		})
	}
	url := "redis://" + nodes[0].addr + "?addr=" + nodes[1].addr
	t.Run("queue", func(t *testing.T) { startQueue(t, open(t, url)).pass(t, "cluster") })
	t.Run("store", func(t *testing.T) { sessionstest.RunStore(t, oneByOne(url, nodes...)) })
	t.Run("spread", func(t *testing.T) {
		s := oneByOne(url, nodes...)(t)
		for i := range 30 {
			if _, _, err := s.Submit(t.Context(), sessions.NewThreadID("test", fmt.Sprint(i)), &sessions.Message{Text: "hi"}); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range nodes {
			if keys := n.client.DBSize(t.Context()).Val(); keys < 5 {
				t.Errorf("%s has %d keys", n.addr, keys)
			}
		}
		if found, err := s.Unread(t.Context(), 100); err != nil || len(found) != 30 {
			t.Errorf("%d threads are unread, %v", len(found), err)
		}
		if about, err := s.Ping(t.Context()); err != nil {
			t.Errorf("ping: %s, %v", about, err)
		}
	})
}

// The store and the queue behind a sentinel, and what comes of them when the
// primary dies.
func TestSentinel(t *testing.T) {
	t.Parallel()
	primary := startNode(t, "--appendonly no")
	host, port, _ := net.SplitHostPort(primary.addr)
	replica := startNode(t, "--appendonly no", "replicaof "+host+" "+port, "repl-diskless-sync-delay 0")
	eventually(t, "the replica follows", func(ctx context.Context) bool {
		return says(replica.client.Info(ctx, "replication"), "master_link_status:up")
	})
	sentinel := startNode(t, "--sentinel", "sentinel monitor main "+host+" "+port+" 1",
		"sentinel down-after-milliseconds main 500", "sentinel failover-timeout main 5000")
	eventually(t, "the sentinel knows the replica", func(ctx context.Context) bool {
		return strings.Contains(sentinel.client.Info(ctx, "sentinel").Val(), "slaves=1")
	})
	url := "redis-sentinel://" + sentinel.addr + "/0?master=main"
	t.Run("store", func(t *testing.T) { sessionstest.RunStore(t, oneByOne(url, primary)) })
	t.Run("failover", func(t *testing.T) {
		s, thread := open(t, url), sessions.NewThreadID("test", "failover")
		q := startQueue(t, s)
		q.pass(t, "before")
		submit := func(key string) error {
			_, _, err := s.Submit(t.Context(), thread, &sessions.Message{Text: key, Key: key})
			return err
		}
		if err := submit("before"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the replica has it", func(ctx context.Context) bool {
			return replica.client.Exists(ctx, "tb:{"+string(thread)+"}:log").Val() == 1
		})
		drafts, err := s.Drafts(t.Context(), thread)
		if err != nil {
			t.Fatal(err)
		}
		if err := primary.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		eventually(t, "a message is taken again", func(context.Context) bool { return submit("after") == nil })
		t.Logf("the store was away for %v", time.Since(began))
		events, err := s.Read(t.Context(), thread, 0, 10, 0)
		if err != nil || len(events) != 2 || events[1].Body.(*sessions.Message).Key != "after" {
			t.Errorf("got %v, %v", events, err)
		}
		q.pass(t, "after")
		l, err := s.Lease(t.Context(), thread, "tester")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "drafts come again", func(ctx context.Context) bool {
			if err := l.Draft(ctx, sessions.Draft{Text: "so far"}); err != nil {
				t.Fatal(err)
			}
			select {
			case d := <-drafts:
				return d.Text == "so far"
			case <-time.After(20 * time.Millisecond):
				return false
			}
		})
	})
}
