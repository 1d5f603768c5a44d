// Package redisstore keeps threads in Redis: [sessions.Store] on streams,
// hashes and small scripts.
//
// Keys of a thread share the hash tag {thread}, so that on a cluster they live
// on one node and one script may touch them all:
//
//	tb:{T}:log    stream   the events; the entry's id is "<seq>-0"
//	tb:{T}:meta   hash     seq: the last event's; submitted: the last one that
//	                       came from outside; read: how far a holder had read
//	                       when it let go; title; home: the sandbox's host;
//	                       writer, call, first: the last append: whose it
//	                       was, its number, its first event
//	tb:{T}:keys   hash     the platforms' keys of what was submitted → seq
//	tb:{T}:lease  string   the holder's token, with its time to live
//	tb:{T}:left   string   the call that gave the last lease back, for a while
//	tb:{T}:draft  channel  what the model is writing; nothing is kept
//
// Keys of the fleet stand alone, and no script mixes them with a thread's:
//
//	tb:unread              sorted set  threads to look at for something unread, by
//	                                   the last message's time in milliseconds
//	tb:threads:<platform>  sorted set  threads by last activity, in milliseconds
//	tb:platforms           set         the platforms that have such a list
//	tb:secret              string      the fleet's signing key
//	tb:marks:<platform>    hash        how far the platform's adapter has read, by channel
//	tb:{hosts}:…           the register of workers; see hosts.go
//
// A thread has something unread while submitted > read. It is put into tb:unread
// before its message is appended, and is taken out by whoever looks for unread
// threads, long after: settled is longer than a Submit may take between the
// two. So a crash anywhere leaves a thread too many, never one too few.
//
// Waiting readers use XREAD BLOCK on connections of their own, since a blocked
// connection serves nobody else.
package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/sessions"
)

const (
	// callTimeout bounds the wait for one answer, and a call of a lease with all
	// its tries. It is well under LeaseTTL.
	callTimeout = 5 * time.Second
	// blockSlice is how long one XREAD waits: go-redis does not give up a
	// read in flight when its context ends, so this bounds a shutdown.
	blockSlice = time.Second
	// maxReaders is how many connections may wait for events at once; each
	// running turn, each open page and each terminal is one.
	maxReaders = 2000
	// settled is how long a thread stays among those to look at after its last
	// message.
	settled     = time.Minute
	titleMax    = 80 // characters of a title in a list of threads
	secretBytes = 32
)

// Store implements [sessions.Store].
type Store struct {
	opts    *redis.UniversalOptions
	client  redis.UniversalClient
	readers redis.UniversalClient // for commands that block
}

// Open returns a store on the Redis at url; see [ParseURL]. It does not
// connect: Ping does.
func Open(url string) (*Store, error) {
	opts, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	// go-redis would write to standard error what it returns to us anyway.
	redis.SetLogger(silent{})
	s := &Store{opts: opts}
	s.client = s.newClient(func(o *redis.UniversalOptions) {
		o.ReadTimeout, o.WriteTimeout = callTimeout, callTimeout
		o.ContextTimeoutEnabled = true // a context's deadline ends the wait for an answer
	})
	s.readers = s.newClient(func(o *redis.UniversalOptions) {
		o.PoolSize = maxReaders
		o.ReadTimeout = blockSlice + callTimeout
	})
	return s, nil
}

func (s *Store) newClient(change func(*redis.UniversalOptions)) redis.UniversalClient {
	o := *s.opts
	change(&o)
	return redis.NewUniversalClient(&o)
}

// MakeRedisClient returns a new client of the same Redis, for the queue: the
// method by which asynq takes connections. The caller closes it.
func (s *Store) MakeRedisClient() any {
	return s.newClient(func(*redis.UniversalOptions) {})
}

// Close closes the connections.
func (s *Store) Close() error {
	return errors.Join(s.client.Close(), s.readers.Close())
}

// threadKeys are the keys of one thread.
type threadKeys struct{ log, meta, keys, lease, left, draft string }

func keysOf(t sessions.ThreadID) threadKeys {
	p := "tb:{" + string(t) + "}:"
	return threadKeys{p + "log", p + "meta", p + "keys", p + "lease", p + "left", p + "draft"}
}

const (
	unreadKey    = "tb:unread"
	platformsKey = "tb:platforms"
	secretKey    = "tb:secret"
)

