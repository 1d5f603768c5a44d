package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"threadbook/sessions"
	"threadbook/worker/agent"
	"threadbook/worker/agenttest"
	"threadbook/worker/openai"
)

// serve starts a server and returns a model that asks it.
func serve(t *testing.T, h http.Handler) *openai.Model {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return openai.New(openai.Config{Key: "sk-test", BaseURL: server.URL + "/v1/", Model: "m", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

func ask(text string) agent.Request {
	return agent.Request{System: "be good", Messages: []agent.Message{{Role: agent.User, Text: text}},
		Tools: []agent.Tool{{Name: "run_code", Schema: []byte(`{"type":"object"}`)}}}
}

// inTurn is a script that gives one reply after the other.
func inTurn(replies ...agenttest.Reply) agenttest.Script {
	var n atomic.Int64
	return func(agenttest.Request) agenttest.Reply {
		return replies[min(int(n.Add(1)), len(replies))-1]
	}
}

func TestReply(t *testing.T) {
	model := serve(t, agenttest.Handler(inTurn(agenttest.Reply{
		Text:  "Let me look at it — naïvely.",
		Calls: []agenttest.Call{{Name: "run_code", Arguments: `{"language":"python","code":"print(1)"}`}, {Name: "list_files", Arguments: "{}"}},
	})))
	var texts []string
	reply, err := model.Complete(t.Context(), ask("hi"), func(p agent.Partial) { texts = append(texts, p.Text) })
	if err != nil {
		t.Fatal(err)
	}
	if reply.Text != "Let me look at it — naïvely." || reply.FinishReason != "tool_calls" || reply.Model != "scripted" {
		t.Errorf("got %+v", reply)
	}
	if reply.Tokens.In == 0 || reply.Tokens.Out == 0 {
		t.Errorf("the usage was not counted: %+v", reply.Tokens)
	}
	var names []string
	for _, c := range reply.Calls {
		names = append(names, c.Name+" "+c.Arguments)
		if c.ID == "" {
			t.Errorf("%s has no id", c.Name)
		}
	}
	want := []string{`run_code {"language":"python","code":"print(1)"}`, "list_files {}"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	for i := 1; i < len(texts); i++ {
		if !strings.HasPrefix(texts[i], texts[i-1]) {
			t.Errorf("a partial does not go on from the one before: %q, %q", texts[i-1], texts[i])
		}
	}
}

// A failure that may pass is tried again; what it had shown is taken back.
func TestRetries(t *testing.T) {
	for name, fault := range map[string]agenttest.Reply{
		"429 with Retry-After":      {Status: 429, RetryAfter: "0.01"},
		"500":                       {Status: 500},
		"503 with a date gone by":   {Status: 503, RetryAfter: "Mon, 02 Jan 2006 15:04:05 GMT"},
		"a stream that is cut":      {Text: "half of this is shown", CutAfter: 2},
		"a stream cut before words": {Text: "nothing", CutAfter: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model := serve(t, agenttest.Handler(inTurn(fault, agenttest.Reply{Text: "whole"})))
			shown := ""
			reply, err := model.Complete(t.Context(), ask("hi"), func(p agent.Partial) { shown = p.Text })
			if err != nil || reply.Text != "whole" || shown != "whole" {
				t.Errorf("got %q, shown %q, %v", reply.Text, shown, err)
			}
		})
	}
}

func TestTakenBack(t *testing.T) {
	model := serve(t, agenttest.Handler(inTurn(agenttest.Reply{Text: "half of this is shown", CutAfter: 2}, agenttest.Reply{Text: "whole"})))
	takenBack := false
	if _, err := model.Complete(t.Context(), ask("hi"), func(p agent.Partial) { takenBack = takenBack || p.Text == "" && len(p.Calls) == 0 }); err != nil {
		t.Fatal(err)
	}
	if !takenBack {
		t.Error("no empty partial came between the attempts")
	}
}

// A failure that stays is told at once, in words for people.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		reply agenttest.Reply
		want  string
	}{
		"the key":          {agenttest.Reply{Status: 401}, "refuses the key"},
		"the model":        {agenttest.Reply{Status: 404}, "no such model"},
		"the request":      {agenttest.Reply{Status: 400}, "refuses the request: a fault of the script's"},
		"an endless delay": {agenttest.Reply{Status: 429, RetryAfter: "86400"}, "too much to do"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			model := serve(t, agenttest.Handler(func(agenttest.Request) agenttest.Reply { asked++; return c.reply }))
			_, err := model.Complete(t.Context(), ask("hi"), nil)
			if sessions.CodeOf(err) != sessions.Unavailable || !strings.Contains(sessions.TextOf(err), c.want) {
				t.Errorf("got %v", err)
			}
			if asked != 1 {
				t.Errorf("asked %d times, want once", asked)
			}
		})
	}
}

