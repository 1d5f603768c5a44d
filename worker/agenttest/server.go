// Package agenttest is a model that follows a script and speaks the real chat
// completions protocol over HTTP, streaming: for tests, and for the demo where
// nobody has set a model.
//
// It is as strict as the real servers about what it is sent: a call without
// its result, a result without its call, or a message of an unknown role is a
// 400 with the words that OpenAI's server uses. It streams in small pieces,
// calls too, so that whoever reads it has to put them together.
//
// A script decides by the conversation alone, so the server keeps no state and
// may be asked again, or be another process after a restart.
package agenttest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Request is what a script decides by.
type Request struct {
	Messages []Message
	Tools    []string
}

// Message is one of the conversation's.
type Message struct {
	Role       string `json:"role"`
	Content    string `json:"content"`
	ToolCallID string `json:"tool_call_id"`
	ToolCalls  []struct {
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

// LastUser is the last thing that a person said, and how many replies it has
// had. What threadbook itself notes before or in between is not a person's.
func (r Request) LastUser() (text string, replies int) {
	for i := len(r.Messages) - 1; i >= 0; i-- {
		switch m := r.Messages[i]; m.Role {
		case "assistant":
			replies++
		case "user":
			if text := withoutNotes(m.Content); text != "" {
				return text, replies
			}
		}
	}
	return "", replies
}

// withoutNotes is what stands behind the notes in a message, or before them
// where nothing does.
func withoutNotes(text string) string {
	const note, end = "[threadbook: ", "]"
	for strings.HasSuffix(text, end) && strings.Contains(text, note) {
		text = strings.TrimSpace(text[:strings.LastIndex(text, note)])
	}
	if at := strings.LastIndex(text, note); at >= 0 {
		_, text, _ = strings.Cut(text[at:], end+"\n\n")
	}
	return text
}

// LastResult is the result of the last call, empty where there was none.
func (r Request) LastResult() string {
	if last := r.Messages[len(r.Messages)-1]; last.Role == "tool" {
		return last.Content
	}
	return ""
}

// Reply is what a script wants said.
type Reply struct {
	Text  string
	Calls []Call

	// Faults, for tests.
	Status     int    // answer with this HTTP status instead
	RetryAfter string // with it
	CutAfter   int    // break the connection after that many pieces
	// Wait holds the reply back until it is closed, or the request ends.
	Wait <-chan struct{}
}

// Call is a call of a tool.
type Call struct {
	Name      string
	Arguments any // marshalled, or taken as it is where it is a string
}

// Script answers a request.
type Script func(Request) Reply

const (
	// maxRequest bounds a request's body, in bytes.
	maxRequest = 32 << 20
	// pieceSize is how many characters come in one piece.
	pieceSize = 12
	modelName = "scripted"
)

// Handler serves a script as an OpenAI-compatible server would.
func Handler(script Script) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model"}]}`, modelName)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, "", err.Error())
			return
		}
		var in struct {
			Model         string    `json:"model"`
			Stream        bool      `json:"stream"`
			Messages      []Message `json:"messages"`
			StreamOptions struct {
				IncludeUsage bool `json:"include_usage"`
			} `json:"stream_options"`
			Tools []struct {
				Function struct {
					Name       string          `json:"name"`
					Parameters json.RawMessage `json:"parameters"`
				} `json:"function"`
			} `json:"tools"`
		}
		if err := json.Unmarshal(body, &in); err != nil {
			refuse(w, http.StatusBadRequest, "", "We could not parse the JSON body of your request: "+err.Error())
			return
		}
		if !in.Stream {
			refuse(w, http.StatusBadRequest, "", "This server only streams.")
			return
		}
		if fault := check(in.Messages); fault != "" {
			refuse(w, http.StatusBadRequest, "", fault)
			return
		}
		req := Request{Messages: in.Messages}
		for _, t := range in.Tools {
			req.Tools = append(req.Tools, t.Function.Name)
		}
		reply := script(req)
		if reply.Wait != nil {
			select {
			case <-reply.Wait:
			case <-r.Context().Done():
				return
			}
		}
		if reply.Status != 0 {
			if reply.RetryAfter != "" {
				w.Header().Set("Retry-After", reply.RetryAfter)
			}
			refuse(w, reply.Status, "scripted_fault", "a fault of the script's")
			return
		}
		stream(w, reply, len(body), in.StreamOptions.IncludeUsage)
	})
	return mux
}

