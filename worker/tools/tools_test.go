package tools_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/worker/tools"
)

// Code that is still being written never goes back on itself, and is whole
// once its arguments are.
func TestPartialCode(t *testing.T) {
	for _, code := range []string{"", "print(\"a\\n\")", "x = 'é 漢字 😀'\n\ty = \\", "</code>"} {
		args, err := json.Marshal(map[string]string{"language": "python", "code": code})
		if err != nil {
			t.Fatal(err)
		}
		last := ""
		for cut := range len(args) + 1 {
			got := tools.PartialCode(string(args[:cut]))
			if !strings.HasPrefix(strings.TrimRight(got, "\uFFFD"), strings.TrimRight(last, "\uFFFD")) {
				t.Fatalf("%q became %q", last, got)
			}
			last = got
		}
		if last != code {
			t.Errorf("got %q, want %q", last, code)
		}
	}
}

func FuzzPartialCode(f *testing.F) {
	f.Add(`{"language":"python","code":"print(\"a\\u00e9\")"}`)
	f.Fuzz(func(_ *testing.T, arguments string) { tools.PartialCode(arguments) })
}

// folder is a workspace of texts.
type folder map[string]string

func (f folder) List(context.Context, string) (list []sandbox.File, more bool, err error) {
	for path, text := range f {
		list = append(list, sandbox.File{Path: path, Size: int64(len(text))})
	}
	return list, false, nil
}

func (f folder) Put(context.Context, string, io.Reader, int64) error { return sandbox.ErrDiskFull }

func (f folder) Get(_ context.Context, path string, w io.Writer, _ int64) error {
	text, ok := f[path]
	if !ok {
		return sandbox.ErrNotFound
	}
	_, err := io.WriteString(w, text)
	return err
}

// Every call has an answer that tells the model what was done, or what to do.
func TestAnswers(t *testing.T) {
	var did bytes.Buffer
	n := tools.Notebook{
		RunCell: func(_ context.Context, _ sessions.Call, lang sandbox.Language, code string) (string, error) {
			fmt.Fprintf(&did, "ran %s %s\n", lang, code)
			return "42", nil
		},
		Files: func(context.Context) (sandbox.Files, error) {
			return folder{"notes.txt": "hello", "pic.png": "\x89PNG\r\n\x1a\n\x00", "long.txt": strings.Repeat("x", 100_000)}, nil
		},
		Share: func(_ context.Context, path, title string) error {
			if path != "notes.txt" {
				return sandbox.ErrNotFound
			}
			fmt.Fprintf(&did, "shared %s as %s\n", path, title)
			return nil
		},
		Ask: func(_ context.Context, _ sessions.Call, question string, options []string) error {
			fmt.Fprintf(&did, "asked %s %q\n", question, options)
			return nil
		},
	}
	for _, c := range []struct{ tool, args, want string }{
		{"run_code", `{"language":"py","code":"6*7"}`, "42"},
		{"run_code", `{"language":"cobol","code":"x"}`, `no language "cobol"; there are: python`},
		{"run_code", `{"language":"python","code":" "}`, "The code is empty"},
		{"run_code", `{"language":`, "not the JSON"},
		{"list_files", `{}`, "notes.txt (5 bytes)"},
		{"read_file", `{"path":"/workspace/notes.txt"}`, "hello"},
		{"read_file", `{"path":"pic.png"}`, "is not text (image/png, 9 bytes)"},
		{"read_file", `{"path":"long.txt"}`, "bytes left out"},
		{"read_file", `{"path":"gone"}`, "gone: no such file"},
		{"share_file", `{"path":"sandbox:/workspace/notes.txt","title":"N"}`, "is in the thread now"},
		{"share_file", `{"path":"gone"}`, "gone: no such file"},
		{"ask_user", `{"question":"which?","options":["a","b"]}`, "next message"},
		{"ask_user", `{"question":""}`, "The question is empty"},
	} {
		for _, tool := range n.All() {
			if !json.Valid(tool.Schema) {
				t.Fatalf("the schema of %s is no JSON", tool.Name)
			}
			if tool.Name != c.tool {
				continue
			}
			got, err := tool.Run(t.Context(), sessions.Call{ID: "c", Name: c.tool, Arguments: c.args})
			if err != nil || !strings.Contains(got.Text, c.want) || len(got.Text) > 8<<10 {
				t.Errorf("%s %s: got %.200q, %v; want %q", c.tool, c.args, got.Text, err, c.want)
			}
		}
	}
	if want := "ran python 6*7\nshared notes.txt as N\nasked which? [\"a\" \"b\"]\n"; did.String() != want {
		t.Errorf("did %q, want %q", did.String(), want)
	}
}
