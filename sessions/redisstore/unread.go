package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"threadbook/sessions"
)

const (
	// unreadPage is how many threads are looked at in one go for something unread.
	unreadPage = 500
	// maxUnread is how many are looked at in all: those that somebody holds stand
	// among the others, and are far fewer.
	maxUnread = 100 * unreadPage
)

// clearScript removes a thread whose score is still the one seen. ARGV: thread,
// score.
var clearScript = redis.NewScript(`
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) == tonumber(ARGV[2]) then
	return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0`)

// Unread implements [sessions.Index].
func (s *Store) Unread(ctx context.Context, limit int) ([]sessions.ThreadID, error) {
	var found []sessions.ThreadID
	for from := 0; from < maxUnread; {
		listed, err := s.client.ZRangeWithScores(ctx, unreadKey, int64(from), int64(from+unreadPage)-1).Result()
		if err != nil {
			return nil, unavailable(err)
		}
		free, cleared, err := s.unread(ctx, listed)
		if err != nil {
			return nil, err
		}
		if found = append(found, free...); len(found) >= limit {
			return found[:limit], nil
		}
		if len(listed) < unreadPage {
			break
		}
		from += len(listed) - cleared
	}
	return found, nil
}

// unread says which of the threads listed have something unread and no holder,
// and takes out of the list those that have long been read.
func (s *Store) unread(ctx context.Context, listed []redis.Z) (free []sessions.ThreadID, cleared int, err error) {
	if len(listed) == 0 {
		return nil, 0, nil
	}
	type state struct {
		held *redis.IntCmd
		meta *redis.SliceCmd
	}
	states := make([]state, len(listed))
	_, err = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, z := range listed {
			k := keysOf(threadOf(z))
			states[i] = state{p.Exists(ctx, k.lease), p.HMGet(ctx, k.meta, "submitted", "read")}
		}
		return nil
	})
	if err != nil {
		return nil, 0, unavailable(err)
	}
	for i, z := range listed {
		submitted, read := number(states[i].meta.Val()[0]), number(states[i].meta.Val()[1])
		switch {
		case submitted > read && states[i].held.Val() == 0:
			free = append(free, threadOf(z))
		case submitted <= read && time.Since(time.UnixMilli(int64(z.Score))) > settled:
			n, err := clearScript.Run(ctx, s.client, []string{unreadKey}, z.Member, int64(z.Score)).Int()
			if err != nil {
				return nil, 0, unavailable(err)
			}
			cleared += n
		}
	}
	return free, cleared, nil
}