// check says what a real server would say of a conversation that is not valid.
func check(messages []Message) string {
	if len(messages) == 0 {
		return "[] is too short - 'messages'"
	}
	open := map[string]bool{}
	for i, m := range messages {
		if m.Role != "tool" && len(open) > 0 {
			return "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
		}
		switch m.Role {
		case "system", "user":
		case "assistant":
			if m.Content == "" && len(m.ToolCalls) == 0 {
				return fmt.Sprintf("Invalid value for 'content': expected a string, got null. (messages[%d])", i)
			}
			for _, c := range m.ToolCalls {
				if c.ID == "" || open[c.ID] || !json.Valid([]byte(c.Function.Arguments)) {
					return fmt.Sprintf("Invalid tool call in messages[%d].", i)
				}
				open[c.ID] = true
			}
		case "tool":
			if !open[m.ToolCallID] {
				return fmt.Sprintf("messages with role 'tool' must be a response to a preceding message with 'tool_calls'. (messages[%d])", i)
			}
			delete(open, m.ToolCallID)
		default:
			return fmt.Sprintf("Invalid value: %q. (messages[%d].role)", m.Role, i)
		}
	}
	if len(open) > 0 {
		return "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
	}
	return ""
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error", "code": code}})
}

// stream writes a reply in pieces.
func stream(w http.ResponseWriter, reply Reply, asked int, usage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	pieces := 0
	send := func(v map[string]any) {
		if pieces++; reply.CutAfter > 0 && pieces > reply.CutAfter {
			panic(http.ErrAbortHandler)
		}
		v["id"], v["object"], v["model"] = "chatcmpl-scripted", "chat.completion.chunk", modelName
		data, err := json.Marshal(v)
		if err != nil {
			panic(err) // maps of strings always marshal
		}
		fmt.Fprintf(w, "data: %s\n\n", data)
		w.(http.Flusher).Flush()
	}
	delta := func(d map[string]any, finish any) {
		send(map[string]any{"choices": []any{map[string]any{"index": 0, "delta": d, "finish_reason": finish}}})
	}
	delta(map[string]any{"role": "assistant", "content": ""}, nil)
	written := len(reply.Text)
	for _, p := range split(reply.Text) {
		delta(map[string]any{"content": p}, nil)
	}
	finish := "stop"
	for i, c := range reply.Calls {
		finish = "tool_calls"
		arguments, ok := c.Arguments.(string)
		if !ok {
			data, err := json.Marshal(c.Arguments)
			if err != nil {
				panic(err)
			}
			arguments = string(data)
		}
		written += len(arguments)
		call := func(id, name, piece string) {
			f := map[string]any{"arguments": piece}
			c := map[string]any{"index": i, "function": f}
			if id != "" {
				c["id"], c["type"], f["name"] = id, "function", name
			}
			delta(map[string]any{"tool_calls": []any{c}}, nil)
		}
		call(fmt.Sprintf("call_%d_%d", asked, i), c.Name, "")
		for _, p := range split(arguments) {
			call("", "", p)
		}
	}
	delta(map[string]any{}, finish)
	if usage {
		send(map[string]any{"choices": []any{}, "usage": map[string]any{
			"prompt_tokens": asked / 4, "completion_tokens": written / 4, "total_tokens": (asked + written) / 4,
			"prompt_tokens_details": map[string]any{"cached_tokens": 0}}})
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func split(text string) []string {
	var pieces []string
	for text != "" {
		n := 0
		for i := 0; i < pieceSize && n < len(text); i++ {
			_, size := utf8.DecodeRuneInString(text[n:])
			n += size
		}
		pieces, text = append(pieces, text[:n]), text[n:]
	}
	return pieces
}

// Words is a script that a person can talk to. It obeys the lines of the last
// message that begin with a verb, a line for each reply:
//
//	python CODE      run a cell; \n in CODE is a line break; bash CODE likewise
//	share PATH       share a file
//	call NAME JSON   call any tool with those arguments
//	say TEXT         the answer; {result} becomes the last result
//	status CODE      fail with that HTTP status
func Words(r Request) Reply {
	text, replies := r.LastUser()
	var steps []Reply
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if _, rest, ok := strings.Cut(line, ": "); ok && !isVerb(line) { // behind the speaker's name
			line = rest
		}
		verb, rest, _ := strings.Cut(line, " ")
		rest = strings.ReplaceAll(rest, `\n`, "\n")
		switch verb {
		case "python", "bash":
			steps = append(steps, Reply{Calls: []Call{{"run_code", map[string]string{"language": verb, "code": rest}}}})
		case "share":
			steps = append(steps, Reply{Calls: []Call{{"share_file", map[string]string{"path": rest, "title": rest}}}})
		case "call":
			name, arguments, _ := strings.Cut(rest, " ")
			steps = append(steps, Reply{Calls: []Call{{name, arguments}}})
		case "say":
			steps = append(steps, Reply{Text: strings.ReplaceAll(rest, "{result}", r.LastResult())})
		case "status":
			var code int
			fmt.Sscan(rest, &code)
			steps = append(steps, Reply{Status: code})
		}
	}
	if replies < len(steps) {
		return steps[replies]
	}
	return Reply{Text: "Done."}
}

func isVerb(line string) bool {
	verb, _, _ := strings.Cut(line, " ")
	switch verb {
	case "python", "bash", "share", "call", "say", "status":
		return true
	}
	return false
}
