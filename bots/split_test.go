package bots

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSplit(t *testing.T) {
	long := "```python\n" + strings.Repeat("print('a line of code')\n", 20) + "```"
	for name, c := range map[string]struct {
		text  string
		limit int
		want  []string
	}{
		"short":      {"a\n\nb", 100, []string{"a\n\nb"}},
		"blank":      {" \n ", 10, nil},
		"paragraphs": {"first paragraph\n\nsecond paragraph", 20, []string{"first paragraph", "second paragraph"}},
		"words":      {"one two three four", 9, []string{"one two", "three", "four"}},
		"one word":   {"abcdefghij", 4, []string{"abcd", "efgh", "ij"}},
		"runes":      {"ééééé", 5, []string{"éé", "éé", "é"}},
	} {
		if got := Split(c.text, c.limit); strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	pieces := Split("Before.\n\n"+long+"\n\nAfter.", 200)
	code := 0
	for _, p := range pieces {
		if len(p) > 200 || strings.Count(p, "```")%2 != 0 {
			t.Errorf("a piece of %d bytes, its fences not closed: %q", len(p), p)
		}
		code += strings.Count(p, "print('a line of code')")
	}
	if code != 20 || !strings.HasPrefix(pieces[1], "```python\n") {
		t.Errorf("%d lines of code in %q", code, pieces)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("a ```b\nc``` d\n```\ne\n````\nf", 20)
	f.Add("```x\n"+strings.Repeat("y", 50)+"\n```\nz", 16)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 64 || limit > 1<<16 || len(text) > 1<<14 {
			return
		}
		letters := func(s string) string {
			return strings.Map(func(r rune) rune {
				if strings.ContainsRune(" \n\r\t`", r) || r == utf8.RuneError {
					return -1
				}
				return r
			}, s)
		}
		pieces := Split(text, limit)
		for _, p := range pieces {
			if len(p) > limit || !utf8.ValidString(p) || strings.TrimSpace(p) == "" {
				t.Fatalf("the piece %q", p)
			}
		}
		// Nothing is lost: what stands in the text stands in the pieces, in
		// order, with fences' first lines repeated here and there.
		all := letters(strings.Join(pieces, ""))
		for _, r := range letters(strings.TrimSpace(strings.ToValidUTF8(text, ""))) {
			i := strings.IndexRune(all, r)
			if i < 0 {
				t.Fatalf("%q is cut into %q, where a %q is missing", text, pieces, r)
			}
			all = all[i+utf8.RuneLen(r):]
		}
	})
}

func TestHeadTail(t *testing.T) {
	text := strings.Repeat("0123456789\n", 100)
	for _, limit := range []int{60, 100, 500, 1099} {
		if got := HeadTail(text, limit); len(got) > limit || !strings.HasPrefix(got, "0123456789"[:min(10, limit/4)]) || !strings.HasSuffix(got, "89\n") {
			t.Errorf("within %d bytes: %d, %q", limit, len(got), got)
		}
		if got := Tail(text, limit); len(got) > limit || !strings.HasPrefix(got, "…\n0") || !strings.HasSuffix(got, "89\n") {
			t.Errorf("the tail within %d bytes: %q", limit, got)
		}
	}
	if got := HeadTail(text, len(text)); got != text {
		t.Error("a text that fits was changed")
	}
}
