package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/bots/botstest"
	"threadbook/sessions"
	"threadbook/sessions/redisstore"
	"threadbook/worker/agenttest"
)

// rig is threadbook in this process with the recording platform beside it, for
// benchmarks.
type rig struct {
	testing.TB
	platform *botstest.Platform
	program  *Program
	redis    redis.UniversalClient
	stop     func()
}

func newRig(b testing.TB, change ...func(Config) Config) *rig {
	b.Helper()
	r := &rig{TB: b, platform: botstest.New(1)}
	server := httptest.NewServer(r.platform.Handler())
	b.Cleanup(server.Close)
	model := httptest.NewServer(agenttest.Handler(answerScript))
	b.Cleanup(model.Close)
	c, err := loadConfig([]string{"THREADBOOK_DATA=" + b.TempDir(), "THREADBOOK_ADDR=127.0.0.1:0", "OPENAI_BASE_URL=" + model.URL + "/v1",
		"THREADBOOK_POOL=0", "THREADBOOK_SANDBOX_MEMORY=256m"}, newCommand(nil, nil, nil).PersistentFlags())
	if err != nil {
		b.Fatal(err)
	}
	for _, ch := range change {
		c = ch(c)
	}
	r.program, err = New(b.Context(), c, Roles{Bot: true, Worker: true}, slog.New(slog.DiscardHandler), withRecorder(server.URL))
	if err != nil {
		b.Fatal(err)
	}
	fleet, err := fleetOf(b.Context(), r.program.store)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { removeContainers(b, fleet) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.program.Run(ctx) }()
	r.redis = r.program.store.MakeRedisClient().(redis.UniversalClient)
	r.stop = sync.OnceFunc(func() {
		r.redis.Close()
		cancel()
		if err := errors.Join(<-done, r.program.Close()); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(r.stop)
	return r
}

// turn is what one message took.
type turn struct {
	first time.Duration // to the first post
	last  time.Duration // to the answer, less the cell's own time
}

// ask sends a message for the model and waits for its answer, and for the end
// of all that follows it.
func (r *rig) ask(thread, number string) turn {
	r.Helper()
	began := time.Now()
	r.platform.Say(botstest.Event{Thread: thread, User: "ada", Text: "ask " + number, Key: thread + "/" + number})
	late := time.After(patience)
	for {
		changed := r.platform.Changed()
		posts := r.platform.Posts(thread)
		i := slices.IndexFunc(posts, func(p botstest.Posted) bool { return p.Post.Text == "The answers: "+number })
		if i > 0 && !posts[i-1].Post.Running {
			cells := posts[i-1].Post.Cells
			cell := time.Duration(cells[len(cells)-1].Seconds * float64(time.Second))
			return turn{posts[i-1].At.Sub(began), posts[i].At.Sub(began) - cell}
		}
		select {
		case <-changed:
		case <-late:
			r.Fatalf("no answer to %s in %s; it has %+v", number, thread, posts)
		}
	}
}

// BenchmarkTurn is the platform's own part of a turn: a message for a model
// that answers at once, which runs one small cell in a warm sandbox. Every
// thread sends its next message a second after it did the last, or after the
// answer where that takes longer.
func BenchmarkTurn(b *testing.B) {
	for _, threads := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) { benchTurns(b, threads, time.Second) })
	}
}

// BenchmarkTurns is how many turns this machine manages when the next message
// of ten threads comes with the answer.
func BenchmarkTurns(b *testing.B) { benchTurns(b, 10, 0) }

