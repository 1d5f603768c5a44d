package slack

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"threadbook/bots"
)

const (
	// longestWait is how long a call waits for its turn. Past that its caller
	// hears how long it would be, and has something newer to say by then.
	longestWait = 10 * time.Second
	// channelBurst is how many posts a channel takes at once before it is one a
	// second; Slack allows "short bursts".
	channelBurst = 3
	maxChannels  = 1024
)

// limiter keeps to Slack's limits: so many calls a minute of each method in
// the workspace, and one post a second in a channel. A wait is the caller's
// alone, so a slow channel holds up nobody else.
type limiter struct {
	mu       sync.Mutex
	methods  map[string]*rate.Limiter
	blocked  map[string]time.Time // by Retry-After
	channels map[string]*rate.Limiter
}

func newLimiter() *limiter {
	return &limiter{methods: map[string]*rate.Limiter{}, blocked: map[string]time.Time{}, channels: map[string]*rate.Limiter{}}
}

// tier is a method's calls a minute and how many may come at once. The tiers
// are those of Slack's reference; chat.postMessage and setStatus have limits
// of their own, of which Slack gives no number.
func tier(method string) (perMinute float64, burst int) {
	switch method {
	case "chat.postMessage", "chat.postEphemeral", "assistant.threads.setStatus":
		return 300, 30
	case "chat.startStream", "chat.stopStream":
		return 20, 20
	case "chat.appendStream": // dust#22893 saw 180, and 1,000 at once
		return 100, 100
	case "files.getUploadURLExternal", "files.completeUploadExternal", "files.info", "users.info", "auth.test", "views.publish":
		return 100, 20
	default: // tier 3; a minute's worth may come at once
		return 50, 50
	}
}

// wait waits until the method may be called; channel is empty save for posts.
func (l *limiter) wait(ctx context.Context, method, channel string) error {
	now := time.Now()
	longest := longestWait
	if method == "chat.startStream" {
		longest = startWait
	}
	l.mu.Lock()
	m := l.methods[method]
	if m == nil {
		perMinute, burst := tier(method)
		m = rate.NewLimiter(rate.Limit(perMinute/60), burst)
		l.methods[method] = m
	}
	var reserved []*rate.Reservation
	delay := l.blocked[method].Sub(now)
	if delay <= longest {
		if channel != "" && isPost(method) {
			reserved = append(reserved, l.channel(channel, now).ReserveN(now, 1))
		}
		reserved = append(reserved, m.ReserveN(now, 1))
	}
	l.mu.Unlock()
	for _, r := range reserved {
		delay = max(delay, r.DelayFrom(now))
	}
	giveUp := func(err error) error {
		for _, r := range reserved {
			r.CancelAt(now)
		}
		return &bots.PostError{After: delay, Refused: true, Err: err}
	}
	if delay > longest {
		return giveUp(fmt.Errorf("%s: its limit leaves no room for %s", method, delay.Round(time.Second)))
	}
	if delay <= 0 {
		return nil
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return giveUp(ctx.Err())
	}
}

// isPost says whether a method puts a message into a channel.
func isPost(method string) bool {
	return method == "chat.postMessage" || method == "chat.startStream" || method == "files.completeUploadExternal"
}

// channel finds a channel's own limiter. Those that are idle are forgotten
// when there are many: a new one allows no more than they did.
func (l *limiter) channel(channel string, now time.Time) *rate.Limiter {
	c := l.channels[channel]
	if c == nil {
		if len(l.channels) >= maxChannels {
			for name, old := range l.channels {
				if old.TokensAt(now) >= channelBurst {
					delete(l.channels, name)
				}
			}
		}
		c = rate.NewLimiter(1, channelBurst)
		l.channels[channel] = c
	}
	return c
}

// block keeps everybody off a method for as long as Slack has said.
func (l *limiter) block(method string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := time.Now().Add(d); until.After(l.blocked[method]) {
		l.blocked[method] = until
	}
}
