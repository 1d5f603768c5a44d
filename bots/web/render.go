package web

import (
	"bytes"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer"
	mdhtml "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/util"
)

// Limits on what is rendered. What is longer is shown as it is, in a <pre>:
// a reader has scrolled past nicer typography long before.
const (
	maxMarkdown  = 64 << 10  // bytes; parsing nested quotes is quadratic
	maxHighlight = 64 << 10  // bytes of code that get colours
	maxHTML      = 512 << 10 // bytes of an HTML output; a table of 2,000 cells is 100 KB
	maxNesting   = 64        // levels of quotes and lists that a line opens
	maxMarks     = 2000      // asterisks and the like in a paragraph
)

// rendering turns the words of people, models and programs into HTML that is
// safe to put into the page. Its methods are pure: the same words give the
// same HTML, and nothing is fetched.
//
// Two things stand between a hostile reply and the reader. The renderer
// writes no markup that it was not told to (raw HTML comes out as text,
// pictures as links), and what it wrote goes through an allow-list of
// elements and attributes that knows nothing of the first.
type rendering struct {
	people goldmark.Markdown // a line break is a line break
	model  goldmark.Markdown // a line break is a space, as in CommonMark
	prose  *bluemonday.Policy
	output *bluemonday.Policy
	words  *bluemonday.Policy // text alone
	// languages are those that have a lexer. For any other name chroma looks
	// through the file names of all that it knows, which takes 10 ms.
	languages map[string]bool
	coloured  cache
}

func newRendering() *rendering {
	r := &rendering{prose: prosePolicy(), output: outputPolicy(), words: bluemonday.StrictPolicy(), languages: map[string]bool{}}
	for _, name := range lexers.Names(true) {
		r.languages[strings.ToLower(name)] = true
	}
	r.model = newMarkdown(r)
	r.people = newMarkdown(r, mdhtml.WithHardWraps())
	return r
}

func newMarkdown(r *rendering, opts ...renderer.Option) goldmark.Markdown {
	opts = append(opts, renderer.WithNodeRenderers(util.Prioritized(&nodes{r}, 100)))
	return goldmark.New(
		goldmark.WithExtensions(
			extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
			extension.Strikethrough, extension.TaskList,
			extension.NewLinkify(extension.WithLinkifyAllowedProtocols([]string{"http:", "https:"})),
		),
		goldmark.WithRendererOptions(opts...),
	)
}

// Markdown renders what a model wrote.
func (r *rendering) Markdown(src string) string { return r.markdown(r.model, src) }

// Message renders what a person wrote.
func (r *rendering) Message(src string) string { return r.markdown(r.people, src) }

func (r *rendering) markdown(md goldmark.Markdown, src string) string {
	if len(src) > maxMarkdown || slow(src) {
		return plain(src)
	}
	var out bytes.Buffer
	if err := md.Convert([]byte(src), &out); err != nil {
		return plain(src)
	}
	return visible(r.prose.Sanitize(out.String()))
}

// HTML sanitises the text/html output of a cell. It is empty where nothing
// that may be shown is left, as of a plot that is all script.
func (r *rendering) HTML(src string) string {
	if len(src) > maxHTML {
		return ""
	}
	out := strings.TrimSpace(visible(r.output.Sanitize(src)))
	if !strings.Contains(out, "<img") && strings.TrimSpace(r.words.Sanitize(out)) == "" {
		return ""
	}
	return out
}

// Code renders a piece of code with a class on each token.
func (r *rendering) Code(language, src string) string {
	return `<pre class="code"><code>` + visible(r.highlight(language, src)) + "</code></pre>"
}

func plain(src string) string {
	return `<pre class="plain">` + visible(html.EscapeString(src)) + "</pre>"
}

// highlight gives the escaped code, its tokens in spans with chroma's short
// class names. A language that nobody knows gives no spans.
func (r *rendering) highlight(language, src string) string {
	if !r.languages[strings.ToLower(language)] || len(src) > maxHighlight {
		return html.EscapeString(src)
	}
	return r.coloured.get(language+"\x00"+src, func() string {
		it, err := chroma.Coalesce(lexers.Get(language)).Tokenise(nil, src)
		if err != nil {
			return html.EscapeString(src)
		}
		return spans(it, src)
	})
}

func spans(it chroma.Iterator, src string) string {
	var b strings.Builder
	n := 0
	for t := it(); t != chroma.EOF; t = it() {
		// Lexers end the text with a line break of their own.
		if n+len(t.Value) > len(src) {
			t.Value = strings.TrimSuffix(t.Value, "\n")
		}
		n += len(t.Value)
		if class := classOf(t.Type); class != "" && strings.TrimSpace(t.Value) != "" {
			b.WriteString(`<span class="` + class + `">` + html.EscapeString(t.Value) + `</span>`)
		} else {
			b.WriteString(html.EscapeString(t.Value))
		}
	}
	return b.String()
}

