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

// A connection may break after Redis has run a script and before its answer has
// come. go-redis then runs the script again, so each that changes something must
// know its own repetition, and answer it as it did the first time.

// submitScript appends what came from outside, once for each key. What bears the
// key already is this very call's if it has the same time, in nanoseconds, and
// the same body. ARGV: key, kind, at, body, title. Returns seq and whether it was
// added.
var submitScript = redis.NewScript(`
local log, meta, keys = KEYS[1], KEYS[2], KEYS[3]
local key, kind, at, body, title = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local seen = redis.call('HGET', keys, key)
if seen then
	local entry = redis.call('XRANGE', log, seen .. '-0', seen .. '-0')[1]
	local same = entry and entry[2][4] == at and entry[2][6] == body
	return {tonumber(seen), same and 1 or 0}
end
local seq = redis.call('HINCRBY', meta, 'seq', 1)
redis.call('XADD', log, seq .. '-0', 'kind', kind, 'at', at, 'body', body)
redis.call('HSET', meta, 'submitted', seq)
if title ~= '' then redis.call('HSETNX', meta, 'title', title) end
redis.call('HSET', keys, key, seq)
return {seq, 1}`)

// appendScript appends events of the lease's holder, and puts off the lease's
// end. A lease's calls are numbered and made one after the other; one that is
// not newer than the last that was done has been done, and a repetition that was
// long on its way does no harm. ARGV: token, ttl, call, turn, at, then kind and
// body of each. Returns the first event's seq, or -1 where the lease is another's
// or nobody's.
var appendScript = redis.NewScript(`
local log, meta, lease = KEYS[1], KEYS[2], KEYS[3]
local token, ttl, call, turn, at = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('GET', lease) ~= token then return -1 end
redis.call('PEXPIRE', lease, ttl)
local done = redis.call('HMGET', meta, 'writer', 'call', 'first')
if done[1] == token and tonumber(done[2]) >= tonumber(call) then return tonumber(done[3]) end
local first
for i = 6, #ARGV, 2 do
	local seq = redis.call('HINCRBY', meta, 'seq', 1)
	first = first or seq
	redis.call('XADD', log, seq .. '-0', 'kind', ARGV[i], 'at', at, 'turn', turn, 'body', ARGV[i+1])
end
redis.call('HSET', meta, 'writer', token, 'call', call, 'first', first)
return first`)

// takeScript takes the lease. ARGV: token, ttl. Returns whether it has it.
var takeScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)

// renewScript: ARGV token, ttl. Returns 1, or -1 where the lease is lost.
var renewScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

// leaveLua begins the scripts that give the lease back, and leave ends them: in
// between it is the caller's. For a while the thread has a note of the call by
// which it was given back, so that its repetition hears the same. KEYS: lease,
// left. ARGV: token, call, the note's time to live. Such a script returns 1 where
// the lease was given back, and -1 where it is lost.
const leaveLua = `
local lease, left, call, keep = KEYS[1], KEYS[2], ARGV[2], ARGV[3]
if redis.call('GET', lease) ~= ARGV[1] then
	if redis.call('GET', left) == call then return 1 end
	return -1
end
local function leave()
	redis.call('DEL', lease)
	redis.call('SET', left, call, 'PX', keep)
	return 1
end
`

// leftFor is how long that note stays; a call takes no longer than callTimeout.
const leftFor = 4 * callTimeout

// releaseScript: KEYS[3] meta, ARGV[4] read. Returns 0 where something newer than
// read was submitted.
var releaseScript = redis.NewScript(leaveLua + `
local meta, read = KEYS[3], ARGV[4]
local submitted = tonumber(redis.call('HGET', meta, 'submitted') or 0)
if submitted > tonumber(read) then return 0 end
redis.call('HSET', meta, 'read', read)
return leave()`)

var dropScript = redis.NewScript(leaveLua + `return leave()`)

// lease implements [sessions.Lease].
type lease struct {
	s      *Store
	thread sessions.ThreadID
	k      threadKeys
	token  string

	appending chan struct{} // holds one while an append is under way
	calls     int64         // appends so far; whoever appends has it
}

// Lease implements [sessions.Store].
func (s *Store) Lease(ctx context.Context, t sessions.ThreadID, holder string) (sessions.Lease, error) {
	l := &lease{s: s, thread: t, k: keysOf(t), token: holder + "/" + rand.Text(), appending: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ok, err := takeScript.Run(ctx, s.client, []string{l.k.lease}, l.token, sessions.LeaseTTL.Milliseconds()).Bool()
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
	select {
	case l.appending <- struct{}{}:
		defer func() { <-l.appending }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	l.calls++
	now := time.Now().UTC()
	argv := make([]any, 0, 5+2*len(bodies))
	argv = append(argv, l.token, sessions.LeaseTTL.Milliseconds(), l.calls, turn, stamp(now))
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
	n, err := l.leave(ctx, releaseScript, []string{l.k.meta}, read)
	if n != 1 || err != nil {
		return false, err
	}
	return true, l.s.touchActive(ctx, l.thread)
}

// Drop implements [sessions.Lease].
func (l *lease) Drop(ctx context.Context) error {
	_, err := l.leave(ctx, dropScript, nil)
	return err
}

// leave runs a script that gives the lease back.
func (l *lease) leave(ctx context.Context, script *redis.Script, keys []string, argv ...any) (int64, error) {
	return l.run(ctx, script, append([]string{l.k.lease, l.k.left}, keys...),
		append([]any{l.token, rand.Text(), leftFor.Milliseconds()}, argv...)...)
}

// run runs a script that answers -1 where the lease is lost. Its tries end before
// the lease would: what comes later is no use to the holder.
func (l *lease) run(ctx context.Context, script *redis.Script, keys []string, argv ...any) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
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
