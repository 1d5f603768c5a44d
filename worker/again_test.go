package worker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"threadbook/sessions"
	"threadbook/sessions/redisstore"
	"threadbook/sessions/sessionstest"
	"threadbook/worker"
	"threadbook/worker/agent"
	"threadbook/worker/agenttest"
)

// lined is a store by a way that can be injured.
func (b *bench) lined(t *testing.T) (*redisstore.Store, *sessionstest.Line) {
	t.Helper()
	line := sessionstest.NewLine(t, b.url)
	store, err := redisstore.Open(line.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, line
}

// isHeld says whether somebody has the thread's lease.
func (b *bench) isHeld(t *testing.T, thread sessions.ThreadID) bool {
	t.Helper()
	client := b.store.MakeRedisClient().(redis.UniversalClient)
	defer client.Close()
	n, err := client.Exists(t.Context(), "tb:{"+string(thread)+"}:lease").Result()
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

// A connection to Redis that breaks before an answer has come changes nothing in
// the log of the turn that waited for it, whatever it had asked.
func TestLostAnswersInATurn(t *testing.T) {
	t.Parallel()
	const want = "message turn.started model.reply cell.started cell.output cell.finished tool.result model.reply turn.finished"
	b := newBench(t, agenttest.Words)
	store, line := b.lined(t)
	b.workAs(t, func(c *worker.Config) { c.Store = store })
	const text = "python print one\\nsay {result}"
	for _, word := range []string{":lease", string(sessions.KindTurnStarted), string(sessions.KindReply), string(sessions.KindCellStarted),
		string(sessions.KindCellOutput), string(sessions.KindTurnFinished), ":left"} {
		thread := sessions.NewThreadID("test", "lost"+word)
		lost := line.Lose("evalsha", string(thread), word)
		b.send(t, thread, text)
		if _, log := b.finished(t, thread, 1); kinds(log) != want {
			t.Errorf("with the answer to %s lost: %s", word, kinds(log))
		}
		<-lost
		b.wait(t, func() bool { return !b.isHeld(t, thread) })
		b.send(t, thread, "say more")
		b.finished(t, thread, 2)
	}
}

// A turn whose messages nobody knows ends with a sentence, and the next one is as
// any other.
func TestTurnOfNothing(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:nothing")
	b := newBench(t, agenttest.Words)
	seq := b.left(t, thread, "say hi", func(seq int64) []sessions.Body {
		return []sessions.Body{&sessions.TurnStarted{Messages: []int64{99}}}
	})
	b.work(t)
	if end, log := b.finished(t, thread, 1); end.Status != sessions.TurnFailed {
		t.Errorf("got %s: %s", end.Status, kinds(log))
	}
	end, log := b.finished(t, thread, 2)
	start := slices.IndexFunc(log, func(e sessions.Event) bool { _, ok := e.Body.(*sessions.TurnStarted); return ok && e.Turn == 2 })
	if end.Status != sessions.TurnOK || start < 0 || !slices.Equal(log[start].Body.(*sessions.TurnStarted).Messages, []int64{seq}) {
		t.Errorf("the next turn: %s: %s", end.Status, kinds(log))
	}
}

// A turn's start that stands in the log twice, as it did when appends could be made
// twice, is one.
func TestTurnStartedTwice(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:twice")
	b := newBench(t, agenttest.Words)
	b.left(t, thread, "```\nprint hi\n```", func(seq int64) []sessions.Body {
		start := &sessions.TurnStarted{Messages: []int64{seq}}
		return []sessions.Body{start, start}
	})
	b.work(t)
	if end, log := b.finished(t, thread, 1); end.Status != sessions.TurnOK || printed(log, 1) != "hi\n" {
		t.Errorf("got %s: %s", end.Status, kinds(log))
	}
}

// A turn that gets on between restarts may be taken up as often as there are any.
func TestRestartsAreNoPoison(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:restarts")
	b := newBench(t, agenttest.Words)
	b.left(t, thread, "say hi", func(seq int64) []sessions.Body {
		again := &sessions.Notice{Code: "resumed"}
		step := func(call string) []sessions.Body {
			return []sessions.Body{&sessions.Reply{Calls: []sessions.Call{{ID: call, Name: "list_files", Arguments: "{}"}}}, &sessions.ToolResult{Call: call, Text: "none"}}
		}
		bodies := []sessions.Body{&sessions.TurnStarted{Messages: []int64{seq}}, again, again}
		bodies = append(append(bodies, step("a")...), again, again)
		bodies = append(append(bodies, step("b")...), again, again)
		return bodies
	})
	b.work(t)
	if end, log := b.finished(t, thread, 1); end.Status != sessions.TurnOK {
		t.Errorf("got %s: %s", end.Status, kinds(log))
	}
}

// A holder that is cut off from Redis, so that nothing it says is even refused,
// stops before another may have its thread.
func TestCutOffHolderStopsInTime(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:off")
	asked, hold := make(chan struct{}, 10), make(chan struct{})
	b := newBench(t, func(agenttest.Request) agenttest.Reply {
		asked <- struct{}{}
		return agenttest.Reply{Text: "hi", Wait: hold}
	})
	store, line := b.lined(t)
	model := &watched{Model: b.model, ended: make(chan time.Time, 10)}
	b.workAs(t, func(c *worker.Config) { c.Store, c.Model = store, model })
	b.send(t, thread, "hello")
	<-asked
	line.Stall()
	b.wait(t, func() bool { return !b.isHeld(t, thread) })
	free := time.Now()
	select {
	case ended := <-model.ended:
		if ended.After(free) {
			t.Errorf("the holder went on for %v", ended.Sub(free))
		}
	default:
		t.Error("the lease has run out, and its holder goes on")
	}
	close(hold)
	line.Mend()
}

// What asynq has given up is held still: it is waited for at a shutdown, and asynq
// gives up nothing for being late.
func TestShutdownWaitsForHolders(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:long")
	asked := make(chan struct{}, 10)
	b := newBench(t, func(agenttest.Request) agenttest.Reply {
		asked <- struct{}{}
		return agenttest.Reply{Text: "hi", Wait: make(chan struct{})}
	})
	const grace = time.Second
	stop, _ := b.workAs(t, func(c *worker.Config) { c.Grace = grace })
	b.send(t, thread, "hello")
	<-asked
	inspector := asynq.NewInspector(b.store)
	t.Cleanup(func() { inspector.Close() })
	active := func() []*asynq.TaskInfo {
		tasks, err := inspector.ListActiveTasks("host:tester")
		if err != nil {
			t.Fatal(err)
		}
		return tasks
	}
	tasks := active()
	if len(tasks) != 1 || tasks[0].Timeout < 24*time.Hour {
		t.Fatalf("at work on %+v", tasks)
	}
	if err := inspector.CancelProcessing(tasks[0].ID); err != nil {
		t.Fatal(err)
	}
	b.wait(t, func() bool { return len(active()) == 0 })
	if !b.isHeld(t, thread) {
		t.Error("the thread was let go with its task")
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took < grace || b.isHeld(t, thread) { // the model takes all the time there is
		t.Errorf("the worker has ended after %v; the thread is held: %v", took, b.isHeld(t, thread))
	}
}

// Threads that nobody comes to have one wake-up of the sweep's waiting, not one
// more each time; what a killed worker had doesn't count.
func TestSweepQueuesOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, agenttest.Words)
	m := b.host(t, "one")
	// Its home lives, and takes nothing.
	const thread, dead = sessions.ThreadID("test:waits"), sessions.ThreadID("test:dead")
	for _, id := range []sessions.ThreadID{thread, dead} {
		lease, err := b.store.Lease(b.ctx, id, "setup")
		if err != nil {
			t.Fatal(err)
		}
		if err := lease.SetHome(b.ctx, "busy"); err != nil {
			t.Fatal(err)
		}
		if err := lease.Drop(b.ctx); err != nil {
			t.Fatal(err)
		}
	}
	beat := func() {
		if _, err := b.store.Beat(b.ctx, sessions.Host{Name: "busy", Worker: "busy", Concurrency: 1}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	beat()
	inspector := asynq.NewInspector(b.store)
	t.Cleanup(func() { inspector.Close() })
	client := b.store.MakeRedisClient().(redis.UniversalClient)
	t.Cleanup(func() { client.Close() })
	for _, id := range []sessions.ThreadID{thread, dead} {
		if _, _, err := b.store.Submit(b.ctx, id, &sessions.Message{Text: "say hi"}); err != nil {
			t.Fatal(err)
		}
	}
	pending := func() map[string]int {
		tasks, err := inspector.ListPendingTasks("host:busy")
		if err != nil {
			return nil // there is no queue yet
		}
		found := map[string]int{}
		for _, task := range tasks {
			found[string(task.Payload)]++
		}
		return found
	}
	b.wait(t, func() bool { return pending()[string(dead)] == 1 })
	// As asynq does when a worker takes it, which is then killed.
	for _, move := range [][]any{
		{"lrem", "asynq:{host:busy}:pending", 1, "sweep:test:dead:0"},
		{"lpush", "asynq:{host:busy}:active", "sweep:test:dead:0"},
		{"hset", "asynq:{host:busy}:t:sweep:test:dead:0", "state", "active"},
	} {
		if n, err := client.Do(b.ctx, move...).Int(); err != nil || n < 0 {
			t.Fatal(n, err)
		}
	}
	b.wait(t, func() bool { return pending()[string(dead)] == 1 }) // woken again
	began := time.Now()
	b.wait(t, func() bool { return time.Since(began) > 6*time.Second }) // several sweeps
	if p := pending(); p[string(dead)] != 1 || p[string(thread)] != 1 {
		t.Errorf("pending are %v", p)
	}
	m.stop()
}

// watched is a model that says when a call of it has ended.
type watched struct {
	agent.Model
	ended chan time.Time
}

func (w *watched) Complete(ctx context.Context, r agent.Request, partial func(agent.Partial)) (sessions.Reply, error) {
	defer func() { w.ended <- time.Now() }()
	return w.Model.Complete(ctx, r, partial)
}
