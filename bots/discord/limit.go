package discord

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// perSecond stays under Discord's 50 requests a second for a bot, with
	// room for those that the network holds back and lets go at once.
	perSecond = 40
	atOnce    = 4
	// maxWait is the longest that a call waits for its turn; the presenter
	// waits better than a blocked call.
	maxWait = 10 * time.Second
	// refusedFor is how long a refusal (401 for all, 403 for a route) is taken
	// for the answer to the same question: 10,000 of them in ten minutes ban
	// the machine's address.
	refusedFor = 5 * time.Minute
	maxRoutes  = 5000 // routes and buckets remembered
)

// limiter keeps to what Discord's headers say. A bucket belongs to several
// routes of one channel (or server, or webhook), which Discord names by a hash.
type limiter struct {
	mu       sync.Mutex
	global   *rate.Limiter
	until    time.Time            // of a global 429
	hashes   map[string]string    // route without its major id → hash
	buckets  map[string]*bucket   // hash and major id
	refusals map[string]*apiError // by route
	refused  map[string]time.Time // when
}

type bucket struct {
	limit, left int
	reset       time.Time
}

func newLimiter() *limiter {
	return &limiter{
		global:   rate.NewLimiter(perSecond, atOnce),
		hashes:   map[string]string{},
		buckets:  map[string]*bucket{},
		refusals: map[string]*apiError{},
		refused:  map[string]time.Time{},
	}
}

// route is a request as limits see it: the method and path with ids left out,
// and the major id on its own.
type route struct{ template, major string }

func routeOf(method, path string) route {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	major := ""
	for i, p := range parts {
		switch {
		case i == 1 && isID(p):
			major = p
			parts[i] = ":major"
		case isID(p):
			parts[i] = ":id"
		case i == 2 && (parts[0] == "webhooks" || parts[0] == "interactions"):
			major += "/" + p
			parts[i] = ":token"
		case i > 0 && parts[i-1] == "reactions":
			parts[i] = ":emoji"
		}
	}
	return route{method + " " + strings.Join(parts, "/"), major}
}

// bucket finds the route's; the lock is held.
func (l *limiter) bucket(r route) *bucket {
	hash, ok := l.hashes[r.template]
	if !ok {
		hash = r.template
	}
	key := hash + " " + r.major
	b := l.buckets[key]
	if b == nil {
		b = &bucket{limit: 1, left: 1}
		l.buckets[key] = b
	}
	return b
}

// everything is the key of a refusal that holds for all routes.
const everything = "*"

// wait waits for the route's turn. An error says that it would take too long,
// or that Discord has refused the like just now.
func (l *limiter) wait(ctx context.Context, r route) error {
	deadline := time.Now().Add(maxWait)
	counted := false // against the global limit
	for {
		delay, err := l.reserve(r, &counted)
		if err != nil || delay <= 0 {
			return err
		}
		if time.Now().Add(delay).After(deadline) {
			return &apiError{Status: http.StatusTooManyRequests, After: delay, Message: "over the rate limit", Unsent: true}
		}
		select {
		case <-ctx.Done():
			return &apiError{Unsent: true, Message: "given up while waiting for the rate limit", Err: ctx.Err()}
		case <-time.After(delay):
		}
	}
}

// reserve says how long to wait, or takes the place.
func (l *limiter) reserve(r route, counted *bool) (time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, key := range []string{everything, r.template + " " + r.major} {
		if at, ok := l.refused[key]; ok {
			if now.Sub(at) < refusedFor {
				e := *l.refusals[key]
				e.Unsent = true
				return 0, &e
			}
			delete(l.refused, key)
			delete(l.refusals, key)
		}
	}
	if d := l.until.Sub(now); d > 0 {
		return d, nil
	}
	b := l.bucket(r)
	if b.left <= 0 && !b.reset.IsZero() {
		if d := b.reset.Sub(now); d > 0 {
			return d, nil
		}
		b.left, b.reset = b.limit, time.Time{}
	}
	if !*counted {
		*counted = true
		if res := l.global.ReserveN(now, 1); res.DelayFrom(now) > 0 {
			return res.DelayFrom(now), nil
		}
	}
	if !b.reset.IsZero() {
		b.left--
	}
	return 0, nil
}

// learn takes what an answer says of limits.
func (l *limiter) learn(r route, h http.Header, failed *apiError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if hash := h.Get("X-RateLimit-Bucket"); hash != "" {
		l.hashes[r.template] = hash
	}
	if left, err := strconv.Atoi(h.Get("X-RateLimit-Remaining")); err == nil {
		b := l.bucket(r)
		if now.Before(b.reset) {
			left = min(left, b.left) // answers may overtake each other
		}
		b.left, b.reset = left, now.Add(seconds(h.Get("X-RateLimit-Reset-After")))
		if n, err := strconv.Atoi(h.Get("X-RateLimit-Limit")); err == nil && n > 0 {
			b.limit = n
		}
	}
	if failed != nil {
		l.learnFailure(r, failed, now)
	}
	if len(l.buckets) > maxRoutes {
		for key, b := range l.buckets {
			if now.After(b.reset) {
				delete(l.buckets, key)
			}
		}
	}
	if len(l.refused) > maxRoutes {
		clear(l.refused)
		clear(l.refusals)
	}
}

func (l *limiter) learnFailure(r route, e *apiError, now time.Time) {
	key := r.template + " " + r.major
	switch {
	case e.Status == http.StatusTooManyRequests && e.Global:
		l.until = now.Add(e.After)
		return
	case e.Status == http.StatusTooManyRequests:
		b := l.bucket(r)
		b.left, b.reset = 0, now.Add(e.After)
		return
	case e.Status == http.StatusUnauthorized:
		key = everything
	case e.Status == http.StatusForbidden && (e.Code == codeNoAccess || e.Code == codeNoPermission):
	default:
		return
	}
	l.refused[key], l.refusals[key] = now, e
}

// seconds reads a number of seconds with a fraction.
func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f > 1e6 {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}
