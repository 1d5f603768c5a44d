// Package openai asks any server that speaks the chat completions API:
// [agent.Model] over go-openai.
//
// A reply is streamed. Its text and its calls of tools come in pieces, and so
// does its fate: servers send an error in mid-stream, close the connection, or
// fall silent. A reply counts once its finish reason has come; anything less
// is asked again from the start, a bounded number of times, with jitter, and
// not before the server's Retry-After. What the failed attempt had shown is
// taken back with an empty partial.
//
// What servers do differently is met here and nowhere else: calls without an
// id or an index, ids used twice, no knowledge of stream_options, user
// messages that must not follow one another.
package openai

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	api "github.com/sashabaranov/go-openai"

	"threadbook/sessions"
	"threadbook/worker/agent"
)

const (
	// silence is how long a server may say nothing, before the first piece
	// or between two. Models that think first do so for minutes.
	silence = 4 * time.Minute
	// maxTries and maxElapsed bound the attempts at one reply.
	maxTries   = 8
	maxElapsed = 3 * time.Minute
	// maxRetryAfter is the longest wait that a server may ask for; a person
	// waits for the answer.
	maxRetryAfter = time.Minute
	firstPause    = 500 * time.Millisecond
	// maxReply bounds a reply, in bytes of text and arguments; a model that
	// repeats itself is cut off there.
	maxReply     = 1 << 20
	maxErrorBody = 64 << 10
)

// Config says whom to ask. Its values are those of OPENAI_API_KEY,
// OPENAI_BASE_URL and OPENAI_MODEL.
type Config struct {
	Key     string
	BaseURL string // empty: OpenAI's own
	Model   string
	// Tries is how often one reply is asked for; 0 is a person's patience.
	Tries uint
	Log   *slog.Logger
}

// Model implements [agent.Model].
type Model struct {
	client *api.Client
	model  string
	tries  uint
	log    *slog.Logger
	// noUsage is set once the server refused stream_options.
	noUsage atomic.Bool
}

// New returns the model; it calls nobody.
func New(c Config) *Model {
	cfg := api.DefaultConfig(c.Key)
	if u, err := url.Parse(c.BaseURL); err == nil && c.BaseURL != "" {
		cfg.BaseURL = strings.TrimRight(c.BaseURL, "/")
		// Azure's older addresses have another form and another header; its
		// newer ones, under /openai/v1, are like everybody's.
		if strings.HasSuffix(u.Hostname(), ".openai.azure.com") && !strings.Contains(u.Path, "/openai/v1") {
			cfg = api.DefaultAzureConfig(c.Key, c.BaseURL)
		}
	}
	cfg.HTTPClient = &doer{client: &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: silence,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
	}}}
	return &Model{client: api.NewClientWithConfig(cfg), model: c.Model, tries: cmp.Or(c.Tries, maxTries), log: c.Log}
}

// Complete implements [agent.Model].
func (m *Model) Complete(ctx context.Context, req agent.Request, partial func(agent.Partial)) (sessions.Reply, error) {
	if partial == nil {
		partial = func(agent.Partial) {}
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = firstPause
	reply, err := backoff.Retry(ctx, func() (sessions.Reply, error) {
		a := &attempt{partial: partial}
		reply, err := m.try(context.WithValue(ctx, attemptKey{}, a), req, a)
		if err == nil {
			return reply, nil
		}
		if a.shown {
			partial(agent.Partial{})
		}
		return reply, m.classify(ctx, a, err)
	},
		backoff.WithBackOff(pauses), backoff.WithMaxTries(m.tries), backoff.WithMaxElapsedTime(maxElapsed),
		backoff.WithNotify(func(err error, wait time.Duration) {
			m.log.WarnContext(ctx, "asking the model again", "in", wait, "err", err)
		}))
	switch {
	case err == nil || errors.Is(err, agent.ErrTooLong):
		return reply, err
	case ctx.Err() != nil:
		return reply, context.Cause(ctx)
	}
	return reply, &sessions.Error{Code: sessions.Unavailable, Text: "The model could not answer: " + words(err) + ".", Err: err}
}

// attempt is one try at a reply.
type attempt struct {
	partial    func(agent.Partial)
	shown      bool
	retryAfter time.Duration
}

type attemptKey struct{}

// try asks once.
func (m *Model) try(ctx context.Context, req agent.Request, a *attempt) (sessions.Reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watchdog.Stop()

	fail := func(err error) (sessions.Reply, error) {
		if errors.Is(context.Cause(ctx), errSilent) {
			err = errSilent
		}
		return sessions.Reply{}, err
	}
	stream, err := m.client.CreateChatCompletionStream(ctx, m.request(req))
	if err != nil {
		return fail(err)
	}
	defer stream.Close()
	r := reply{Reply: sessions.Reply{Model: m.model}}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if r.FinishReason == "" {
				return fail(errCut)
			}
			return r.whole(), nil
		}
		if err != nil {
			return fail(err)
		}
		watchdog.Reset(silence)
		if r.add(chunk) {
			a.shown = true
			a.partial(agent.Partial{Text: r.Text, Calls: r.Calls})
		}
		if r.size > maxReply {
			return fail(backoff.Permanent(fmt.Errorf("the reply is over %d bytes", maxReply)))
		}
	}
}

