package sandbox

import "strings"

// Language is a language that a cell can be in, by its name in the log and in
// the tools of the model.
type Language string

// The languages.
const (
	Python Language = "python"
	Bash   Language = "bash"
)

// Languages are all of them, in the order in which to offer them.
func Languages() []Language { return []Language{Python, Bash} }

// ParseLanguage finds a language by its name or one of its usual short names,
// in any case, as people write them after a fence.
func ParseLanguage(name string) (Language, bool) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "python", "py", "python3", "ipython":
		return Python, true
	case "bash", "sh", "shell", "console":
		return Bash, true
	}
	return "", false
}
