package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"threadbook/sessions"
	"threadbook/sessions/blobs"
	"threadbook/sessions/notebook"
)

// exportPage is how many events are read at once.
const exportPage = 1000

func exportCommand() *cobra.Command {
	var thread, format, out string
	cmd := &cobra.Command{
		Use:   "export --thread ID [--format ipynb|py|md] [-o FILE]",
		Short: "A thread as a notebook, a script or a page, on the standard output or in a file",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if thread == "" {
				return exitError{errors.New("which thread? --thread takes its name, such as web:abc or slack:T1/C1/123.45"), exitUsage}
			}
			as, ok := notebook.ParseFormat(format)
			if !ok {
				return exitError{fmt.Errorf("--format is %q; it can be ipynb, py or md", format), exitUsage}
			}
			cfg, log, err := configure(cmd)
			if err != nil {
				return err
			}
			if cfg.LogLevel == "info" { // whoever wants a file wants no news
				log = newLog(Config{LogLevel: "warn", LogFormat: cfg.LogFormat}, cmd.ErrOrStderr())
			}
			write := func(w io.Writer) error { return export(cmd.Context(), cfg, log, w, sessions.ThreadID(thread), as) }
			if out == "" {
				return write(cmd.OutOrStdout())
			}
			return writeFile(out, write)
		},
	}
	cmd.Flags().StringVar(&thread, "thread", "", "the thread's name, as the page's address and the log have it")
	cmd.Flags().StringVar(&format, "format", string(notebook.Jupyter), "ipynb, py or md")
	cmd.Flags().StringVarP(&out, "output", "o", "", "the file to write; what was there is replaced once all is written")
	return cmd
}

// export writes a thread to w. It needs the store and the blobs and nothing
// else: no engine of sandboxes, no model.
func export(ctx context.Context, cfg Config, log *slog.Logger, w io.Writer, thread sessions.ThreadID, format notebook.Format) (err error) {
	if err := thread.Validate(); err != nil {
		return err
	}
	store, private, err := openStore(ctx, cfg, 0, log)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, store.Close())
		if private != nil {
			err = errors.Join(err, private.Close())
		}
	}()
	kept, err := blobs.Open(ctx, cfg.Data)
	if err != nil {
		return err
	}
	var events []sessions.Event
	for {
		var after int64
		if n := len(events); n > 0 {
			after = events[n-1].Seq
		}
		page, err := store.Read(ctx, thread, after, exportPage, 0)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		events = append(events, page...)
	}
	if len(events) == 0 {
		return fmt.Errorf("there is no thread %q in this store (REDIS_URL, THREADBOOK_DATA)", string(thread))
	}
	return notebook.Write(ctx, w, format, events, func(name string) (io.ReadCloser, error) { return kept.Get(ctx, thread, name) })
}

// writeFile writes a file that appears under its name only once it is whole,
// for its owner alone to read: a thread may be private. A pipe or a device is
// written to as it is.
func writeFile(path string, write func(io.Writer) error) (err error) {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = errors.Join(write(tmp), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
