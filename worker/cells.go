package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/worker/agent"
	"threadbook/worker/tools"
)

// maxAlt is how much of a figure's alternative text the model is told.
const maxAlt = 2 << 10

// maxTraceback is how much of a traceback the model is told; its end says most.
const maxTraceback = 3 << 10

// runCells runs cells as they are. A cell that fails ends the rest, as in a
// notebook; done is how many ended well. prefix begins the names by which a
// resumed turn finds the cells that it had started.
func (h *holder) runCells(ctx, turnCtx context.Context, prefix string, cells []code) (done int, err error) {
	for i, c := range cells {
		if err := context.Cause(turnCtx); err != nil {
			return done, err
		}
		key := fmt.Sprintf("%s%d/%d", prefix, h.log.turn.messages[0].Seq, i)
		cell, err := h.runCell(ctx, turnCtx, sessions.CellStarted{Language: string(c.language), Code: c.text, By: sessions.ByUser, Call: key})
		if err != nil {
			return done, err
		}
		if cell.finished.Status != string(sandbox.OK) {
			break
		}
		done++
	}
	return done, context.Cause(turnCtx)
}

// notebook is the thread as the model's tools see it.
func (h *holder) notebook(ctx, turnCtx context.Context) tools.Notebook {
	return tools.Notebook{
		RunCell: func(ctx context.Context, call sessions.Call, lang sandbox.Language, code string) (string, error) {
			done, err := h.runCell(ctx, turnCtx, sessions.CellStarted{Language: string(lang), Code: code, By: sessions.ByModel, Call: call.ID})
			if err != nil {
				return "", err
			}
			return tellCell(done), nil
		},
		Files: func(ctx context.Context) (sandbox.Files, error) { return h.open(ctx) },
		Share: func(ctx context.Context, path, title string) error { return h.share(ctx, path, title) },
		Ask: func(ctx context.Context, call sessions.Call, question string, options []string) error {
			return h.record(ctx, &sessions.Question{ID: call.ID, Text: question, Options: options})
		},
	}
}

// runCell runs a cell to its end and records all of it; or takes up the one
// that was started for the same call before. The turn's end interrupts it.
func (h *holder) runCell(ctx, turnCtx context.Context, start sessions.CellStarted) (*cellLog, error) {
	session, err := h.open(ctx)
	if err != nil {
		return nil, err
	}
	c := h.log.turn.cells[start.Call]
	if c != nil && c.finished != nil {
		return c, nil
	}
	cell := sandbox.Cell{Language: sandbox.Language(start.Language), Code: start.Code, Timeout: h.CellTimeout, Resume: c != nil}
	if c == nil {
		start.Cell = h.log.cells + 1
		if err := h.record(ctx, &start); err != nil {
			return nil, err
		}
		c = h.log.turn.cells[start.Call]
	} else if n := len(c.outputs); n > 0 {
		cell.After = c.outputs[n-1].N
	}
	cell.ID = c.started.Cell

	// Detached from the turn, so that what was interrupted is still recorded.
	stop := context.AfterFunc(turnCtx, func() {
		if ctx.Err() == nil {
			if err := session.Interrupt(ctx); err != nil {
				h.slog.WarnContext(ctx, "interrupting a cell failed; its time limit will", "cell", cell.ID, "err", err)
			}
		}
	})
	defer stop()
	// A shutdown need not wait for a cell: it runs on, and is taken up again.
	running, letGo := context.WithCancel(ctx)
	defer letGo()
	go func() {
		select {
		case <-h.stopping:
			letGo()
		case <-running.Done():
		}
	}()
	result, err := session.Run(running, cell, func(out sandbox.Output) error { return h.recordOutput(ctx, cell.ID, out) })
	if errors.Is(err, sandbox.ErrGone) {
		result, err = sandbox.Result{Status: sandbox.KernelDied, Lost: true, Gone: true,
			Error: &sandbox.CellError{Name: "SandboxLost", Value: "the sandbox ended while the cell ran"}}, nil
	}
	if paused := h.pause(); err != nil && paused != nil {
		return nil, paused
	}
	if err != nil {
		return nil, unavailableSandbox(err)
	}
	return c, h.finishCell(ctx, c, result)
}

// finishCell gives out the files that the cell wrote, and records its end.
func (h *holder) finishCell(ctx context.Context, c *cellLog, result sandbox.Result) error {
	end := &sessions.CellFinished{Cell: c.started.Cell, Status: string(result.Status), Seconds: result.Seconds, State: sessions.StateKept}
	if e := result.Error; e != nil {
		end.Error = &sessions.CellError{Name: e.Name, Value: agent.Shorten(e.Value, maxTraceback), Traceback: agent.Shorten(e.Traceback, sessions.InlineMax)}
	}
	h.Metrics.cells.WithLabelValues(c.started.Language, end.Status).Observe(result.Seconds)
	h.Metrics.phases.WithLabelValues(phaseCell).Observe(result.Seconds)
	if !result.Gone {
		if err := h.giveOutputs(ctx, c.started.Cell); err != nil && !errors.Is(err, sandbox.ErrGone) {
			return err
		}
	}
	if !result.Lost && !result.Gone {
		return h.record(ctx, end)
	}
	end.State = sessions.StateLost
	lost := &sessions.Notice{Code: noticeStateLost, Text: fmt.Sprintf("The %s variables are lost; the files are still there.", c.started.Language)}
	if result.Gone {
		h.session = nil
		lost.Text = "The sandbox was lost with all its variables. The next cell starts a new one, with the files that were sent or given out."
	}
	return h.record(ctx, end, lost)
}

