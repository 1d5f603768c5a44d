package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"threadbook/bots/terminal"
)

// protocolVersion is that of the log's events and of the agent's protocol;
// processes of one fleet must have the same.
const protocolVersion = 1

// newCommand is the command line.
func newCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "threadbook",
		Short:         "A code interpreter that lives in chat threads",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exitError{err, exitUsage} })
	addFlags(root.PersistentFlags())
	root.AddCommand(
		serveCommand("serve", "Everything in one process: the page, the adapters that have tokens, the worker", Roles{Bot: true, Worker: true}),
		serveCommand("bot", "The half that talks to people; needs REDIS_URL", Roles{Bot: true}),
		workerCommand(),
		askCommand(), exportCommand(), manifestCommand(), doctorCommand(), healthCommand(), versionCommand(),
	)
	root.SetHelpCommand(helpCommand(root))
	return root
}

// usageArgs makes wrong arguments exit as wrong use.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return exitError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath()), exitUsage}
		}
		return nil
	}
}

func helpCommand(root *cobra.Command) *cobra.Command {
	help := &cobra.Command{
		Use:   "help [command]",
		Short: "Help about a command, or about the configuration: help config",
		RunE: func(cmd *cobra.Command, args []string) error {
			target, _, err := root.Find(args)
			if err != nil || target == nil {
				return exitError{fmt.Errorf("there is no command %q", strings.Join(args, " ")), exitUsage}
			}
			return target.Help()
		},
	}
	help.AddCommand(&cobra.Command{
		Use:   "config",
		Short: "All that can be set",
		Args:  usageArgs(cobra.NoArgs),
		Run:   func(cmd *cobra.Command, _ []string) { helpConfig(cmd.OutOrStdout()) },
	})
	return help
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Version, commit, Go version, protocol version",
		Args:  usageArgs(cobra.NoArgs),
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "threadbook %s, commit %s, %s, protocol %d\n", version, commit, runtime.Version(), protocolVersion)
		},
	}
}

// configure reads the configuration and makes the log.
func configure(cmd *cobra.Command) (Config, *slog.Logger, error) {
	cfg, err := loadConfig(os.Environ(), cmd.Flags())
	if err != nil {
		return cfg, nil, exitError{fmt.Errorf("the configuration has faults (see threadbook help config):\n%w", err), exitUsage}
	}
	log := newLog(cfg, cmd.ErrOrStderr())
	for _, name := range unknownVariables(os.Environ()) {
		log.Warn("this version does not use a variable that is set", "name", name)
	}
	return cfg, log, nil
}

// newLog logs to w.
func newLog(cfg Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // loadConfig has checked it
	}
	opts := &slog.HandlerOptions{Level: level}
	format := cfg.LogFormat
	if file, ok := w.(*os.File); ok && format == "" {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			format = "text"
		}
	}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

func serveCommand(name, short string, roles Roles) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := configure(cmd)
			if err != nil {
				return err
			}
			if cfg.RedisURL == "" && !(roles.Bot && roles.Worker) {
				return exitError{fmt.Errorf("threadbook %s needs REDIS_URL: the two halves meet in Redis", name), exitUsage}
			}
			p, err := New(cmd.Context(), cfg, roles, log)
			if err != nil {
				return err
			}
			if roles.Bot {
				fmt.Fprintf(cmd.OutOrStdout(), "The page is at http://%s/\n", p.Addr())
			}
			return errors.Join(p.Run(cmd.Context()), p.Close())
		},
	}
}

func askCommand() *cobra.Command {
	var files []string
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   `ask [flags] "question"`,
		Short: "One turn in a terminal thread; - reads a message a line from the standard input",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, log, err := configure(cmd)
			if err != nil {
				return err
			}
			if cfg.LogLevel == "info" { // whoever sits at a terminal wants no news
				log = newLog(Config{LogLevel: "warn", LogFormat: cfg.LogFormat}, cmd.ErrOrStderr())
			}
			messages, err := terminal.Messages(args[0], files, cmd.InOrStdin(), asJSON)
			if err != nil {
				return exitError{err, exitUsage}
			}
			p, err := New(cmd.Context(), cfg, Roles{Worker: true}, log)
			if err != nil {
				return err
			}
			ok, err := p.ask(cmd.Context(), messages, terminal.Options{Out: out, JSON: asJSON, Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()})
			err = errors.Join(err, p.Close())
			if err == nil && !ok {
				return exitError{errors.New(""), exitFailed}
			}
			return err
		},
	}
	cmd.Flags().StringArrayVar(&files, "file", nil, "a file to send with the (first) message; may be given several times")
	cmd.Flags().StringVar(&out, "out", "./out", "the folder for charts and files")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the thread's events, one JSON object a line; with -, each line read is an object {\"text\",\"files\":[paths]}")
	return cmd
}

// healthCommand asks a running process of ours, for health checks in images
// that have no other program to do it.
func healthCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "health",
		Short:  "Ask the process that listens on THREADBOOK_ADDR whether it is ready",
		Hidden: true,
		Args:   usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(os.Environ(), cmd.Flags())
			if err != nil {
				return exitError{err, exitUsage}
			}
			host, port, err := net.SplitHostPort(cfg.Addr)
			if err != nil {
				return err
			}
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "127.0.0.1"
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
			if err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("not ready: %s", strings.TrimSpace(string(body)))
			}
			return nil
		},
	}
}

// writeJSON answers a request with a status and an object.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the client may have gone; nobody to tell
}
