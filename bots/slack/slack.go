// Package slack is threadbook in Slack: what people write there becomes
// messages of threads, and posts are shown there. It alone knows slack-go.
//
// In. Events come over Socket Mode or over HTTP with a signature, and both end
// in the same place. An own, tolerant reading of the raw JSON (event.go) decides
// what an event is, since slack-go's drops a whole event for one odd field. An
// event is acknowledged once its message is in the thread's log, files
// included. Slack wants that within 3 s, and a large file takes longer: Slack
// then sends the event again, and the second delivery waits for the first one
// in this process (a line for each thread keeps order, and a memory of keys
// says what is done), so that no file is fetched twice and nothing is
// acknowledged that could still be lost. A message's key is made of its
// workspace, channel and timestamp, not of the event's id: a mention arrives
// both as app_mention and as message, and that is one message. An app_mention
// may come without the message's files, so it is completed from the
// conversation before it is taken.
//
// Who. Bots, guests, people of other organisations and deactivated users are
// refused unless configured; where Slack doesn't say who somebody is, nothing
// is taken, and Slack sends it again.
//
// Out. Each post is one call: chat.postMessage with metadata that carries the
// post's key, or files.completeUploadExternal with the ids of files that were
// sent before. Both can be found again, so a lost answer makes no second
// post. What a workspace's Slack doesn't know (streams, containers, data
// tables, markdown blocks, agent sessions) is learnt from its first refusal and
// left out for some time.
//
// Live posts are streamed while their turn runs (stream.go): a plan with the
// status as its title and a row for each cell, whose output is added as it
// comes. A stream takes only additions, ends after five minutes and holds some
// 10,000 bytes; so before 4 minutes or 9,000 bytes, at the turn's end, after
// any error and where something else is to be shown than more, it is stopped,
// and its message is edited with chat.update from then on. That gives it the
// same last form as without a stream. What a stream shows is known to the
// process that started it alone; another one, after a restart, stops it with
// its first edit. A stream carries no metadata before it is stopped, so one
// whose answer was lost is known by that: it is the latest message of ours in
// the thread without any. It can't forbid link previews, so no address in it
// is whole. Each is for one person, the asker; it is reported that others in a
// channel see no more than its beginning until it ends (agentconnect#1494).
//
// Text from programs and models reaches Slack with "<" and ">" as entities,
// since Slack reads <!channel> and <url|label> even in markdown blocks, and
// nothing is unfurled.
package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
	"threadbook/sessions"
)

// Platform is the first word of this package's thread ids, which are
// "slack:<team>/<channel>/<ts of the thread's first message>".
const Platform = "slack"

const (
	// DefaultAPIURL is Slack's own.
	DefaultAPIURL = "https://slack.com/api/"
	// callTime bounds one call of the Web API, bytes of files apart.
	callTime = 20 * time.Second
	// fileTime bounds one file's way in or out.
	fileTime = 5 * time.Minute
	// takeTime bounds one event, its files included.
	takeTime = 12 * time.Minute
	// connectTime bounds connecting to a host and its answer's first byte.
	connectTime = 30 * time.Second
)

// Config is what the adapter needs. BotToken, Intake, Store and Blobs are
// required to listen; a process that only posts needs no AppToken, no
// SigningSecret and no Intake.
type Config struct {
	BotToken      string // xoxb-…
	AppToken      string // xapp-…: Socket Mode
	SigningSecret string // the Events API over HTTP
	APIURL        string // empty: DefaultAPIURL
	// AllowBots takes messages of other bots, which may answer each other for ever.
	AllowBots bool
	// AllowOutsiders takes guests, people of other organisations (Slack
	// Connect) and channels shared with them.
	AllowOutsiders bool
	// MentionOnly says of a channel that threads there need the mention each
	// time. Nil: none does.
	MentionOnly func(team, channel string) bool

	Intake *bots.Intake
	Store  sessions.Store
	Blobs  sessions.Blobs
	// Seen notes which events have come; nil: nothing does.
	Seen Seen
	// Link makes a download link of a blob; nil, or an empty link: there are none.
	Link func(thread sessions.ThreadID, blob, name string) string
	Log  *slog.Logger
}