// recordOutput records one output: short text in the log itself, a stream in
// as many events as it takes, other bytes in a blob.
func (h *holder) recordOutput(ctx context.Context, cell int64, out sandbox.Output) error {
	ev := sessions.CellOutput{Cell: cell, Stream: out.Stream, MIME: out.MIME, Display: out.Display, Truncated: out.Truncated, N: out.N}
	if out.Stream == "" {
		if len(out.Data) <= sessions.InlineMax && isText(out.MIME) && utf8.Valid(out.Data) {
			ev.Text = string(out.Data)
			return h.record(ctx, &ev)
		}
		var err error
		if ev.Blob, ev.Size, err = h.Blobs.Put(ctx, h.thread, bytes.NewReader(out.Data), int64(len(out.Data))); err != nil {
			return err
		}
		return h.record(ctx, &ev)
	}
	var events []sessions.Body
	for text := out.Text; text != "" || len(events) == 0; {
		n := min(len(text), sessions.InlineMax)
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n--
		}
		part := ev
		part.Text, text = text[:n], text[n:]
		ev.Truncated = 0
		events = append(events, &part)
	}
	return h.record(ctx, events...)
}

// isText says whether bytes of the type are better kept in the log as text.
func isText(mime string) bool {
	return strings.HasPrefix(mime, "text/") || mime == "application/json" || strings.HasSuffix(mime, "+json") || mime == "image/svg+xml"
}

// tellCell is what the model is told of a cell.
func tellCell(c *cellLog) string {
	var b strings.Builder
	shown := map[int64]bool{} // displays told of
	for i, out := range c.outputs {
		if out.Truncated > 0 {
			fmt.Fprintf(&b, "\n[… %d bytes left out; all of it is in a file in /workspace/outputs …]\n", out.Truncated)
		}
		switch {
		case out.Stream != "":
			b.WriteString(out.Text)
		case shown[out.Display] && out.Display != 0:
		default:
			shown[out.Display] = true
			tellDisplay(&b, alternatives(c.outputs[i:], out.Display))
		}
	}
	text := agent.Shorten(strings.TrimRight(b.String(), "\n"), agent.MaxResult-maxTraceback)
	b.Reset()
	b.WriteString(text)
	line := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, format, args...)
	}
	end := c.finished
	if e := end.Error; e != nil {
		if e.Traceback != "" {
			line("%s", agent.Shorten(e.Traceback, maxTraceback-512))
		} else {
			line("%s: %s", e.Name, agent.Shorten(e.Value, maxTraceback-512))
		}
	}
	for _, f := range c.files {
		line("[file %s, %d bytes, posted to the thread]", f.Path, f.Size)
	}
	switch {
	case end.Status != string(sandbox.OK):
		line("[cell %d ended as %q after %.1f s; variables %s]", end.Cell, end.Status, end.Seconds, end.State)
	case b.Len() == 0:
		line("[cell %d ran without output]", end.Cell)
	}
	return b.String()
}

// alternatives are the representations of one displayed thing.
func alternatives(outputs []*sessions.CellOutput, display int64) []*sessions.CellOutput {
	if display == 0 {
		return outputs[:1]
	}
	var same []*sessions.CellOutput
	for _, out := range outputs {
		if out.Display == display {
			same = append(same, out)
		}
	}
	return same
}

// tellDisplay tells of one displayed thing: that a figure is in the thread and
// what it shows, or the plainest text there is.
func tellDisplay(b *strings.Builder, same []*sessions.CellOutput) {
	best := same[0]
	var figure *sessions.CellOutput
	for _, out := range same {
		switch {
		case strings.HasPrefix(out.MIME, "image/") || out.MIME == "application/pdf":
			figure = out
		case out.MIME == "text/plain":
			best = out
		}
	}
	if figure != nil {
		fmt.Fprintf(b, "\n[figure (%s), shown in the thread", figure.MIME)
		if best.MIME == "text/plain" && best.Text != "" {
			b.WriteString(": " + agent.Shorten(best.Text, maxAlt))
		}
		b.WriteString("]\n")
		return
	}
	if best.Text == "" {
		fmt.Fprintf(b, "\n[%s, %d bytes, shown in the thread]\n", best.MIME, best.Size)
		return
	}
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	b.WriteString(best.Text + "\n")
}

// unavailableSandbox is an error of the sandbox as people are told of it.
func unavailableSandbox(err error) error {
	if sessions.CodeOf(err) != sessions.Internal || errors.Is(err, context.Canceled) {
		return err
	}
	return &sessions.Error{Code: sessions.Unavailable, Text: "The sandbox does not work just now; please try again in a moment.", Err: err}
}
