package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/bots/botstest"
	"threadbook/bots/discord/discordtest"
	"threadbook/bots/slack/slacktest"
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
	c := newChaos(t, 2, 2)
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
	c := newChaos(t, seed, 4)
	injuries := c.injuries()
	for until := time.Now().Add(time.Duration(*chaosMinutes * float64(time.Minute))); time.Now().Before(until); {
		c.ask(1 + c.random.IntN(6))
		injuries[c.random.IntN(len(injuries))]()
	}
	c.check()
}

// lane is a thread on some platform into which numbered messages go.
type lane struct {
	name string
	id   sessions.ThreadID
	send func(text string) (key string)
	said func() []said // the bot's messages, oldest first

	asked map[string]int // numbers, by the messages' keys
}

// chaos is a fleet under attack.
type chaos struct {
	*fleet
	random  *rand.Rand
	lanes   []*lane
	slack   *slackRoom
	discord *discordRoom
	last    int
}

// newChaos starts a fleet with so many threads on each of the three platforms,
// each of which has been answered once.
// With an odd seed the workers take themselves for two machines, so that
// threads move, else for one.
func newChaos(t testing.TB, seed uint64, threads int) *chaos {
	c := &chaos{random: rand.New(rand.NewPCG(seed, 0)), slack: newSlackRoom(t), discord: newDiscordRoom(t)}
	c.fleet = newFleet(t, answerScript, []string{"SLACK_BOT_TOKEN=" + slacktest.BotToken, "SLACK_APP_TOKEN=" + slacktest.AppToken,
		"SLACK_API_URL=" + c.slack.fake.URL(), "DISCORD_BOT_TOKEN=token", "DISCORD_API_URL=" + c.discord.fake.URL()}, "host-0", fmt.Sprintf("host-%d", seed%2))
	for i := range threads {
		name := fmt.Sprintf("t%d", i)
		c.lanes = append(c.lanes, &lane{name: "recorder " + name, id: sessions.NewThreadID(botstest.Name, name),
			send: func(text string) string {
				key := strconv.FormatUint(c.random.Uint64(), 36)
				c.say(botstest.Event{Thread: name, User: "ada", Text: text, Key: key})
				return key
			},
			said: func() []said { return c.recorded(name) }})
		for platform, r := range map[string]room{
			"slack":   &slackRoom{t: t, fake: c.slack.fake},
			"discord": &discordRoom{t: t, fake: c.discord.fake},
		} {
			l := &lane{name: platform + " " + name, said: r.said}
			l.send = func(text string) string {
				if l.id != "" {
					return r.say("ada", text)
				}
				key := r.begin(text, nil)
				l.id = r.thread()
				return key
			}
			c.lanes = append(c.lanes, l)
		}
	}
	slices.SortFunc(c.lanes, func(a, b *lane) int { return strings.Compare(a.name, b.name) })
	for _, l := range c.lanes {
		l.asked = map[string]int{}
		c.number(l, code)
	}
	c.settle()
	return c
}

// recorded are the recording platform's messages as people would see them.
func (c *chaos) recorded(thread string) []said {
	var all []said
	for _, p := range c.posts() {
		if p.Thread == thread {
			s := said{words: p.Post.Text + "\n" + p.Post.Status, id: p.ID}
			for _, cell := range p.Post.Cells {
				s.words += "\n" + cell.Output
			}
			all = append(all, s)
		}
	}
	return all
}

// number sends the next numbered message, a cell.
func (c *chaos) number(l *lane, cell func(...string) string) string {
	c.last++
	number := strconv.Itoa(c.last)
	l.asked[l.send("```python\n"+cell(number)+"\n```")] = c.last
	return number
}

// ask sends messages, each with a number of its own: cells, and words for the
// model.
func (c *chaos) ask(n int) {
	c.Helper()
	for range n {
		l := c.lanes[c.random.IntN(len(c.lanes))]
		if c.random.IntN(2) == 0 {
			c.number(l, code)
			continue
		}
		c.last++
		l.asked[l.send("ask "+strconv.Itoa(c.last))] = c.last
	}
}

