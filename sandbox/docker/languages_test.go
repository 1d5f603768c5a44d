package docker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"slices"
	"strings"
	"testing"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// A dialect is code for the same things in one language. An empty one is for
// what the language doesn't have.
type dialect struct {
	language sandbox.Language
	set      string // sets x to 41
	show     string // prints or shows x + 1
	fail     string // fails with an error whose message is boom
	busy     string // prints "begun" and computes for ever
	table    string // shows a table of a row: 1, "é"
	figure   string // shows a figure
	write    string // writes the file %s, a CSV with the header n and the row 7
	read     string // prints or shows what is in the file %s, a CSV
}

func dialects() []dialect {
	return []dialect{
		{
			language: sandbox.Python,
			set:      "x = 41",
			show:     "x + 1",
			fail:     "raise ValueError('boom')",
			busy:     "print('begun')\nwhile True: pass",
			table:    "import pandas as pd\npd.DataFrame({'n': [1], 's': ['é']})",
			figure:   "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()",
			write:    "open('%s', 'w').write('n\\n7\\n');",
			read:     "print(open('%s').read())",
		},
		{
			language: sandbox.R,
			set:      "x <- 41",
			show:     "x + 1",
			fail:     "stop('boom')",
			busy:     "cat('begun\\n'); flush(stdout()); while (TRUE) {}",
			table:    "data.frame(n = 1L, s = 'é')",
			figure:   "library(ggplot2); ggplot(mtcars, aes(wt, mpg)) + geom_point()",
			write:    "write.csv(data.frame(n = 7), '%s', row.names = FALSE)",
			read:     "cat(readLines('%s'), sep = '\\n')",
		},
		{
			language: sandbox.SQL,
			set:      "CREATE TEMP TABLE kept AS SELECT 41 AS x",
			show:     "SELECT x + 1 AS y FROM kept",
			fail:     "SELECT error('boom')",
			busy: "COPY (SELECT 'begun') TO '/dev/stdout' (FORMAT csv, HEADER false);" +
				" SELECT count(*) FROM range(1000000000000) WHERE range % 7 = 8",
			table: "SELECT 1 AS n, 'é' AS s",
			write: "COPY (SELECT 7 AS n) TO '%s'",
			read:  "SELECT n FROM '%s'",
		},
		{
			language: sandbox.Bash,
			set:      "x=41",
			show:     "echo $((x + 1))",
			fail:     "echo boom >&2; false",
			busy:     "echo begun; while :; do :; done",
			write:    "printf 'n\\n7\\n' > '%s'",
			read:     "cat '%s'",
		},
		{
			language: sandbox.JavaScript,
			set:      "let x = 41",
			show:     "x + 1",
			fail:     "throw new Error('boom')",
			busy:     "console.log('begun'); while (true) {}",
			write:    "Deno.writeTextFileSync('%s', 'n\\n7\\n')",
			read:     "console.log(Deno.readTextFileSync('%s'))",
		},
		{
			language: sandbox.TypeScript,
			set:      "let z: number = 41",
			show:     "z + 1 as number",
			fail:     "throw new RangeError('boom' as string)",
			busy:     "console.log('begun'); for (let i: number = 0; ; i++) {}",
			write:    "import { writeFileSync } from 'node:fs'; writeFileSync('%s', 'n\\n7\\n')",
			read:     "console.log(Deno.readTextFileSync('%s'))",
		},
	}
}

// textOf is all that a cell put out, as text.
func textOf(ran *sandboxtest.Ran) string {
	text := ran.Text("")
	for _, data := range ran.Data("text/plain") {
		text += string(data)
	}
	return text
}

func cellIn(t *testing.T, th *sandboxtest.Thread, language sandbox.Language, code string) *sandboxtest.Ran {
	t.Helper()
	return th.Do(t, th.Next(language, code))
}

