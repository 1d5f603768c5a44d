package terminal

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"threadbook/bots"
	"threadbook/sessions"
)

// view shows a thread's events, each once.
type view struct {
	Options
	blobs   sessions.Blobs
	thread  sessions.ThreadID
	saved   map[string]string // path in the workspace → file in Out
	figures map[int64]int     // by cell
	shown   map[int64]string  // the type that is printed of each display
	inLine  bool              // the output has not ended its line
}

func newView(o Options, blobs sessions.Blobs, thread sessions.ThreadID) *view {
	return &view{Options: o, blobs: blobs, thread: thread,
		saved: map[string]string{}, figures: map[int64]int{}, shown: map[int64]string{}}
}

// show shows one event.
func (v *view) show(ctx context.Context, ev sessions.Event) error {
	if v.JSON {
		line, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(v.Stdout, "%s\n", line); err != nil {
			return err
		}
	}
	switch b := ev.Body.(type) {
	case *sessions.Reply:
		if b.Text != "" {
			v.line("\n%s", b.Text)
		}
	case *sessions.CellStarted:
		v.line("\n── cell %d · %s", b.Cell, b.Language)
		v.line("%s", b.Code)
		v.line("──")
	case *sessions.CellOutput:
		return v.output(ctx, b)
	case *sessions.CellFinished:
		if b.Error != nil && b.Error.Traceback != "" {
			v.line("%s", strings.TrimRight(b.Error.Traceback, "\n"))
		} else if b.Error != nil {
			v.line("%s: %s", b.Error.Name, b.Error.Value)
		}
		if b.Status != "ok" {
			v.line("── cell %d: %s after %.1f s", b.Cell, b.Status, b.Seconds)
		}
	case *sessions.File:
		if b.Message == 0 && b.Blob != "" && !b.Saved {
			return v.save(ctx, b.Path, path.Base(b.Path), b.Blob)
		}
	case *sessions.Question:
		if b.Answer == "" {
			v.line("\n%s", b.Text)
			for _, o := range b.Options {
				v.line("  - %s", o)
			}
		}
	case *sessions.Notice:
		v.line("[%s]", b.Text)
	case *sessions.TurnFinished:
		if b.Status != sessions.TurnOK {
			v.line("[the turn ended: %s]", b.Status)
		}
	}
	return nil
}

// line prints a line of its own.
func (v *view) line(format string, args ...any) {
	if v.JSON {
		return
	}
	if v.inLine {
		fmt.Fprintln(v.Stdout)
		v.inLine = false
	}
	fmt.Fprintf(v.Stdout, format+"\n", args...)
}

// output prints text and saves figures. Of several representations of one
// thing the plain one is printed.
func (v *view) output(ctx context.Context, b *sessions.CellOutput) error {
	switch {
	case b.Stream != "":
		if b.Truncated > 0 {
			v.line("[… %d bytes left out …]", b.Truncated)
		}
		if !v.JSON {
			io.WriteString(v.Stdout, b.Text)
			v.inLine = !strings.HasSuffix(b.Text, "\n")
		}
		return nil
	case strings.HasPrefix(b.MIME, "image/") || b.MIME == "application/pdf":
		v.figures[b.Cell]++
		ext := map[string]string{"image/jpeg": ".jpg", "image/svg+xml": ".svg", "application/pdf": ".pdf"}[b.MIME]
		if ext == "" {
			ext = ".png"
		}
		name := fmt.Sprintf("cell-%d-figure-%d%s", b.Cell, v.figures[b.Cell], ext)
		if b.Blob == "" {
			return v.write(name, name, strings.NewReader(b.Text))
		}
		return v.save(ctx, name, name, b.Blob)
	case b.MIME == "text/plain" || b.MIME == "text/markdown":
		// One representation of each display, and that again when it changes.
		if shown := v.shown[b.Display]; b.Text != "" && (b.Display == 0 || shown == "" || shown == b.MIME) {
			v.shown[b.Display] = b.MIME
			v.line("%s", b.Text)
		}
	}
	return nil
}

// save writes a blob into the folder.
func (v *view) save(ctx context.Context, key, name, blob string) error {
	r, err := v.blobs.Get(ctx, v.thread, blob)
	if err != nil {
		return err
	}
	defer r.Close()
	return v.write(key, name, r)
}

// write writes a file into the folder, under a name that is free there. What
// this run wrote under the same key is replaced.
func (v *view) write(key, name string, r io.Reader) error {
	if err := os.MkdirAll(v.Out, 0o755); err != nil {
		return fmt.Errorf("making the folder for files: %w", err)
	}
	target, again := v.saved[key]
	flags := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if !again {
		flags = os.O_CREATE | os.O_WRONLY | os.O_EXCL
		target = filepath.Join(v.Out, bots.CleanFileName(name))
	}
	f, err := os.OpenFile(target, flags, 0o644)
	for n := 2; os.IsExist(err); n++ {
		ext := filepath.Ext(name)
		target = filepath.Join(v.Out, fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(bots.CleanFileName(name), ext), n, ext))
		f, err = os.OpenFile(target, flags, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing a file of the thread: %w", err)
	}
	_, err = io.Copy(f, r)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	v.saved[key] = target
	if v.JSON {
		return nil
	}
	v.line("[saved %s]", target)
	return nil
}