func threadsKey(platform string) string { return "tb:threads:" + platform }

// Submit implements [sessions.Log].
func (s *Store) Submit(ctx context.Context, t sessions.ThreadID, body sessions.Body) (sessions.Event, bool, error) {
	var key, title string
	switch b := body.(type) {
	case *sessions.Message:
		key, title = b.Key, b.Text
		if strings.TrimSpace(title) == "" && len(b.Files) > 0 {
			title = b.Files[0].Name
		}
	case *sessions.Question:
		title = b.Text
	default:
		return sessions.Event{}, false, fmt.Errorf("a %s event can't be submitted from outside", body.Kind())
	}
	if key == "" {
		key = "once/" + rand.Text()
	}
	data, err := sessions.MarshalBody(body)
	if err != nil {
		return sessions.Event{}, false, err
	}
	now := time.Now().UTC()
	lists := []string{unreadKey, threadsKey(t.Platform())}
	if err := s.touch(ctx, t, lists...); err != nil {
		return sessions.Event{}, false, err
	}
	k := keysOf(t)
	res, err := submitScript.Run(ctx, s.client, []string{k.log, k.meta, k.keys},
		key, string(body.Kind()), stamp(now), data, titleOf(title)).Int64Slice()
	if err != nil {
		return sessions.Event{}, false, unavailable(err)
	}
	if time.Since(now) > settled/2 { // the machine slept in between
		if err := s.touch(ctx, t, lists...); err != nil {
			return sessions.Event{}, false, err
		}
	}
	ev := sessions.Event{Seq: res[0], Thread: t}
	if res[1] == 0 {
		return ev, false, nil
	}
	ev.At, ev.Body = now, body
	return ev, true, nil
}

// titleOf is a text's first line, shortened.
func titleOf(text string) string {
	title, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if r := []rune(title); len(r) > titleMax {
		title = string(r[:titleMax-1]) + "…"
	}
	return title
}

// touchActive moves the thread to the top of its list.
func (s *Store) touchActive(ctx context.Context, t sessions.ThreadID) error {
	return s.touch(ctx, t, threadsKey(t.Platform()))
}

// touch gives the thread the present time in sorted sets.
func (s *Store) touch(ctx context.Context, t sessions.ThreadID, sets ...string) error {
	z := redis.Z{Score: float64(time.Now().UnixMilli()), Member: string(t)}
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, set := range sets {
			p.ZAdd(ctx, set, z)
		}
		p.SAdd(ctx, platformsKey, t.Platform())
		return nil
	})
	return unavailable(err)
}

// Read implements [sessions.Log].
func (s *Store) Read(ctx context.Context, t sessions.ThreadID, after int64, limit int, wait time.Duration) ([]sessions.Event, error) {
	deadline := time.Now().Add(wait)
	for {
		args := &redis.XReadArgs{
			Streams: []string{keysOf(t).log, strconv.FormatInt(after, 10) + "-0"},
			Count:   int64(limit),
			Block:   -1, // don't wait
		}
		client := s.client
		if left := time.Until(deadline); left >= time.Millisecond { // BLOCK 0 would wait for ever
			args.Block, client = min(left, blockSlice), s.readers
		}
		res, err := client.XRead(ctx, args).Result()
		switch {
		case err == nil:
			return decode(t, res[0].Messages)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, redis.Nil):
			return nil, unavailable(err)
		case args.Block < 0:
			return nil, nil
		}
	}
}

// decode reads entries of a stream.
func decode(t sessions.ThreadID, entries []redis.XMessage) ([]sessions.Event, error) {
	events := make([]sessions.Event, 0, len(entries))
	for _, x := range entries {
		ev := sessions.Event{Thread: t}
		var err error
		field := func(name string) string { v, _ := x.Values[name].(string); return v }
		id, _, _ := strings.Cut(x.ID, "-")
		if ev.Seq, err = strconv.ParseInt(id, 10, 64); err != nil {
			return nil, fmt.Errorf("thread %s: entry %s has no sequence number", t, x.ID)
		}
		if ev.At, err = time.Parse(time.RFC3339Nano, field("at")); err != nil {
			return nil, fmt.Errorf("thread %s, event %d: %w", t, ev.Seq, err)
		}
		if turn := field("turn"); turn != "" {
			if ev.Turn, err = strconv.ParseInt(turn, 10, 64); err != nil {
				return nil, fmt.Errorf("thread %s, event %d: %w", t, ev.Seq, err)
			}
		}
		if ev.Body, err = sessions.UnmarshalBody(sessions.Kind(field("kind")), []byte(field("body"))); err != nil {
			return nil, fmt.Errorf("thread %s, event %d: %w", t, ev.Seq, err)
		}
		events = append(events, ev)
	}
	return events, nil
}

