package main

import "testing"

func TestCut(t *testing.T) {
	for _, test := range []struct {
		text string
		most int
		want string
	}{
		{"abcdef", 6, "abcdef"},
		{"abcdefg", 6, "abcde…"},
		{"日本語", 6, "日本語"},
		{"日本語文", 6, "日本…"},
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"", 3, ""},
	} {
		if got := cut(test.text, test.most); got != test.want {
			t.Errorf("cut(%q, %d) is %q, want %q", test.text, test.most, got, test.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine("a\nb\tc\x1b[31m"); got != "a⏎b c [31m" {
		t.Errorf("got %q", got)
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int64]string{0: "0 rows", 1: "1 row", 999: "999 rows", 1000: "1,000 rows", 1234567: "1,234,567 rows"} {
		if got := plural(n, "row"); got != want {
			t.Errorf("plural(%d) is %q, want %q", n, got, want)
		}
	}
}
