package worker

import (
	"context"
	"fmt"
	"strings"

	"threadbook/sandbox"
	"threadbook/sessions"
)

// rerunPrefix begins the Call of a cell that was run again.
const rerunPrefix = "rerun/"

// rerun runs the thread's cells again that ended well, in their order, so that
// a new sandbox gets the variables of the old one. It stops at the first that
// fails.
func (h *holder) rerun(ctx, turnCtx context.Context) error {
	cells := h.log.goodCells()
	if len(cells) == 0 {
		return h.record(ctx, &sessions.Notice{Code: "rerun", Text: "No cell of this thread has ended well yet, so there is nothing to run again."})
	}
	done, err := h.runCells(ctx, turnCtx, rerunPrefix, cells)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("All %d cells that had ended well were run again.", done)
	if done < len(cells) {
		text = fmt.Sprintf("%d of %d cells were run again; the next one failed, so the rest was left.", done, len(cells))
	}
	return h.record(ctx, &sessions.Notice{Code: "rerun", Text: text})
}

// goodCells are the cells of the turns before the open one that ended well, in
// order, each once however often it was run again.
func (l *threadLog) goodCells() []code {
	ended := map[int64]bool{}
	for _, ev := range l.events {
		if f, ok := ev.Body.(*sessions.CellFinished); ok && f.Status == string(sandbox.OK) {
			ended[f.Cell] = true
		}
	}
	var cells []code
	for _, ev := range l.events {
		c, ok := ev.Body.(*sessions.CellStarted)
		if ok && ended[c.Cell] && !strings.HasPrefix(c.Call, rerunPrefix) && (l.turn == nil || ev.Turn != l.turn.id) {
			cells = append(cells, code{sandbox.Language(c.Language), c.Code})
		}
	}
	return cells
}
