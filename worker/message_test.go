package worker

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"what is this?":                         "ask",
		"":                                      "ask",
		"!":                                     "ask",
		"! important":                           "ask",
		"see ```x = 1``` here":                  "ask",
		"```python\nx = 1\n```":                 "python:x = 1",
		"```py\nx = 1```":                       "python:x = 1",
		"```\nx = 1\n```":                       "python:x = 1",
		"```x = 1```":                           "python:x = 1",
		"```print(1)\nprint(2)```":              "python:print(1)\nprint(2)",
		"```bash\nls\n```":                      "bash:ls",
		"```sh\nls\n```\n\n```py\n1\n```":       "bash:ls python:1",
		"```json\n{}\n```":                      "ask",
		"```python\nx = 1":                      "ask",
		"```python\n```":                        "ask",
		"```python\ns = '''\n``` '''\n```":      "ask",
		"```python\ns = \"```\"\n```":           "python:s = \"```\"",
		"  \n```python\n  x\n    y\n```\n  ":    "python:  x\n    y",
		"!run python\n```\nx\n```":              "python:x",
		"!run bash ```ls```":                    "bash:ls",
		"!run ```bash\nls\n```":                 "bash:ls",
		"!run\n```\nx\n```":                     "python:x",
		"!run python print(1)":                  "python:print(1)",
		"!run bash\necho 1\necho 2":             "bash:echo 1\necho 2",
		"!run":                                  "!run",
		"!run python":                           "!run",
		"!run cobol\n```\nx\n```":               "!run cobol\n```\nx\n```",
		"!files":                                "!files",
		"!FILES":                                "!files",
		"!get my file (2).csv":                  "!get my file (2).csv",
		"```python\nx\n```\nwhat does this do?": "ask",
		"Bob said:\n```python\nx\n```":          "ask",
	} {
		req := parse(text)
		var got []string
		for _, c := range req.cells {
			got = append(got, fmt.Sprintf("%s:%s", c.language, c.text))
		}
		if req.command != "" {
			got = append(got, strings.TrimSpace("!"+req.command+" "+req.arg))
		}
		if req.isAsk() {
			got = []string{"ask"}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: got %q, want %q", text, s, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("!run python\n```\nx\n```")
	f.Add("```sh\nls\n```\n\n```py\n1\n```")
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range parse(text).cells {
			if c.language == "" || strings.TrimSpace(c.text) == "" {
				t.Errorf("%q has the cell %+v", text, c)
			}
		}
	})
}

func TestProfile(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"a.csv", "d,n,x,t,e\n2020-01-01,1,1.5,a,\n2020-01-02,2,,b,\n", "Table, 2 rows, 5 columns: d (date), n (integer), x (number, some missing), t (text), e (empty)\nFirst rows:\n2020-01-01 | 1 | 1.5 | a | \n2020-01-02 | 2 |  | b |"},
		{"a.csv", "\ufeffa;b\n1;2\n", "Table, 1 rows, 2 columns, separated by ';': a (integer), b (integer)\nFirst rows:\n1 | 2"},
		{"a.json", `[{"a":1},{"a":2}]`, `JSON list of 2. The first: {"a":1}`},
		{"a.json", `{"a":1,"b":[1]}`, "JSON object with the keys a, b"},
		{"a.json", `{"a":`, "JSON object with the keys a"},
		{"a.txt", "one\ntwo\n", "First lines:\none\ntwo"},
		{"a.png", "\x89PNG\x00\x00", ""},
		{"a.csv", "", ""},
		{"a.csv", "a,b\n\"x", "Table, 1 rows, 2 columns: a (text), b (text)\nFirst rows:\nx"},
	} {
		if got := profile(c.name, strings.NewReader(c.content)); got != c.want {
			t.Errorf("%s %q:\n got %q\nwant %q", c.name, c.content, got, c.want)
		}
	}
	long := "a,b\n" + strings.Repeat(strings.Repeat("x", 100)+",1\n", 5000)
	if got := profile("long.csv", strings.NewReader(long)); !strings.HasPrefix(got, "Table, 5000 rows, 2 columns: a (text), b (integer)") || len(got) > maxProfile {
		t.Errorf("got %q", got)
	}
}

func TestFreeName(t *testing.T) {
	taken := map[string]bool{"a.csv": true, "a (2).csv": true, "README": true}
	for name, want := range map[string]string{"b.csv": "b.csv", "a.csv": "a (3).csv", "README": "README (2)"} {
		if got := freeName(name, taken); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