func TestLanguages(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		th := sandboxtest.Open(t, b.attached(t), "languages")
		all := dialects()
		for _, d := range all {
			t.Run(string(d.language), func(t *testing.T) { testDialect(t, th, d) })
		}
		t.Run("FilesAreShared", func(t *testing.T) {
			for _, d := range all {
				cellIn(t, th, d.language, fmt.Sprintf(d.write, "from-"+string(d.language)+".csv")).Want(t, sandbox.OK)
			}
			for _, d := range all {
				for _, from := range all {
					ran := cellIn(t, th, d.language, fmt.Sprintf(d.read, "from-"+string(from.language)+".csv")).Want(t, sandbox.OK)
					if !strings.Contains(textOf(ran), "7") {
						t.Errorf("%s reads from %s's file %q", d.language, from.language, textOf(ran))
					}
				}
			}
			files, _, err := th.List(t.Context(), ".")
			if err != nil || len(files) != len(all) {
				t.Errorf("files %+v, %v", files, err)
			}
		})
	})
}

// TestLanguagesSleep has every kernel on disk, and back with its variables.
func TestLanguagesSleep(t *testing.T) {
	t.Parallel()
	p := sleeper(t).attached(t)
	th := sandboxtest.Open(t, p, "languages")
	for _, d := range dialects() {
		cellIn(t, th, d.language, d.set).Want(t, sandbox.OK)
	}
	cellIn(t, th, sandbox.SQL, "CREATE TABLE t AS SELECT 43 AS x").Want(t, sandbox.OK)
	putToSleep(t, p, th.ID)
	th.Reopen(t)
	for _, d := range dialects() {
		if got := textOf(cellIn(t, th, d.language, d.show).Want(t, sandbox.OK)); !strings.Contains(got, "42") {
			t.Errorf("%s shows %q", d.language, got)
		}
	}
	if got := textOf(cellIn(t, th, sandbox.SQL, "FROM t").Want(t, sandbox.OK)); !strings.Contains(got, "43") {
		t.Errorf("SQL shows %q", got)
	}
}

func testDialect(t *testing.T, th *sandboxtest.Thread, d dialect) {
	keeps := func(t *testing.T) {
		t.Helper()
		if got := textOf(cellIn(t, th, d.language, d.show).Want(t, sandbox.OK)); !strings.Contains(got, "42") {
			t.Errorf("it shows %q", got)
		}
	}
	cellIn(t, th, d.language, d.set).Want(t, sandbox.OK)
	keeps(t)
	t.Run("Error", func(t *testing.T) {
		ran := cellIn(t, th, d.language, d.fail).Want(t, sandbox.Failed)
		if ran.Lost || !strings.Contains(ran.Error.Value+ran.Text("stderr"), "boom") {
			t.Errorf("result %+v, error %+v", ran.Result, ran.Error)
		}
		if strings.Contains(ran.Error.Traceback, "\x1b") {
			t.Errorf("traceback %q", ran.Error.Traceback)
		}
		keeps(t)
	})
	t.Run("Interrupt", func(t *testing.T) {
		ran := th.Start(t.Context(), th.Next(d.language, d.busy))
		ran.Seen(t, "begun")
		if err := th.Interrupt(t.Context()); err != nil {
			t.Fatalf("Interrupt: %v", err)
		}
		if err := ran.Wait(); err != nil {
			t.Fatal(err)
		}
		if ran.Want(t, sandbox.Interrupted).Lost {
			t.Errorf("result %+v", ran.Result)
		}
		keeps(t)
	})
	if d.table != "" {
		t.Run("Table", func(t *testing.T) {
			ran := cellIn(t, th, d.language, d.table).Want(t, sandbox.OK)
			data := ran.Data(sandbox.TableMIME)
			if len(data) != 1 || len(ran.Data("text/plain")) != 1 || len(ran.Data("text/html")) != 1 {
				t.Fatalf("outputs %+v", ran.Outputs())
			}
			var table sandbox.Table
			if err := json.Unmarshal(data[0], &table); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(table); got != "{[{n integer false} {s string false}] [[1 é]] [1 2]}" {
				t.Errorf("the table is %s", got)
			}
		})
	}
	if d.figure != "" {
		t.Run("Figure", func(t *testing.T) {
			figures := cellIn(t, th, d.language, d.figure).Want(t, sandbox.OK).Data("image/png")
			if len(figures) != 1 {
				t.Fatalf("%d figures", len(figures))
			}
			figure, err := png.DecodeConfig(bytes.NewReader(figures[0]))
			if err != nil || figure.Width < 700 {
				t.Errorf("the figure: %+v, %v", figure, err)
			}
		})
	}
}

