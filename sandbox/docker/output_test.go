package docker

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// A shown case is code and what it puts out. All run in one sandbox, one
// after the other.
type shown struct {
	name  string
	code  string
	want  sandbox.Status    // OK by default
	out   string            // of stdout, all of it
	err   string            // in stderr or in the error
	types string            // of what is displayed, all of it: "a b, c" is two displays
	data  map[string]string // by type, what the first of that type has in it
	never string            // in any text
}

const (
	table = " " + sandbox.TableMIME
	chart = " " + sandbox.ChartMIME
	plot  = "text/plain image/png" + chart
)

var shownCases = []shown{
	// Text.
	{name: "StreamsInOrder", code: "import sys\nfor i in range(50):\n    print(i, end=' ')\n    print('e', end='', file=sys.stderr)", out: numbers(50), err: strings.Repeat("e", 50)},
	{name: "ProgressBar", code: "import sys\nfor i in range(101):\n    print(f'\\r{i:3d}%|{\"#\" * (i // 10):10}|', end='', file=sys.stderr, flush=True)\nprint(file=sys.stderr)", err: "100%|##########|\n", never: " 99%"},
	{name: "ReorderedText", code: "print('a\\u202eb')\nraise ValueError('c\\u2066d')", want: sandbox.Failed, out: "a⟨U+202E⟩b\n", err: "c⟨U+2066⟩d", never: "\u202e"},
	{name: "ReorderedDisplays", code: "from IPython.display import *\ndisplay(Markdown('a\\u202eb'), HTML('a\\u202eb'), Latex('a\\u202eb'), Pretty('a\\x1b[1m\\u202eb'))", types: "text/markdown, text/html, text/latex, text/plain",
		data: map[string]string{"text/markdown": "a⟨U+202E⟩b", "text/html": "a⟨U+202E⟩b", "text/latex": "a⟨U+202E⟩b", "text/plain": "a⟨U+202E⟩b"}},
	{name: "Getpass", code: "import getpass\ngetpass.getpass()", want: sandbox.Failed, err: "nobody can type"},

	{name: "AnErrorWithoutWords", code: "class Mute(Exception):\n    def __str__(self): raise Mute()\nraise Mute", want: sandbox.Failed, err: "Mute:"},
	{name: "ManyLines", code: "for i in range(10_000): print(i, end=' ')", out: numbers(10_000)},
	{name: "ManyFlushes", code: "for i in range(2_000): print(i, end=' ', flush=True)", out: numbers(2_000)},
	{name: "TextAndDisplays", code: "for i in range(3):\n    print(i, end=' ')\n    display(i)", out: numbers(3), types: "text/plain, text/plain, text/plain"},
	{name: "AProgramToStdout", code: "import subprocess, sys\nprint('1')\nsubprocess.run(['echo', '2'], stdout=sys.stdout);", out: "1\n2\n"},
	{name: "AThread", code: "import threading\nthread = threading.Thread(target=print, args=('from a thread',))\nthread.start()\nthread.join()", out: "from a thread\n"},
	{name: "AThreadGoesOn", code: "threading.Timer(0.2, print, ('late',)).start()"},
	{name: "AndIsHeard", code: "import time\ntime.sleep(0.4)", out: "late\n"},

	// Forks of the kernel, of which Python warns.
	{name: "AFork", code: "import os\nif os.fork() == 0:\n    print('child')\n    os._exit(0)\nos.wait()\nprint('parent')", out: "child\nparent\n", err: "multi-threaded"},
	{name: "AForkDisplays", code: "if os.fork() == 0:\n    display(HTML('x' * 1_000_000))\n    os._exit(0)\nos.wait();", types: "text/html", err: "multi-threaded"},
	{name: "AForkGoesOn", code: "child = os.fork()\nif child: os.waitpid(child, 0)\nprint('parent' if child else 'child')", out: "child\nparent\n", err: "multi-threaded"},
	{name: "AForkFails", code: "if os.fork() == 0: raise ValueError('of the child')\nos.wait();", err: "ValueError: of the child"},
	{name: "ForksAtOnce", code: `
import functools, multiprocessing
with multiprocessing.get_context('fork').Pool(2) as pool:
    pool.map(functools.partial(print, end=''), ['x' * 70_000 + '\n'] * 2, chunksize=1);`, out: strings.Repeat(strings.Repeat("x", 70_000)+"\n", 2)},

	// Displays.
	{name: "HTML", code: "display(HTML('<b>x</b>'))", types: "text/html", data: map[string]string{"text/html": "<b>x</b>"}},
	{name: "Markdown", code: "Markdown('# x')", types: "text/markdown", data: map[string]string{"text/markdown": "# x"}},
	{name: "LaTeX", code: "Latex('$x^2$')", types: "text/latex", data: map[string]string{"text/latex": "$x^2$"}},
	{name: "JSON", code: "JSON({'a': [1, None]})", types: "application/json", data: map[string]string{"application/json": `{"a": [1, null]}`}},
	{name: "SVG", code: "SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')", types: "image/svg+xml", data: map[string]string{"image/svg+xml": "<svg"}},
	{name: "Pictures", code: `
import io, PIL.Image
picture = PIL.Image.new('RGB', (4, 4), 'red')
def saved(kind):
    file = io.BytesIO()
    picture.save(file, kind)
    return Image(file.getvalue(), format=kind)
display(*map(saved, ('png', 'jpeg', 'gif', 'webp')))
display(picture)`, types: "image/png, image/jpeg, image/gif, image/webp, image/png image/jpeg"},
	{name: "PDF", code: "class Page:\n    def _repr_pdf_(self): return b'%PDF-1.4 x'\nPage()", types: "application/pdf"},
	{name: "Sympy", code: "import sympy\nsympy.Integral(sympy.Symbol('x') ** 2)", types: "text/plain text/latex", data: map[string]string{"text/latex": `\int x^{2}\, dx`}},
	{name: "Widget", code: "display({'application/vnd.jupyter.widget-view+json': {'model_id': '1'}, 'text/plain': 'IntSlider(value=3)'}, raw=True)", types: "text/plain", data: map[string]string{"text/plain": "IntSlider(value=3)"}},
	{name: "ReprFails", code: "class Bad:\n    def __repr__(self): raise ValueError('no repr')\ndisplay(Bad())\nprint('after')", out: "after\n", err: "ValueError: no repr", never: "IPython"},
	{name: "HugeRepr", code: "class Huge:\n    def __repr__(self): return 'x' * 30_000_000\nHuge()", err: "too large to show"},

	// Taking back.
	{name: "Clear", code: "for i in range(3):\n    clear_output(wait=True)\n    print(i)", out: "2\n"},
	{name: "ClearAtTheEnd", code: "print('kept')\nclear_output(wait=True)", out: "kept\n"},
	{name: "ClearAtOnce", code: "clear_output()\nprint('gone')\nclear_output()"},
	{name: "Update", code: "handle = display('one', display_id=True)\nfor word in ('two', 'three'): handle.update(word)", types: "text/plain text/plain", data: map[string]string{"text/plain": "'one'"}, never: "two"},

	// Tables.
	{name: "DataFrame", code: `
import numpy as np, pandas as pd
df = pd.DataFrame({'n': range(1000), 'name': ['x', None] * 500, 'at': pd.date_range('2024-01-01', periods=1000), 'v': 1.5})
df`, types: "text/plain text/html" + table, data: map[string]string{
		"text/plain":      "[1000 rows x 4 columns]",
		"text/html":       "1000 rows",
		sandbox.TableMIME: `"columns":[{"name":"n","type":"integer"},{"name":"name","type":"string"},{"name":"at","type":"date"},{"name":"v","type":"number"}],"rows":[[0,"x","2024-01-01",1.5],[1,null,`,
	}},
	{name: "GroupedFrame", code: "df.groupby('name').agg({'v': ['sum', 'count']})", types: "text/plain text/html" + table, data: map[string]string{
		sandbox.TableMIME: `{"columns":[{"name":"name","type":"string","index":true},{"name":"v / sum","type":"number"},{"name":"v / count","type":"integer"}],"rows":[["x",750,500]],"shape":[1,2]}`,
	}},
	{name: "Series", code: "df.v.head(2)", types: "text/plain" + table, data: map[string]string{sandbox.TableMIME: `"rows":[[1.5],[1.5]],"shape":[2,1]`}},
	{name: "OddFrame", code: "pd.DataFrame({'a': [float('inf'), 10**30, 'w\\u202ex', b'y', [1]], 'b': [pd.NaT, pd.NA, True, 2**60, object]})", types: "text/plain text/html" + table, data: map[string]string{
		sandbox.TableMIME: `["inf",null],["1000000000000000000000000000000",null],["w⟨U+202E⟩x",true],["b'y'","1152921504606846976"]`,
	}},
	{name: "EmptyFrame", code: "pd.DataFrame({'a': []})", types: "text/plain text/html" + table, data: map[string]string{sandbox.TableMIME: `"rows":[],"shape":[0,1]`}},

	// Charts.
	{name: "Lines", code: `
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [4, 5, 6], label='high')
plt.plot([1, 2, 3], [4, 4, float('nan')], label='low')
plt.axhline(3)
plt.title('Seattle temps')
plt.xlabel('day')
plt.ylabel('Temperature (°C)')
plt.show()`, types: plot, data: map[string]string{
		"text/plain":      "Line chart “Seattle temps”: Temperature (°C) by day; 2 series (high, low); 6 points; values 4 to 6; from 1 to 3.",
		sandbox.ChartMIME: `"y":{"label":"Temperature","unit":"°C","scale":"linear"},"series":[{"type":"line","name":"high","points":[[1,4],[2,5],[3,6]],"total":3},{"type":"line","name":"low","points":[[1,4],[2,4],[3,null]],"total":3}]`,
	}},
	{name: "Dates", code: "plt.plot(df['at'], df.n);", types: plot, data: map[string]string{sandbox.ChartMIME: `["2026-09-26",999]],"total":1000}]}],"partial":true}`, "text/plain": "1,000 points"}},
	{name: "BarsWithErrors", code: "plt.bar(['a', 'b'], [1, 2], yerr=[0.1, 0.2], capsize=3);", types: plot, data: map[string]string{"text/plain": "Bar chart; a 1, b 2.", sandbox.ChartMIME: `"points":[["a",1],["b",2]]`}},
	{name: "BarsThatLie", code: "plt.barh(['a', 'b'], [3, 3])\nplt.xlabel('n')\nplt.ylabel('kind');", types: plot, data: map[string]string{"text/plain": "Bar chart: n by kind; a 3, b 3."}},
	{name: "GroupedBars", code: "x = np.arange(2)\nplt.bar(x - .2, [1, 2], .4, label='A')\nplt.bar(x + .2, [2, 1], .4, label='B')\nplt.xticks(x, ['Q1', 'Q2']);", types: plot, data: map[string]string{
		sandbox.ChartMIME: `{"type":"bar","name":"A","points":[["Q1",1],["Q2",2]],"total":2},{"type":"bar","name":"B","points":[["Q1",2],["Q2",1]],"total":2}`,
	}},
	{name: "ErrorBars", code: "plt.errorbar([1, 2], [4, 5], yerr=[1, 1], capsize=3, label='measured')\nplt.yscale('log');", types: plot, data: map[string]string{
		sandbox.ChartMIME: `"scale":"log"},"series":[{"type":"line","name":"measured","points":[[1,4],[2,5]],"total":2}]`,
	}},
	{name: "AllEqual", code: "plt.scatter([1, 1], [3, 3]);", types: plot, data: map[string]string{"text/plain": "Scatter chart; 2 points; all 3."}},
	{name: "Pie", code: "plt.pie([30, 70], labels=['rent', 'food'])\nplt.title('Share');", types: plot, data: map[string]string{"text/plain": "Pie chart “Share”; rent 30, food 70."}},
	{name: "Boxes", code: "plt.boxplot([[1, 2, 3, 4, 50], [2, 3, 4]], tick_labels=['p', 'q']);", types: plot, data: map[string]string{
		sandbox.ChartMIME: `"name":"p","points":[],"total":0,"box":{"min":1,"q1":2,"median":3,"q3":4,"max":4,"outliers":[50]}`,
	}},
	{name: "Histogram", code: "plt.hist([1, 1, 2, 3], bins=[0, 2, 4, 6]);", types: plot, data: map[string]string{sandbox.ChartMIME: `"type":"histogram","name":"","points":[[1,2],[3,2],[5,0]]`}},
	{name: "PandasBars", code: "df.groupby(df['at'].dt.year).n.count().plot.bar(ylabel='days');", types: plot, data: map[string]string{"text/plain": "Bar chart: days by at; 2024 366, 2025 365, 2026 269."}},
	{name: "PandasMonths", code: "df.set_index('at').n.resample('ME').sum().head(2).plot();", types: plot, data: map[string]string{sandbox.ChartMIME: `["2024-01",465],["2024-02",1305]`}},
	{name: "Seaborn", code: "import seaborn as sns\nsns.barplot(df.assign(odd=df.n % 2), x='odd', y='n', hue='name')\nplt.figure()\nsns.boxplot(df, x='name', y='n');", types: plot + ", " + plot, data: map[string]string{sandbox.ChartMIME: `"series":[{"type":"bar","name":"x","points":[["0",499]`}},
	{name: "SeveralFigures", code: "for i in range(3):\n    plt.figure()\n    plt.plot([i])", types: plot + ", " + plot + ", " + plot},
	{name: "SeveralAxes", code: "figure, axes = plt.subplots(2, 2)\naxes[0, 0].plot([1, 2])\naxes[0, 1].imshow(np.eye(3))\nfigure.suptitle('All');", types: plot, data: map[string]string{"text/plain": "Figure “All” of 2 charts. Line chart; 2 points; values 1 to 2; from 0 to 1. Heat map."}},
	{name: "AFigureAsSVG", code: "%config InlineBackend.figure_formats = ['svg']\nplt.plot([1, 2]);", types: "text/plain image/svg+xml" + chart},
	{name: "AndBack", code: "%config InlineBackend.figure_formats = ['png']"},
	{name: "MillionsOfPoints", code: "plt.plot(np.random.rand(2_000_000));", types: plot, data: map[string]string{sandbox.ChartMIME: `"total":2000000`}},
	{name: "NotToBeRead", code: `
class Odd(str):
    def split(self, *_): raise RuntimeError('odd')
figure, axes = plt.subplots()
axes.plot([1, 2])
axes.get_title = lambda *_: 1 / 0;`, types: "image/png"},
	{name: "Slow", code: `
import time
figure, axes = plt.subplots()
axes.plot([1, 2])
title = axes.get_title
axes.get_title = lambda *_: time.sleep(0.5) or 'slow';`, types: plot, data: map[string]string{sandbox.ChartMIME: `"partial":true`}},

	// plotly.
	{name: "Plotly", code: `
import plotly.express as px
figure = px.bar(x=['a', 'b'], y=[1, 2], title='Spent </script>', labels={'x': 'kind', 'y': 'Cost (€)'})
figure.show()`, types: plot, data: map[string]string{
		"text/plain":      "Bar chart “Spent </script>”: Cost (€) by kind; a 1, b 2. [drawn from the plotly figure's data] [interactive, in outputs/plotly-1.html]",
		sandbox.ChartMIME: `"points":[["a",1],["b",2]]`,
	}},
	{name: "PlotlyBoxes", code: "px.box(x=['a', 'a', 'a', 'b'], y=[1, 2, 3, 4])", types: plot, data: map[string]string{"text/plain": "medians a 2, b 4. [drawn from the plotly figure's data] [interactive, in outputs/plotly-2.html]"}},
	{name: "PlotlyInSpace", code: "px.scatter_3d(x=[1, 2], y=[1, 2], z=[1, 2])", types: "text/plain" + chart, never: "drawn from"},
	{name: "PlotlyWithALine", code: "px.line(x=[1, 2], y=[1, 2]).add_hline(1)", types: "text/plain" + chart, never: "drawn from"},
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strconv.Itoa(i) + " ")
	}
	return b.String()
}

