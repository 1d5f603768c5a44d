package bots_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"threadbook/bots"
)

func TestCleanFileName(t *testing.T) {
	for name, want := range map[string]string{
		"a.csv":                              "a.csv",
		"Umsatz März (2).xlsx":               "Umsatz März (2).xlsx",
		"../../etc/passwd":                   "passwd",
		`C:\Users\ada\data.csv`:              "data.csv",
		"..":                                 "file",
		".":                                  "file",
		"":                                   "file",
		"/":                                  "file",
		".bashrc":                            "bashrc",
		"a\x00b\nc.txt":                      "abc.txt",
		"gpj\u202eexe.csv":                   "gpjexe.csv",
		"\xff\xfe.csv":                       "_.csv",
		"  spaced .csv ":                     "spaced .csv",
		strings.Repeat("é", 300) + ".csv":    strings.Repeat("é", 98) + ".csv",
		"x." + strings.Repeat("longext", 40): "x." + strings.Repeat("longext", 40)[:198],
	} {
		if got := bots.CleanFileName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func FuzzCleanFileName(f *testing.F) {
	f.Add("../a\\b/c.csv")
	f.Fuzz(func(t *testing.T, name string) {
		got := bots.CleanFileName(name)
		if got == "" || got == "." || got == ".." || strings.ContainsAny(got, "/\\\x00\n") || len(got) > 255 || !utf8.ValidString(got) {
			t.Errorf("%q became %q", name, got)
		}
	})
}
