package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/sessions"
)

// submitScript appends what came from outside, once for each key.
// ARGV: key, kind, at, body, title. Returns seq and whether it was added.
var submitScript = redis.NewScript(`
local log, meta, keys = KEYS[1], KEYS[2], KEYS[3]
local key, kind, at, body, title = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if key ~= '' then
	local seen = redis.call('HGET', keys, key)
	if seen then return {tonumber(seen), 0} end
end
local seq = redis.call('HINCRBY', meta, 'seq', 1)
redis.call('XADD', log, seq .. '-0', 'kind', kind, 'at', at, 'body', body)
redis.call('HSET', meta, 'submitted', seq)
if title ~= '' then redis.call('HSETNX', meta, 'title', title) end
if key ~= '' then redis.call('HSET', keys, key, seq) end
return {seq, 1}`)

// appendScript appends events of the lease's holder, and puts off the lease's
// end. ARGV: token, ttl, turn, at, then kind and body of each. Returns the
// first event's seq, or -1 where the lease is another's or nobody's.
var appendScript = redis.NewScript(`
local log, meta, lease = KEYS[1], KEYS[2], KEYS[3]
local token, ttl, turn, at = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('GET', lease) ~= token then return -1 end
redis.call('PEXPIRE', lease, ttl)
local first
for i = 5, #ARGV, 2 do
	local seq = redis.call('HINCRBY', meta, 'seq', 1)
	first = first or seq
	redis.call('XADD', log, seq .. '-0', 'kind', ARGV[i], 'at', at, 'turn', turn, 'body', ARGV[i+1])
end
return first`)

// renewScript: ARGV token, ttl. Returns 1, or -1 where the lease is lost.
var renewScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

// releaseScript: ARGV token, read. Returns 1 where the lease was given back,
// 0 where something newer than read was submitted, -1 where it is lost.
var releaseScript = redis.NewScript(`
local meta, lease = KEYS[1], KEYS[2]
if redis.call('GET', lease) ~= ARGV[1] then return -1 end
local submitted = tonumber(redis.call('HGET', meta, 'submitted') or 0)
if submitted > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', meta, 'read', ARGV[2])
redis.call('DEL', lease)
return 1`)

// dropScript: ARGV token. Returns 1, or -1 where the lease is lost.
var dropScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
return redis.call('DEL', KEYS[1])`)

// clearScript removes a thread whose score is still the one seen. ARGV: thread,
// score.
var clearScript = redis.NewScript(`
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) == tonumber(ARGV[2]) then
	return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0`)

// lease implements [sessions.Lease].
type lease struct {
	s      *Store
	thread sessions.ThreadID
	k      threadKeys
	token  string
}

// Lease implements [sessions.Store].
func (s *Store) Lease(ctx context.Context, t sessions.ThreadID, holder string) (sessions.Lease, error) {
	l := &lease{s: s, thread: t, k: keysOf(t), token: holder + "/" + rand.Text()}
	ok, err := s.client.SetNX(ctx, l.k.lease, l.token, sessions.LeaseTTL).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	if !ok {
		return nil, &sessions.Error{Code: sessions.Busy, Text: "Somebody works on this thread already."}
	}
	return l, nil
}

// Append implements [sessions.Lease].
func (l *lease) Append(ctx context.Context, turn int64, bodies ...sessions.Body) ([]sessions.Event, error) {
	if len(bodies) == 0 {
		return nil, nil
	}
	now := time.Now().UTC()
	argv := make([]any, 0, 4+2*len(bodies))
	argv = append(argv, l.token, sessions.LeaseTTL.Milliseconds(), turn, stamp(now))
	for _, b := range bodies {
		data, err := sessions.MarshalBody(b)
		if err != nil {
			return nil, err
		}
		argv = append(argv, string(b.Kind()), data)
	}
	first, err := l.run(ctx, appendScript, []string{l.k.log, l.k.meta, l.k.lease}, argv...)
	if err != nil {
		return nil, err
	}
	events := make([]sessions.Event, len(bodies))
	for i, b := range bodies {
		events[i] = sessions.Event{Seq: first + int64(i), At: now, Thread: l.thread, Turn: turn, Body: b}
	}
	return events, nil
}

// Draft implements [sessions.Lease].
func (l *lease) Draft(ctx context.Context, d sessions.Draft) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return unavailable(l.s.client.Publish(ctx, l.k.draft, data).Err())
}

// Renew implements [sessions.Lease].
func (l *lease) Renew(ctx context.Context) error {
	_, err := l.run(ctx, renewScript, []string{l.k.lease}, l.token, sessions.LeaseTTL.Milliseconds())
	return err
}

// Release implements [sessions.Lease].
func (l *lease) Release(ctx context.Context, read int64) (bool, error) {
	n, err := l.run(ctx, releaseScript, []string{l.k.meta, l.k.lease}, l.token, read)
	if n != 1 || err != nil {
		return false, err
	}
	return true, l.s.touchActive(ctx, l.thread)
}

// Drop implements [sessions.Lease].
func (l *lease) Drop(ctx context.Context) error {
	_, err := l.run(ctx, dropScript, []string{l.k.lease}, l.token)
	return err
}

// run runs a script that answers -1 where the lease is lost.
func (l *lease) run(ctx context.Context, script *redis.Script, keys []string, argv ...any) (int64, error) {
	n, err := script.Run(ctx, l.s.client, keys, argv...).Int64()
	if err != nil {
		return 0, unavailable(err)
	}
	if n < 0 {
		holder, _, _ := strings.Cut(l.token, "/")
		return 0, &sessions.Error{Code: sessions.LeaseLost,
			Text: "The work on this thread went to another worker.",
			Err:  &leaseLostError{l.thread, holder}}
	}
	return n, nil
}

type leaseLostError struct {
	thread sessions.ThreadID
	holder string
}

func (e *leaseLostError) Error() string {
	return "thread " + string(e.thread) + ": the lease of " + e.holder + " has ended"
}