// busy sends one message whose cell takes a second, to be hurt in the middle.
func (c *chaos) busy() {
	c.Helper()
	l := c.lanes[c.random.IntN(len(c.lanes))]
	number := c.number(l, func(numbers ...string) string {
		return "import time\nfor i in range(20):\n    print('step', i, flush=True)\n    time.sleep(0.05)\n" + code(numbers...)
	})
	c.eventually(time.Minute, "the cell of message "+number+" runs", func() bool {
		log := c.log(l.id)
		return slices.ContainsFunc(log.order, func(turn int64) bool {
			t := log.turns[turn]
			return l.asked[t.keys[0]] == c.last && (t.output != "" || t.finished > 0)
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
			c.lines[i].Cut()
			c.ask(1)
			c.pause(most)
			c.lines[i].Mend()
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
		cutOff(0, "a worker", 12*time.Second), cutOff(len(c.lines)-1, "the bot", 3*time.Second),
		func() {
			c.Logf("Redis' answers to the workers are lost")
			c.loseAnswers()
		},
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
			c.number(c.lanes[c.random.IntN(len(c.lanes))], func(...string) string { return "import os\nos._exit(1)" })
		},
		func() {
			c.Logf("the platforms lose answers, and the recorder events")
			c.faults(botstest.Faults{Lost: 0.2, Failed: 0.1, Limited: 0.1, Repeated: 0.5})
			c.slack.storm()
			c.discord.storm()
			c.ask(6)
			c.pause(3 * time.Second)
			c.faults(botstest.Faults{})
		},
		func() {
			c.Logf("the platforms are down")
			c.faults(botstest.Faults{Down: true})
			for range 4 {
				c.slack.fake.Fail("chat.postMessage", slacktest.Fault{Status: 503})
			}
			c.discord.fake.Fail(discordtest.Fault{Method: "POST", Path: "/messages", Status: 503})
			c.ask(3)
			c.pause(5 * time.Second)
			c.faults(botstest.Faults{})
			c.discord.fake.Mend()
		},
		func() {
			c.Logf("the ways in are cut")
			c.slack.fake.Disconnect(false)
			c.discord.fake.CloseGateway(4000, "")
			c.ask(3)
		},
	}
}

// loseAnswers lets Redis' answers to what each worker appends be lost, a few times
// for each, while there is work.
func (c *chaos) loseAnswers() {
	c.Helper()
	const most = 10 * time.Second // a worker that gets no turn in this time loses nothing
	var lost []<-chan struct{}
	for _, line := range c.lines[:len(c.workers)] {
		for _, kind := range []sessions.Kind{sessions.KindTurnStarted, sessions.KindCellStarted, sessions.KindCellOutput, sessions.KindPost, sessions.KindTurnFinished} {
			lost = append(lost, line.Lose("evalsha", string(kind), ":lease"))
		}
		lost = append(lost, line.Lose("evalsha", ":left"))
	}
	c.busy()
	c.ask(6)
	late, cancel := context.WithTimeout(c.Context(), most)
	defer cancel()
	n := 0
	for _, answer := range lost {
		select {
		case <-answer:
			n++
		case <-late.Done():
		}
	}
	if n == 0 {
		c.Errorf("no answer was lost")
	}
	c.Logf("%d of %d were lost so far", n, len(lost))
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

// settle waits until every message stands answered on its platform.
func (c *chaos) settle() {
	c.Helper()
	const patience = 4 * time.Minute
	c.eventually(patience, "every message has its live post's last form", func() bool {
		for _, l := range c.lanes {
			log, done := c.log(l.id), 0
			for turn, t := range log.turns {
				if slices.ContainsFunc(log.posts[turn], func(p *sessions.Post) bool {
					return p.State == sessions.PostSent && p.Final && p.Part == "live"
				}) {
					done += len(t.keys)
				}
			}
			if done < len(l.asked) {
				return false
			}
		}
		return len(c.unread()) == 0
	})
}

// check waits until all is answered and looks at what the threads have.
func (c *chaos) check() {
	c.Helper()
	c.settle()
	name, err := fleetOf(c.Context(), c.store)
	if err != nil {
		c.Fatal(err)
	}
	// What a thread left behind on another host goes with the next look at
	// what is awake there.
	c.eventually(4*time.Minute, "no container is left over", func() bool { return len(containers(c, name)) <= len(c.lanes) })
	c.stop()
	lost, posts := 0, 0
	for _, l := range c.lanes {
		a, b := c.checkLane(l)
		lost, posts = lost+a, posts+b
	}
	c.checkBlobs()
	client := c.store.MakeRedisClient().(redis.UniversalClient)
	defer client.Close()
	if leases, err := client.Keys(c.Context(), "tb:*:lease").Result(); err != nil || len(leases) > 0 {
		c.Errorf("leases are left: %v, %v", leases, err)
	}
	c.Logf("%d messages in %d threads, %d posts; variables were lost, and that was told, %d times", c.last, len(c.lanes), posts, lost)
	if c.Failed() {
		c.tell()
	}
}

// checkBlobs looks for bytes of threads that nobody had.
func (c *chaos) checkBlobs() {
	c.Helper()
	folders, err := filepath.Glob(filepath.Join(c.dir, "data", "blobs", "*", "thread"))
	if err != nil {
		c.Fatal(err)
	}
	for _, f := range folders {
		name, err := os.ReadFile(f)
		if err != nil {
			c.Fatal(err)
		}
		if strings.HasPrefix(string(name), "fleet:") { // the clean-up's own mark
			continue
		}
		if !slices.ContainsFunc(c.lanes, func(l *lane) bool { return string(l.id) == strings.TrimSpace(string(name)) }) {
			c.Errorf("there are blobs of %q, which is none of the threads", name)
		}
	}
}

// threadLog is what a log says of its turns.
type threadLog struct {
	turns map[int64]*turnLog
	order []int64
	heard []string // the messages' keys, as they came into the log
	posts map[int64][]*sessions.Post
}

type turnLog struct {
	keys     []string
	output   string
	lost     bool
	status   []string // of its cells
	finished int
}

func (f *fleet) log(thread sessions.ThreadID) threadLog {
	f.Helper()
	log := threadLog{turns: map[int64]*turnLog{}, posts: map[int64][]*sessions.Post{}}
	messages := map[int64]string{}
	var after int64
	for {
		events, err := f.store.Read(f.Context(), thread, after, 1000, 0)
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
				log.heard = append(log.heard, b.Key)
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

// checkLane looks at one thread, and counts how often its variables were lost,
// and its posts.
func (c *chaos) checkLane(l *lane) (lost, posts int) {
	c.Helper()
	log, said := c.log(l.id), l.said()
	var took []string
	var have []string // what the kernel should have seen
	unsure := false   // a cell ended badly, so that it may have counted or not
	for _, id := range log.order {
		t := log.turns[id]
		took = append(took, t.keys...)
		if t.finished != 1 {
			c.Errorf("%s: turn %d ended %d times", l.name, id, t.finished)
		}
		if t.lost {
			lost++
			have, unsure = nil, true
		}
		var numbers []string
		for _, key := range t.keys {
			numbers = append(numbers, strconv.Itoa(l.asked[key]))
		}
		matches := seenList.FindAllStringSubmatch(t.output, -1)
		if len(matches) > 1 {
			c.Errorf("%s: turn %d, of %v, ran %d times: %q", l.name, id, numbers, len(matches), t.output)
		}
		if len(matches) == 0 {
			if slices.Contains(t.status, "ok") {
				c.Errorf("%s: turn %d, of %v, ended well and printed %q", l.name, id, numbers, t.output)
			}
			unsure = true
			continue
		}
		if got := strings.Fields(matches[0][1]); !slices.Equal(got, numbers) {
			c.Errorf("%s: turn %d was asked %v and answered %v", l.name, id, numbers, got)
		}
		now := strings.Split(matches[0][2], ", ")
		have = append(have, numbers...)
		if !unsure && !slices.Equal(now, have) {
			c.Errorf("%s: turn %d has seen %v, and nobody said that anything was lost of %v", l.name, id, now, have)
		}
		have, unsure = now, false
		shown := 0
		for _, m := range said {
			if strings.Contains(m.words, matches[0][0]) && strings.Contains(m.words, " in ") {
				shown++
			}
		}
		if shown != 1 {
			c.Errorf("%s: the answer of turn %d, %q, stands in %d messages", l.name, id, matches[0][0], shown)
		}
	}
	// The platform may deliver late, and so in another order, what an adapter
	// that died had not acknowledged.
	asked := slices.Sorted(maps.Keys(l.asked))
	if !slices.Equal(took, log.heard) || !slices.Equal(slices.Sorted(slices.Values(log.heard)), asked) {
		c.Errorf("%s was asked %v, heard %v and took up %v", l.name, asked, log.heard, took)
	}
	ids := map[string]string{} // of the posts that the ledger knows
	for turn, parts := range log.posts {
		for _, p := range parts {
			if p.State == sessions.PostSent {
				ids[fmt.Sprint(turn, p.Part)] = p.MessageID
			}
		}
	}
	if len(said) != len(ids) {
		c.Errorf("%s: the ledger has %d posts and the platform %d", l.name, len(ids), len(said))
	}
	return lost, len(said)
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
