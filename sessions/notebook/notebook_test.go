package notebook_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"threadbook/sessions"
	"threadbook/sessions/notebook"
)

// thread is a log in the making.
type thread struct {
	events []sessions.Event
	turn   int64
	blobs  map[string][]byte
}

func (th *thread) add(bodies ...sessions.Body) {
	for _, b := range bodies {
		seq := int64(len(th.events) + 1)
		th.events = append(th.events, sessions.Event{Seq: seq, At: time.Date(2026, 11, 20, 12, 0, int(seq), 0, time.UTC),
			Thread: "web:test", Turn: th.turn, Body: b})
	}
}

// ask begins a turn with a message.
func (th *thread) ask(text string) {
	turn := th.turn
	th.turn = 0
	th.add(&sessions.Message{User: sessions.User{ID: "ada", Name: "Ada"}, Text: text, Key: fmt.Sprint("m", len(th.events))})
	th.turn = turn + 1
	th.add(&sessions.TurnStarted{Messages: []int64{int64(len(th.events))}})
}

func (th *thread) done() { th.add(&sessions.TurnFinished{Status: sessions.TurnOK}) }

// cell runs a cell by the model, with its outputs, to a good end.
func (th *thread) cell(n int64, language, code string, outputs ...*sessions.CellOutput) {
	th.add(&sessions.CellStarted{Cell: n, Language: language, Code: code, By: sessions.ByModel})
	for _, o := range outputs {
		o.Cell = n
		th.add(o)
	}
	th.add(&sessions.CellFinished{Cell: n, Status: "ok", State: sessions.StateKept})
}

func (th *thread) blob(display int64, mime string, data []byte) *sessions.CellOutput {
	if th.blobs == nil {
		th.blobs = map[string][]byte{}
	}
	name := fmt.Sprint("blob", len(th.blobs))
	th.blobs[name] = data
	return &sessions.CellOutput{Display: display, MIME: mime, Blob: name, Size: int64(len(data))}
}

