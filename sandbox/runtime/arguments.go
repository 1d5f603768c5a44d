package runtime

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Defaults of this package's own flags.
const (
	DefaultRunsc       = "/usr/local/bin/runsc"
	DefaultCheckpoints = "/var/lib/threadbook/checkpoints"
	// A checkpoint that fills the disk would break every sandbox on it, since
	// their file systems are files there.
	defaultReserve = 1 << 30
)

// A call is one call of the runtime, as the engine made it.
type call struct {
	globals []string // runsc's flags before the command
	words   []string // the command and what follows it; none with --version
	command string   // the first of them
	args    []string // the others

	runsc       string
	checkpoints string
	quota       int64 // 0: none
	reserve     int64
}

// valueFlags are the global flags that engines give with the value as a word of
// its own.
var valueFlags = []string{"root", "log", "log-format", "criu", "debug-log"}

// commands are the words that are surely a command, where it is not known
// whether the flag before has a value.
var commands = []string{
	"create", "start", "state", "kill", "delete", "checkpoint", "restore", "exec", "events", "pause",
	"resume", "ps", "run", "update", "list", "spec", "features", "help", "wait", "flags", "debug",
	operatorCommand,
}

// parse takes a command line apart. It refuses only what is wrong with this
// package's own flags; the rest is runsc's to judge.
func parse(argv []string) (*call, error) {
	c := &call{runsc: DefaultRunsc, checkpoints: DefaultCheckpoints, reserve: defaultReserve}
	var bad error
	for i := 0; i < len(argv); i++ {
		word := argv[i]
		if len(word) < 2 || word[0] != '-' || word == "--" {
			if word == "--" && i+1 < len(argv) {
				c.globals = append(c.globals, word)
				i++
			}
			c.words, c.command, c.args = argv[i:], argv[i], argv[i+1:]
			break
		}
		name, value, hasValue := flagOf(word)
		if own, err := c.set(name, value, hasValue); own {
			if err != nil && bad == nil {
				bad = err // only now: the log's name may be still to come
			}
			continue
		}
		c.globals = append(c.globals, word)
		if !hasValue && i+1 < len(argv) && takesValue(name, argv[i+1]) {
			i++
			c.globals = append(c.globals, argv[i])
		}
	}
	return c, bad
}

// set takes one of this package's own flags; own says that it is one.
func (c *call) set(name, value string, hasValue bool) (own bool, err error) {
	switch name {
	case "runsc":
		c.runsc = value
	case "checkpoints":
		c.checkpoints = value
	case "checkpoints-quota":
		c.quota, err = parseSize(value)
	case "checkpoints-reserve":
		c.reserve, err = parseSize(value)
	default:
		return false, nil
	}
	if !hasValue || value == "" {
		return true, faultf(BadSetting, "write --%s=VALUE in the engine's runtimeArgs", name)
	}
	if err != nil {
		return true, faultf(BadSetting, "--%s=%s is no size: write bytes, or a number with k, m or g", name, value)
	}
	if (name == "runsc" || name == "checkpoints") && !filepath.IsAbs(value) {
		return true, faultf(BadSetting, "--%s=%s is no absolute path", name, value)
	}
	return true, nil
}

// flagOf takes "-name=value" or "--name" apart.
func flagOf(word string) (name, value string, hasValue bool) {
	return strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
}

// takesValue is whether the word after a flag without "=" is its value.
func takesValue(name, next string) bool {
	if slices.Contains(valueFlags, name) {
		return true
	}
	return !strings.HasPrefix(next, "-") && !slices.Contains(commands, next)
}

// lookup finds the value of a flag in words; the last one counts.
func lookup(words []string, flag string) (value string, found bool) {
	for i, word := range words {
		if len(word) < 2 || word[0] != '-' {
			continue
		}
		name, v, hasValue := flagOf(word)
		if name != flag {
			continue
		}
		if !hasValue && i+1 < len(words) {
			v = words[i+1]
		}
		value, found = v, true
	}
	return value, found
}

// without returns the words with a flag left out, and its value if it has one.
func without(words []string, flag string, hasValue bool) []string {
	var rest []string
	for i := 0; i < len(words); i++ {
		word := words[i]
		if len(word) > 1 && word[0] == '-' {
			if name, _, inOne := flagOf(word); name == flag {
				if hasValue && !inOne {
					i++
				}
				continue
			}
		}
		rest = append(rest, word)
	}
	return rest
}

func (c *call) global(flag string) string {
	value, _ := lookup(c.globals, flag)
	return value
}

// flag is the value of one of the command's flags.
func (c *call) flag(name string) string {
	value, _ := lookup(c.flags(), name)
	return value
}

// id is the container's: the command's last word.
func (c *call) id() string {
	if len(c.args) == 0 {
		return ""
	}
	return c.args[len(c.args)-1]
}

// flags is what stands between the command and the container's id.
func (c *call) flags() []string {
	if len(c.args) == 0 {
		return nil
	}
	return c.args[:len(c.args)-1]
}

// parseSize reads bytes, with k, m or g for powers of 1024.
func parseSize(text string) (int64, error) {
	shift := 0
	if n := len(text); n > 1 {
		if i := strings.IndexByte("kmg", text[n-1]|0x20); i >= 0 {
			shift, text = 10*(i+1), text[:n-1]
		}
	}
	n, err := strconv.ParseUint(text, 10, 63-shift)
	return int64(n) << shift, err
}
