package web

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// render treats a text as the extension of its file says: .md is a reply,
// .txt a person's message, .htm an HTML output, all else a cell of code.
func render(r *rendering, name, text string) string {
	switch ext := strings.TrimPrefix(filepath.Ext(name), "."); ext {
	case "md":
		return r.Markdown(text)
	case "txt":
		return r.Message(text)
	case "htm":
		return r.HTML(text)
	default:
		return r.Code(map[string]string{"py": "python"}[ext]+strings.TrimPrefix(ext, "py"), text)
	}
}

func TestRender(t *testing.T) {
	r := newRendering()
	names, err := filepath.Glob("testdata/render/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".golden") {
			continue
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := render(r, name, string(text))
			checkHarmless(t, got)
			golden(t, name+".golden", got)
		})
	}
}

// checkHarmless reads HTML as a browser does and fails where it could run a
// script, load something from elsewhere, or pass for a part of the page.
func checkHarmless(t *testing.T, rendered string) {
	t.Helper()
	elements := strings.Fields(`html head body p br hr h1 h2 h3 h4 h5 h6 strong em del blockquote ul ol li code pre a span
		table thead tbody tfoot tr th td caption colgroup col input div b i u s small sub sup mark kbd var samp section article
		figure figcaption details summary dl dt dd abbr time img`)
	attributes := map[string]*regexp.Regexp{
		"href": regexp.MustCompile(`^(?:https?://|mailto:)`), "src": regexp.MustCompile(`^data:image/(?:png|jpeg|gif|webp);base64,`),
		"class": regexp.MustCompile(`^(?:code|plain|file-link|[a-z][a-z0-9]{0,3})$`), "type": regexp.MustCompile(`^checkbox$`),
	}
	free := strings.Fields("rel target title alt width height colspan rowspan align start checked disabled open data-path data-language")
	doc, err := html.Parse(strings.NewReader(rendered))
	if err != nil {
		t.Fatalf("not HTML: %v\n%s", err, rendered)
	}
	for n := range doc.Descendants() {
		if n.Type == html.CommentNode {
			t.Errorf("a comment in %q", rendered)
		}
		if n.Type != html.ElementNode {
			continue
		}
		if n.Namespace != "" || !slices.Contains(elements, n.Data) {
			t.Errorf("the element %q in %q", n.Data, rendered)
		}
		for _, a := range n.Attr {
			if want := attributes[a.Key]; want != nil && want.MatchString(a.Val) || slices.Contains(free, a.Key) {
				continue
			}
			t.Errorf("the attribute %s=%q in %q", a.Key, a.Val, rendered)
		}
		if n.Data == "a" && !slices.ContainsFunc(n.Attr, func(a html.Attribute) bool {
			return a.Key == "rel" && strings.Contains(a.Val, "nofollow") && (strings.Contains(a.Val, "noopener") || strings.Contains(a.Val, "noreferrer"))
		}) {
			t.Errorf("a link without rel in %q", rendered)
		}
	}
	if strings.ContainsFunc(rendered, turnsText) {
		t.Errorf("characters that turn the text around in %q", rendered)
	}
}

func FuzzRender(f *testing.F) {
	names, err := filepath.Glob("testdata/render/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		f.Add(string(readTestdata(f, strings.TrimPrefix(name, "testdata/"))), "python")
	}
	f.Add("[a](javas\tcript:alert(1))", "\"><script>")
	r := newRendering()
	f.Fuzz(func(t *testing.T, text, language string) {
		for _, got := range []string{r.Markdown(text), r.Message(text), r.HTML(text), r.Code(language, text),
			r.Markdown("```" + language + "\n" + text + "\n```"), r.Markdown("[x](" + text + ")"), r.Markdown("![" + text + "](" + language + ")")} {
			checkHarmless(t, got)
		}
	})
}

// Nobody waits for a reply that was written to be slow.
func TestRenderIsQuick(t *testing.T) {
	const limit = 5 * time.Second // under the race detector on a busy machine; else a tenth
	r := newRendering()
	for _, unit := range []string{">", "[", "[a](", "*a_", "**a", "`", "<a", "<b ", "- ", "1. ", "|", "~~a", "a@", "http://", "<!--", "]:"} {
		for _, join := range []string{"", "\n"} {
			text := strings.Repeat(unit+join, maxMarkdown/(len(unit+join)))
			start := time.Now()
			r.Message(text)
			r.HTML(text)
			if took := time.Since(start); took > limit {
				t.Errorf("%q repeated took %v", unit+join, took)
			}
		}
	}
}

func TestLongTextsStayWhole(t *testing.T) {
	r := newRendering()
	long := strings.Repeat("a < b\n", maxMarkdown/4)
	for name, got := range map[string]string{"markdown": r.Markdown(long), "code": r.Code("python", long)} {
		checkHarmless(t, got)
		if n := strings.Count(got, "a &lt; b"); n != maxMarkdown/4 {
			t.Errorf("%s has %d lines of %d", name, n, maxMarkdown/4)
		}
	}
	if got := r.HTML(strings.Repeat("<p>x</p>", maxHTML/8+1)); got != "" {
		t.Errorf("an HTML output over the limit was rendered: %d bytes", len(got))
	}
}
