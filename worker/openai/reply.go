package openai

import (
	"encoding/json"

	api "github.com/sashabaranov/go-openai"

	"threadbook/sessions"
)

// reply is put together from a stream's pieces.
type reply struct {
	sessions.Reply
	index []int // of each call, as the server counts them
	size  int
}

// add takes a piece, and says whether there is more to show.
func (r *reply) add(chunk api.ChatCompletionStreamResponse) bool {
	if chunk.Model != "" {
		r.Model = chunk.Model
	}
	if u := chunk.Usage; u != nil {
		r.Tokens = sessions.Tokens{In: int64(u.PromptTokens), Out: int64(u.CompletionTokens)}
		if u.PromptTokensDetails != nil {
			r.Tokens.Cached = int64(u.PromptTokensDetails.CachedTokens)
		}
	}
	if len(chunk.Choices) == 0 {
		return false
	}
	choice := chunk.Choices[0]
	if choice.FinishReason != "" && choice.FinishReason != api.FinishReasonNull {
		r.FinishReason = string(choice.FinishReason)
	}
	r.Text += choice.Delta.Content + choice.Delta.Refusal
	more := len(choice.Delta.Content) + len(choice.Delta.Refusal)
	for _, c := range choice.Delta.ToolCalls {
		r.addCall(c)
		more += len(c.Function.Name) + len(c.Function.Arguments)
	}
	r.size += more
	return more > 0
}

// addCall takes a piece of a call: the one of its index, or where the server
// doesn't count, a new one for each id or name and otherwise the last.
func (r *reply) addCall(c api.ToolCall) {
	at := len(r.Calls) - 1
	if c.Index != nil {
		for at = len(r.index) - 1; at >= 0 && r.index[at] != *c.Index; at-- {
		}
	} else if at >= 0 && c.Function.Name != "" && r.Calls[at].Name != "" && c.ID != r.Calls[at].ID {
		at = -1
	}
	if at < 0 {
		at = len(r.Calls)
		r.Calls = append(r.Calls, sessions.Call{})
		index := at
		if c.Index != nil {
			index = *c.Index
		}
		r.index = append(r.index, index)
	}
	call := &r.Calls[at]
	if c.ID != "" {
		call.ID = c.ID
	}
	if call.Name == "" {
		call.Name = c.Function.Name
	}
	call.Arguments += c.Function.Arguments
}

// whole is the reply once it is complete: every call has an id of its own.
func (r *reply) whole() sessions.Reply {
	seen := map[string]bool{}
	for i := range r.Calls {
		c := &r.Calls[i]
		if c.ID == "" || seen[c.ID] {
			c.ID = newCallID()
		}
		seen[c.ID] = true
		if c.Arguments == "" { // a tool without arguments
			c.Arguments = "{}"
		}
	}
	return r.Reply
}

// wellFormed gives back arguments that are JSON. Some servers refuse a history
// in which they are not; the result of the call has told the model.
func wellFormed(arguments string) string {
	if json.Valid([]byte(arguments)) {
		return arguments
	}
	data, err := json.Marshal(map[string]string{"malformed": arguments})
	if err != nil {
		return "{}"
	}
	return string(data)
}