func TestOutput(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		th := sandboxtest.Open(t, b.attached(t), "output")
		th.Python(t, "from IPython.display import *").Want(t, sandbox.OK)
		for _, s := range shownCases {
			t.Run(s.name, func(t *testing.T) { s.run(t, th) })
		}
		t.Run("PlotlyPage", func(t *testing.T) { checkPage(t, th) })
		t.Run("ModulesOfOurs", func(t *testing.T) {
			for _, name := range []string{"output", "charts", "figures", "tables", "plots"} {
				// There may be one of that name, such as PyTables; not ours.
				th.Python(t, "import importlib.util\nspec = importlib.util.find_spec('"+name+"')\n"+
					"assert spec is None or '/opt/threadbook' not in spec.origin, spec").Want(t, sandbox.OK)
			}
		})
	})
}

func (s shown) run(t *testing.T, th *sandboxtest.Thread) {
	if s.want == "" {
		s.want = sandbox.OK
	}
	ran := th.Python(t, s.code).Want(t, s.want)
	if got := ran.Text("stdout"); got != s.out {
		t.Errorf("it prints %.500q, want %q", got, s.out)
	}
	complaint := ran.Text("stderr")
	if e := ran.Error; e != nil {
		complaint += e.Name + ": " + e.Value + e.Traceback
	}
	if !strings.Contains(complaint, s.err) || s.err == "" && complaint != "" {
		t.Errorf("it complains %.2000q, want %q", complaint, s.err)
	}
	all := complaint + ran.Text("")
	var displays [][]string
	last := int64(0)
	for _, o := range ran.Outputs() {
		if o.Stream != "" {
			continue
		}
		if o.Display != last {
			displays = append(displays, nil)
			last = o.Display
		}
		displays[len(displays)-1] = append(displays[len(displays)-1], o.MIME)
		if strings.HasPrefix(o.MIME, "text/") {
			all += string(o.Data)
		}
	}
	var types []string
	for _, d := range displays {
		types = append(types, strings.Join(d, " "))
	}
	if got := strings.Join(types, ", "); got != s.types {
		t.Errorf("it shows %q, want %q; complaint %.2000q", got, s.types, complaint)
	}
	for mime, want := range s.data {
		if got := ran.Data(mime); len(got) == 0 || !bytes.Contains(got[0], []byte(want)) {
			t.Errorf("the %s is %.3000q, without %q", mime, got, want)
		}
	}
	for _, data := range ran.Data(sandbox.TableMIME) {
		var table sandbox.Table
		if err := json.Unmarshal(data, &table); err != nil || len(table.Rows) > 50 {
			t.Errorf("a table of %d rows, error %v", len(table.Rows), err)
		}
	}
	if s.never != "" && strings.Contains(all, s.never) {
		t.Errorf("it says %.2000q, with %q", all, s.never)
	}
}

