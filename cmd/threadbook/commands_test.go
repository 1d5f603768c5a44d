package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"threadbook/worker/agenttest"
)

// command runs a command line as a shell would, with a model that obeys words.
func command(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return commandOn(t, t.TempDir(), stdin, args...)
}

// commandOn runs a command on the data of a folder.
func commandOn(t *testing.T, data, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := newCommand(strings.NewReader(stdin), &out, &errs)
	cmd.SetArgs(append(args, "--data="+data))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := cmd.ExecuteContext(ctx)
	var exit exitError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case err != nil:
		code = exitFailed
	}
	if err != nil {
		errs.WriteString(err.Error())
	}
	return out.String(), errs.String(), code
}

func wordsServer(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(agenttest.Handler(agenttest.Words))
	t.Cleanup(server.Close)
	return "--openai-base-url=" + server.URL + "/v1"
}

func TestAsk(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	question := strings.Join([]string{
		`python import pandas as pd; w = pd.read_csv("seattle-weather.csv"); print(len(w))`,
		`python import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()`,
		`bash mkdir -p outputs; head -2 seattle-weather.csv > outputs/head.csv`,
		`say There are {result} rows`,
	}, "\n")
	stdout, stderr, code := command(t, "", "ask", wordsServer(t), "--file", weatherCSV, "--out", out, question)
	if code != 0 {
		t.Fatalf("exit %d: %s\n%s", code, stdout, stderr)
	}
	for _, want := range []string{"── cell 1 · python", "1461", "[saved " + filepath.Join(out, "cell-2-figure-1.png") + "]", "There are "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in:\n%s", want, stdout)
		}
	}
	if data, err := os.ReadFile(filepath.Join(out, "head.csv")); err != nil || !strings.HasPrefix(string(data), "date,") {
		t.Errorf("the file is %q, %v", data, err)
	}
	if data, err := os.ReadFile(filepath.Join(out, "cell-2-figure-1.png")); err != nil || http.DetectContentType(data) != "image/png" {
		t.Errorf("the figure: %v", err)
	}
}

// Objects on standard input are messages of one thread; every line that comes
// out is an event of the log, in order.
func TestAskJSON(t *testing.T) {
	t.Parallel()
	lines := ""
	for _, m := range []map[string]any{
		{"text": "```python\nx = 41\n```"},
		{"text": "```python\nprint(x + 1)\n```", "files": []string{weatherCSV}},
		{"text": "what is x?"},
	} {
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		lines += string(data) + "\n"
	}
	stdout, stderr, code := command(t, lines, "ask", "--json", "--out", filepath.Join(t.TempDir(), "out"), "-")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var kinds []string
	printed := ""
	for i, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		var ev struct {
			Seq                int
			At, Thread, Kind   string
			Stream, Text, Code string
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil || ev.Seq != i+1 || ev.At == "" || !strings.HasPrefix(ev.Thread, "terminal:") {
			t.Fatalf("line %d: %v: %s", i+1, err, line)
		}
		kinds = append(kinds, ev.Kind)
		if ev.Stream == "stdout" {
			printed += ev.Text
		}
	}
	if printed != "42\n" {
		t.Errorf("printed %q", printed)
	}
	want := "message turn.started cell.started cell.finished turn.finished " +
		"message turn.started file cell.started cell.output cell.finished turn.finished message turn.started notice turn.finished"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAskExits(t *testing.T) {
	t.Parallel()
	model := wordsServer(t)
	for name, c := range map[string]struct {
		stdin string
		args  []string
		code  int
		says  string
	}{
		"the turn failed":    {"", []string{"ask", model, "status 401"}, exitFailed, ""},
		"no question":        {"", []string{"ask"}, exitUsage, "accepts 1 arg"},
		"an unknown flag":    {"", []string{"ask", "--loud", "hi"}, exitUsage, "unknown flag"},
		"no such file":       {"", []string{"ask", "--file", "/does/not/exist", "hi"}, exitUsage, "no such file"},
		"nothing on stdin":   {"\n\n", []string{"ask", "-"}, exitUsage, "nothing to ask"},
		"not an object":      {"hello\n", []string{"ask", "--json", "-"}, exitUsage, "line 1"},
		"bad configuration":  {"", []string{"ask", "--turn-steps=0", "hi"}, exitUsage, `THREADBOOK_TURN_STEPS is "0"`},
		"bot without Redis":  {"", []string{"bot"}, exitUsage, "needs REDIS_URL"},
		"an unknown command": {"", []string{"dance"}, exitUsage, "unknown command"},
		"an unknown part":    {"", []string{"doctor", "feet"}, exitUsage, "feet"},
		"version":            {"", []string{"version"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := command(t, c.stdin, c.args...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Errorf("exit %d, want %d; stderr %q, want %q in it; stdout %q", code, c.code, stderr, c.says, stdout)
			}
		})
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := command(t, "", "doctor", wordsServer(t))
	if code != 0 {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	var parts []string
	for line := range strings.Lines(stdout) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "ok" {
			t.Errorf("got %q", line)
			continue
		}
		parts = append(parts, f[1])
	}
	if parts = slices.Compact(parts); !slices.Equal(parts, []string{"redis", "sandbox", "model"}) {
		t.Errorf("parts %q", parts)
	}
	for _, want := range []string{"isolated from this machine's kernel", "the network (none) is refused", "is stopped, and its sandbox goes on"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in:\n%s", want, stdout)
		}
	}
	stdout, _, code = command(t, "", "doctor", "model", "redis", "--openai-base-url=http://127.0.0.1:9/v1", "--redis-url=redis://127.0.0.1:9")
	if code != exitFailed || strings.Count(stdout, "WRONG") != 2 {
		t.Errorf("exit %d: %s", code, stdout)
	}
}
