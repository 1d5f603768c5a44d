package slack

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"threadbook/bots"
)

func TestLimiterHoldsUpOneChannelAlone(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	began := time.Now()
	for range channelBurst {
		if err := l.wait(t.Context(), "chat.postMessage", "C1"); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(began); d > 500*time.Millisecond {
		t.Errorf("the first posts took %s", d)
	}
	done := make(chan error, 1)
	go func() { done <- l.wait(t.Context(), "chat.postMessage", "C1") }()
	if err := l.wait(t.Context(), "chat.postMessage", "C2"); err != nil || time.Since(began) > 500*time.Millisecond {
		t.Errorf("another channel waited %s, %v", time.Since(began), err)
	}
	if err := <-done; err != nil || time.Since(began) < 900*time.Millisecond {
		t.Errorf("the fourth post came after %s, %v", time.Since(began), err)
	}
}

func TestLimiterSaysHowLong(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	l.block("chat.update", time.Minute)
	l.block("chat.update", time.Second) // the longer one holds
	err := l.wait(t.Context(), "chat.update", "C1")
	var pe *bots.PostError
	if !errors.As(err, &pe) || !pe.Refused || pe.After < 50*time.Second {
		t.Errorf("got %v", err)
	}
	if err := l.wait(t.Context(), "chat.postMessage", "C1"); err != nil {
		t.Errorf("another method: %v", err)
	}
	// Those who are sent away take nothing from those who come.
	for range 100 {
		_ = l.wait(t.Context(), "chat.update", "C1")
	}
	if tokens := l.methods["chat.update"].Tokens(); tokens < 49 {
		t.Errorf("%.0f calls are left", tokens)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range channelBurst {
		_ = l.wait(t.Context(), "chat.postMessage", "C3")
	}
	if err := l.wait(ctx, "chat.postMessage", "C3"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLimiterForgetsIdleChannels(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	now := time.Now()
	for i := range 5 * maxChannels {
		l.channel(fmt.Sprint(i), now)
	}
	if len(l.channels) > maxChannels {
		t.Errorf("%d channels are kept", len(l.channels))
	}
}

func TestTheTokenGoesToSlackAlone(t *testing.T) {
	t.Parallel()
	s, err := New(Config{BotToken: "xoxb-1", APIURL: "http://127.0.0.1:1234/api"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"https://files.slack.com/files-pri/T1-F1/a.csv": true,
		"https://slack.com/x":                           true,
		"https://FILES.slack-gov.com/x":                 true,
		"http://127.0.0.1:1234/files/x":                 true,
		"https://127.0.0.1:1234/files/x":                false,
		"http://127.0.0.1:1235/files/x":                 false,
		"http://files.slack.com/x":                      false,
		"https://slack.com.evil.example/x":              false,
		"https://evilslack.com/x":                       false,
		"https://evil.example/?slack.com":               false,
		"https://files.slack.com@evil.example/x":        false,
		"":                                              false,
		"::":                                            false,
	} {
		if got := s.trusted(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	t.Parallel()
	var r recent
	for i := range 3 * remembered {
		r.add(fmt.Sprint(i), "")
	}
	if r.has("0") || !r.has(fmt.Sprint(3*remembered-1)) || !r.has(fmt.Sprint(2*remembered)) || len(r.now)+len(r.old) > 2*remembered {
		t.Errorf("it remembers %d", len(r.now)+len(r.old))
	}
}

// A stream's start that would have to wait is refused, since a post can be
// made instead.
func TestAStartDoesNotWait(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	for i := range 20 {
		if err := l.wait(t.Context(), "chat.startStream", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	err := l.wait(t.Context(), "chat.startStream", "C1")
	var pe *bots.PostError
	if !errors.As(err, &pe) || !pe.Refused || pe.Permanent {
		t.Errorf("got %v", err)
	}
	if err := l.wait(t.Context(), "chat.postMessage", "C1"); err != nil {
		t.Error(err)
	}
}
