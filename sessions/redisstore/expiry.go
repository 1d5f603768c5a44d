package redisstore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/sessions"
)

// forgetScript removes a thread's own keys and with them its lease. KEYS[3…5]: log,
// meta, keys. ARGV[4]: read. Returns 0 where something newer than read was
// submitted.
var forgetScript = redis.NewScript(leaveLua + `
local log, meta, keys = KEYS[3], KEYS[4], KEYS[5]
local submitted = tonumber(redis.call('HGET', meta, 'submitted') or 0)
local read = math.max(tonumber(ARGV[4]), tonumber(redis.call('HGET', meta, 'read') or 0))
if submitted > read then return 0 end
redis.call('UNLINK', log, meta, keys)
return leave()`)

// Forget implements [sessions.Lease]. The thread leaves its platform's list only
// if it was not touched since Forget began, and is left in tb:unread, from where it
// is taken like any thread that has nothing unread: a message that is being
// submitted meanwhile is found there, and whoever reads it lists the thread again.
// After a crash half-way the thread is listed without a log, until Forget is
// called again.
func (l *lease) Forget(ctx context.Context, read int64) (bool, error) {
	list := threadsKey(l.thread.Platform())
	active, err := l.s.client.ZScore(ctx, list, string(l.thread)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, unavailable(err)
	}
	n, err := l.leave(ctx, forgetScript, []string{l.k.log, l.k.meta, l.k.keys}, read)
	if n != 1 || err != nil {
		return false, err
	}
	return true, unavailable(clearScript.Run(ctx, l.s.client, []string{list}, string(l.thread), int64(active)).Err())
}

// Idle implements [sessions.Index].
func (s *Store) Idle(ctx context.Context, before time.Time, limit int) ([]sessions.ThreadID, error) {
	platforms, err := s.client.SMembers(ctx, platformsKey).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	var found []redis.Z
	for _, p := range platforms {
		zs, err := s.client.ZRangeByScoreWithScores(ctx, threadsKey(p), &redis.ZRangeBy{
			Min: "-inf", Max: "(" + strconv.FormatInt(before.UnixMilli(), 10), Count: int64(limit)}).Result()
		if err != nil {
			return nil, unavailable(err)
		}
		found = append(found, zs...)
	}
	slices.SortStableFunc(found, func(a, b redis.Z) int { return int(a.Score - b.Score) })
	idle := make([]sessions.ThreadID, 0, min(limit, len(found)))
	for _, z := range found[:cap(idle)] {
		idle = append(idle, threadOf(z))
	}
	return idle, nil
}
