package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"threadbook/sessions"
)

// drainLook is how often it is looked how far a drain has come.
const drainLook = time.Second

// workerCommand is the worker's half, or with --drain the wish that those that
// run on this host end.
func workerCommand() *cobra.Command {
	cmd := serveCommand("worker", "The half that runs turns; needs REDIS_URL", Roles{Worker: true})
	cmd.Long = "The half that runs turns; needs REDIS_URL.\n\n" +
		"With --drain, it asks the workers that run on this host (THREADBOOK_HOST) to finish their turns, put their\n" +
		"sandboxes to disk and into THREADBOOK_DATA, and end, for the host to be stopped for longer than a restart takes.\n" +
		"New threads, and those that get a message meanwhile, go to other hosts, where those that were copied go on with\n" +
		"their variables; the others find their sandboxes here when it is back."
	drain := cmd.Flags().Bool("drain", false, "ask the workers that run on this host to end, and wait until they have")
	wait := cmd.Flags().Duration("drain-wait", 20*time.Minute, "how long --drain waits")
	serve := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*drain {
			return serve(cmd, args)
		}
		cfg, log, err := configure(cmd)
		if err != nil {
			return err
		}
		if cfg.RedisURL == "" {
			return exitError{errors.New("threadbook worker --drain needs REDIS_URL: the workers are asked through Redis"), exitUsage}
		}
		return drainHost(cmd.Context(), cfg, *wait, log, cmd.OutOrStdout())
	}
	return cmd
}

// drainHost asks the host's workers to drain, waits for them, and tells of it.
func drainHost(ctx context.Context, cfg Config, wait time.Duration, log *slog.Logger, out io.Writer) (err error) {
	host, err := cfg.host()
	if err != nil {
		return err
	}
	store, _, err := openStore(ctx, cfg, 0, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	asked, err := store.Drain(ctx, host)
	if err != nil {
		return err
	}
	if len(asked) == 0 {
		fmt.Fprintf(out, "No worker runs on host %s.\n", host)
		return nil
	}
	fmt.Fprintf(out, "Asked %d of host %s's workers to end.\n", len(asked), host)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for said := ""; ; {
		left, load, err := stillThere(ctx, store, asked)
		if err != nil {
			return err
		}
		if left == 0 {
			fmt.Fprintln(out, "They have ended.")
			return nil
		}
		if text := fmt.Sprintf("Still there: %d, with %d turns.", left, load); text != said {
			said = text
			fmt.Fprintln(out, text)
		}
		select {
		case <-time.After(drainLook):
		case <-ctx.Done():
			return fmt.Errorf("after %v %d of host %s's workers have not ended; they go on doing so", wait, left, host)
		}
	}
}

// stillThere counts those of the workers that live, with their turns.
func stillThere(ctx context.Context, store sessions.Hosts, workers []string) (left, load int, err error) {
	all, err := store.Hosts(ctx)
	for _, h := range all {
		if slices.Contains(workers, h.Worker) {
			left++
			load += h.Load
		}
	}
	return left, load, err
}