var (
	errSilent = fmt.Errorf("the server said nothing for %v", silence)
	errCut    = errors.New("the stream ended before the reply did")
)

// classify decides whether to ask again, and when.
func (m *Model) classify(ctx context.Context, a *attempt, err error) error {
	if ctx.Err() != nil {
		return backoff.Permanent(err)
	}
	status, code, message := details(err)
	switch {
	case code == "context_length_exceeded" || strings.Contains(message, "context length") || strings.Contains(message, "context window"):
		return backoff.Permanent(fmt.Errorf("%w: %w", agent.ErrTooLong, err))
	case status == http.StatusBadRequest && strings.Contains(message, "stream_options") && !m.noUsage.Swap(true):
		return &joined{err, &backoff.RetryAfterError{}}
	case code == "insufficient_quota":
		return backoff.Permanent(err)
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
	case status >= 400:
		return backoff.Permanent(err)
	}
	if a.retryAfter > maxRetryAfter {
		return backoff.Permanent(fmt.Errorf("the server asks to wait %v: %w", a.retryAfter, err))
	}
	if a.retryAfter > 0 {
		return &joined{err, &backoff.RetryAfterError{Duration: a.retryAfter}}
	}
	return err
}

// joined is an error with the wait that goes with it, which is not said.
type joined struct {
	error
	after *backoff.RetryAfterError
}

func (j *joined) Unwrap() []error { return []error{j.error, j.after} }

// details finds what the server said in an error; status 0 means that it did
// not come to an answer.
func details(err error) (status int, code, message string) {
	var apiErr *api.APIError
	var reqErr *api.RequestError
	switch {
	case errors.As(err, &apiErr):
		code, _ = apiErr.Code.(string)
		return apiErr.HTTPStatusCode, code, apiErr.Message
	case errors.As(err, &reqErr):
		return reqErr.HTTPStatusCode, "", string(reqErr.Body)
	}
	return 0, "", ""
}

// words says what went wrong, for people.
func words(err error) string {
	status, _, message := details(err)
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "its server refuses the key (OPENAI_API_KEY)"
	case status == http.StatusNotFound:
		return "its server knows no such model or address (OPENAI_MODEL, OPENAI_BASE_URL)"
	case status == http.StatusTooManyRequests:
		return "its server has too much to do or the quota is used up"
	case status >= 500:
		return fmt.Sprintf("its server answers with the error %d", status)
	case message != "":
		return "its server refuses the request: " + agent.Shorten(message, 300)
	case errors.Is(err, errSilent):
		return errSilent.Error()
	case errors.Is(err, errCut):
		return "its server broke off, several times"
	default:
		return "its server can't be reached"
	}
}

// request translates for the wire.
func (m *Model) request(req agent.Request) api.ChatCompletionRequest {
	out := api.ChatCompletionRequest{Model: m.model, Stream: true}
	if !m.noUsage.Load() {
		out.StreamOptions = &api.StreamOptions{IncludeUsage: true}
	}
	if req.System != "" {
		out.Messages = append(out.Messages, api.ChatCompletionMessage{Role: api.ChatMessageRoleSystem, Content: req.System})
	}
	for _, msg := range req.Messages {
		if last := len(out.Messages) - 1; msg.Role == agent.User && last >= 0 && out.Messages[last].Role == api.ChatMessageRoleUser {
			out.Messages[last].Content += "\n\n" + msg.Text
			continue
		}
		if msg.Role == agent.Assistant && msg.Text == "" && len(msg.Calls) == 0 {
			continue // servers refuse a message with nothing in it
		}
		wire := api.ChatCompletionMessage{Role: string(msg.Role), Content: msg.Text, ToolCallID: msg.Call}
		for _, c := range msg.Calls {
			wire.ToolCalls = append(wire.ToolCalls, api.ToolCall{ID: c.ID, Type: api.ToolTypeFunction,
				Function: api.FunctionCall{Name: c.Name, Arguments: wellFormed(c.Arguments)}})
		}
		out.Messages = append(out.Messages, wire)
	}
	for _, t := range req.Tools {
		out.Tools = append(out.Tools, api.Tool{Type: api.ToolTypeFunction,
			Function: &api.FunctionDefinition{Name: t.Name, Description: t.Description, Parameters: t.Schema}})
	}
	return out
}

// doer notes when the server wants to be asked again, which go-openai's errors
// don't tell, and bounds what is read of an error.
type doer struct{ client *http.Client }

func (d *doer) Do(r *http.Request) (*http.Response, error) {
	resp, err := d.client.Do(r)
	if err != nil || resp.StatusCode < 400 {
		return resp, err
	}
	if a, ok := r.Context().Value(attemptKey{}).(*attempt); ok {
		a.retryAfter = retryAfter(resp.Header, time.Now())
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxErrorBody), resp.Body}
	return resp, nil
}

// retryAfter reads the header's seconds or date; 0 where there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return time.Duration(ms * float64(time.Millisecond))
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s > 0 {
		return time.Duration(s * float64(time.Second))
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// newCallID names a call that the server left without a name of its own.
func newCallID() string { return "call_" + rand.Text() }
