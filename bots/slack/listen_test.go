package slack_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"threadbook/bots/slack"
	"threadbook/bots/slack/slacktest"
)

// run runs the adapter with its socket until the test ends.
func (f *fixture) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("Run did not end")
		}
	})
}

func withSocket(c *slack.Config) { c.AppToken = slacktest.AppToken }

func (f *fixture) wantAcked(t *testing.T, d *slacktest.Delivery) {
	t.Helper()
	select {
	case <-d.Acked:
	case <-f.ctx.Done():
		t.Fatal("it was not acknowledged")
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{Redeliver: 300 * time.Millisecond}, withSocket)
	f.run(t)
	m, sent := f.fake.Say(f.ctx, slacktest.Message{Channel: general, User: ada, Text: mention("over the socket")})
	for _, d := range sent {
		f.wantAcked(t, d)
	}
	f.wantTexts(t, general, m.TS, "over the socket")
	// slack-go's parser drops this one.
	stamp := f.fake.Write(slacktest.Message{Channel: direct, User: ada, Text: "odd"}).TS
	f.wantAcked(t, f.fake.Deliver(slacktest.EventsAPI, f.fake.Envelope(map[string]any{
		"type": "message", "channel": direct, "channel_type": "im", "user": ada, "text": "odd", "ts": stamp, "files": "none", "blocks": 3}, nil)))
	f.wantTexts(t, direct, stamp, "odd")
	// What nobody knows is acknowledged, or it would come for ever.
	f.wantAcked(t, f.fake.Deliver(slacktest.EventsAPI, f.fake.Envelope(map[string]any{"type": "new_thing"}, nil)))
	f.wantAcked(t, f.fake.Deliver("new_kind", map[string]any{}))
	// Slack closes sockets as it likes; what is said meanwhile comes.
	for _, politely := range []bool{true, false} {
		f.fake.Disconnect(politely)
		m, sent = f.fake.Say(f.ctx, slacktest.Message{Channel: general, User: ada, Text: mention("again")})
		for _, d := range sent {
			f.wantAcked(t, d)
		}
		f.wantTexts(t, general, m.TS, "again")
	}
}

func TestSocketSendsAgainWhatWasNotTaken(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{Redeliver: 100 * time.Millisecond}, withSocket)
	f.fake.Fail("users.info", slacktest.Fault{Status: 500}, slacktest.Fault{HangUp: true})
	f.run(t)
	m, sent := f.fake.Say(f.ctx, slacktest.Message{Channel: direct, User: ada, Text: "patience"})
	for _, d := range sent {
		f.wantAcked(t, d)
	}
	f.wantTexts(t, direct, m.TS, "patience")
	if n := f.fake.Calls("users.info"); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

func TestRunWaitsForSlack(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, withSocket)
	f.fake.Fail("auth.test", slacktest.Fault{Status: 503})
	f.run(t)
	if !f.fake.Until(f.ctx, func() bool { return f.fake.Sockets() == 1 }) {
		t.Error("no socket was opened")
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	body := []byte(`{"type":"url_verification","challenge":"c4"}`)
	for name, c := range map[string]struct {
		sign func(h http.Header)
		want int
	}{
		"right":     {func(h http.Header) { slacktest.Sign(h, slacktest.SigningSecret, body, time.Now()) }, 200},
		"none":      {func(http.Header) {}, 401},
		"old":       {func(h http.Header) { slacktest.Sign(h, slacktest.SigningSecret, body, time.Now().Add(-6*time.Minute)) }, 401},
		"early":     {func(h http.Header) { slacktest.Sign(h, slacktest.SigningSecret, body, time.Now().Add(6*time.Minute)) }, 401},
		"of others": {func(h http.Header) { slacktest.Sign(h, "another secret", body, time.Now()) }, 401},
		"of other bytes": {func(h http.Header) {
			slacktest.Sign(h, slacktest.SigningSecret, append(bytes.Clone(body), ' '), time.Now())
		}, 401},
		"no hex": {func(h http.Header) {
			slacktest.Sign(h, slacktest.SigningSecret, body, time.Now())
			h.Set("X-Slack-Signature", "v0=zz")
		}, 401},
	} {
		req, err := http.NewRequestWithContext(f.ctx, http.MethodPost, f.web+"/slack/events", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		c.sign(req.Header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		_, _ = got.ReadFrom(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want || c.want == 200 && got.String() != "c4" {
			t.Errorf("%s: answered %d %s, want %d", name, resp.StatusCode, got.String(), c.want)
		}
	}
	big := strings.Repeat("x", 2<<20)
	if status, _, err := f.fake.Post(f.ctx, f.web, slacktest.EventsAPI, big, 0); err == nil && status != 400 {
		t.Errorf("a request of 2 MiB was answered %d", status)
	}
	// Without a secret nothing is taken.
	none := start(t, slacktest.Options{}, func(c *slack.Config) { c.SigningSecret = "" })
	if status, _, err := none.fake.Post(none.ctx, none.web, slacktest.EventsAPI, none.fake.Envelope(nil, nil), 0); status != 401 || err != nil {
		t.Errorf("without a secret: %d, %v", status, err)
	}
}

func TestRetriesOverHTTP(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	sender := slacktest.Handler(slacktest.Options{TeamID: f.team, EventsURL: f.web, Pauses: []time.Duration{0, 10 * time.Millisecond}})
	sender.AddChannel(slacktest.Channel{ID: direct, IM: true})
	f.fake.Fail("users.info", slacktest.Fault{Status: 500}, slacktest.Fault{Status: 429, RetryAfter: 1})
	m, sent := sender.Say(f.ctx, slacktest.Message{Channel: direct, User: ada, Text: "over HTTP"})
	f.wantAcked(t, sent[0])
	f.wantTexts(t, direct, m.TS, "over HTTP")
}

func TestNothingIsAcknowledgedThatIsNotKept(t *testing.T) {
	t.Parallel()
	f := start(t, slacktest.Options{}, nil)
	m := f.fake.Write(slacktest.Message{Channel: direct, User: ada, Text: "sum"})
	f.store.Close() // Redis is gone
	status, _, err := f.fake.Post(f.ctx, f.web, slacktest.EventsAPI, f.fake.Envelope(f.fake.Event("message", m), nil), 0)
	if err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("answered %d, %v", status, err)
	}
}

func TestNewRefusesStrangeTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []slack.Config{{}, {BotToken: "xoxp-1"}, {BotToken: "xoxb-1", AppToken: "xoxb-1"}} {
		if _, err := slack.New(c); err == nil || strings.Contains(err.Error(), "xoxp-1") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
