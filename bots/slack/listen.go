package slack

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	slackgo "github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"
)

const (
	// maxPayload bounds one event: messages have at most 40,000 characters,
	// which Slack sends in up to three forms.
	maxPayload = 1 << 20
	// atOnce bounds the events that are worked on. Beyond it the socket waits.
	atOnce = 128
	// ackTime bounds handing an acknowledgement to the socket.
	ackTime = 10 * time.Second
	// replyTime is what an answer to a press or a command may take of Slack's 3 s.
	replyTime = 2500 * time.Millisecond
	// firstRetry and lastRetry bound the pauses between tries to connect.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Run listens until ctx ends, connecting again for ever: over Socket Mode
// where there is an app token. Without one it only checks the bot token, since
// then [Slack.Handler] hears everything.
func (s *Slack) Run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstRetry, lastRetry
	retry := func(what string, err error) {
		wait := pause.NextBackOff()
		s.cfg.Log.WarnContext(ctx, what, "err", err, "again_in", wait)
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		me, err := s.who(ctx)
		if err == nil {
			s.cfg.Log.InfoContext(ctx, "Slack knows the bot", "team", me.team, "user", me.user)
			break
		}
		if ctx.Err() == nil {
			retry("Slack does not take the bot token", err)
		}
	}
	if s.cfg.AppToken == "" {
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		began := time.Now()
		err := s.listen(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > lastRetry {
			pause.Reset()
		}
		retry("the socket to Slack is closed", err)
	}
	return nil
}

// listen runs one socket client, which connects again by itself until Slack
// refuses the token.
func (s *Slack) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	client := socketmode.New(s.api, socketmode.OptionReadLimit(maxPayload), socketmode.OptionLog(log.New(io.Discard, "", 0)))
	var ended error
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	gone := make(chan struct{})
	running.Go(func() {
		defer close(gone)
		ended = client.RunContext(ctx)
	})
	slots := make(chan struct{}, atOnce)
	for {
		select {
		case <-gone:
			return ended
		case ev := <-client.Events:
			switch ev.Type {
			case socketmode.EventTypeConnected:
				s.cfg.Log.InfoContext(ctx, "the socket to Slack is open")
			case socketmode.EventTypeConnectionError, socketmode.EventTypeIncomingError, socketmode.EventTypeErrorWriteFailed:
				s.cfg.Log.WarnContext(ctx, "the socket to Slack", "event", ev.Type, "what", ev.Data)
			}
			req := requestOf(ev)
			if req == nil {
				continue
			}
			work := s.work(req.Type, req.Payload)
			if work == nil {
				s.ack(ctx, client, req.EnvelopeID, nil)
				continue
			}
			select {
			case slots <- struct{}{}:
			case <-gone:
				return ended
			}
			running.Go(func() {
				defer func() { <-slots }()
				working, cancel := context.WithTimeout(ctx, takeTime)
				defer cancel()
				reply, err := work(working)
				if err != nil {
					s.cfg.Log.WarnContext(ctx, "an event was not taken; Slack sends it again", "err", err)
					return
				}
				s.ack(ctx, client, req.EnvelopeID, reply)
			})
		}
	}
}

// requestOf finds the request in what the client says, in that also which its
// own parser could not read.
func requestOf(ev socketmode.Event) *socketmode.Request {
	if bad, ok := ev.Data.(*socketmode.ErrorBadMessage); ok {
		var req struct {
			Type       word            `json:"type"`
			EnvelopeID word            `json:"envelope_id"`
			Payload    json.RawMessage `json:"payload"`
		}
		if json.Unmarshal(bad.Message, &req) != nil || req.EnvelopeID == "" {
			return nil
		}
		return &socketmode.Request{Type: string(req.Type), EnvelopeID: string(req.EnvelopeID), Payload: req.Payload}
	}
	if ev.Request == nil || ev.Request.EnvelopeID == "" {
		return nil
	}
	return ev.Request
}

