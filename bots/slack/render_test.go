package slack

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
	"threadbook/bots/slack/slacktest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// posts are each kind of post; figures are those of files F1, F2 ….
func posts() map[string]bots.Post {
	row := func(n int) []string { return []string{fmt.Sprint(n), "", "x < y"} }
	var many [][]string
	for n := range 150 {
		many = append(many, row(n))
	}
	return map[string]bots.Post{
		"answer": {Text: "# Result\n\nIt is **2** < 3, see `a<b>`:\n\n> quoted\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nif a < b: pass\n```\n",
			Buttons: []bots.Button{{Action: bots.ActionAgain, Label: "Run again", Value: "3"}, {Action: bots.ActionNotebook, Label: "Notebook", Value: "3"}}},
		"hostile": {Text: "<!channel> <@U1> <https://e.vil|nice> &lt;!here&gt; @here", Status: "<!here> & **done**",
			Cells: []bots.Cell{{Number: 1, Language: "python", Code: "print('<!channel> ```')", Output: "<!channel>\n```\n<@U1>", Status: "ok", Seconds: 0.25}}},
		"live": {Running: true, Status: "running cell 2 …", Cells: []bots.Cell{
			{Number: 1, Language: "python", Code: "import pandas as pd\n", Output: "\n", Status: "ok", Seconds: 1.26},
			{Number: 2, Language: "sql", Code: "select 1", Output: "1\n"},
		}, Buttons: []bots.Button{{Action: bots.ActionStop, Label: "Stop", Value: "3", Danger: true}}},
		"failed": {Cells: []bots.Cell{
			{Number: 1, Language: "python", Code: "1/0", Output: "ZeroDivisionError", Status: "error", Seconds: 0.1},
			{Number: 2, Language: "r", Status: "out_of_memory", Seconds: 61},
		}, Status: "Stopped."},
		"figures": {Figures: []bots.Media{{Name: "a.png", MIME: "image/png", Alt: "sales by month"}, {Name: "b.svg", MIME: "image/svg+xml"}, {Name: "c.png", MIME: "image/png"}}},
		"table":   {Text: "Here:", Tables: []bots.Table{{Caption: "sales", Header: []string{"n", "empty", "note"}, Rows: [][]string{row(1), row(2)}}}},
		"big table": {Tables: []bots.Table{
			{Header: []string{"n", "empty", "note"}, Rows: many}, {Caption: "no rows", Header: []string{"a", "b"}},
		}},
		"question": {Text: "Which?", Buttons: []bots.Button{
			{Action: bots.ActionAnswer, Label: "this", Value: "3/0"}, {Action: bots.ActionAnswer, Label: strings.Repeat("long ", 30), Value: "3/1"},
		}},
		"nothing": {},
	}
}

