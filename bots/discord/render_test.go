package discord

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"threadbook/bots"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it anew)\n%s", name, diff)
	}
}

var testOptions = options{fileSize: 10 << 20, link: func(m bots.Media) string {
	if m.Blob == "" {
		return ""
	}
	return "https://example.org/f/" + m.Blob
}}

func TestRender(t *testing.T) {
	t.Parallel()
	const thread = "discord:1/2"
	cell := bots.Cell{Number: 4, Language: "python", Code: "print('```')\n@everyone", Output: "```\n<@1> @here", Status: "ok", Seconds: 0.82}
	for name, p := range map[string]bots.Post{
		"answer":   {Thread: thread, Turn: 1, Part: "answer/0", Text: "# Sales\nUp **3 %**, @everyone.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", Status: "ok · 3.2 s"},
		"live":     {Thread: thread, Turn: 1, Part: "live", Cells: []bots.Cell{cell, {Number: 5, Language: "r", Code: "x"}}, Running: true, Status: "running for 3 s", Buttons: []bots.Button{{Action: bots.ActionStop, Label: "Stop", Value: "1", Danger: true}}},
		"failed":   {Thread: thread, Turn: 1, Part: "live", Cells: []bots.Cell{{Number: 1, Language: "python", Output: "ZeroDivisionError", Status: "out_of_memory", Seconds: 12}}},
		"figures":  {Thread: thread, Turn: 1, Part: "figures", Figures: []bots.Media{{Name: "a b.png", Size: 5, Alt: "a bar chart"}, {Name: "a_b.png", Size: 6}}},
		"files":    {Thread: thread, Turn: 1, Part: "files/0", Files: []bots.Media{{Name: "out.csv", Size: 10}, {Name: "big.bin", Size: 20 << 20, Blob: "abc"}, {Name: "*huge*.bin", Size: 30 << 20}}},
		"table":    {Thread: thread, Turn: 1, Part: "table", Tables: []bots.Table{{Caption: "Top_3", Header: []string{"", "city", "n"}, Rows: [][]string{{"0", "Oslo", "1"}, {"1", "Reykjavík\n", "22"}}}}},
		"buttons":  {Thread: thread, Turn: 1, Part: "q", Text: "Which?", Buttons: []bots.Button{{Action: bots.ActionAnswer, Label: "This", Value: "1/0"}, {Action: bots.ActionAnswer, Label: strings.Repeat("That ", 30), Value: "1/1"}}},
		"wide":     {Thread: thread, Turn: 1, Part: "wide", Text: "| a | b |\n|---|---|\n| " + strings.Repeat("x", 30) + " | y |\n" + strings.Repeat("| 1 | 2 |\n", 150)},
		"empty":    {Thread: thread, Turn: 1, Part: "nothing"},
		"toolarge": {Thread: thread, Turn: 1, Part: "live", Text: strings.Repeat("words @here\n", 200), Cells: []bots.Cell{{Number: 1, Language: "python", Code: strings.Repeat("code\n", 600), Output: strings.Repeat("out\n", 900)}}, Status: "still running"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := render(p, testOptions)
			data, err := json.MarshalIndent(r.payload, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			wantedText(&b, r.payload.Components)
			if n := utf8.RuneCountInString(b.String()); n > maxTexts {
				t.Errorf("%d characters of text", n)
			}
			golden(t, "post-"+name+".json", string(data)+"\n")
		})
	}
}

func TestDefuse(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/defuse-*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data")
	}
	for _, path := range files {
		in, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Base(path)+".golden", defuse(string(in)))
	}
}

// FuzzDefuse looks for texts that still ping, or that break a limit.
func FuzzDefuse(f *testing.F) {
	for _, s := range []string{"@everyone", "<@1>", "```\n@here", "[a](https://x.org)", "||x||", "`@here", "````\n```\n<#5>", "| a |\n| b |", "``a`b``<@1>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := defuse(s)
		for _, seg := range segments(out) {
			if seg.code {
				continue
			}
			if everybody.MatchString(seg.text) || special.MatchString(seg.text) {
				t.Errorf("%q became %q", s, out)
			}
		}
		if c := clamp(out, 100); utf8.RuneCountInString(c) > 100 {
			t.Errorf("%d characters", utf8.RuneCountInString(c))
		}
		code := fence("py", s)
		if strings.Count(code, "```") != 2 {
			t.Errorf("a fence that is broken: %q", code)
		}
	})
}

func TestManifest(t *testing.T) {
	t.Parallel()
	golden(t, "manifest.txt", Manifest("123"))
	if !strings.Contains(Manifest(""), "client_id=YOUR_APPLICATION_ID") {
		t.Error("no place for the id")
	}
}

// What one cell leaves over the next ones get, and words that grow over the
// limit when they are made harmless come as a file as well: nothing is cut that
// the presenter had found room for.
func TestNothingIsCutInSilence(t *testing.T) {
	t.Parallel()
	const thread = "discord:1/2"
	long := strings.Repeat("0123456789\n", 240)
	r := render(bots.Post{Thread: thread, Turn: 1, Part: "live", Cells: []bots.Cell{
		{Number: 1, Language: "python", Output: "a"}, {Number: 2, Language: "python", Output: "b"}, {Number: 3, Language: "python", Output: long},
	}, Status: "Done in 1.0 s"}, testOptions)
	var shown strings.Builder
	wantedText(&shown, r.payload.Components)
	if n := strings.Count(shown.String(), "0123456789"); n != 240 {
		t.Errorf("%d of 240 lines are shown", n)
	}
	p := bots.Post{Thread: thread, Turn: 1, Part: "answer/0", Text: strings.Repeat("see @here\n", 350)}
	if r = render(p, testOptions); len(r.files) != 1 || r.files[0].Name != "whole-text.md" || r.files[0].Size != int64(len(p.Text)) {
		t.Errorf("the whole text is not attached: %+v", r.files)
	}
	if r = render(bots.Post{Thread: thread, Text: strings.Repeat("x", postText)}, testOptions); len(r.files) != 0 {
		t.Error("a text that fits is attached")
	}
}
