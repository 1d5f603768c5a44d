package discord

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// Kinds of commands.
const (
	kindSlash   = 1
	kindMessage = 3
)

// command is one of the application's, as it is registered.
type command struct {
	Name        string          `json:"name"`
	Type        int             `json:"type"`
	Description string          `json:"description"` // empty for those of messages
	Options     []commandOption `json:"options,omitempty"`
}

type commandOption struct {
	Type        int    `json:"type"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Required    bool   `json:"required,omitempty"`
}

// Types of options.
const (
	optionText = 3
	optionFile = 11
)

// Names of message commands.
const (
	runThisCode  = "Run this code"
	analyseFiles = "Analyse these files"
)

// wordCommands are slash commands that say a word of threadbook's in their
// thread.
var wordCommands = map[string]string{
	"files": "!files", "export": "!export", "stop": "!stop", "reset": "!reset", "usage": "!usage", "help": "!help",
}

// commands are all that are registered.
func commands() []command {
	return []command{
		{Name: "ask", Type: kindSlash, Description: "Ask a question about data; code is written and run for it", Options: []commandOption{
			{Type: optionText, Name: "question", Description: "What you want to know", Required: true},
			{Type: optionFile, Name: "file", Description: "A file to look at"},
		}},
		{Name: "run", Type: kindSlash, Description: "Write code and run it as it is"},
		{Name: "files", Type: kindSlash, Description: "List the files of this thread"},
		{Name: "export", Type: kindSlash, Description: "Post this thread as a notebook"},
		{Name: "stop", Type: kindSlash, Description: "Stop what runs in this thread"},
		{Name: "reset", Type: kindSlash, Description: "Start this thread's variables afresh; files stay"},
		{Name: "usage", Type: kindSlash, Description: "Say what this thread has used"},
		{Name: "help", Type: kindSlash, Description: "Say how this works"},
		{Name: runThisCode, Type: kindMessage},
		{Name: analyseFiles, Type: kindMessage},
	}
}

// register registers the commands if Discord has others: it allows 200 changes
// a day. It holds up nothing, and tries until it is done or refused.
func (d *Discord) register(ctx context.Context, me identity) {
	path := "applications/" + me.App + "/commands"
	for wait := newPause(d.cfg.FirstPause); ; {
		var have []command
		err := d.api.do(ctx, "GET", path, nil, &have)
		if err == nil {
			if sameCommands(have, commands()) {
				return
			}
			if err = d.api.do(ctx, "PUT", path, commands(), nil); err == nil {
				d.cfg.Log.InfoContext(ctx, "Discord: the commands were registered")
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		d.cfg.Log.WarnContext(ctx, "Discord: the commands could not be registered", "err", err)
		if !transient(err) || !wait.wait(ctx) {
			return
		}
	}
}

// sameCommands compares what matters, in any order.
func sameCommands(a, b []command) bool {
	flat := func(list []command) []string {
		var out []string
		for _, c := range list {
			line, err := json.Marshal(c)
			if err != nil {
				return nil
			}
			out = append(out, string(line))
		}
		slices.Sort(out)
		return out
	}
	return strings.Join(flat(a), "\n") == strings.Join(flat(b), "\n")
}
