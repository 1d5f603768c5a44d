package worker

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"threadbook/sessions"
)

// fleet is a register as a test says it is.
type fleet struct {
	Fleet
	hosts []sessions.Host
	homes map[sessions.ThreadID]string
}

func (f *fleet) Hosts(context.Context) ([]sessions.Host, error) { return f.hosts, nil }

func (f *fleet) Home(_ context.Context, t sessions.ThreadID) (string, error) { return f.homes[t], nil }

func TestRoutes(t *testing.T) {
	t.Parallel()
	at := time.Now()
	small := sessions.Host{Name: "small", Worker: "1", Load: 1, Concurrency: 2, At: at}
	large := sessions.Host{Name: "large", Worker: "2", Load: 2, Concurrency: 8, FreeMemory: 1, At: at}
	roomy := sessions.Host{Name: "roomy", Worker: "3", Load: 2, Concurrency: 8, FreeMemory: 2, At: at}
	draining := sessions.Host{Name: "draining", Worker: "4", Concurrency: 8, Draining: true, At: at}
	away := sessions.Host{Name: "away", Worker: "5", At: at}
	homes := map[sessions.ThreadID]string{"t:small": "small", "t:draining": "draining", "t:away": "away", "t:dead": "dead"}
	for name, c := range map[string]struct {
		hosts   []sessions.Host
		threads string
		want    string
	}{
		"nobody":                      {nil, "t:1 t:small", "threads threads"},
		"the home, busy or not":       {[]sessions.Host{small, large}, "t:small t:small t:small", "host:small host:small host:small"},
		"a home that restarts":        {[]sessions.Host{large, away}, "t:away", "host:away"},
		"a home that drains or died":  {[]sessions.Host{large, draining}, "t:draining t:dead", "host:large host:large"},
		"nobody takes anything":       {[]sessions.Host{draining, away}, "t:1", "threads"},
		"least loaded, then roomiest": {[]sessions.Host{small, large, roomy, draining, away}, "t:1 t:2", "host:roomy host:large"},
		"what was sent counts":        {[]sessions.Host{small, large}, "t:1 t:2 t:3 t:4", "host:large host:large host:large host:small"},
	} {
		r := &router{fleet: &fleet{hosts: c.hosts, homes: homes}}
		var got []string
		for thread := range strings.FieldsSeq(c.threads) {
			q, err := r.queueOf(t.Context(), sessions.ThreadID(thread))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, q)
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The next heartbeat knows of what was sent before it.
func TestRoutesForget(t *testing.T) {
	t.Parallel()
	one, two := sessions.Host{Name: "one", Load: 1, Concurrency: 4}, sessions.Host{Name: "two", Load: 2, Concurrency: 4}
	r := &router{}
	for beat, want := range []string{"one one two one", "one one two one"} {
		at := time.Unix(int64(beat), 0)
		one.At, two.At = at, at
		var got []string
		for range 4 {
			got = append(got, r.leastLoaded([]sessions.Host{one, two}))
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("beat %d: %s", beat, diff)
		}
	}
}
