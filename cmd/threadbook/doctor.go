package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"threadbook/bots/discord"
	"threadbook/bots/slack"
	"threadbook/sessions"
	"threadbook/sessions/redisstore"
	"threadbook/worker/agent"
)

// checkTimeout bounds one check; a cold model or sandbox may take its time.
const checkTimeout = 2 * time.Minute

// check is one part that the doctor looks at.
type check struct {
	name string
	run  func(context.Context, Config) []finding
}

// finding is one thing found of a part: what it is, or an error that says what is
// wrong and how to mend it.
type finding struct {
	text string
	err  error
}

func checks() []check {
	return []check{{"redis", single(checkRedis)}, {"sandbox", checkSandbox}, {"model", single(checkModel)},
		{"slack", checkSlack}, {"discord", checkDiscord}}
}

// used says whether the part is looked at where nobody asks for it by name.
func (c check) used(cfg Config) bool {
	switch c.name {
	case slack.Platform:
		return cfg.SlackBotToken != ""
	case discord.Platform:
		return cfg.DiscordBotToken != ""
	}
	return true
}

// single is a check that finds one thing.
func single(run func(context.Context, Config) (string, error)) func(context.Context, Config) []finding {
	return func(ctx context.Context, cfg Config) []finding {
		text, err := run(ctx, cfg)
		return []finding{{text, err}}
	}
}

func doctorCommand() *cobra.Command {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return &cobra.Command{
		Use:       "doctor [" + strings.Join(names, "|") + "]",
		Short:     "Try each part for real; a line for each thing found",
		ValidArgs: names,
		Args:      usageArgs(cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(os.Environ(), cmd.Flags())
			if err != nil {
				return exitError{fmt.Errorf("the configuration has faults:\n%w", err), exitUsage}
			}
			failed := false
			for _, c := range checks() {
				if len(args) > 0 && !slices.Contains(args, c.name) || len(args) == 0 && !c.used(cfg) {
					continue
				}
				ctx, cancel := context.WithTimeout(cmd.Context(), checkTimeout)
				for _, f := range c.run(ctx, cfg) {
					word := "ok"
					if f.err != nil {
						word, failed = "WRONG", true
						f.text = strings.ReplaceAll(f.err.Error(), "\n", "; ")
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%-6s %-8s %s\n", word, c.name, f.text)
				}
				cancel()
			}
			if failed {
				return exitError{errors.New(""), exitFailed}
			}
			return nil
		},
	}
}

func checkRedis(ctx context.Context, cfg Config) (string, error) {
	store, private, err := openStore(ctx, cfg, 0, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", fmt.Errorf("%w: is REDIS_URL right, and does Redis run?", err)
	}
	found, err := pingStore(ctx, store)
	if private != nil {
		what := "a private one under THREADBOOK_DATA"
		if private.Forgets {
			what = "in this process: threads are forgotten at exit; install redis-server or set REDIS_URL"
		}
		found += ", " + what
		err = errors.Join(err, private.Close())
	}
	return found, err
}

func pingStore(ctx context.Context, store *redisstore.Store) (string, error) {
	defer store.Close()
	return store.Ping(ctx)
}

// checkSandbox tries a sandbox of its own, and what it is to be kept from.
func checkSandbox(ctx context.Context, cfg Config) []finding {
	provider, err := openProvider(cfg, "doctor", slog.New(slog.DiscardHandler))
	if err != nil {
		return []finding{{err: err}}
	}
	var all []finding
	for _, f := range provider.Examine(ctx) {
		if f.OK {
			all = append(all, finding{text: f.Text})
		} else {
			all = append(all, finding{err: errors.New(f.Text)})
		}
	}
	if err := provider.Close(); err != nil {
		all = append(all, finding{err: err})
	}
	return all
}

// checkModel asks the model for a word and for a call of a tool.
func checkModel(ctx context.Context, cfg Config) (string, error) {
	if !cfg.hasModel() {
		return "none is set: direct mode, cells only (set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own)", nil
	}
	model := openModel(cfg, 1, slog.New(slog.DiscardHandler))
	began := time.Now()
	reply, err := model.Complete(ctx, agent.Request{
		Messages: []agent.Message{{Role: agent.User, Text: `Call the tool "ping".`}},
		Tools:    []agent.Tool{{Name: "ping", Description: "Answers.", Schema: []byte(`{"type":"object","properties":{}}`)}},
	}, nil)
	if err != nil {
		return "", fmt.Errorf("%s (%w)", sessions.TextOf(err), errors.Unwrap(err))
	}
	tools := "it calls tools"
	if len(reply.Calls) == 0 {
		tools = "but it answered a request to call a tool without calling it: it may not be able to run code"
	}
	return fmt.Sprintf("%s answers after %.1f s, %s", reply.Model, time.Since(began).Seconds(), tools), nil
}

func checkSlack(ctx context.Context, cfg Config) []finding {
	if cfg.SlackBotToken == "" {
		return []finding{{err: errors.New("SLACK_BOT_TOKEN is not set; threadbook manifest slack makes the app that has one")}}
	}
	c := slackConfig(cfg, chatConfig{})
	// Which events have come is known to the store alone; a store that is away
	// is checkRedis' to tell.
	if store, private, err := openStore(ctx, cfg, 0, slog.New(slog.DiscardHandler)); err == nil {
		defer store.Close()
		if private != nil {
			defer private.Close()
		}
		c.Seen = store.Marks(slack.Platform)
	}
	var found []finding
	for _, f := range slack.Check(ctx, c) {
		found = append(found, findingOf(f.OK, f.Name+": "+f.Text))
	}
	return found
}

func checkDiscord(ctx context.Context, cfg Config) []finding {
	if cfg.DiscordBotToken == "" {
		return []finding{{err: errors.New("DISCORD_BOT_TOKEN is not set; threadbook manifest discord says how to get one")}}
	}
	var found []finding
	for _, f := range discord.Check(ctx, discordConfig(cfg, chatConfig{})) {
		found = append(found, findingOf(f.OK, f.Text))
	}
	return found
}

func findingOf(ok bool, text string) finding {
	if ok {
		return finding{text: text}
	}
	return finding{err: errors.New(text)}
}
