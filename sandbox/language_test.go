package sandbox

import (
	"strings"
	"testing"
)

func TestParseLanguage(t *testing.T) {
	t.Parallel()
	for _, language := range Languages() {
		for _, name := range []string{string(language), strings.ToUpper(string(language)), " " + string(language) + "\n"} {
			if got, ok := ParseLanguage(name); !ok || got != language {
				t.Errorf("%q is %q, %v", name, got, ok)
			}
		}
	}
	for name, want := range map[string]Language{
		"py": Python, "sh": Bash, "js": JavaScript, "ts": TypeScript, "R": R, "duckdb": SQL, "": "", "rust": "",
	} {
		if got, ok := ParseLanguage(name); got != want || ok != (want != "") {
			t.Errorf("%q is %q, %v; want %q", name, got, ok, want)
		}
	}
}

func TestLibrariesNameEveryLanguage(t *testing.T) {
	t.Parallel()
	said := strings.ToLower(Libraries())
	for _, language := range Languages() {
		if !strings.Contains(said, string(language)) {
			t.Errorf("%s is missing in %q", language, said)
		}
	}
}
