package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"threadbook/bots"
	"threadbook/bots/botstest"
	"threadbook/sessions"
	"threadbook/worker/agenttest"
)

var (
	chaosMinutes = flag.Float64("chaos-minutes", 0, "how long TestChaos goes on; make chaos sets it")
	chaosSeed    = flag.Uint64("chaos-seed", 0, "what TestChaos does, 0: something new, which it prints")
)

// code is what answers the numbered messages: it prints each number once, and
// all that the kernel has seen.
func code(numbers ...string) string {
	return fmt.Sprintf("seen = globals().get('seen', []) + [%s]\nprint('answer', %s, 'seen', seen)", strings.Join(numbers, ", "), strings.Join(numbers, ", "))
}

var askedFor = regexp.MustCompile(`\bask (\d+)\b`)

// answerScript is a model that answers the numbers which it is asked for, by
// running code first.
func answerScript(r agenttest.Request) agenttest.Reply {
	var numbers []string
	called := false
	for _, m := range slices.Backward(r.Messages) {
		if m.Role == "assistant" && len(m.ToolCalls) == 0 {
			break
		}
		called = called || m.Role == "assistant"
		if m.Role == "user" {
			found := askedFor.FindAllStringSubmatch(m.Content, -1)
			for _, match := range slices.Backward(found) {
				numbers = append(numbers, match[1])
			}
		}
	}
	slices.Reverse(numbers)
	if called {
		return agenttest.Reply{Text: "The answers: " + strings.Join(numbers, " ")}
	}
	return agenttest.Reply{Calls: []agenttest.Call{{Name: "run_code", Arguments: map[string]any{"language": "python", "code": code(numbers...)}}}}
}

// TestInjuries kills what can be killed, once each and in the middle of work;
// see [TestChaos].
func TestInjuries(t *testing.T) {
	if *chaosMinutes > 0 {
		return // make chaos runs the longer one alone
	}
	c := newChaos(t, 1, 3)
	for _, injure := range c.injuries() {
		c.ask(2)
		injure()
	}
	c.check()
}

// TestChaos sends numbered messages into threads while it kills workers, bots,
// containers, kernels and Redis and cuts the network between them, for as long
// as the flag says. At the end every message is answered once, in order.
func TestChaos(t *testing.T) {
	if *chaosMinutes == 0 {
		return // TestInjuries stands for it
	}
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano() % 1e9)
	}
	t.Logf("the seed is %d", seed)
	c := newChaos(t, seed, 8)
	injuries := c.injuries()
	for until := time.Now().Add(time.Duration(*chaosMinutes * float64(time.Minute))); time.Now().Before(until); {
		c.ask(1 + c.random.IntN(6))
		injuries[c.random.IntN(len(injuries))]()
	}
	c.check()
}

// chaos is a fleet under attack.
type chaos struct {
	*fleet
	random  *rand.Rand
	threads []string
	asked   map[string][]int // numbers, by thread
	last    int
}

func newChaos(t testing.TB, seed uint64, threads int) *chaos {
	c := &chaos{fleet: newFleet(t, answerScript, "one", "one"), random: rand.New(rand.NewPCG(seed, 0)), asked: map[string][]int{}}
	for i := range threads {
		c.threads = append(c.threads, fmt.Sprintf("t%d", i))
	}
	return c
}

// ask sends messages, each with a number of its own: cells, and words for the
// model.
func (c *chaos) ask(n int) {
	c.Helper()
	for range n {
		c.last++
		thread := c.threads[c.random.IntN(len(c.threads))]
		number := strconv.Itoa(c.last)
		text := "ask " + number
		if c.random.IntN(2) == 0 {
			text = "```python\n" + code(number) + "\n```"
		}
		c.asked[thread] = append(c.asked[thread], c.last)
		c.say(botstest.Event{Thread: thread, User: "ada", Text: text, Key: number})
	}
}

// busy sends one message whose cell takes a second, to be hurt in the middle.
func (c *chaos) busy() {
	c.Helper()
	c.last++
	thread := c.threads[c.random.IntN(len(c.threads))]
	c.asked[thread] = append(c.asked[thread], c.last)
	number := strconv.Itoa(c.last)
	c.say(botstest.Event{Thread: thread, User: "ada", Key: number,
		Text: "```python\nimport time\nfor i in range(20):\n    print('step', i, flush=True)\n    time.sleep(0.05)\n" + code(number) + "\n```"})
	c.eventually(time.Minute, "the cell of message "+number+" runs", func(posts []botstest.Posted) bool {
		return slices.ContainsFunc(posts, func(p botstest.Posted) bool {
			return p.Thread == thread && slices.ContainsFunc(p.Post.Cells, func(cell bots.Cell) bool {
				return strings.Contains(cell.Output, "step") || strings.Contains(cell.Output, "answer "+number+" ")
			})
		})
	})
}

