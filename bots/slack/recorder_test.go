package slack_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"threadbook/bots/slack"
)

// calls records what reaches Slack through it.
type calls struct {
	mu   sync.Mutex
	list []map[string]any
}

func (c *calls) between(t *testing.T, fake http.Handler) string {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if form, err := url.ParseQuery(string(body)); err == nil && strings.Contains(r.URL.Path, "/chat.") {
			call := map[string]any{"method": strings.TrimPrefix(r.URL.Path, "/api/")}
			for k := range form {
				var v any
				if json.Unmarshal([]byte(form.Get(k)), &v) != nil || k == "ts" || k == "thread_ts" {
					v = form.Get(k)
				}
				switch k {
				case "token":
				case "ts", "thread_ts", "recipient_team_id":
					call[k] = "<" + k + ">"
				case "metadata":
					call[k] = "<metadata>"
				default:
					call[k] = v
				}
			}
			c.mu.Lock()
			c.list = append(c.list, call)
			c.mu.Unlock()
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	return web.URL + "/api/"
}

// methods are the methods that were called.
func (c *calls) methods() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, call := range c.list {
		list = append(list, strings.TrimPrefix(call["method"].(string), "chat."))
	}
	return strings.Join(list, " ")
}

// recorded is an adapter like the fixture's, whose calls are recorded.
func recorded(t *testing.T, f *fixture) (*slack.Slack, *calls) {
	t.Helper()
	c := &calls{}
	cfg := f.cfg
	cfg.APIURL = c.between(t, f.fake)
	s, err := slack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}
