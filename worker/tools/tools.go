// Package tools holds what the model can do in a thread, as [agent.Tool]
// values over the thread's notebook.
//
// Every answer is text for the model, and says what a person in the thread
// sees too. A wrong argument is answered with what would be right; an error
// means that we failed.
package tools

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/worker/agent"
)

// Notebook is what the tools act on: the thread that the turn works for.
type Notebook struct {
	// RunCell runs a cell as the call's and returns what the model is told of
	// it. It may be asked again for the same call after a crash, and then
	// takes up the cell that it had started.
	RunCell func(ctx context.Context, call sessions.Call, lang sandbox.Language, code string) (string, error)
	// Files opens the thread's workspace.
	Files func(ctx context.Context) (sandbox.Files, error)
	// Share gives a file of the workspace to the thread.
	Share func(ctx context.Context, path, title string) error
	// Ask puts a question to the thread.
	Ask func(ctx context.Context, call sessions.Call, question string, options []string) error
}

const (
	maxRead    = 64 << 20 // bytes of a file that read_file opens
	maxHead    = 6 << 10  // bytes of it that the model gets
	maxListing = 100      // files that list_files names
	maxOptions = 10       // answers that ask_user may offer
)

// All returns the tools over a notebook.
func (n Notebook) All() []agent.Tool {
	return []agent.Tool{n.runCode(), n.listFiles(), n.readFile(), n.shareFile(), n.askUser()}
}

// RunCodeArgs are the arguments of run_code.
type RunCodeArgs struct {
	Language string `json:"language"`
	Code     string `json:"code"`
}

func (n Notebook) runCode() agent.Tool {
	var names []string
	for _, l := range sandbox.Languages() {
		names = append(names, string(l))
	}
	return agent.Tool{
		Name: "run_code",
		Description: "Run a cell in this thread's notebook and get its output. Variables, imports and files persist between cells and turns. " +
			"The thread sees the code, its output and its figures as they come.",
		Schema: schema(`{"type":"object","required":["language","code"],"additionalProperties":false,"properties":{
			"language":{"type":"string","enum":%s},
			"code":{"type":"string","description":"The code of one cell."}}}`, names),
		Run: agent.Typed(func(ctx context.Context, call sessions.Call, args RunCodeArgs) (agent.Result, error) {
			lang, ok := sandbox.ParseLanguage(args.Language)
			if !ok {
				return said("There is no language %q; there are: %s.", args.Language, strings.Join(names, ", "))
			}
			if strings.TrimSpace(args.Code) == "" {
				return said("The code is empty.")
			}
			text, err := n.RunCell(ctx, call, lang, args.Code)
			return agent.Result{Text: text}, err
		}),
	}
}

func (n Notebook) listFiles() agent.Tool {
	return agent.Tool{
		Name:        "list_files",
		Description: "List the files in /workspace with their sizes.",
		Schema:      schema(`{"type":"object","properties":{},"additionalProperties":false}`),
		Run: func(ctx context.Context, _ sessions.Call) (agent.Result, error) {
			files, err := n.Files(ctx)
			if err != nil {
				return agent.Result{}, err
			}
			list, more, err := files.List(ctx, ".")
			if err != nil {
				return agent.Result{}, err
			}
			return agent.Result{Text: Listing(list, more)}, nil
		},
	}
}

// Listing writes a list of files as text, a line each.
func Listing(list []sandbox.File, more bool) string {
	if len(list) == 0 {
		return "There are no files in /workspace."
	}
	var b strings.Builder
	for i, f := range list {
		if i == maxListing {
			more = true
			break
		}
		fmt.Fprintf(&b, "%s (%d bytes)\n", f.Path, f.Size)
	}
	if more {
		b.WriteString("… and more\n")
	}
	return b.String()
}

func (n Notebook) readFile() agent.Tool {
	return agent.Tool{
		Name:        "read_file",
		Description: "Read the beginning of a text file in /workspace. For tables and large files run code instead.",
		Schema:      schema(`{"type":"object","required":["path"],"additionalProperties":false,"properties":{"path":{"type":"string"}}}`),
		Run: agent.Typed(func(ctx context.Context, _ sessions.Call, args struct {
			Path string `json:"path"`
		}) (agent.Result, error) {
			files, err := n.Files(ctx)
			if err != nil {
				return agent.Result{}, err
			}
			var data bytes.Buffer
			if err := files.Get(ctx, clean(args.Path), &data, maxRead); err != nil {
				return orAnswer(args.Path, err)
			}
			mime := http.DetectContentType(data.Bytes())
			if !strings.HasPrefix(mime, "text/") || !utf8.Valid(data.Bytes()) {
				return said("%s is not text (%s, %d bytes); read it with code.", args.Path, mime, data.Len())
			}
			return agent.Result{Text: agent.Shorten(data.String(), maxHead)}, nil
		}),
	}
}