// pause is how long something stays away.
func (c *chaos) pause(most time.Duration) {
	time.Sleep(time.Duration(c.random.Int64N(int64(most)))) // the injury itself, not a wait for something
}

// injuries are what can be done to the fleet.
func (c *chaos) injuries() []func() {
	kill := func(p *process) func() {
		return func() {
			c.busy()
			c.Logf("killing %s", p.name)
			p.end(syscall.SIGKILL)
			c.ask(1)
			c.pause(2 * time.Second)
			p.start(c, false)
		}
	}
	cutOff := func(i int, what string, most time.Duration) func() {
		return func() {
			c.busy()
			c.Logf("cutting %s off from Redis", what)
			c.cuts[i].set(true)
			c.ask(1)
			c.pause(most)
			c.cuts[i].set(false)
		}
	}
	return []func(){
		kill(c.workers[0]), kill(c.bot), kill(c.workers[1]),
		func() { // both at once
			c.busy()
			c.Logf("killing both workers")
			c.workers[0].end(syscall.SIGKILL)
			c.workers[1].end(syscall.SIGKILL)
			c.ask(1)
			c.workers[1].start(c, false)
			c.workers[0].start(c, false)
		},
		func() {
			c.Logf("stopping a worker as a roll-out would")
			c.busy()
			c.workers[0].end(syscall.SIGTERM)
			c.workers[0].start(c, false)
		},
		cutOff(0, "a worker", 12*time.Second), cutOff(len(c.cuts)-1, "the bot", 3*time.Second),
		func() {
			c.busy()
			c.Logf("killing Redis")
			c.killRedis()
			c.ask(2)
		},
		func() {
			c.busy()
			c.Logf("killing a container")
			name, err := fleetOf(c.Context(), c.store)
			if err != nil {
				c.Fatal(err)
			}
			if ids := containers(c, name); len(ids) > 0 {
				id := ids[c.random.IntN(len(ids))]
				if out, err := exec.Command("docker", "kill", id).CombinedOutput(); err != nil {
					c.Logf("docker kill: %v: %s", err, out) // it may have ended
				}
			}
		},
		func() {
			c.Logf("killing a kernel")
			c.last++
			thread := c.threads[c.random.IntN(len(c.threads))]
			c.asked[thread] = append(c.asked[thread], c.last)
			c.say(botstest.Event{Thread: thread, User: "ada", Key: strconv.Itoa(c.last), Text: "```python\nimport os\nos._exit(1)\n```"})
		},
		func() {
			c.Logf("the platform loses answers and events")
			c.faults(botstest.Faults{Lost: 0.2, Failed: 0.1, Limited: 0.1, Repeated: 0.5})
			c.ask(4)
			c.pause(3 * time.Second)
			c.faults(botstest.Faults{})
		},
		func() {
			c.Logf("the platform is down")
			c.faults(botstest.Faults{Down: true})
			c.ask(2)
			c.pause(5 * time.Second)
			c.faults(botstest.Faults{})
		},
	}
}

func (c *chaos) killRedis() {
	c.Helper()
	pid, err := redisPID(c.Context(), c.store)
	if err != nil {
		c.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.Fatal(err)
	}
}

// check waits until all is answered and looks at what the threads have.
func (c *chaos) check() {
	c.Helper()
	const patience = 3 * time.Minute
	keys := func(thread string) []string { // of turns that stand on the platform whole
		log := c.log(thread)
		var done []string
		for turn, t := range log.turns {
			for _, p := range log.posts[turn] {
				if p.State == sessions.PostSent && p.Final && p.Part == "live" {
					done = append(done, t.keys...)
				}
			}
		}
		return done
	}
	c.eventually(patience, "every message has its live post's last form", func([]botstest.Posted) bool {
		for thread, numbers := range c.asked {
			if done := keys(thread); len(done) < len(numbers) {
				return false
			}
		}
		return true
	})
	c.stop()
	posts := c.posts()
	seen := map[string]bool{}
	for _, p := range posts {
		if seen[p.Key] {
			c.Errorf("the post %s was made twice", p.Key)
		}
		seen[p.Key] = true
	}
	lost := 0
	for thread, numbers := range c.asked {
		lost += c.checkThread(thread, numbers, posts)
	}
	if len(c.unread()) > 0 {
		c.Errorf("threads are unread at the end: %v", c.unread())
	}
	name, err := fleetOf(c.Context(), c.store)
	if err != nil {
		c.Fatal(err)
	}
	if n := len(containers(c, name)); n > len(c.threads)+1 { // and the template's maker
		c.Errorf("%d containers are left of %d threads", n, len(c.threads))
	}
	c.Logf("%d messages in %d threads, %d posts; variables were lost, and that was told, %d times", c.last, len(c.threads), len(posts), lost)
	if c.Failed() {
		c.tell()
	}
}

