package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/sessions/redisstore"
	"threadbook/worker/agent"
)

// checkTimeout bounds one check; a cold model or sandbox may take its time.
const checkTimeout = time.Minute

// check is one part that the doctor looks at. run returns what it found, or
// an error that says what is wrong and how to mend it.
type check struct {
	name string
	run  func(context.Context, Config) (string, error)
}

func checks() []check {
	return []check{{"redis", checkRedis}, {"sandbox", checkSandbox}, {"model", checkModel}}
}

func doctorCommand() *cobra.Command {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return &cobra.Command{
		Use:       "doctor [" + strings.Join(names, "|") + "]",
		Short:     "Try each part for real; one line each",
		ValidArgs: names,
		Args:      usageArgs(cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(os.Environ(), cmd.Flags())
			if err != nil {
				return exitError{fmt.Errorf("the configuration has faults:\n%w", err), exitUsage}
			}
			failed := false
			for _, c := range checks() {
				if len(args) > 0 && !slices.Contains(args, c.name) {
					continue
				}
				ctx, cancel := context.WithTimeout(cmd.Context(), checkTimeout)
				found, err := c.run(ctx, cfg)
				cancel()
				word := "ok"
				if err != nil {
					word, failed = "WRONG", true
					found = strings.ReplaceAll(err.Error(), "\n", "; ")
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-6s %-8s %s\n", word, c.name, found)
			}
			if failed {
				return exitError{errors.New(""), exitFailed}
			}
			return nil
		},
	}
}

func checkRedis(ctx context.Context, cfg Config) (string, error) {
	store, private, err := openStore(ctx, cfg, slog.New(slog.DiscardHandler))
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

// checkSandbox runs a cell in a sandbox of its own.
func checkSandbox(ctx context.Context, cfg Config) (found string, err error) {
	provider, err := openProvider(cfg, "doctor", slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, provider.Close()) }()
	info, err := provider.Probe(ctx)
	if err != nil {
		return "", err
	}
	thread := "doctor:" + rand.Text()
	began := time.Now()
	defer func() {
		err = errors.Join(err, provider.Remove(context.WithoutCancel(ctx), thread))
	}()
	session, err := provider.Open(ctx, thread)
	if err != nil {
		return "", err
	}
	var printed strings.Builder
	result, err := session.Run(ctx, sandbox.Cell{ID: 1, Language: sandbox.Python, Code: "print(6*7)", Timeout: checkTimeout / 2},
		func(out sandbox.Output) error { printed.WriteString(out.Text); return nil })
	if err != nil {
		return "", err
	}
	if result.Status != sandbox.OK || strings.TrimSpace(printed.String()) != "42" {
		return "", fmt.Errorf("a cell that prints 42 ended as %q and printed %q", result.Status, printed.String())
	}
	isolation := "isolated from the host's kernel"
	if !info.Isolated {
		isolation = "NOT isolated from the host's kernel: install gVisor (runsc) for code that you don't trust"
	}
	found = fmt.Sprintf("%s, runtime %s (%s), image %s, a cell ran after %.1f s", info.Engine, info.Runtime, isolation, info.Image, time.Since(began).Seconds())
	for _, w := range info.Warnings {
		found += "; note: " + w
	}
	return found, nil
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