func TestTooLong(t *testing.T) {
	model := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":{"message":"This model's maximum context length is 8192 tokens.","code":"context_length_exceeded"}}`)
	}))
	if _, err := model.Complete(t.Context(), ask("hi"), nil); !errors.Is(err, agent.ErrTooLong) {
		t.Errorf("got %v, want ErrTooLong", err)
	}
}

func TestCancel(t *testing.T) {
	asked := make(chan struct{})
	model := serve(t, agenttest.Handler(func(agenttest.Request) agenttest.Reply {
		close(asked)
		return agenttest.Reply{Wait: make(chan struct{})}
	}))
	cause := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-asked; cancel(cause) }()
	if _, err := model.Complete(ctx, ask("hi"), nil); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
}

// Servers differ; what each of these streams is one call of run_code.
func TestDialects(t *testing.T) {
	chunk := func(delta, finish string) string {
		return fmt.Sprintf(`{"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`, delta, finish)
	}
	for name, chunks := range map[string][]string{
		"no index, whole call at once": {chunk(`{"role":"assistant","content":null,"tool_calls":[{"id":"x","type":"function","function":{"name":"run_code","arguments":"{\"a\":1}"}}]}`, `"tool_calls"`)},
		"no id":                        {chunk(`{"tool_calls":[{"index":0,"function":{"name":"run_code","arguments":"{\"a\""}}]}`, "null"), chunk(`{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}`, "null"), chunk(`{}`, `"stop"`)},
		"name repeated":                {chunk(`{"tool_calls":[{"index":0,"id":"x","function":{"name":"run_code","arguments":"{"}}]}`, "null"), chunk(`{"tool_calls":[{"index":0,"id":"x","function":{"name":"run_code","arguments":"\"a\":1}"}}]}`, `"tool_calls"`)},
		"index from one":               {chunk(`{"tool_calls":[{"index":1,"id":"x","function":{"name":"run_code","arguments":""}}]}`, "null"), chunk(`{"tool_calls":[{"index":1,"function":{"arguments":"{\"a\":1}"}}]}`, `"tool_calls"`)},
	} {
		t.Run(name, func(t *testing.T) {
			model := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, c := range chunks {
					fmt.Fprintf(w, "data: %s\n\n", c)
				}
				io.WriteString(w, "data: [DONE]\n\n")
			}))
			reply, err := model.Complete(t.Context(), ask("hi"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(reply.Calls) != 1 || reply.Calls[0].Name != "run_code" || reply.Calls[0].Arguments != `{"a":1}` || reply.Calls[0].ID == "" {
				t.Errorf("got %+v", reply.Calls)
			}
		})
	}
}

// A server that does not know stream_options is asked without, from then on.
func TestNoStreamOptions(t *testing.T) {
	var refused atomic.Int64
	model := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		if body["stream_options"] != nil {
			refused.Add(1)
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":{"message":"Unknown parameter: 'stream_options'."}}`)
			return
		}
		io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
	}))
	for range 2 {
		if reply, err := model.Complete(t.Context(), ask("hi"), nil); err != nil || reply.Text != "ok" {
			t.Fatalf("got %+v, %v", reply, err)
		}
	}
	if refused.Load() != 1 {
		t.Errorf("refused %d times, want once", refused.Load())
	}
}

// The history that is sent is one that strict servers take: malformed
// arguments are made whole, user messages are joined, empty ones left out.
func TestHistory(t *testing.T) {
	var got agenttest.Request
	model := serve(t, agenttest.Handler(func(r agenttest.Request) agenttest.Reply { got = r; return agenttest.Reply{Text: "ok"} }))
	req := ask("one")
	req.Messages = append(req.Messages,
		agent.Message{Role: agent.User, Text: "two"},
		agent.Message{Role: agent.Assistant, Calls: []sessions.Call{{ID: "c1", Name: "run_code", Arguments: `{"code`}}},
		agent.Message{Role: agent.ToolRole, Call: "c1", Text: "not run"},
		agent.Message{Role: agent.Assistant},
		agent.Message{Role: agent.User, Text: "three"})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := model.Complete(ctx, req, nil); err != nil {
		t.Fatal(err)
	}
	var roles []string
	for _, m := range got.Messages {
		roles = append(roles, m.Role)
	}
	if diff := cmp.Diff([]string{"system", "user", "assistant", "tool", "user"}, roles); diff != "" {
		t.Error(diff)
	}
	if got.Messages[1].Content != "one\n\ntwo" {
		t.Errorf("the joined message is %q", got.Messages[1].Content)
	}
}