func benchTurns(b *testing.B, threads int, every time.Duration) {
	r := newRig(b)
	var g sync.WaitGroup
	for i := range threads { // warm up, a few at a time
		g.Go(func() { r.ask("t"+strconv.Itoa(i), "0") })
		if i%4 == 3 {
			g.Wait()
		}
	}
	g.Wait()
	idle := r.traffic()
	const watch = 5 * time.Second
	time.Sleep(watch) // what Redis does for an idle fleet
	idle = r.traffic().less(idle).over(watch)
	before := r.traffic()
	var mu sync.Mutex
	var turns []turn
	b.ResetTimer()
	began := time.Now()
	left := make(chan int, b.N)
	for n := range b.N {
		left <- n + 1
	}
	close(left)
	for i := range threads {
		g.Go(func() {
			if every > 0 { // not all in one moment
				time.Sleep(time.Duration(i) * every / time.Duration(threads))
			}
			for n := range left {
				next := time.After(every)
				t := r.ask("t"+strconv.Itoa(i), strconv.Itoa(n))
				mu.Lock()
				turns = append(turns, t)
				mu.Unlock()
				if every > 0 {
					<-next
				}
			}
		})
	}
	g.Wait()
	took := time.Since(began)
	b.StopTimer()
	used := r.traffic().less(before)
	report(b, turns)
	b.ReportMetric(float64(len(turns))/took.Seconds(), "turns/s")
	each := func(total, rate float64) float64 { return (total - rate*took.Seconds()) / float64(len(turns)) }
	b.ReportMetric(each(used.commands, idle.commands), "redis-commands/turn")
	b.ReportMetric(each(used.bytes, idle.bytes), "redis-bytes/turn")
	b.ReportMetric(0, "ns/op")
}

// report gives the middle and the slowest hundredth.
func report(b *testing.B, turns []turn) {
	one := func(name string, of func(turn) time.Duration) {
		var all []float64
		for _, t := range turns {
			all = append(all, float64(of(t).Microseconds())/1000)
		}
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], name+"-p50-ms")
		b.ReportMetric(all[min(len(all)-1, len(all)*99/100)], name+"-p99-ms")
	}
	one("first", func(t turn) time.Duration { return t.first })
	one("last", func(t turn) time.Duration { return t.last })
}

// BenchmarkChat is a turn as people in Slack and Discord see it, the stand-in
// answering at once: from the message to the live post, and to the answer's,
// the cell's few milliseconds included. A message comes every three seconds,
// since Slack takes one post a second in a channel.
func BenchmarkChat(b *testing.B) {
	for name, open := range map[string]func(*testing.B) room{
		"slack":   func(b *testing.B) room { return newSlackRoom(b) },
		"discord": func(b *testing.B) room { return newDiscordRoom(b) },
	} {
		b.Run(name, func(b *testing.B) {
			room := open(b)
			newRig(b, room.config)
			answered := func(number string, before int, began time.Time) (t turn) {
				ctx, cancel := context.WithTimeout(b.Context(), patience)
				defer cancel()
				if !room.until(ctx, func() bool {
					all := room.said()
					i := slices.IndexFunc(all, func(s said) bool { return strings.Contains(s.words, "The answers: "+number) })
					if i < 0 {
						return false
					}
					t = turn{first: all[before].at.Sub(began), last: all[i].at.Sub(began)}
					return true
				}) {
					b.Fatalf("message %s has no answer", number)
				}
				return t
			}
			began := time.Now()
			room.begin("ask 0", nil)
			answered("0", 0, began)
			var turns []turn
			for n := range b.N {
				next := time.After(3 * time.Second)
				number, before := strconv.Itoa(n+1), len(room.said())
				began := time.Now()
				room.say("ada", "ask "+number)
				turns = append(turns, answered(number, before, began))
				<-next
			}
			report(b, turns)
			b.ReportMetric(0, "ns/op")
		})
	}
}

// traffic is what Redis has done.
type traffic struct{ commands, bytes float64 }

func (t traffic) less(o traffic) traffic { return traffic{t.commands - o.commands, t.bytes - o.bytes} }
func (t traffic) over(d time.Duration) traffic {
	return traffic{t.commands / d.Seconds(), t.bytes / d.Seconds()}
}

