package sandboxtest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"threadbook/sandbox"
)

// The words of a script, one a line. Variables are kept between the cells of a
// language.
//
//	print TEXT      writes a line to stdout
//	warn TEXT       writes a line to stderr
//	set NAME VALUE  sets a variable
//	show NAME       prints a variable; a NameError if it isn't set
//	file PATH TEXT  writes a file
//	remove PATH     deletes a file
//	figure          shows a figure (a PNG)
//	table           shows a table, as text and as HTML
//	await PATH      waits until there is such a file
//	sleep           waits until the cell is stopped
//	flood BYTES     prints more than is shown; the rest is in OutputFile
//	fail TEXT       raises a ValueError
//	oom             runs out of memory; the variables are kept
//	full            runs out of disk
//	die             kills its own kernel; the variables are lost
//	perish          kills the whole sandbox
//
// Any other word is a SyntaxError.
func (c *cell) run(wanted sandbox.Cell) {
	timer := time.AfterFunc(wanted.Timeout, func() {
		c.box.mu.Lock()
		defer c.box.mu.Unlock()
		c.halt(sandbox.Timeout)
	})
	defer timer.Stop()
	for line := range strings.Lines(wanted.Code) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "" {
			continue
		}
		if word == "await" || word == "sleep" {
			c.await(rest)
		}
		c.box.mu.Lock()
		c.do(wanted.Language, word, rest)
		ended := c.result != nil
		c.box.mu.Unlock()
		if ended {
			return
		}
	}
	c.box.mu.Lock()
	defer c.box.mu.Unlock()
	c.end(sandbox.Result{Status: sandbox.OK})
}

// await waits for a file, or for the cell to be stopped.
func (c *cell) await(path string) {
	for {
		c.box.mu.Lock()
		_, found := c.box.files[path]
		over := c.stop != "" || c.result != nil || path != "" && found
		changed := c.box.changed
		c.box.mu.Unlock()
		if over {
			return
		}
		<-changed
	}
}

// do does one word. It needs the lock.
func (c *cell) do(language sandbox.Language, word, rest string) {
	if c.stop != "" {
		c.end(sandbox.Result{
			Status: c.stop,
			Error:  &sandbox.CellError{Name: string(c.stop), Value: "the cell was stopped"},
		})
		return
	}
	vars := c.box.vars[language]
	if vars == nil {
		vars = map[string]string{}
		c.box.vars[language] = vars
	}
	switch word {
	case "print":
		c.put(sandbox.Output{Stream: "stdout", Text: rest + "\n"})
	case "warn":
		c.put(sandbox.Output{Stream: "stderr", Text: rest + "\n"})
	case "set":
		name, value, _ := strings.Cut(rest, " ")
		vars[name] = value
	case "show":
		value, found := vars[rest]
		if !found {
			c.raise(sandbox.Failed, "NameError", fmt.Sprintf("name %q is not defined", rest))
			return
		}
		c.put(sandbox.Output{Stream: "stdout", Text: value + "\n"})
	case "file":
		path, text, _ := strings.Cut(rest, " ")
		c.box.files[path] = file{data: []byte(text), at: time.Now()}
		c.box.change()
	case "remove":
		delete(c.box.files, rest)
		c.box.change()
	case "figure":
		c.put(sandbox.Output{MIME: "image/png", Data: Figure(), Display: int64(len(c.outputs)) + 1})
	case "table":
		display := int64(len(c.outputs)) + 1
		c.put(sandbox.Output{MIME: "text/plain", Data: []byte("   a\n0  1"), Display: display})
		c.put(sandbox.Output{MIME: "text/html", Data: []byte("<table><tr><td>1</table>"), Display: display})
	case "flood":
		c.flood(rest)
	case "await", "sleep":
	case "fail":
		c.raise(sandbox.Failed, "ValueError", rest)
	case "oom":
		c.raise(sandbox.OutOfMemory, "MemoryError", "")
	case "full":
		c.raise(sandbox.DiskFull, "OSError", "[Errno 28] No space left on device")
	case "die":
		delete(c.box.vars, language)
		c.end(sandbox.Result{
			Status: sandbox.KernelDied, Lost: true,
			Error: &sandbox.CellError{Name: "KernelDied", Value: "it exited with status 3"},
		})
	case "perish":
		c.perish()
	default:
		c.raise(sandbox.Failed, "SyntaxError", fmt.Sprintf("no word %q", word))
	}
}

func (c *cell) raise(status sandbox.Status, name, value string) {
	c.end(sandbox.Result{Status: status, Error: &sandbox.CellError{
		Name: name, Value: value, Traceback: "Traceback (most recent call last):\n" + name + ": " + value,
	}})
}

// flood shows the first and the last bytes of many.
func (c *cell) flood(size string) {
	const shown = 1000
	n, err := strconv.Atoi(size)
	if err != nil || n < 2*shown {
		c.raise(sandbox.Failed, "ValueError", "flood takes a number of bytes, 2000 or more")
		return
	}
	all := strings.Repeat("0123456789abcde\n", n/16+1)[:n]
	c.box.files[sandbox.OutputFile(c.id)] = file{data: []byte(all), at: time.Now()}
	c.put(sandbox.Output{Stream: "stdout", Text: all[:shown]})
	c.put(sandbox.Output{Stream: "stdout", Text: all[n-shown:], Truncated: int64(n - 2*shown)})
}

// perish ends the sandbox from inside.
func (c *cell) perish() {
	c.box.gone = true
	c.end(sandbox.Result{
		Status: sandbox.OutOfMemory, Lost: true, Gone: true,
		Error: &sandbox.CellError{Name: "SandboxDied", Value: "it ran out of memory"},
	})
}
