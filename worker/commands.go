package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/sessions/notebook"
	"threadbook/worker/tools"
)

// helpText is the answer to "!help" and to a command that there isn't.
func helpText() string {
	return "Write a question and drop files, or run code yourself: a message that is only a ``` fence, or `!run python` and a fence. " +
		"Languages: " + languageNames() + ".\n\n" +
		"`!stop` stops what runs · `!files` lists the files · `!get NAME` posts one · `!export` posts the thread as a notebook (`!export py` as a script, `!export md` as a page) · `!reset` starts afresh, files stay · " +
		"`!rerun` runs all cells again · `!usage` says what the thread has used · `!forget` deletes the thread · `!help` is this"
}

func languageNames() string {
	var names []string
	for _, l := range sandbox.Languages() {
		names = append(names, string(l))
	}
	return strings.Join(names, ", ")
}

// command does what a message that begins with "!" asks.
func (h *holder) command(ctx, turnCtx context.Context, req request) error {
	say := func(code, text string) error { return h.record(ctx, &sessions.Notice{Code: code, Text: text}) }
	switch req.command {
	case "files":
		s, err := h.open(ctx)
		if err != nil {
			return err
		}
		list, more, err := s.List(ctx, ".")
		if err != nil {
			return unavailableSandbox(err)
		}
		return say("files", tools.Listing(list, more))
	case "get":
		name := strings.TrimPrefix(strings.Trim(req.arg, "`"), "/workspace/")
		err := h.share(ctx, name, "")
		switch {
		case errors.Is(err, sandbox.ErrNotFound) || errors.Is(err, sandbox.ErrBadPath):
			return say("not_found", fmt.Sprintf("There is no file %q; !files lists them.", name))
		case errors.Is(err, sandbox.ErrTooLarge) || sessions.CodeOf(err) == sessions.TooLarge:
			return say("too_large", fmt.Sprintf("%s is larger than %d MiB, the limit.", name, maxOutputSize>>20))
		}
		return err
	case "export":
		format, ok := notebook.ParseFormat(strings.ToLower(strings.Trim(req.arg, "`")))
		if !ok {
			return say("help", fmt.Sprintf("There is no format %q; `!export` makes a notebook, `!export py` a script, `!export md` a page.", req.arg))
		}
		err := h.export(ctx, turnCtx, format)
		if sessions.CodeOf(err) == sessions.TooLarge {
			return say("too_large", fmt.Sprintf("The notebook is larger than %d MiB, the limit.", maxOutputSize>>20))
		}
		return err
	case "reset":
		s, err := h.open(ctx)
		if err != nil {
			return err
		}
		if err := s.Reset(ctx); err != nil {
			return unavailableSandbox(err)
		}
		return say(noticeStateLost, "All variables are forgotten; the files are still there.")
	case "rerun":
		return h.rerun(ctx, turnCtx)
	case "forget":
		if !strings.EqualFold(req.arg, "yes") {
			return say("forget", "`!forget yes` deletes this thread for good: its variables, its files and its log. What stands here in the chat stays.")
		}
		return say(noticeForgotten, "This thread's variables, files and log are deleted now. What stands here in the chat stays.")
	case "usage":
		return say("usage", h.usage())
	case "run":
		return say("help", "`!run` needs code behind it: `!run python` and a ``` fence. Languages: "+languageNames()+".")
	case "help":
		return say("help", helpText())
	default:
		return say("help", fmt.Sprintf("There is no command `!%s`. ", req.command)+helpText())
	}
}

// exportTitle marks the files that export has made: the next one may take
// their place.
const exportTitle = "Notebook"

// export writes the log so far as a notebook and gives it to the thread. It
// needs no sandbox. A file of somebody else's keeps its name: the latest of a
// name is what a new sandbox gets.
func (h *holder) export(ctx, turnCtx context.Context, format notebook.Format) error {
	taken := map[string]bool{}
	for p, f := range h.log.files {
		taken[p] = f.Title != exportTitle || f.Cell != 0 || f.Message != 0
	}
	events := slices.Clone(h.log.events) // the writer may outlive a Put that failed
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(notebook.Write(turnCtx, w, format, events, func(name string) (io.ReadCloser, error) {
			return h.Blobs.Get(turnCtx, h.thread, name)
		}))
	}()
	blob, size, err := h.Blobs.Put(turnCtx, h.thread, r, maxOutputSize)
	r.Close()
	if err != nil {
		return err
	}
	name := freeName("notebook."+string(format), taken)
	return h.record(ctx, &sessions.File{Path: name, Size: size, SHA256: blob, MIME: mimeOf(name, ""), Blob: blob, Title: exportTitle})
}

// usage sums up the thread.
func (h *holder) usage() string {
	var tokens sessions.Tokens
	var seconds, cost float64
	turns, cells := 0, 0
	for _, ev := range h.log.events {
		switch b := ev.Body.(type) {
		case *sessions.TurnFinished:
			turns++
			tokens, cost = tokens.Add(b.Tokens), cost+b.CostUSD
		case *sessions.CellFinished:
			cells++
			seconds += b.Seconds
		}
	}
	return fmt.Sprintf("This thread: %d turns, %d cells with %.1f s of running time, %d tokens read (%d of them cached) and %d written by the model.",
		turns, cells, seconds, tokens.In, tokens.Cached, tokens.Out)
}