// TestOneLanguage has what only one of them does, or can't do.
func TestOneLanguage(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		for _, test := range []struct {
			name string
			run  func(*testing.T, *sandboxtest.Thread)
		}{
			{"TablesOfSQLStay", testTablesStay},
			{"ParquetForPandas", testParquet},
			{"ScriptsOfTheWorld", testScripts},
			{"JavaScriptAndTypeScriptAreOne", testSharedState},
			{"NothingCanBeImported", testNoNetwork},
			{"APromiseThatNeverComes", testPendingAwait},
			{"MemoryOfRIsKept", testMemoryOfR},
			{"MemoryOfJavaScript", testMemoryOfJavaScript},
			{"NobodyCanType", testNoInput},
		} {
			t.Run(test.name, func(t *testing.T) {
				test.run(t, sandboxtest.Open(t, b.attached(t), test.name))
			})
		}
	})
}

func testTablesStay(t *testing.T, th *sandboxtest.Thread) {
	cellIn(t, th, sandbox.SQL, "CREATE TABLE t AS SELECT 42 AS n; CREATE TEMP TABLE gone AS SELECT 1").Want(t, sandbox.OK)
	cellIn(t, th, sandbox.Bash, "pkill -9 threadbook-sql; while pgrep threadbook-sql >/dev/null; do :; done").Want(t, sandbox.OK)
	ran := cellIn(t, th, sandbox.SQL, "SELECT n FROM t").Want(t, sandbox.OK)
	if !ran.Lost || !strings.Contains(textOf(ran), "42") || !strings.Contains(ran.Text("stderr"), "tables are still there") {
		t.Errorf("result %+v, output %q", ran.Result, textOf(ran))
	}
	cellIn(t, th, sandbox.SQL, "SELECT * FROM gone").Want(t, sandbox.Failed)
	if files, _, err := th.List(t.Context(), "."); err != nil || len(files) != 0 {
		t.Errorf("files %+v, %v", files, err)
	}
	if err := th.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	cellIn(t, th, sandbox.SQL, "SELECT n FROM t").Want(t, sandbox.Failed)
}

