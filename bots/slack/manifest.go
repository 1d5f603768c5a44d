package slack

import (
	"encoding/json"
	"fmt"
	"strings"

	slackgo "github.com/slack-go/slack"
)

// scopes are what the bot token must be allowed, and what for.
func scopes() []string {
	return []string{
		"app_mentions:read", "assistant:write", // to be called, and to be an agent with a status and a stop button
		"channels:history", "groups:history", "im:history", "mpim:history", // replies without a mention; finding posts again
		"channels:read", "groups:read", "im:read", "mpim:read", // is the bot in it, is it shared with others
		"chat:write", "commands", "files:read", "files:write", "im:write", "reactions:write", "users:read",
	}
}

// botEvents are the events that the app listens to.
func botEvents() []string {
	return []string{
		"agent_session_stopped", "app_home_opened", "app_mention",
		"message.channels", "message.groups", "message.im", "message.mpim",
	}
}

// Manifest is the Slack app, as JSON for "create an app from a manifest". With
// the address under which Slack reaches [Slack.Handler], events come over HTTP,
// and without one over Socket Mode.
func Manifest(publicURL string) ([]byte, error) {
	base := strings.TrimSuffix(publicURL, "/")
	address := func(path string) string {
		if base == "" {
			return ""
		}
		return base + "/slack/" + path
	}
	m := slackgo.Manifest{
		Metadata: slackgo.ManifestMetadata{MajorVersion: 2},
		Display: slackgo.Display{
			Name:            "threadbook",
			Description:     "Ask a data question in a thread; get code, charts and files.",
			LongDescription: "threadbook is a code interpreter that lives in threads. Ask a data question and drop files: a model writes code, the code runs in the thread's own sandbox, and code, output, charts and files come back into the thread. The variables are still there next week. It runs on your own machine.",
			BackgroundColor: "#1f3a5f",
		},
		Features: slackgo.Features{
			AgentView: &slackgo.AgentView{
				AgentDescription: "Ask a data question and drop files. I write code, run it in this thread's own sandbox, and answer with charts and files.",
				SuggestedPrompts: []slackgo.ManifestSuggestedPrompt{
					{Title: "What can you do?", Message: "!help"},
					{Title: "Look at a file", Message: "Please look at the file that I attach, say what is in it, and draw what is most telling."},
					{Title: "Run code", Message: "!run python\n```\nprint(sum(range(10)))\n```"},
				},
			},
			AppHome: slackgo.AppHome{HomeTabEnabled: true, MessagesTabEnabled: true},
			BotUser: slackgo.BotUser{DisplayName: "threadbook", AlwaysOnline: true},
			Shortcuts: []slackgo.Shortcut{
				{Name: "Run this code", CallbackID: shortcutRun, Description: "Runs the message's code in its thread", Type: slackgo.MessageShortcut},
				{Name: "Analyse these files", CallbackID: shortcutAnalyse, Description: "Looks at the message's files in its thread", Type: slackgo.MessageShortcut},
			},
			SlashCommands: []slackgo.ManifestSlashCommand{{
				Command: "/threadbook", Description: "Ask a data question in a new thread", UsageHint: "QUESTION | help | recent | usage", Url: address("commands"),
			}},
		},
		OAuthConfig: slackgo.OAuthConfig{Scopes: slackgo.OAuthScopes{Bot: scopes()}},
		Settings: slackgo.Settings{
			EventSubscriptions: &slackgo.EventSubscriptions{BotEvents: botEvents(), RequestUrl: address("events")},
			Interactivity:      &slackgo.Interactivity{IsEnabled: true, RequestUrl: address("interactivity")},
			SocketModeEnabled:  base == "",
		},
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	// slack-go leaves false out, and Slack's default for this one is true: then
	// nobody can write to the bot.
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	if features, ok := tree["features"].(map[string]any); ok {
		if home, ok := features["app_home"].(map[string]any); ok {
			home["messages_tab_read_only_enabled"] = false
		}
	}
	return json.MarshalIndent(tree, "", "  ")
}