// Slack is the adapter: see [Slack.Run], [Slack.Handler], [bots.Poster] and
// [bots.Signer].
type Slack struct {
	cfg     Config
	api     *slackgo.Client
	bulk    *slackgo.Client // for files' bytes: bounded by contexts alone
	files   *http.Client
	limits  *limiter
	caps    *capabilities
	streams *streams
	people  *people
	lines   lines
	done    recent
	signs   recent
	kinds   recent // of events, that have been noted

	mu sync.Mutex
	me identity
}

var (
	_ bots.Poster = (*Slack)(nil)
	_ bots.Signer = (*Slack)(nil)
)

// New builds the adapter; it calls nobody until it is run or used.
func New(cfg Config) (*Slack, error) {
	if !strings.HasPrefix(cfg.BotToken, "xoxb-") {
		return nil, errors.New("SLACK_BOT_TOKEN: expected a bot token, which begins with xoxb-")
	}
	if cfg.AppToken != "" && !strings.HasPrefix(cfg.AppToken, "xapp-") {
		return nil, errors.New("SLACK_APP_TOKEN: expected an app-level token, which begins with xapp-")
	}
	if cfg.APIURL == "" {
		cfg.APIURL = DefaultAPIURL
	}
	if !strings.HasSuffix(cfg.APIURL, "/") {
		cfg.APIURL += "/"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = connectTime
	transport.MaxIdleConnsPerHost = 16
	// After the last byte of a file Slack takes its time to answer.
	slow := transport.Clone()
	slow.ResponseHeaderTimeout = fileTime
	files := &http.Client{Transport: slow}
	client := func(h *http.Client) *slackgo.Client {
		return slackgo.New(cfg.BotToken, slackgo.OptionAPIURL(cfg.APIURL), slackgo.OptionAppLevelToken(cfg.AppToken), slackgo.OptionHTTPClient(h))
	}
	return &Slack{
		cfg:     cfg,
		api:     client(&http.Client{Transport: transport, Timeout: callTime}),
		bulk:    client(files),
		files:   files,
		limits:  newLimiter(),
		caps:    &capabilities{},
		streams: newStreams(),
		people:  &people{},
	}, nil
}

// identity is whose the bot token is.
type identity struct {
	team, enterprise, user, bot, url string
}

// who asks Slack whose the token is, once.
func (s *Slack) who(ctx context.Context) (identity, error) {
	s.mu.Lock()
	me := s.me
	s.mu.Unlock()
	if me.user != "" {
		return me, nil
	}
	err := s.call(ctx, "auth.test", "", func(ctx context.Context) error {
		r, err := s.api.AuthTestContext(ctx)
		if err == nil {
			me = identity{team: r.TeamID, enterprise: r.EnterpriseID, user: r.UserID, bot: r.BotID, url: r.URL}
		}
		return err
	})
	if err != nil {
		return identity{}, fmt.Errorf("asking Slack whose the bot token is: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.me = me
	return me, nil
}

// call does one call of a method within its limits and its time. Its error is
// a [*bots.PostError].
func (s *Slack) call(ctx context.Context, method, channel string, f func(context.Context) error) error {
	if err := s.limits.wait(ctx, method, channel); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err := f(ctx)
	if err == nil {
		return nil
	}
	pe := asPostError(method, err)
	if pe.After > 0 && !fileNotReady(err) && codeOf(err) != streamConflict {
		s.limits.block(method, pe.After)
	}
	return pe
}

// place is a thread as Slack's methods name it.
type place struct{ team, channel, root string }

func (p place) thread() sessions.ThreadID {
	return sessions.NewThreadID(Platform, p.team, p.channel, p.root)
}

func placeOf(thread sessions.ThreadID) (place, error) {
	_, rest, _ := strings.Cut(string(thread), ":")
	parts := strings.Split(rest, "/")
	if thread.Platform() != Platform || len(parts) != 3 {
		return place{}, &bots.PostError{Refused: true, Permanent: true, Err: fmt.Errorf("%q is no thread of Slack", thread)}
	}
	return place{parts[0], parts[1], parts[2]}, nil
}
