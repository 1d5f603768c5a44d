package notebook_test

import (
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"threadbook/sessions"
	"threadbook/sessions/notebook"
)

func TestScript(t *testing.T) {
	t.Parallel()
	got := whole().write(t, notebook.Script)
	for _, want := range []string{
		"# ---\n# jupyter:\n#   jupytext:\n",
		"\n# %% [markdown]\n# **Ada** with `w.csv` (2.0 KiB):\n#\n# How hot was it?\n#\n# **Please** be quick.\n",
		"\n# %% tags=[\"raises-exception\"]\nimport pandas as pd\nw['rain']\n",
		"\n# %%\nprint(1)\nw.plot()\n\n# %% [markdown]\n# File: `outputs/h.csv` (10 bytes)\n",
		"\n# %% language=\"bash\"\n# ls | wc -l\n",
		"\n# %% language=\"R\"\n# summary(w)\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}

// Whatever people and programs write, a script runs the Python cells and
// nothing else.
func TestScriptHolds(t *testing.T) {
	t.Parallel()
	th := &thread{}
	th.ask("hi\rprint('bad')\r\nprint('bad')\n%%\n!echo bad\n  %% [code]\n<codecell>\nIn[1]:\n\"\"\"\x0c\nprint('bad')\u2028print('bad')")
	th.add(&sessions.Reply{Text: "'''\nprint('bad')\n# %%\nprint('bad')"})
	th.cell(1, "python", "%matplotlib inline\n!ls\nx = \"\"\"\n!kept\n%kept\n\"\"\"\nprint(x.split())")
	th.cell(2, "bash", "echo bad\rprint('bad')\n%%\necho bad")
	th.cell(3, "python", "%%html\nprint('bad')")
	th.cell(4, "python", "%%time\ny = 5 \\\n  % 3\nprint(y)")
	th.done()
	const want = `
# %% [markdown]
# **Ada**:
#
# hi
# print('bad')
# print('bad')
# \%%
# !echo bad
# \%% [code]
# \<codecell>
# \In[1]:
# """
# print('bad')…print('bad')

# %% [markdown]
# '''
# print('bad')
# # %%
# print('bad')

# %%
# %matplotlib inline
# !ls
x = """
!kept
%kept
"""
print(x.split())

# %% language="bash"
# echo bad
# print('bad')
# \%%
# echo bad

# %%
# \%%html
# print('bad')

# %%
# \%%time
y = 5 \
  % 3
print(y)
`
	_, got, _ := strings.Cut(th.write(t, notebook.Script), "(UTC)\n")
	if want := strings.ReplaceAll(want, "…", "\u2028"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	th := whole()
	got := th.write(t, notebook.Markdown)
	for _, want := range []string{
		"# A threadbook thread\n\n`web:test` from 20 November 2026, 12:00 to",
		"\n**Ada** with `w.csv` (2.0 KiB):\n\n> How hot was it?\n>\n> **Please** be quick.\n\nI'll look at the file.\n\n```python\n",
		"```python\nimport pandas as pd\nw['rain']\n```\n\n```text\nTraceback:\n  line 1\nKeyError: 'rain'\n```\n",
		"```text\na\nb\n```\n\nstderr:\n\n```text\nwarned\n```\n\n```text\nc\n```\n\n```text\n100%\n```\n\n```text\nd\n```\n\n![Line chart; highs.](data:image/png;base64,iVBORyBwaWN0dXJl)\n\nFile: `outputs/h.csv` (10 bytes)\n",
		"\n**Ada** ran:\n\n```bash\nls | wc -l\n```\n\n```text\n3\n```\n\n```text\ntimeout: the cell ended so after 2.0 s; variables lost\n```\n",
		"\n*threadbook:*\n\n> All variables are forgotten.\n",
		"```text\nMin.\n```\n\n```text\nUnfinished: the cell had not ended when this was written\n```\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	th = &thread{}
	th.ask("draw")
	th.cell(1, "python", "draw()", th.blob(1, "image/png", make([]byte, 64<<10+1)), shown(1, "text/plain", "Bars\n[high](evil)"),
		shown(2, "text/html", "<table>"), shown(3, "text/latex", "$x$"))
	got = th.write(t, notebook.Markdown)
	const want = "*Left out:* `cell-1-1.png` (image/png, 64.0 KiB): it is larger than 64.0 KiB, the limit. It shows: Bars \\[high\\](evil)\n\n" +
		"*Left out:* `cell-1-2.html` (text/html, 7 bytes): a page can't show it.\n\n```latex\n$x$\n```\n"
	if !strings.Contains(got, want) {
		t.Errorf("%q is missing in:\n%s", want, got)
	}
}

// breakouts are what tries to get out of what stands around it.
var breakouts = []string{
	"```\nout\n\n# OUT", "````````\nx", "~~~\nx", "```py\nx\n````", "> ```\nx", "- ```\n  x\n\n# OUT", "  ```\nx", "    ```\n```\nx", "`` ` ```", "\r```\r# OUT",
	"<!-- x", "<script>", "<div>\n```\n</div>\n\n```", "x\n<pre>\ny", "text ``` more\n```", "~~~`\n```\nx", "```\nx\n   ```\ny", "```\nx\n    ```\ny", "[Ada]: x", "1. ~~~", "```\n~~~\n",
	"![x](", "<details>", "a\n===", "\t```\nx", "> <!--", "```a`b\nx\n```",
}

// None of the words of people, models and programs gets out of its place: the
// page has its own parts, whatever is in them.
func TestPageHolds(t *testing.T) {
	t.Parallel()
	for _, bad := range breakouts {
		checkHolds(t, bad, bad, bad, bad)
	}
}

func FuzzPage(f *testing.F) {
	for _, bad := range breakouts {
		f.Add(bad, bad, bad, bad)
	}
	f.Fuzz(func(t *testing.T, message, reply, code, printed string) { checkHolds(t, message, reply, code, printed) })
}

// checkHolds writes a page of the words and reads it as Markdown: the marks
// that stand around each of the words must be paragraphs of the page itself.
func checkHolds(t *testing.T, message, reply, code, printed string) {
	t.Helper()
	th := &thread{}
	th.ask("x" + message) // not a command
	th.add(&sessions.File{Path: "mark-1.csv"}, &sessions.Reply{Text: reply}, &sessions.File{Path: "mark-2.csv"})
	th.cell(1, "python", code, stream("stdout", printed), shown(1, "text/plain", printed), stream("stderr", "mark-3"))
	th.add(&sessions.CellStarted{Cell: 2, Language: "python", Code: "mark-4"},
		&sessions.CellFinished{Cell: 2, Status: "error", Error: &sessions.CellError{Name: message, Value: reply, Traceback: printed}},
		&sessions.File{Path: "mark-5.csv"})
	page := []byte(th.write(t, notebook.Markdown))
	var marks []string
	for n := goldmark.DefaultParser().Parse(text.NewReader(page)).FirstChild(); n != nil; n = n.NextSibling() {
		if n.Kind() != ast.KindParagraph && n.Kind() != ast.KindFencedCodeBlock {
			continue
		}
		content := string(n.Lines().Value(page))
		for _, mark := range []string{"File: `mark-1.csv` (0 bytes)", "File: `mark-2.csv` (0 bytes)", "mark-3", "mark-4", "File: `mark-5.csv` (0 bytes)"} {
			if strings.TrimSpace(content) == mark {
				marks = append(marks, mark)
			}
		}
	}
	if len(marks) != 5 {
		t.Errorf("of the marks only %q are there, in:\n%s", marks, page)
	}
}
