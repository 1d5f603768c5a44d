package slack

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	slackgo "github.com/slack-go/slack"
)

// Finding is a line of a check-up: what was looked at, whether it is well, and
// what is there, or what is wrong and how to mend it.
type Finding struct {
	Name string // "bot token", "scopes" …
	OK   bool
	Text string
}

// Check looks at a Slack configuration for real: the tokens, that they are of
// one app, the scopes, the ways in, and which events have never come. It needs
// no Intake and no Blobs; without Seen it says nothing of events.
func Check(ctx context.Context, cfg Config) []Finding {
	s, err := New(cfg)
	if err != nil {
		return []Finding{{"configuration", false, err.Error()}}
	}
	found := s.checkToken(ctx)
	if !found[0].OK {
		return found
	}
	found = append(found, s.checkWaysIn(ctx)...)
	if cfg.Seen != nil {
		found = append(found, s.checkEvents(ctx))
	}
	return found
}

func (s *Slack) checkToken(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r, err := s.api.AuthTestContext(ctx)
	if err != nil {
		return []Finding{{"bot token", false, fmt.Sprintf("Slack refuses SLACK_BOT_TOKEN (%v); copy it from the app's page OAuth & Permissions, after installing the app", err)}}
	}
	found := []Finding{{"bot token", true, fmt.Sprintf("%s in %s", r.User, r.Team)}}
	granted := r.Header.Get("X-OAuth-Scopes")
	has := strings.FieldsFunc(granted, func(c rune) bool { return c == ',' || c == ' ' })
	var missing []string
	for _, scope := range scopes() {
		if !slices.Contains(has, scope) {
			missing = append(missing, scope)
		}
	}
	switch {
	case granted == "":
		found = append(found, Finding{"scopes", true, "Slack does not say which there are"})
	case len(missing) > 0:
		found = append(found, Finding{"scopes", false, fmt.Sprintf("missing: %s; update the app with `threadbook manifest slack` and install it again", strings.Join(missing, ", "))})
	default:
		found = append(found, Finding{"scopes", true, fmt.Sprintf("all %d are there", len(scopes()))})
	}
	if s.cfg.AppToken != "" && r.BotID != "" {
		found = append(found, s.checkSameApp(ctx, r.BotID))
	}
	return found
}

// checkSameApp compares the app of the bot with the one that an app-level
// token names: xapp-1-A0123ABC-456-….
func (s *Slack) checkSameApp(ctx context.Context, bot string) Finding {
	const name = "one app"
	b, err := s.api.GetBotInfoContext(ctx, slackgo.GetBotInfoParameters{Bot: bot})
	parts := strings.Split(s.cfg.AppToken, "-")
	switch {
	case err != nil:
		return Finding{name, true, fmt.Sprintf("Slack does not say of which app the bot is (%v)", err)}
	case len(parts) < 4 || !strings.HasPrefix(parts[2], "A"):
		return Finding{name, true, "the app token does not say of which app it is"}
	case parts[2] != b.AppID:
		return Finding{name, false, fmt.Sprintf("SLACK_BOT_TOKEN is of app %s and SLACK_APP_TOKEN of app %s; take both from one app", b.AppID, parts[2])}
	}
	return Finding{name, true, "both tokens are of app " + b.AppID}
}

func (s *Slack) checkWaysIn(ctx context.Context) (found []Finding) {
	if s.cfg.AppToken != "" {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		_, address, err := s.api.StartSocketModeContext(ctx)
		if err != nil {
			found = append(found, Finding{"socket", false, fmt.Sprintf("Slack opens no socket (%v); SLACK_APP_TOKEN needs the scope connections:write, and the app Socket Mode switched on", err)})
		} else if u, err := url.Parse(address); err == nil {
			found = append(found, Finding{"socket", true, "Slack offers one at " + u.Host})
		}
	}
	if s.cfg.SigningSecret != "" {
		f := Finding{"signing secret", true, "there is one; whether it is the app's shows when Slack checks the address /slack/events"}
		if len(s.cfg.SigningSecret) < 32 {
			f = Finding{"signing secret", false, "SLACK_SIGNING_SECRET is shorter than Slack's, which have 32 characters; copy it from the app's page Basic Information"}
		}
		found = append(found, f)
	}
	if s.cfg.AppToken == "" && s.cfg.SigningSecret == "" {
		found = append(found, Finding{"ways in", false, "neither SLACK_APP_TOKEN nor SLACK_SIGNING_SECRET is set: nothing that people write can arrive"})
	}
	return found
}

// checkEvents says which kinds of events have never come.
func (s *Slack) checkEvents(ctx context.Context) Finding {
	const name = "events"
	seen, err := s.cfg.Seen.Marks(ctx)
	if err != nil {
		return Finding{name, false, fmt.Sprintf("which events have come can't be read: %v", err)}
	}
	var never []string
	for _, kind := range botEvents() {
		if seen[kind] == "" {
			never = append(never, kind)
		}
	}
	if len(never) > 0 {
		return Finding{name, true, "never seen yet: " + strings.Join(never, ", ") + ". If you have tried: check the app's page Event Subscriptions, that the bot is in the channel, and for direct messages that the Messages tab is on"}
	}
	return Finding{name, true, "all kinds have come"}
}
