package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/sessions"
)

// The register of workers. Its keys share a hash tag, so that scripts may touch
// them all. Times are Redis's own, so that no two machines' clocks are compared.
const (
	hostsUntilKey = "tb:{hosts}:until" // sorted set: workers, by when they count as dead, in milliseconds
	hostsStateKey = "tb:{hosts}:state" // hash: worker → its last heartbeat: the time in milliseconds, a space, JSON
	hostsDrainKey = "tb:{hosts}:drain" // set: workers that were asked to drain
)

func hostsKeys() []string { return []string{hostsUntilKey, hostsStateKey, hostsDrainKey} }

// nowLua is the present in milliseconds, by Redis's clock.
const nowLua = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
`

// beatScript: ARGV worker, state, ttl. Returns 1 where the worker is to drain.
var beatScript = redis.NewScript(nowLua + `
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
return redis.call('SISMEMBER', KEYS[3], ARGV[1])`)

// leaveScript: ARGV worker.
var leaveScript = redis.NewScript(`
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])`)

// hostsScript forgets the dead and returns the heartbeats of the others.
var hostsScript = redis.NewScript(nowLua + `
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
	redis.call('HDEL', KEYS[2], dead)
	redis.call('SREM', KEYS[3], dead)
	redis.call('ZREM', KEYS[1], dead)
end
return redis.call('HVALS', KEYS[2])`)

// drainScript: ARGV workers. Returns those of them that live, and are asked.
var drainScript = redis.NewScript(`
local asked = {}
for _, worker in ipairs(ARGV) do
	if redis.call('ZSCORE', KEYS[1], worker) then
		redis.call('SADD', KEYS[3], worker)
		table.insert(asked, worker)
	end
end
return asked`)

// homeScript: ARGV token, host. Returns 1, or -1 where the lease is lost.
var homeScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
if ARGV[2] == '' then
	redis.call('HDEL', KEYS[1], 'home')
else
	redis.call('HSET', KEYS[1], 'home', ARGV[2])
end
return 1`)

// Beat implements [sessions.Hosts].
func (s *Store) Beat(ctx context.Context, h sessions.Host, ttl time.Duration) (bool, error) {
	h.At = time.Time{}
	state, err := json.Marshal(h)
	if err != nil {
		return false, err
	}
	drain, err := beatScript.Run(ctx, s.client, hostsKeys(), h.Worker, state, ttl.Milliseconds()).Bool()
	return drain, unavailable(err)
}

// Leave implements [sessions.Hosts].
func (s *Store) Leave(ctx context.Context, h sessions.Host) error {
	return unavailable(leaveScript.Run(ctx, s.client, hostsKeys(), h.Worker).Err())
}

// Hosts implements [sessions.Hosts].
func (s *Store) Hosts(ctx context.Context) ([]sessions.Host, error) {
	states, err := hostsScript.Run(ctx, s.client, hostsKeys()).StringSlice()
	if err != nil {
		return nil, unavailable(err)
	}
	hosts := make([]sessions.Host, len(states))
	for i, beat := range states {
		at, state, _ := strings.Cut(beat, " ")
		if err := json.Unmarshal([]byte(state), &hosts[i]); err != nil {
			return nil, fmt.Errorf("reading a worker's heartbeat: %w", err)
		}
		hosts[i].At = time.UnixMilli(number(at)).UTC()
	}
	slices.SortFunc(hosts, sessions.CompareHosts)
	return hosts, nil
}

// Drain implements [sessions.Hosts].
func (s *Store) Drain(ctx context.Context, host string) ([]string, error) {
	hosts, err := s.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var workers []any
	for _, h := range hosts {
		if h.Name == host {
			workers = append(workers, h.Worker)
		}
	}
	if len(workers) == 0 {
		return nil, nil
	}
	asked, err := drainScript.Run(ctx, s.client, hostsKeys(), workers...).StringSlice()
	return asked, unavailable(err)
}

// Home implements [sessions.Homes].
func (s *Store) Home(ctx context.Context, t sessions.ThreadID) (string, error) {
	home, err := s.client.HGet(ctx, keysOf(t).meta, "home").Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return home, unavailable(err)
}

// SetHome implements [sessions.Lease].
func (l *lease) SetHome(ctx context.Context, host string) error {
	_, err := l.run(ctx, homeScript, []string{l.k.meta, l.k.lease}, l.token, host)
	return err
}