func testParquet(t *testing.T, th *sandboxtest.Thread) {
	cellIn(t, th, sandbox.SQL, "COPY (SELECT range AS n, 'é' AS s, DATE '2024-01-02' AS d FROM range(3000)) TO 'a.parquet'").Want(t, sandbox.OK)
	ran := cellIn(t, th, sandbox.Python, `
import pandas as pd
a = pd.read_parquet('a.parquet')
print(a.shape, a.n.sum(), a.s[2999], a.d.dt.year[0], dict(a.dtypes.astype(str)))
b = a.assign(z=pd.to_datetime('2024-05-06 07:08:09').tz_localize('Europe/Berlin'), f=[None, 0.1, 1/3] * 1000, c=[[1, 2], [3, 4]] * 1500).set_index('n')
b.to_parquet('b.parquet')
pd.testing.assert_frame_equal(pd.read_parquet('b.parquet'), b, check_dtype=False)
print(len(pd.read_parquet('b.parquet', columns=['s'], filters=[('n', '<', 10)])))`).Want(t, sandbox.OK)
	const want = "(3000, 3) 4498500 é 2024 {'n': 'int64', 's': 'object', 'd': 'datetime64[s]'}\n10\n"
	if got := ran.Text("stdout"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	ran = cellIn(t, th, sandbox.SQL, "SELECT max(z) AS z, count(f) AS f, len(any_value(c)) AS c FROM b").Want(t, sandbox.OK)
	if got := textOf(ran); !strings.Contains(got, "2024-05-06 05:08:09+00  2000  2") {
		t.Errorf("SQL reads %q", got)
	}
}

func testScripts(t *testing.T, th *sandboxtest.Thread) {
	ran := cellIn(t, th, sandbox.Python, `
import warnings
import matplotlib.pyplot as plt
warnings.filterwarnings('error', message='Glyph') # a missing character is a warning
words = ['Sales', 'Продажи', 'Πωλήσεις', '销售额', '売上', '매출', 'المبيعات', 'מכירות', 'बिक्री', 'বিক্রয়', 'விற்பனை', 'ยอดขาย', '📈']
plt.rcParams['font.family'] = ['Nosuch']
plt.bar(words, range(len(words)), color='white')
plt.title(' '.join(words), fontweight='bold')
plt.xlabel(r'$\alpha$ 销售额 $x^2$')
plt.show()`).Want(t, sandbox.OK)
	if len(ran.Data("image/png")) != 1 {
		t.Errorf("outputs %+v", ran.Outputs())
	}
}

func testSharedState(t *testing.T, th *sandboxtest.Thread) {
	cellIn(t, th, sandbox.JavaScript, "const a = 40").Want(t, sandbox.OK)
	cellIn(t, th, sandbox.TypeScript, "const b: number = a + 1").Want(t, sandbox.OK)
	if got := textOf(cellIn(t, th, sandbox.JavaScript, "b + 1").Want(t, sandbox.OK)); got != "42" {
		t.Errorf("it shows %q", got)
	}
}

func testNoNetwork(t *testing.T, th *sandboxtest.Thread) {
	for _, code := range []string{
		"import _ from 'npm:lodash'",
		"import x from 'https://example.org/x.ts'",
		"await import('jsr:@std/csv')",
		"await fetch('https://example.org')",
	} {
		ran := cellIn(t, th, sandbox.JavaScript, code).Want(t, sandbox.Failed)
		if !strings.Contains(ran.Error.Value, "The sandbox has no network") {
			t.Errorf("%s: error %+v", code, ran.Error)
		}
	}
	ran := cellIn(t, th, sandbox.SQL, "FROM 'https://example.org/x.csv'").Want(t, sandbox.Failed)
	if !strings.Contains(ran.Error.Value, "The sandbox has no network") {
		t.Errorf("error %+v", ran.Error)
	}
}

// A promise that nobody keeps is what an interrupt of Deno's doesn't end.
func testPendingAwait(t *testing.T, th *sandboxtest.Thread) {
	ran := th.Start(t.Context(), th.Next(sandbox.JavaScript, "console.log('begun'); await new Promise(() => {})"))
	ran.Seen(t, "begun")
	if err := th.Interrupt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ran.Wait(); err != nil {
		t.Fatal(err)
	}
	if !ran.Want(t, sandbox.Interrupted).Lost {
		t.Errorf("result %+v", ran.Result)
	}
	if got := textOf(cellIn(t, th, sandbox.JavaScript, "6 * 7").Want(t, sandbox.OK)); got != "42" {
		t.Errorf("afterwards it shows %q", got)
	}
}

func testMemoryOfR(t *testing.T, th *sandboxtest.Thread) {
	cellIn(t, th, sandbox.R, "x <- 41").Want(t, sandbox.OK)
	if ran := cellIn(t, th, sandbox.R, "y <- numeric(1e9)").Want(t, sandbox.OutOfMemory); ran.Lost {
		t.Errorf("result %+v", ran.Result)
	}
	if got := textOf(cellIn(t, th, sandbox.R, "x + 1").Want(t, sandbox.OK)); !strings.Contains(got, "42") {
		t.Errorf("it shows %q", got)
	}
}

func testMemoryOfJavaScript(t *testing.T, th *sandboxtest.Thread) {
	ran := cellIn(t, th, sandbox.JavaScript, "const kept = []; while (true) kept.push(new Array(1e6).fill(kept.length))").Want(t, sandbox.OutOfMemory)
	if !ran.Lost || ran.Gone {
		t.Errorf("result %+v", ran.Result)
	}
	cellIn(t, th, sandbox.JavaScript, "1").Want(t, sandbox.OK)
}

func testNoInput(t *testing.T, th *sandboxtest.Thread) {
	for language, code := range map[sandbox.Language]string{
		sandbox.Python: "input('name? ')",
		sandbox.R:      "readline('name? ')",
	} {
		if ran := cellIn(t, th, language, code).Want(t, sandbox.Failed); !strings.Contains(ran.Error.Value, "nobody can type") {
			t.Errorf("%s: error %+v", language, ran.Error)
		}
	}
}

func TestEveryLanguageHasADialect(t *testing.T) {
	t.Parallel()
	var have []sandbox.Language
	for _, d := range dialects() {
		have = append(have, d.language)
	}
	if !slices.Equal(have, sandbox.Languages()) {
		t.Errorf("dialects of %v, languages %v", have, sandbox.Languages())
	}
}