// threadLog is what a log says of its turns.
type threadLog struct {
	turns map[int64]*turnLog
	order []int64
	heard []int // the messages' numbers, as they came into the log
	posts map[int64][]*sessions.Post
}

type turnLog struct {
	keys     []string
	output   string
	lost     bool
	status   []string // of its cells
	finished int
}

func (f *fleet) log(thread string) threadLog {
	f.Helper()
	log := threadLog{turns: map[int64]*turnLog{}, posts: map[int64][]*sessions.Post{}}
	messages := map[int64]string{}
	var after int64
	for {
		events, err := f.store.Read(f.Context(), sessions.NewThreadID(botstest.Name, thread), after, 1000, 0)
		if err != nil {
			return log // Redis may be down just now
		}
		if len(events) == 0 {
			return log
		}
		for _, ev := range events {
			after = ev.Seq
			t := log.turns[ev.Turn]
			switch b := ev.Body.(type) {
			case *sessions.Message:
				messages[ev.Seq] = b.Key
				if n, err := strconv.Atoi(b.Key); err == nil {
					log.heard = append(log.heard, n)
				}
			case *sessions.TurnStarted:
				t = &turnLog{}
				log.turns[ev.Turn], log.order = t, append(log.order, ev.Turn)
				for _, seq := range b.Messages {
					t.keys = append(t.keys, messages[seq])
				}
			case *sessions.Post:
				log.posts[ev.Turn] = append(log.posts[ev.Turn], b)
			case *sessions.CellOutput:
				t.output += b.Text
			case *sessions.CellFinished:
				t.status = append(t.status, b.Status)
			case *sessions.Notice:
				if t != nil && b.Code == "state_lost" {
					t.lost = true
				}
			case *sessions.TurnFinished:
				t.finished++
			}
		}
	}
}

var seenList = regexp.MustCompile(`answer ([\d ]+) seen \[([\d, ]+)\]`)

// checkThread looks at one thread, and counts how often its variables were lost.
func (c *chaos) checkThread(thread string, numbers []int, posts []botstest.Posted) (lost int) {
	c.Helper()
	log := c.log(thread)
	var answered []int
	var have []string // what the kernel should have seen
	unsure := false   // a cell ended badly, so that it may have counted or not
	for _, id := range log.order {
		t := log.turns[id]
		if t.finished != 1 {
			c.Errorf("%s: turn %d ended %d times", thread, id, t.finished)
		}
		if t.lost {
			lost++
			have, unsure = nil, true
		}
		for _, key := range t.keys {
			n, err := strconv.Atoi(key)
			if err != nil {
				c.Fatal(err)
			}
			answered = append(answered, n)
		}
		matches := seenList.FindAllStringSubmatch(t.output, -1)
		if len(matches) > 1 {
			c.Errorf("%s: turn %d, of %v, ran %d times: %q", thread, id, t.keys, len(matches), t.output)
		}
		if len(matches) == 0 {
			if slices.Contains(t.status, "ok") {
				c.Errorf("%s: turn %d, of %v, ended well and printed %q", thread, id, t.keys, t.output)
			}
			unsure = true
			continue
		}
		if got := strings.Fields(matches[0][1]); !slices.Equal(got, t.keys) {
			c.Errorf("%s: turn %d was asked %v and answered %v", thread, id, t.keys, got)
		}
		now := strings.Split(matches[0][2], ", ")
		have = append(have, t.keys...)
		if !unsure && !slices.Equal(now, have) {
			c.Errorf("%s: turn %d has seen %v, and nobody said that anything was lost of %v", thread, id, now, have)
		}
		have, unsure = now, false
		live := slices.IndexFunc(posts, func(p botstest.Posted) bool {
			return p.Key == fmt.Sprintf("%s:%s#%d/live", botstest.Name, thread, id)
		})
		if live < 0 || posts[live].Post.Running || !strings.Contains(posts[live].Post.Cells[0].Output, "answer") {
			c.Errorf("%s: turn %d has no live post with its answer", thread, id)
		}
	}
	// The platform may deliver late, and so in another order, what an adapter
	// that died had not acknowledged.
	if !slices.Equal(answered, log.heard) || !slices.Equal(slices.Sorted(slices.Values(log.heard)), numbers) {
		c.Errorf("%s was asked %v, heard %v and took up %v", thread, numbers, log.heard, answered)
	}
	return lost
}

// unread are the threads that somebody would have to work on.
func (f *fleet) unread() []sessions.ThreadID {
	f.Helper()
	threads, err := f.store.Unread(f.Context(), 100)
	if err != nil {
		f.Fatal(err)
	}
	return threads
}
