package web

import (
	"bytes"
	"html"
	"net/url"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"
)

// nodes renders the nodes of markdown that this page treats in its own way:
// code gets colours, raw HTML stays text, pictures become links, and links
// lead to web addresses or to files of the thread and nowhere else.
type nodes struct {
	r *rendering
}

// RegisterFuncs implements [renderer.NodeRenderer].
func (n *nodes) RegisterFuncs(reg renderer.NodeRendererFuncRegisterer) {
	reg.Register(ast.KindFencedCodeBlock, n.fence)
	reg.Register(ast.KindCodeBlock, n.block)
	reg.Register(ast.KindHTMLBlock, n.htmlBlock)
	reg.Register(ast.KindRawHTML, n.rawHTML)
	reg.Register(ast.KindLink, n.link)
	reg.Register(ast.KindAutoLink, n.autoLink)
	reg.Register(ast.KindImage, n.image)
}

func lines(src []byte, node ast.Node) string {
	var b strings.Builder
	for i := range node.Lines().Len() {
		at := node.Lines().At(i)
		b.Write(at.Value(src))
	}
	return b.String()
}

func (n *nodes) fence(w util.BufWriter, src []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	language := string(node.(*ast.FencedCodeBlock).Language(src))
	code := n.r.highlight(language, strings.TrimSuffix(lines(src, node), "\n"))
	_, err := w.WriteString(`<pre class="code" data-language="` + html.EscapeString(language) + `"><code>` + code + "</code></pre>\n")
	return ast.WalkSkipChildren, err
}

func (n *nodes) block(w util.BufWriter, src []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	_, err := w.WriteString(`<pre class="code"><code>` + html.EscapeString(lines(src, node)) + "</code></pre>\n")
	return ast.WalkSkipChildren, err
}

func (n *nodes) htmlBlock(w util.BufWriter, src []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	text := lines(src, node)
	if b := node.(*ast.HTMLBlock); b.HasClosure() {
		text += string(b.ClosureLine.Value(src))
	}
	_, err := w.WriteString("<p>" + html.EscapeString(strings.TrimSpace(text)) + "</p>\n")
	return ast.WalkSkipChildren, err
}

func (n *nodes) rawHTML(w util.BufWriter, src []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	segments := node.(*ast.RawHTML).Segments
	for i := range segments.Len() {
		at := segments.At(i)
		if _, err := w.WriteString(html.EscapeString(string(at.Value(src)))); err != nil {
			return ast.WalkStop, err
		}
	}
	return ast.WalkSkipChildren, nil
}

// target says where a link leads: to an address on the web, to a file of the
// thread, or (both empty) nowhere that the page would go.
func target(dest []byte) (address, path string) {
	u, err := url.Parse(string(util.URLEscape(bytes.TrimSpace(dest), true)))
	if err != nil {
		return "", ""
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host != "" {
			return u.String(), ""
		}
	case "mailto":
		return u.String(), ""
	case "", "file", "sandbox", "attachment":
		// Models like to invent addresses for the files that they wrote:
		// sandbox:/mnt/data/x.csv, /workspace/outputs/x.csv, outputs/x.csv.
		if p := u.Path + u.Opaque; u.Host == "" && p != "" {
			for _, root := range []string{"/workspace/", "/mnt/data/", "./", "/"} {
				p = strings.TrimPrefix(p, root)
			}
			return "", p
		}
	}
	return "", ""
}

// openLink and shutLink are the two ends of a link.
func openLink(address, path string) string {
	switch {
	case address != "":
		return `<a href="` + html.EscapeString(address) + `">`
	case path != "":
		return `<span class="file-link" data-path="` + html.EscapeString(path) + `">`
	}
	return ""
}

func shutLink(address, path string) string {
	switch {
	case address != "":
		return "</a>"
	case path != "":
		return "</span>"
	}
	return ""
}

func (n *nodes) link(w util.BufWriter, _ []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	end := shutLink
	if entering {
		end = openLink
	}
	_, err := w.WriteString(end(target(node.(*ast.Link).Destination)))
	return ast.WalkContinue, err
}

func (n *nodes) autoLink(w util.BufWriter, src []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	link := node.(*ast.AutoLink)
	dest := string(link.URL(src))
	if link.AutoLinkType == ast.AutoLinkEmail && !strings.HasPrefix(dest, "mailto:") {
		dest = "mailto:" + dest
	}
	address, _ := target([]byte(dest))
	_, err := w.WriteString(openLink(address, "") + html.EscapeString(string(link.Label(src))) + shutLink(address, ""))
	return ast.WalkSkipChildren, err
}

// image never loads one: its address could carry away what the model has
// read. A reader who wants to see it follows the link.
func (n *nodes) image(w util.BufWriter, src []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	address, path := target(node.(*ast.Image).Destination)
	for p := node.Parent(); p != nil; p = p.Parent() {
		if p.Kind() == ast.KindLink {
			address, path = "", "" // a link in a link is none
		}
	}
	label := words(src, node)
	if label == "" {
		label = "image"
	}
	_, err := w.WriteString(openLink(address, path) + html.EscapeString(label) + shutLink(address, path))
	return ast.WalkSkipChildren, err
}

// words is the text under a node.
func words(src []byte, node ast.Node) string {
	var b strings.Builder
	for c := node.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			b.Write(c.Value(src))
		case *ast.String:
			b.Write(c.Value)
		default:
			b.WriteString(words(src, c))
		}
	}
	return b.String()
}