func (n Notebook) shareFile() agent.Tool {
	return agent.Tool{
		Name: "share_file",
		Description: "Post a file of /workspace into the thread. Files that code writes into /workspace/outputs " +
			"and figures that it shows are posted without this.",
		Schema: schema(`{"type":"object","required":["path"],"additionalProperties":false,"properties":{
			"path":{"type":"string"},"title":{"type":"string","description":"What it is, in a few words."}}}`),
		Run: agent.Typed(func(ctx context.Context, _ sessions.Call, args struct {
			Path  string `json:"path"`
			Title string `json:"title"`
		}) (agent.Result, error) {
			if err := n.Share(ctx, clean(args.Path), args.Title); err != nil {
				return orAnswer(args.Path, err)
			}
			return said("%s is in the thread now.", args.Path)
		}),
	}
}

func (n Notebook) askUser() agent.Tool {
	return agent.Tool{
		Name: "ask_user",
		Description: "Ask the people in the thread something that you can't find out or decide yourself. " +
			"The turn ends, and the answer comes as their next message.",
		Schema: schema(`{"type":"object","required":["question"],"additionalProperties":false,"properties":{
			"question":{"type":"string"},
			"options":{"type":"array","items":{"type":"string"},"description":"Answers to choose from, if there are a few."}}}`),
		Run: agent.Typed(func(ctx context.Context, call sessions.Call, args struct {
			Question string   `json:"question"`
			Options  []string `json:"options"`
		}) (agent.Result, error) {
			if strings.TrimSpace(args.Question) == "" {
				return said("The question is empty.")
			}
			if len(args.Options) > maxOptions {
				return said("There are %d options; at most %d can be offered.", len(args.Options), maxOptions)
			}
			if err := n.Ask(ctx, call, args.Question, args.Options); err != nil {
				return agent.Result{}, err
			}
			return agent.Result{Text: "Asked. The answer comes as the next message.", Ends: true}, nil
		}),
	}
}

// PartialCode is the code in arguments of run_code that are still being
// written, as far as it has come.
func PartialCode(arguments string) string {
	_, rest, ok := strings.Cut(arguments, `"code"`)
	if !ok {
		return ""
	}
	_, rest, ok = strings.Cut(rest, `"`)
	if !ok {
		return ""
	}
	end := 0
	for end < len(rest) && rest[end] != '"' {
		step := 1
		if rest[end] == '\\' {
			step = 2
			if strings.HasPrefix(rest[end:], `\u`) {
				step = 6
			}
		}
		if end+step > len(rest) {
			break // an escape that is not whole
		}
		end += step
	}
	var code string
	if json.Unmarshal([]byte(`"`+rest[:end]+`"`), &code) != nil {
		return ""
	}
	return code
}

// clean takes paths as models write them: from the root, from the workspace,
// with a link's prefix.
func clean(path string) string {
	path = strings.TrimPrefix(path, "sandbox:")
	return strings.TrimPrefix(strings.TrimPrefix(path, "/workspace/"), "./")
}

// orAnswer makes an answer of what the model can mend.
func orAnswer(path string, err error) (agent.Result, error) {
	for _, known := range []error{sandbox.ErrNotFound, sandbox.ErrBadPath, sandbox.ErrTooLarge} {
		if errors.Is(err, known) {
			return said("%s: %v.", path, known)
		}
	}
	return agent.Result{}, err
}

func said(format string, args ...any) (agent.Result, error) {
	return agent.Result{Text: fmt.Sprintf(format, args...)}, nil
}

// schema writes a schema; a %s takes the JSON of its argument.
func schema(format string, args ...any) json.RawMessage {
	for i, a := range args {
		data, err := json.Marshal(a)
		if err != nil {
			panic(err) // lists of words always marshal
		}
		args[i] = data
	}
	return json.RawMessage(fmt.Sprintf(format, args...))
}
