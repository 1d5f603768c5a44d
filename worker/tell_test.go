package worker

import (
	"testing"

	"threadbook/sessions"
)

func TestTellDisplay(t *testing.T) {
	t.Parallel()
	out := func(display int64, mime, text string) *sessions.CellOutput {
		return &sessions.CellOutput{Cell: 1, Display: display, MIME: mime, Text: text}
	}
	c := &cellLog{
		started: &sessions.CellStarted{Cell: 1},
		outputs: []*sessions.CellOutput{
			out(1, "text/plain", "Bar chart; a 1, b 2."),
			out(1, "image/png", ""),
			out(1, "application/vnd.threadbook.chart+json", `{"alt": "for bots"}`),
			out(2, "image/png", ""),
			out(3, "text/plain", "   a\n0  1"),
			out(3, "text/html", "<table>"),
			out(3, "application/vnd.threadbook.table+json", `{"rows": []}`),
		},
		finished: &sessions.CellFinished{Cell: 1, Status: "ok"},
	}
	const want = "\n[figure (image/png), shown in the thread: Bar chart; a 1, b 2.]\n\n[figure (image/png), shown in the thread]\n   a\n0  1"
	if got := tellCell(c); got != want {
		t.Errorf("the model is told %q, want %q", got, want)
	}
}
