package sandbox

import "strings"

// Language is a language that a cell can be in, by its name in the log and in
// the tools of the model.
type Language string

// The languages. JavaScript and TypeScript are one kernel's, and share their
// variables.
const (
	Python     Language = "python"
	R          Language = "r"
	SQL        Language = "sql"
	Bash       Language = "bash"
	JavaScript Language = "javascript"
	TypeScript Language = "typescript"
)

// Languages are all of them, in the order in which to offer them.
func Languages() []Language {
	return []Language{Python, R, SQL, Bash, JavaScript, TypeScript}
}

// ParseLanguage finds a language by its name or one of its usual short names,
// in any case, as people write them after a fence.
func ParseLanguage(name string) (Language, bool) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "python", "py", "python3", "py3", "ipython":
		return Python, true
	case "r", "rlang", "rscript":
		return R, true
	case "sql", "duckdb":
		return SQL, true
	case "bash", "sh", "shell", "console":
		return Bash, true
	case "javascript", "js", "mjs", "node", "deno":
		return JavaScript, true
	case "typescript", "ts":
		return TypeScript, true
	}
	return "", false
}