// checkPage reads a page of plotly's: all that it needs is in it.
func checkPage(t *testing.T, th *sandboxtest.Thread) {
	var file bytes.Buffer
	if err := th.Get(t.Context(), "outputs/plotly-1.html", &file, 8<<20); err != nil {
		t.Fatalf("Get: %v", err)
	}
	page := file.String()
	if found := regexp.MustCompile(`(src|href)=|@import|https?://[^ "]*\.js`).FindString(page); found != "" {
		t.Errorf("the page loads %q", found)
	}
	script := func(id string) string {
		_, rest, _ := strings.Cut(page, `id="`+id+`">`)
		text, _, ok := strings.Cut(rest, "</script>")
		if !ok {
			t.Fatalf("the page has no %s", id)
		}
		return text
	}
	var figure struct {
		Data   []json.RawMessage
		Layout struct{ Title struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(script("data")), &figure); err != nil || len(figure.Data) != 1 || figure.Layout.Title.Text != "Spent </script>" {
		t.Errorf("the figure is %+v, error %v", figure, err)
	}
	packed, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(script("library"))))
	if err != nil {
		t.Fatalf("the library: %v", err)
	}
	library, err := io.ReadAll(packed)
	if err != nil || !bytes.Contains(library, []byte("plotly.js v")) {
		t.Errorf("the library has %d bytes, error %v", len(library), err)
	}
}

// live is how long output may take from the code to the caller.
const live = 100 * time.Millisecond

func TestOutputIsLive(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		th := sandboxtest.Open(t, b.attached(t), "live")
		const lines = 20
		var mu sync.Mutex
		var took []time.Duration
		cell := th.Next(sandbox.Python, "import time\nfor _ in range("+strconv.Itoa(lines)+"):\n    print(time.time())\n    time.sleep(0.1)")
		result, err := th.Run(t.Context(), cell, func(o sandbox.Output) error {
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			for line := range strings.Lines(o.Text) {
				at, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
				if err != nil {
					t.Errorf("a line %q", line)
				}
				took = append(took, now.Sub(time.UnixMicro(int64(at*1e6))))
			}
			return nil
		})
		if err != nil || result.Status != sandbox.OK || len(took) != lines {
			t.Fatalf("%d lines, result %+v, error %v", len(took), result, err)
		}
		slices.Sort(took)
		t.Logf("from print to caller: %v at best, %v median, %v at worst", took[0], took[lines/2], took[lines-1])
		// The best shows how long the pieces wait for one another; the others
		// also what else the machine does.
		if took[0] > live {
			t.Errorf("output takes %v, more than %v", took[0], live)
		}
	})
}