func (th *thread) open(name string) (io.ReadCloser, error) {
	data, ok := th.blobs[name]
	if !ok {
		return nil, &sessions.Error{Code: sessions.NotFound, Text: "There is no such file any more."}
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (th *thread) write(t *testing.T, format notebook.Format) string {
	t.Helper()
	var out bytes.Buffer
	if err := notebook.Write(t.Context(), &out, format, th.events, th.open); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func stream(name, text string) *sessions.CellOutput {
	return &sessions.CellOutput{Stream: name, Text: text}
}

func shown(display int64, mime, text string) *sessions.CellOutput {
	return &sessions.CellOutput{Display: display, MIME: mime, Text: text}
}

// ipynb is a notebook as far as the tests look into it.
type ipynb struct {
	Cells []struct {
		Type     string `json:"cell_type"`
		ID       string `json:"id"`
		Count    int    `json:"execution_count"`
		Metadata struct {
			Language string
			Tags     []string
		}
		Source  []string
		Outputs []struct {
			Type      string `json:"output_type"`
			Name      string
			Text      []string
			Data      map[string]json.RawMessage
			Ename     string
			Evalue    string
			Traceback []string
		}
	}
}

// source is a cell's words or code.
func (nb *ipynb) source(i int) string { return strings.Join(nb.Cells[i].Source, "") }

// notebook writes a valid notebook and reads it.
func (th *thread) notebook(t *testing.T) *ipynb {
	t.Helper()
	text := th.write(t, notebook.Jupyter)
	checkStructure(t, text)
	checkWithJupyter(t, text)
	nb := &ipynb{}
	if err := json.Unmarshal([]byte(text), nb); err != nil {
		t.Fatal(err)
	}
	return nb
}

// only checks that an object has these fields and no others.
func only(t *testing.T, what string, object map[string]any, fields ...string) {
	t.Helper()
	for _, f := range fields {
		if _, ok := object[f]; !ok {
			t.Errorf("%s has no %s: %v", what, f, object)
		}
	}
	if len(object) != len(fields) {
		t.Errorf("%s has other fields than %v: %v", what, fields, object)
	}
}

// isLines checks that a value is a list of lines, of which all but the last
// have an end.
func isLines(t *testing.T, what string, value any) {
	t.Helper()
	list, ok := value.([]any)
	if !ok {
		t.Errorf("%s is %T", what, value)
	}
	for i, line := range list {
		s, ok := line.(string)
		if end := strings.Index(s, "\n"); !ok || s == "" || i < len(list)-1 && end != len(s)-1 || end >= 0 && end != len(s)-1 {
			t.Errorf("%s has the line %q", what, line)
		}
	}
}

// checkStructure holds a notebook to what the schema of nbformat 4.5 asks of
// the parts that are used here.
func checkStructure(t *testing.T, text string) {
	t.Helper()
	var nb map[string]any
	if err := json.Unmarshal([]byte(text), &nb); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	only(t, "the notebook", nb, "cells", "metadata", "nbformat", "nbformat_minor")
	if nb["nbformat"] != 4.0 || nb["nbformat_minor"] != 5.0 {
		t.Errorf("version %v.%v", nb["nbformat"], nb["nbformat_minor"])
	}
	kernel := nb["metadata"].(map[string]any)["kernelspec"].(map[string]any)
	if kernel["name"] != "python3" || kernel["display_name"] == "" {
		t.Errorf("kernelspec %v", kernel)
	}
	ids := map[any]bool{}
	for _, c := range nb["cells"].([]any) {
		c := c.(map[string]any)
		if id, ok := c["id"].(string); !ok || ids[id] || !regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`).MatchString(id) {
			t.Errorf("the id %v", c["id"])
		}
		ids[c["id"]] = true
		isLines(t, "a source", c["source"])
		if _, ok := c["metadata"].(map[string]any); !ok {
			t.Errorf("metadata %v", c["metadata"])
		}
		switch c["cell_type"] {
		case "markdown":
			only(t, "a cell", c, "cell_type", "id", "metadata", "source")
		case "code":
			only(t, "a cell", c, "cell_type", "id", "metadata", "source", "execution_count", "outputs")
			for _, o := range c["outputs"].([]any) {
				checkOutput(t, o.(map[string]any))
			}
		default:
			t.Errorf("cell_type %v", c["cell_type"])
		}
	}
}

func checkOutput(t *testing.T, o map[string]any) {
	t.Helper()
	switch o["output_type"] {
	case "stream":
		only(t, "a stream", o, "output_type", "name", "text")
		isLines(t, "a stream", o["text"])
	case "error":
		only(t, "an error", o, "output_type", "ename", "evalue", "traceback")
		for _, line := range o["traceback"].([]any) {
			_ = line.(string)
		}
	case "display_data":
		only(t, "a display", o, "output_type", "data", "metadata")
		for mime, data := range o["data"].(map[string]any) {
			switch text, one := data.(string); {
			case strings.HasSuffix(mime, "json"):
			case strings.HasPrefix(mime, "text/") || mime == "image/svg+xml":
				isLines(t, mime, data)
			case !one:
				t.Errorf("%s is %T", mime, data)
			default:
				if _, err := base64.StdEncoding.DecodeString(text); err != nil {
					t.Errorf("%s: %v", mime, err)
				}
			}
		}
	default:
		t.Errorf("output_type %v", o["output_type"])
	}
}

// checkWithJupyter has Jupyter's own library look at the notebook where this
// machine has it. (The tests of cmd/threadbook have it in the sandbox image.)
func checkWithJupyter(t *testing.T, text string) {
	t.Helper()
	if exec.CommandContext(t.Context(), "python3", "-c", "import nbformat").Run() != nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c",
		"import sys, nbformat; nbformat.validate(nbformat.reads(sys.stdin.read(), as_version=nbformat.NO_CONVERT))")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("nbformat: %v\n%s", err, out)
	}
}

// whole is a thread with all that a thread has.
func whole() *thread {
	th := &thread{}
	th.ask("How hot was it?\n\n**Please** be quick.")
	th.add(&sessions.File{Path: "w.csv", Size: 2048, Message: 1, Blob: "w"},
		&sessions.Reply{Text: "I'll look at the file.", Calls: []sessions.Call{{ID: "1", Name: "run_code"}}},
		&sessions.CellStarted{Cell: 1, Language: "python", Code: "import pandas as pd\nw['rain']", By: sessions.ByModel},
		&sessions.CellFinished{Cell: 1, Status: "error", State: sessions.StateKept,
			Error: &sessions.CellError{Name: "KeyError", Value: "'rain'", Traceback: "Traceback:\n  line 1\nKeyError: 'rain'\n"}},
		&sessions.ToolResult{Call: "1", Text: "KeyError"})
	th.cell(2, "python", "print(1)\nw.plot()",
		stream("stdout", "a\n"), stream("stdout", "b"), stream("stderr", "warned\n"), stream("stdout", "c\n"),
		shown(1, "text/plain", "0%"), shown(1, "text/html", "<b>0</b>"), stream("stdout", "d\n"), shown(1, "text/plain", "100%"),
		th.blob(2, "image/png", []byte("\x89PNG picture")), shown(2, "text/plain", "Line chart; highs."),
		shown(2, "application/vnd.threadbook.chart+json", `{"alt": "highs", "n": 12345678901234567890}`))
	th.add(&sessions.File{Path: "outputs/h.csv", Size: 10, Cell: 2})
	th.add(&sessions.Reply{Text: "It was **hot**."})
	th.done()
	th.ask("```bash\nls | wc -l\n```")
	th.add(&sessions.CellStarted{Cell: 3, Language: "bash", Code: "ls | wc -l", By: sessions.ByUser}, &sessions.CellOutput{Cell: 3, Stream: "stdout", Text: "3\n"},
		&sessions.CellFinished{Cell: 3, Status: "timeout", Seconds: 2, State: sessions.StateLost},
		&sessions.Notice{Code: "state_lost", Text: "The bash variables are lost."})
	th.done()
	th.ask("!files")
	th.add(&sessions.Notice{Code: "files", Text: "w.csv"})
	th.done()
	th.ask("!reset")
	th.add(&sessions.Notice{Code: "state_lost", Text: "All variables are forgotten."})
	th.done()
	th.ask("And in R?")
	th.add(&sessions.Question{ID: "q", Text: "Which year?", Options: []string{"2012", "2013"}})
	th.done()
	th.ask("2013")
	th.add(&sessions.Question{ID: "q", Answer: "2013", By: &sessions.User{Name: "Ada"}},
		&sessions.CellStarted{Cell: 4, Language: "r", Code: "summary(w)", By: sessions.ByModel}, &sessions.CellOutput{Cell: 4, Stream: "stdout", Text: "Min."})
	return th
}

func TestNotebook(t *testing.T) {
	t.Parallel()
	nb := whole().notebook(t)
	var got strings.Builder
	for i, c := range nb.Cells {
		fmt.Fprintf(&got, "%s %d %s%s: %q\n", c.Type, c.Count, c.Metadata.Language, c.Metadata.Tags, nb.source(i))
		for _, o := range c.Outputs {
			fmt.Fprintf(&got, "  %s %s%s %q%q\n", o.Type, o.Name, o.Ename, strings.Join(o.Text, ""), o.Traceback)
			for _, mime := range []string{"text/plain", "text/html", "text/markdown", "image/png", "application/vnd.threadbook.chart+json"} {
				if data, ok := o.Data[mime]; ok {
					var tight bytes.Buffer
					if err := json.Compact(&tight, data); err != nil {
						t.Fatal(err)
					}
					fmt.Fprintf(&got, "    %s %s\n", mime, &tight)
				}
			}
		}
	}
	const want = `markdown 0 []: "# A threadbook thread\n\n§web:test§ from 20 November 2026, 12:00 to 20 November 2026, 12:00 (UTC)"
markdown 0 []: "**Ada** with §w.csv§ (2.0 KiB):\n\nHow hot was it?\n\n**Please** be quick."
markdown 0 []: "I'll look at the file."
code 1 [raises-exception]: "import pandas as pd\nw['rain']"
  error KeyError ""["Traceback:" "  line 1" "KeyError: 'rain'"]
code 2 []: "print(1)\nw.plot()"
  stream stdout "a\nb"[]
  stream stderr "warned\n"[]
  stream stdout "c\n"[]
  display_data  ""[]
    text/plain ["100%"]
    text/html ["<b>0</b>"]
  stream stdout "d\n"[]
  display_data  ""[]
    text/plain ["Line chart; highs."]
    image/png "iVBORyBwaWN0dXJl"
    application/vnd.threadbook.chart+json {"alt":"highs","n":12345678901234567890}
markdown 0 []: "File: §outputs/h.csv§ (10 bytes)"
markdown 0 []: "It was **hot**."
markdown 0 []: "**Ada** ran:"
code 3 bash[]: "%%bash\nls | wc -l"
  stream stdout "3\n"[]
  error timeout ""["timeout: the cell ended so after 2.0 s; variables lost"]
markdown 0 []: "*threadbook:*\n\nThe bash variables are lost."
markdown 0 []: "*threadbook:*\n\nAll variables are forgotten."
markdown 0 []: "**Ada**:\n\nAnd in R?"
markdown 0 []: "Which year?\n\n- 2012\n\n- 2013"
markdown 0 []: "**Ada**:\n\n2013"
code 4 r[]: "%%R\nsummary(w)"
  stream stdout "Min."[]
  error Unfinished ""["Unfinished: the cell had not ended when this was written"]
`
	if want := strings.ReplaceAll(want, "§", "`"); got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
}

// What is waiting is told last; an edit counts as long as nobody has begun.
func TestMessages(t *testing.T) {
	t.Parallel()
	th := &thread{}
	ada := sessions.User{ID: "ada", Name: "A*da"}
	th.add(&sessions.Message{User: ada, Text: "frist", Key: "1", Files: []sessions.Attachment{{Name: "a.csv", Size: 1}, {Name: "b.csv", Error: "The link had expired."}}},
		&sessions.Message{User: ada, Text: "never mind", Key: "2"},
		&sessions.Message{User: ada, Text: "first", Key: "3", Edits: "1"},
		&sessions.Message{User: ada, Key: "4", Edits: "2", Deleted: true})
	th.turn = 1
	th.add(&sessions.TurnStarted{Messages: []int64{1}})
	th.turn = 0
	th.add(&sessions.Message{User: ada, Text: "too late", Key: "5", Edits: "1"}, &sessions.Message{User: sessions.User{ID: "bob"}, Text: "later", Key: "6"},
		&sessions.Message{User: ada, Text: "!stop", Key: "7"})
	th.turn = 1
	th.add(&sessions.TurnFinished{Status: sessions.TurnOverBudget})
	nb := th.notebook(t)
	var got []string
	for i := range nb.Cells[1:] {
		got = append(got, nb.source(i+1))
	}
	want := []string{"**A\\*da** with `a.csv` (1 byte), `b.csv` (not taken: The link had expired.):\n\nfirst", "*The turn ended: over budget.*", "**bob**:\n\nlater"}
	if strings.Join(got, "\n--\n") != strings.Join(want, "\n--\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A figure over the limit is named, and so is one that is gone; what else goes
// wrong is an error.
func TestFigures(t *testing.T) {
	t.Parallel()
	th := &thread{}
	th.ask("draw")
	th.cell(1, "python", "big()", th.blob(1, "image/png", make([]byte, 4<<20+1)), shown(1, "text/plain", "Big one."))
	th.cell(2, "python", "gone()", &sessions.CellOutput{Display: 1, MIME: "image/png", Blob: "gone", Size: 5})
	th.done()
	nb := th.notebook(t)
	for i, want := range []string{"`cell-1-1.png` (image/png, 4.0 MiB): it is larger than 4.0 MiB", "`cell-2-1.png` (image/png, 5 bytes): it is not kept any more"} {
		outputs := nb.Cells[i+2].Outputs
		if len(outputs) == 0 || !strings.Contains(string(outputs[0].Data["text/markdown"]), want) {
			t.Errorf("%q is not in %+v", want, outputs)
		}
	}
	if outputs := nb.Cells[2].Outputs; len(outputs) != 2 || string(outputs[1].Data["text/plain"]) == "" {
		t.Errorf("what is left of the figure: %+v", outputs)
	}
	broken := errors.New("the store is away")
	err := notebook.Write(t.Context(), io.Discard, notebook.Jupyter, th.events[:5], func(string) (io.ReadCloser, error) { return nil, broken })
	if err != nil {
		t.Errorf("a figure over the limit was opened: %v", err)
	}
	err = notebook.Write(t.Context(), io.Discard, notebook.Jupyter, th.events, func(string) (io.ReadCloser, error) { return nil, broken })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "cell-2-1.png") {
		t.Errorf("got %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := notebook.Write(over, io.Discard, notebook.Jupyter, th.events, th.open); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := notebook.Write(t.Context(), io.Discard, "pdf", nil, nil); sessions.CodeOf(err) != sessions.Invalid {
		t.Errorf("got %v", err)
	}
}

// A thread of nothing is a notebook of nothing.
func TestEmpty(t *testing.T) {
	t.Parallel()
	if nb := (&thread{}).notebook(t); len(nb.Cells) != 0 {
		t.Errorf("got %+v", nb.Cells)
	}
}
