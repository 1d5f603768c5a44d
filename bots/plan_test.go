package bots

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"threadbook/sessions"
)

// frame is a data frame of so many rows with cells of so many characters, as a
// cell shows it.
func frame(rows, width int) *sessions.CellOutput {
	var f struct {
		Columns []map[string]string `json:"columns"`
		Rows    [][]any             `json:"rows"`
		Shape   [2]int              `json:"shape"`
	}
	f.Columns, f.Shape = []map[string]string{{"name": "a"}}, [2]int{rows, 1}
	for range rows {
		f.Rows = append(f.Rows, []any{strings.Repeat("x", width)})
	}
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return &sessions.CellOutput{Cell: 1, MIME: tableMIME, Text: string(text)}
}

// A post's words and tables together stay within the platform's limit; a table
// that fits into none is left to the output's text.
func TestTablesHaveRoom(t *testing.T) {
	limits := Limits{Text: 1000, Live: 800, Media: 4}
	for _, c := range []struct {
		words  int
		frames []*sessions.CellOutput
		want   string // each post: the words' length and the tables' rows
	}{
		{10, []*sessions.CellOutput{frame(2, 10)}, "10+2"},
		{950, []*sessions.CellOutput{frame(5, 10)}, "950 0+5"},
		{10, []*sessions.CellOutput{frame(40, 10), frame(40, 10)}, "10+40 0+40"},
		{10, []*sessions.CellOutput{frame(50, 20)}, "10"},
		{0, []*sessions.CellOutput{frame(2, 10)}, "0+2"},
	} {
		turn := &turnView{answer: strings.Repeat("w", c.words), cells: []*cellView{{start: &sessions.CellStarted{Cell: 1}, outputs: c.frames}}}
		var got []string
		for _, p := range turn.result(limits) {
			shown := fmt.Sprint(len(p.Text))
			for _, table := range p.Tables {
				shown += fmt.Sprintf("+%d", len(table.Rows))
			}
			if got = append(got, shown); p.size() > limits.Text {
				t.Errorf("a post of %d bytes", p.size())
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%d characters and %d tables: got %v, want %s", c.words, len(c.frames), got, c.want)
		}
	}
}