func TestGoldenPayloads(t *testing.T) {
	t.Parallel()
	fake := slacktest.New(slacktest.Options{})
	t.Cleanup(fake.Close)
	fake.AddChannel(slacktest.Channel{ID: "C1"})
	root := fake.Write(slacktest.Message{Channel: "C1", User: "U1", Text: "q"})
	for i := range 3 {
		fake.AddFile(slacktest.File{ID: fmt.Sprintf("F%d", i+1), MIME: "image/png"})
	}
	s, err := New(Config{BotToken: slacktest.BotToken, APIURL: fake.URL()})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range posts() {
		p.Turn, p.Part = 3, name
		p.Thread = place{slacktest.TeamID, "C1", root.TS}.thread()
		for _, rich := range []bool{true, false} {
			var figures []string
			for i, f := range p.Figures {
				id := ""
				if pictured(f.MIME) {
					id = fmt.Sprintf("F%d", i+1)
				}
				figures = append(figures, id)
			}
			blocks, text := render(p, figures, func(m bots.Media) string { return "https://threadbook.example/" + m.Name }, rich)
			got, err := json.MarshalIndent(map[string]any{"blocks": blocks, "text": text}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			kind := map[bool]string{true: "", false: ".older"}[rich]
			path := filepath.Join("testdata", strings.ReplaceAll(name, " ", "_")+kind+".json")
			if *update {
				if err := os.WriteFile(path, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
			// And Slack takes it.
			handle, _ := json.Marshal(handle{Figures: figures})
			if !rich {
				s.caps.lack(richBlocks)
			}
			if _, err := s.Post(t.Context(), p, string(handle)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			s.caps, s.limits = &capabilities{}, newLimiter()
		}
	}
}

// TestTheLargestPostsFit posts what the limits allow at its worst.
func TestTheLargestPostsFit(t *testing.T) {
	t.Parallel()
	fake := slacktest.New(slacktest.Options{})
	t.Cleanup(fake.Close)
	fake.AddChannel(slacktest.Channel{ID: "C1"})
	root := fake.Write(slacktest.Message{Channel: "C1", User: "U1", Text: "q"})
	s, err := New(Config{BotToken: slacktest.BotToken, APIURL: fake.URL()})
	if err != nil {
		t.Fatal(err)
	}
	limits := s.Limits(t.Context(), "")
	var cells []bots.Cell
	for n := range 60 {
		cells = append(cells, bots.Cell{Number: int64(n), Language: "python", Code: strings.Repeat("<", limits.Live/120), Output: strings.Repeat("&", limits.Live/120), Status: "ok"})
	}
	for name, p := range map[string]bots.Post{
		"plain":    {Text: strings.Repeat("word ", limits.Text/5)},
		"brackets": {Text: strings.Repeat("<>", limits.Text/2)},
		"amps":     {Text: strings.Repeat("&", limits.Text)},
		"quotes":   {Text: strings.Repeat("> <\n", limits.Text/4)},
		"wide":     {Text: strings.Repeat("é", limits.Text/2), Status: strings.Repeat("&", 5000)},
		"cells":    {Cells: cells, Status: "working"},
		"one cell": {Cells: []bots.Cell{{Number: 1, Language: "python", Code: strings.Repeat("<", limits.Live/2), Output: strings.Repeat("x", limits.Live/2)}}},
	} {
		for i, rich := range []bool{true, false} {
			if !rich {
				s.caps.lack(richBlocks)
			}
			p.Thread, p.Part, p.Turn = place{slacktest.TeamID, "C1", root.TS}.thread(), name, int64(i)
			id, err := s.Post(t.Context(), p, "")
			if err == nil {
				err = s.Edit(t.Context(), p, id)
			}
			if err != nil {
				t.Errorf("%s, rich %v: %v", name, rich, err)
			}
		}
		s.caps = &capabilities{}
		s.limits = newLimiter()
	}
}

// live are the tokens that Slack would act on.
var live = regexp.MustCompile(`<[^ \n]`)

func FuzzEscapes(f *testing.F) {
	f.Add("<!channel> > <\n>> <@U1>|")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		for _, out := range []string{escape(text), escapeMarkdown(text), mrkdwn(text)} {
			if strings.Contains(out, "<") {
				t.Errorf("%q became %q", text, out)
			}
		}
		blocks, fallback := render(bots.Post{Text: text, Status: text}, nil, func(bots.Media) string { return "" }, true)
		if live.MatchString(fallback) {
			t.Errorf("the fallback is %q", fallback)
		}
		for _, b := range blocks {
			if m, ok := b.(*slackgo.MarkdownBlock); ok && live.MatchString(m.Text) {
				t.Errorf("the block is %q", m.Text)
			}
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add("a\n```python\n"+strings.Repeat("x = 1\n", 100)+"```\nend", 200)
	f.Add("````\n```\n````\n"+strings.Repeat("é", 300), 100)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 64 || limit > 10_000 || !utf8.ValidString(text) {
			return
		}
		letters := func(s string) string {
			return strings.Map(func(r rune) rune {
				if r == '`' || r == '\n' {
					return -1
				}
				return r
			}, s)
		}
		parts := split(text, limit)
		for _, p := range parts {
			if len(p) > limit || !utf8.ValidString(p) {
				t.Errorf("a part of %d bytes, limit %d: %q", len(p), limit, p)
			}
		}
		if !strings.Contains(text, "`") && letters(strings.Join(parts, "")) != letters(text) {
			t.Errorf("%q became %q", text, parts)
		}
	})
}

func TestPlain(t *testing.T) {
	t.Parallel()
	names := func(user string) string { return map[string]string{"U1": "Ada"}[user] }
	for text, want := range map[string]string{
		"<@B> hi":                              "hi",
		"<@B>: hi <@B|bot>!":                   "hi !",
		"ask <@U1> or <@U2|bob> or <@U3>":      "ask @Ada or @bob or @U3",
		"in <#C1|general> and <#C2>":           "in #general and #C2",
		"<!here> <!subteam^S1|@team>":          "@here @team",
		"<!date^1392734382^{date}|Feb 18>":     "Feb 18",
		"see <https://a.b/c?d=1&amp;e=2>":      "see https://a.b/c?d=1&e=2",
		"see <https://a.b|a.b>":                "see a.b",
		"see <https://a.b|here>":               "see [here](https://a.b)",
		"<mailto:a@b.c|a@b.c>":                 "a@b.c",
		"a &lt; b &amp;amp; c":                 "a < b &amp; c",
		"```x = <http://df.info|df.info>()```": "```x = df.info()```",
		"<@B> !run python\n```print(1)```":     "!run python\n```print(1)```",
		"if a < b and c > d":                   "if a < b and c > d",
		"":                                     "",
	} {
		if got := plain(text, "B", names); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"type":"event_callback","team_id":"T","event":{"type":"message","ts":1.5,"files":[{"id":1}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var env envelope
		if json.Valid(data) && len(data) > 0 && data[0] == '{' {
			if err := json.Unmarshal(data, &env); err != nil {
				t.Errorf("%s: %v", data, err)
			}
		}
	})
}

func TestManifest(t *testing.T) {
	t.Parallel()
	for _, public := range []string{"", "https://threadbook.example/"} {
		data, err := Manifest(public)
		if err != nil {
			t.Fatal(err)
		}
		name := "manifest.json"
		if public != "" {
			name = "manifest.http.json"
		}
		path := filepath.Join("testdata", name)
		data = append(data, '\n')
		if *update {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(data)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		var m slackgo.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		// Slack's limits on a manifest's words.
		for what, c := range map[string]struct {
			text string
			max  int
		}{
			"name": {m.Display.Name, 35}, "description": {m.Display.Description, 140}, "agent": {m.Features.AgentView.AgentDescription, 300},
			"bot": {m.Features.BotUser.DisplayName, 80}, "shortcut": {m.Features.Shortcuts[0].Description, 150}, "usage": {m.Features.SlashCommands[0].UsageHint, 1000},
		} {
			if n := utf8.RuneCountInString(c.text); n == 0 || n > c.max {
				t.Errorf("%s has %d characters", what, n)
			}
		}
		if n := len(m.Display.LongDescription); n < 174 || n > 4000 {
			t.Errorf("the long description has %d characters", n)
		}
		if m.Settings.SocketModeEnabled == (public != "") {
			t.Errorf("Socket Mode with %q is %v", public, m.Settings.SocketModeEnabled)
		}
	}
}