// classOf gives a token's class, none for the plain majority: names,
// operators and brackets.
func classOf(t chroma.TokenType) string {
	switch class := chroma.StandardTypes[t]; class {
	case "n", "nx", "p", "o", "w", "x":
		return ""
	default:
		return class
	}
}

// visible shows the characters that turn the direction of text around, with
// which a line can be made to read as another than the one that runs.
func visible(s string) string {
	if !strings.ContainsFunc(s, turnsText) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if turnsText(c) {
			fmt.Fprintf(&b, "⟨U+%04X⟩", c)
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// turnsText: embeddings, overrides and isolates. The plain marks (U+200E,
// U+200F) stay, since right-to-left prose needs them.
func turnsText(c rune) bool {
	return c >= '\u202A' && c <= '\u202E' || c >= '\u2066' && c <= '\u2069'
}

// slow finds what a parser would brood over and nobody writes: lines that open
// a lot of quotes and lists, paragraphs
// made of asterisks or of the beginnings of links.
func slow(src string) bool {
	marks := 0
	for line := range strings.Lines(src) {
		if strings.TrimSpace(line) == "" {
			marks = 0
		}
		marks += strings.Count(line, "*") + strings.Count(line, "_") + strings.Count(line, "~") + 4*strings.Count(line, "](")
		depth := 0
		for at := opener.FindString(line); at != "" && depth <= maxNesting; at = opener.FindString(line) {
			line = line[len(at):]
			depth++
		}
		if marks > maxMarks || depth > maxNesting {
			return true
		}
	}
	return false
}

var (
	opener     = regexp.MustCompile(`^[ \t]*(?:>|[-+*][ \t]|[0-9]{1,9}[.)][ \t])`)
	tokenClass = regexp.MustCompile(`^(?:[a-z][a-z0-9]{0,3}|file-link)$`)
	preClass   = regexp.MustCompile(`^(?:code|plain)$`)
	fenceName  = regexp.MustCompile(`^[A-Za-z0-9+#_.-]{1,20}$`)
	alignment  = regexp.MustCompile(`^(?:left|center|right)$`)
	smallCount = regexp.MustCompile(`^[0-9]{1,4}$`)
	dataImage  = regexp.MustCompile(`^data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+$`)
)

// prosePolicy is what rendered markdown may hold.
func prosePolicy() *bluemonday.Policy {
	p := basePolicy()
	p.AllowAttrs("class").Matching(tokenClass).OnElements("span")
	p.AllowAttrs("data-path").OnElements("span")
	p.AllowAttrs("class").Matching(preClass).OnElements("pre")
	p.AllowAttrs("data-language").Matching(fenceName).OnElements("pre")
	p.AllowAttrs("type").Matching(regexp.MustCompile(`^checkbox$`)).OnElements("input")
	p.AllowAttrs("checked", "disabled").OnElements("input")
	return p
}

// outputPolicy is what the HTML output of a cell may hold. It has no class,
// id or style, so that it can't pass for a part of the page, and pictures
// only where their bytes are in it: loading one from elsewhere would tell
// that place what the thread is about.
func outputPolicy() *bluemonday.Policy {
	p := basePolicy()
	p.AllowElements("div", "span", "b", "i", "u", "s", "small", "sub", "sup", "mark", "kbd", "var", "samp",
		"section", "article", "figure", "figcaption", "details", "summary", "dl", "dt", "dd",
		"caption", "colgroup", "col", "tfoot", "abbr", "time")
	p.AllowAttrs("colspan", "rowspan").Matching(smallCount).OnElements("td", "th")
	p.AllowAttrs("open").OnElements("details")
	p.AllowAttrs("src").Matching(dataImage).OnElements("img")
	p.AllowAttrs("alt").OnElements("img")
	p.AllowAttrs("width", "height").Matching(smallCount).OnElements("img")
	p.AllowDataURIImages()
	return p
}

func basePolicy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "del", "blockquote",
		"ul", "ol", "li", "code", "pre", "table", "thead", "tbody", "tr", "th", "td")
	p.AllowAttrs("align").Matching(alignment).OnElements("td", "th")
	p.AllowAttrs("start").Matching(smallCount).OnElements("ol")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("mailto")
	for _, scheme := range []string{"http", "https"} {
		// Without a host it would be a path on this server.
		p.AllowURLSchemeWithCustomPolicy(scheme, func(u *url.URL) bool { return u.Host != "" })
	}
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true)
	return p
}
