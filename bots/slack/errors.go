package slack

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
)

const (
	// vagueWait is the wait after "too many" without a Retry-After.
	vagueWait = 5 * time.Second
	// unready is the wait for a file that Slack has not looked at yet.
	unready = 2 * time.Second
	// conflictWait is the wait for a stream to end, which Slack does after five
	// minutes if we can't.
	conflictWait   = 5 * time.Second
	streamConflict = "streaming_state_conflict" // of an edit of a stream that is open
)

// codeOf is Slack's word for an error, empty where the failure has none.
func codeOf(err error) string {
	var e slackgo.SlackErrorResponse
	if errors.As(err, &e) {
		return e.Err
	}
	return ""
}

// asPostError says what a failed call means. Slack's words are those of the
// reference pages of the chat.* and files.* methods.
func asPostError(method string, err error) *bots.PostError {
	var done *bots.PostError
	if errors.As(err, &done) {
		return done
	}
	e := &bots.PostError{Err: fmt.Errorf("%s: %w", method, err)}
	var limited *slackgo.RateLimitedError
	var status slackgo.StatusCodeError
	var op *net.OpError
	switch code := codeOf(err); {
	case errors.As(err, &limited):
		e.After, e.Refused = max(limited.RetryAfter, time.Second), true
	case errors.As(err, &status):
		switch {
		case status.Code == http.StatusTooManyRequests:
			e.After, e.Refused = vagueWait, true
		case status.Code < http.StatusInternalServerError || status.Code == http.StatusNotImplemented:
			e.Refused, e.Permanent = true, true
		}
	case errors.As(err, &op) && op.Op == "dial":
		e.Refused = true // nothing was sent
	case code == "":
		// The answer was lost, and the call may have been done.
	case code == "ratelimited" || code == "rate_limited":
		e.After, e.Refused = vagueWait, true
	case slices.Contains([]string{"internal_error", "fatal_error", "service_unavailable", "request_timeout"}, code):
		// Slack says of these that part of the call may have been done.
	case code == "message_not_found" && method == "chat.update":
		e.Refused, e.Gone = true, true
	case code == streamConflict:
		e.Refused, e.After = true, conflictWait
	case fileNotReady(err):
		e.Refused, e.After = true, unready
	default:
		e.Refused, e.Permanent = true, true
	}
	return e
}

// fileNotReady tells a block whose file is still being looked at, which passes,
// from a block that Slack does not take.
func fileNotReady(err error) bool {
	var e slackgo.SlackErrorResponse
	if !errors.As(err, &e) || e.Err != "invalid_blocks" && e.Err != "invalid_blocks_format" {
		return false
	}
	return slices.ContainsFunc(e.ResponseMetadata.Messages, func(m string) bool {
		m = strings.ToLower(m)
		return strings.Contains(m, "slack file") || strings.Contains(m, "slack_file")
	})
}

// badBlocks says that Slack took offence at a block's kind or form.
func badBlocks(err error) bool {
	code := codeOf(err)
	return (code == "invalid_blocks" || code == "invalid_blocks_format") && !fileNotReady(err)
}

// notHere are the refusals that hold for a whole workspace and app, and not
// for one thread.
func notHere(err error) bool {
	return slices.Contains([]string{
		"not_authorized", "missing_scope", "unknown_method", "not_agent_app", "not_allowed_token_type",
		"feature_not_enabled", "access_denied", "no_permission", "team_access_not_granted", "method_deprecated",
	}, codeOf(err))
}