func stamp(t time.Time) string { return t.Format(time.RFC3339Nano) }

// Drafts implements [sessions.Log].
func (s *Store) Drafts(ctx context.Context, t sessions.ThreadID) (<-chan sessions.Draft, error) {
	sub := s.client.Subscribe(ctx, keysOf(t).draft)
	if _, err := sub.Receive(ctx); err != nil {
		sub.Close()
		return nil, unavailable(err)
	}
	out := make(chan sessions.Draft)
	go func() {
		defer close(out)
		defer sub.Close()
		in := sub.Channel(redis.WithChannelSize(1), redis.WithChannelSendTimeout(time.Millisecond))
		for {
			select {
			case <-ctx.Done():
				return
			case m, ok := <-in:
				if !ok {
					return
				}
				var d sessions.Draft
				if json.Unmarshal([]byte(m.Payload), &d) != nil {
					continue
				}
				select {
				case out <- d:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// Threads implements [sessions.Index].
func (s *Store) Threads(ctx context.Context, limit int, platforms ...string) ([]sessions.Thread, error) {
	var found []redis.Z
	for _, p := range platforms {
		zs, err := s.client.ZRevRangeWithScores(ctx, threadsKey(p), 0, int64(limit)-1).Result()
		if err != nil {
			return nil, unavailable(err)
		}
		found = append(found, zs...)
	}
	threads := make([]sessions.Thread, len(found))
	pipe := s.client.Pipeline()
	metas := make([]*redis.SliceCmd, len(found))
	for i, z := range found {
		threads[i] = sessions.Thread{ID: threadOf(z), Active: time.UnixMilli(int64(z.Score)).UTC()}
		metas[i] = pipe.HMGet(ctx, keysOf(threads[i].ID).meta, "title", "seq")
	}
	if len(found) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, unavailable(err)
		}
	}
	for i, m := range metas {
		threads[i].Title, _ = m.Val()[0].(string)
		threads[i].Events = number(m.Val()[1])
	}
	slices.SortStableFunc(threads, func(a, b sessions.Thread) int { return b.Active.Compare(a.Active) })
	return threads[:min(limit, len(threads))], nil
}

func threadOf(z redis.Z) sessions.ThreadID {
	id, _ := z.Member.(string)
	return sessions.ThreadID(id)
}

// number reads a field of a hash; one that is not there is 0.
func number(field any) int64 {
	text, _ := field.(string)
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// Active implements [sessions.Index].
func (s *Store) Active(ctx context.Context, t sessions.ThreadID) (time.Time, error) {
	ms, err := s.client.ZScore(ctx, threadsKey(t.Platform()), string(t)).Result()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	return time.UnixMilli(int64(ms)).UTC(), unavailable(err)
}

// Secret implements [sessions.Index].
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	fresh := make([]byte, secretBytes)
	if _, err := rand.Read(fresh); err != nil {
		return nil, err
	}
	if err := s.client.SetNX(ctx, secretKey, fresh, 0).Err(); err != nil {
		return nil, unavailable(err)
	}
	secret, err := s.client.Get(ctx, secretKey).Bytes()
	return secret, unavailable(err)
}

// Ping implements [sessions.Index].
func (s *Store) Ping(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.client.Ping(ctx).Err(); err != nil {
		return "", unavailable(err)
	}
	info, err := s.client.Info(ctx).Result()
	if err != nil { // in-process servers know no INFO without a section
		return "an in-process server", nil
	}
	version, aof := "unknown version", "append-only file off: a crash loses what is newer than its last snapshot"
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case name == "redis_version":
			version = value
		case name == "aof_enabled" && value == "1":
			aof = "append-only file on"
		}
	}
	return "Redis " + version + ", " + aof, nil
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// unavailable marks an error of Redis itself.
func unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return &sessions.Error{Code: sessions.Unavailable,
		Text: "The store does not answer just now; please try again in a moment.",
		Err:  fmt.Errorf("redis: %w", err)}
}