func (s *Slack) ack(ctx context.Context, client *socketmode.Client, id string, reply any) {
	ctx, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	if err := client.AckCtx(ctx, id, reply); err != nil {
		s.cfg.Log.WarnContext(ctx, "acknowledging an event of Slack failed; it comes again", "err", err)
	}
}

// work is what a request asks for, nil where that is nothing. Called in the
// order of arrival; its result is called anywhere. No error means that the
// request may be acknowledged, with the reply where there is one.
func (s *Slack) work(kind string, payload []byte) func(context.Context) (reply any, err error) {
	switch kind {
	case socketmode.RequestTypeEventsAPI:
		var env envelope
		if json.Unmarshal(payload, &env) != nil || env.Event.v == nil {
			return nil
		}
		return s.event(env)
	case socketmode.RequestTypeInteractive:
		var in interaction
		if json.Unmarshal(payload, &in) != nil {
			return nil
		}
		return func(ctx context.Context) (any, error) { return nil, s.interact(ctx, in) }
	case socketmode.RequestTypeSlashCommands:
		var c slash
		if json.Unmarshal(payload, &c) != nil {
			return nil
		}
		return func(ctx context.Context) (any, error) { return s.command(ctx, c), nil }
	}
	return nil
}

// Handler serves POST /slack/events, /slack/interactivity and /slack/commands,
// whose requests must carry Slack's signature of the last five minutes.
func (s *Slack) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /slack/events", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, socketmode.RequestTypeEventsAPI, func(data []byte) ([]byte, bool) { return data, true })
	})
	mux.HandleFunc("POST /slack/interactivity", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, socketmode.RequestTypeInteractive, func(data []byte) ([]byte, bool) {
			form, err := url.ParseQuery(string(data))
			return []byte(form.Get("payload")), err == nil
		})
	})
	mux.HandleFunc("POST /slack/commands", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, socketmode.RequestTypeSlashCommands, func(data []byte) ([]byte, bool) {
			form, err := url.ParseQuery(string(data))
			fields := map[string]string{}
			for name := range form {
				fields[name] = form.Get(name)
			}
			out, _ := json.Marshal(fields)
			return out, err == nil
		})
	})
	return mux
}

// serve checks a request's signature and does its work. The work goes on when
// Slack hangs up, since then Slack asks again and finds it done.
func (s *Slack) serve(w http.ResponseWriter, r *http.Request, kind string, payload func([]byte) ([]byte, bool)) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		http.Error(w, "the request is too large or broke off", http.StatusBadRequest)
		return
	}
	if err := s.signed(r.Header, data); err != nil {
		s.cfg.Log.WarnContext(r.Context(), "a request to the Slack address was refused", "path", r.URL.Path, "err", err)
		http.Error(w, "the signature is not Slack's", http.StatusUnauthorized)
		return
	}
	data, ok := payload(data)
	if !ok {
		http.Error(w, "the request can't be read", http.StatusBadRequest)
		return
	}
	if kind == socketmode.RequestTypeEventsAPI {
		var env envelope
		if json.Unmarshal(data, &env) == nil && env.Type == "url_verification" {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, string(env.Challenge))
			return
		}
	}
	work := s.work(kind, data)
	if work == nil {
		return // nothing for us; Slack need not send it again
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), takeTime)
	defer cancel()
	reply, err := work(ctx)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "an event was not taken; Slack sends it again",
			"err", err, "retry", r.Header.Get("X-Slack-Retry-Num"), "reason", r.Header.Get("X-Slack-Retry-Reason"))
		http.Error(w, "not now; please send it again", http.StatusServiceUnavailable)
		return
	}
	if reply != nil {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(w).Encode(reply)
	}
}

// signed checks Slack's signature of the raw bytes, which slack-go does in
// constant time, and its age.
func (s *Slack) signed(h http.Header, data []byte) error {
	if s.cfg.SigningSecret == "" {
		return errors.New("there is no SLACK_SIGNING_SECRET to check it with")
	}
	v, err := slackgo.NewSecretsVerifier(h, s.cfg.SigningSecret)
	if err != nil {
		return err
	}
	if _, err := v.Write(data); err != nil {
		return err
	}
	return v.Ensure()
}