func (r *rig) traffic() traffic {
	r.Helper()
	return traffic{r.info("stats", "total_commands_processed"), r.info("stats", "total_net_input_bytes") + r.info("stats", "total_net_output_bytes")}
}

// info is a number that Redis says of itself.
func (r *rig) info(section, field string) float64 {
	r.Helper()
	text, err := r.redis.Info(r.Context(), section).Result()
	if err != nil {
		r.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, field+":")
	line, _, _ := strings.Cut(rest, "\r")
	n, err := strconv.ParseFloat(line, 64)
	if err != nil {
		r.Fatalf("Redis says %q of %s", line, field)
	}
	return n
}

// BenchmarkSleepingThread is what a thread costs Redis whose sandbox sleeps or
// is gone: 10,000 copies of one with three turns.
func BenchmarkSleepingThread(b *testing.B) {
	r := newRig(b)
	for i := range 3 {
		r.ask("model", strconv.Itoa(i))
	}
	log, err := r.program.store.Read(b.Context(), sessions.NewThreadID(botstest.Name, "model"), 0, 1000, 0)
	if err != nil {
		b.Fatal(err)
	}
	const threads = 10_000
	for range b.N {
		before := r.info("memory", "used_memory")
		var g sync.WaitGroup
		for part := range 8 {
			g.Go(func() {
				for i := part; i < threads; i += 8 {
					copyThread(b, r.program.store, sessions.NewThreadID(botstest.Name, "copy", strconv.Itoa(i)), log)
				}
			})
		}
		g.Wait()
		b.ReportMetric((r.info("memory", "used_memory")-before)/threads, "bytes/thread")
		b.ReportMetric(float64(len(log)), "events/thread")
	}
	b.ReportMetric(0, "ns/op")
}

// copyThread writes a log anew, as its writers did.
func copyThread(b *testing.B, store *redisstore.Store, id sessions.ThreadID, log []sessions.Event) {
	var lease sessions.Lease
	for _, ev := range log {
		var err error
		if m, ok := ev.Body.(*sessions.Message); ok {
			_, _, err = store.Submit(b.Context(), id, m)
		} else {
			if lease == nil {
				if lease, err = store.Lease(b.Context(), id, "bench"); err != nil {
					b.Error(err)
					return
				}
			}
			_, err = lease.Append(b.Context(), ev.Turn, ev.Body)
		}
		if err != nil {
			b.Error(err)
			return
		}
	}
	if _, err := lease.Release(b.Context(), int64(len(log))); err != nil {
		b.Error(err)
	}
}

// BenchmarkTakeover is how long a thread waits whose worker was killed in the
// middle of a cell of a second, until its answer stands, less that second.
func BenchmarkTakeover(b *testing.B) {
	c := newChaos(b, 2, 1)
	var all time.Duration
	for range b.N {
		c.busy()
		began := time.Now()
		for _, p := range c.workers { // whichever has it
			p.end(syscall.SIGKILL)
		}
		for _, p := range c.workers {
			p.start(b, false)
		}
		c.settle()
		all += time.Since(began) - time.Second
	}
	b.ReportMetric(all.Seconds()/float64(b.N), "s/takeover")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAwakeThread is what a thread costs while its sandbox is awake, in
// memory of this machine.
func BenchmarkAwakeThread(b *testing.B) {
	r := newRig(b)
	r.ask("t0", "0")
	const threads = 8
	for range b.N {
		before := available(b)
		for i := 1; i <= threads; i++ {
			r.ask("t"+strconv.Itoa(i), "1")
		}
		b.ReportMetric((before-available(b))/threads, "MB/thread")
	}
	b.ReportMetric(0, "ns/op")
}

// available is the machine's free memory in MB.
func available(b *testing.B) float64 {
	out, err := exec.Command("awk", "/MemAvailable/ {print $2/1024}", "/proc/meminfo").Output()
	if err != nil {
		b.Fatal(err)
	}
	mb, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return mb
}
