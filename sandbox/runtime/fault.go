package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// The codes that a failure is told with, for a driver to tell them apart.
const (
	BadSetting    = "bad-setting"    // a flag or variable is wrong, or the set-up is
	NoCheckpoint  = "no-checkpoint"  // there is none of that name
	BadCheckpoint = "bad-checkpoint" // it is damaged: delete it
	DoesNotFit    = "does-not-fit"   // it was made for another container or runsc
	NoSpace       = "no-space"       // no room for it: the sandbox goes on
	Failed        = "failed"         // runsc failed, or the machine did
	Adopted       = "adopted"        // no failure: how the errand "adopt" tells of its success
)

// program is what failures and messages begin with.
const program = "threadbook-runtime"

// A fault is a failure with its code.
type fault struct {
	code string
	text string
}

func (f *fault) Error() string { return f.code + ": " + f.text }

func faultf(code, format string, args ...any) error {
	return &fault{code, fmt.Sprintf(format, args...)}
}

// codeOf is the fault's code; an error without one is a failure of the machine.
func codeOf(err error) string {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.code
	}
	return Failed
}

// sentence is the error as the engine shows it, on one line.
func sentence(err error) string {
	text := err.Error()
	if _, ok := errors.AsType[*fault](err); !ok {
		text = Failed + ": " + text
	}
	return program + ": " + strings.Join(strings.Fields(text), " ")
}

// report tells the failure to the engine. For most commands that is the last
// error in the log that the engine named; for a checkpoint it is the first line
// on standard error.
func (c *call) report(stderr io.Writer, err error) {
	text := sentence(err)
	fmt.Fprintln(stderr, text)
	log := c.global("log")
	if log == "" {
		return
	}
	line := text
	if c.global("log-format") == "json" {
		entry, _ := json.Marshal(map[string]string{
			"level": "error", "msg": text, "time": time.Now().UTC().Format(time.RFC3339Nano),
		})
		line = string(entry)
	}
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		fmt.Fprintf(stderr, "%s: the failure is not in the log: %v\n", program, err)
		return
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// lastError is the last error that runsc wrote into the engine's log from the
// offset on, or "".
func lastError(log string, from int64) string {
	data, err := os.ReadFile(log)
	if err != nil || from > int64(len(data)) {
		return ""
	}
	last := ""
	for entries := json.NewDecoder(bytes.NewReader(data[from:])); ; {
		var entry struct{ Level, Msg string }
		if entries.Decode(&entry) != nil {
			return last
		}
		if entry.Level == "error" {
			last = strings.TrimSpace(entry.Msg)
		}
	}
}

// logSize is where the next line of the log will begin.
func logSize(log string) int64 {
	info, err := os.Stat(log)
	if err != nil {
		return 0
	}
	return info.Size()
}
