package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A bench is an engine in a folder of its own, and what its cells have shown.
type bench struct {
	*engine
	tables string
	said   []event
}

func newBench(t *testing.T, files map[string]string) *bench {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{tables: filepath.Join(t.TempDir(), "tables.duckdb")}
	b.reopen(t)
	t.Cleanup(func() { b.close() })
	return b
}

func (b *bench) reopen(t *testing.T) {
	t.Helper()
	if b.engine != nil {
		b.close()
	}
	e, err := open(b.tables)
	if err != nil {
		t.Fatal(err)
	}
	b.engine = e
}

func (b *bench) run(code string) *fault {
	b.said = nil
	c := cell{engine: b.engine, show: func(e event) { b.said = append(b.said, e) }}
	return c.run(code)
}

// gives runs code that is to succeed, and returns what it shows, as text.
func (b *bench) gives(t *testing.T, code string) string {
	t.Helper()
	if f := b.run(code); f != nil {
		t.Fatalf("%s\n%s", code, f.Traceback)
	}
	var s strings.Builder
	for _, e := range b.said {
		s.WriteString(e.Text)
		if text, ok := e.Data["text/plain"].(string); ok {
			s.WriteString(text + "\n")
		}
	}
	return s.String()
}

const people = "name,born\nAda,1815-12-10\nGrace,1906-12-09\n"

func TestStatements(t *testing.T) {
	b := newBench(t, map[string]string{"people.csv": people})
	for _, test := range []struct{ name, code, want string }{
		{"Nothing", "-- only a remark\n", ""},
		{"Values", "SELECT 1 AS n, 'x' AS s, NULL AS nothing, 1.50::DECIMAL(9,2) AS d, [1, 2] AS list, {'a': 'b'} AS struct",
			"n  s  nothing     d  list    struct\n" +
				"-  -  -------  ----  ------  --------\n" +
				"1  x     NULL  1.50  [1, 2]  {'a': b}\n" +
				"(1 row × 6 columns)\n"},
		{"Several", "SELECT 1 AS a; SELECT 2 AS b",
			"a\n-\n1\n(1 row × 1 column)\nb\n-\n2\n(1 row × 1 column)\n"},
		{"NoRows", "SELECT 1 AS a WHERE false", "a\n-\n(0 rows × 1 column)\n"},
		{"TwoColumnsOfOneName", "SELECT 1 AS a, 2 AS a", "a  a\n-  -\n1  2\n(1 row × 2 columns)\n"},
		{"Changes", "CREATE TABLE t (n INT); INSERT INTO t VALUES (1), (2); UPDATE t SET n = n + 1; DELETE FROM t WHERE n = 2",
			"2 rows inserted\n2 rows updated\n1 row deleted\n"},
		{"Returning", "INSERT INTO t VALUES (7) RETURNING n", "n\n-\n7\n(1 row × 1 column)\n"},
		{"FileByName", "SELECT count(*) AS n FROM people", "n\n-\n2\n(1 row × 1 column)\n"},
		{"FileByPath", "SELECT min(born) AS born FROM 'people.csv'", "born\n----------\n1815-12-10\n(1 row × 1 column)\n"},
		{"Parquet", "COPY people TO 'people.parquet'; SELECT name FROM 'people.parquet' ORDER BY 1 DESC LIMIT 1",
			"2 rows copied\nname\n-----\nGrace\n(1 row × 1 column)\n"},
		{"Wide", "SELECT '日本' AS a, 'é' AS b", "a     b\n----  -\n日本  é\n(1 row × 2 columns)\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := b.gives(t, test.code); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestExplainIsADrawing(t *testing.T) {
	b := newBench(t, nil)
	if got := b.gives(t, "EXPLAIN SELECT 42"); !strings.HasPrefix(got, "┌──") {
		t.Errorf("got %s", got)
	}
}

func TestLargeResultsAreCounted(t *testing.T) {
	b := newBench(t, nil)
	got := b.gives(t, "SELECT range AS n, n * 2 AS twice FROM range(3000000)")
	if !strings.HasSuffix(got, "49     98\n(3,000,000 rows × 2 columns, the first 50 rows shown)\n") {
		t.Errorf("got %s", got)
	}
	if lines := strings.Count(got, "\n"); lines != 53 {
		t.Errorf("%d lines", lines)
	}
}

func TestWideResultsAreCut(t *testing.T) {
	b := newBench(t, nil)
	got := b.gives(t, "SELECT COLUMNS(*) + 1 FROM (PIVOT (SELECT range AS r FROM range(60)) ON r USING sum(r))")
	if !strings.HasSuffix(got, "(1 row × 60 columns, the first 50 columns shown)\n") {
		t.Errorf("got %s", got)
	}
}

func TestHTML(t *testing.T) {
	b := newBench(t, nil)
	b.gives(t, `SELECT 1 AS n, '<b>' AS "a&b"`)
	const want = "<table border=\"1\" class=\"dataframe\">\n<thead>\n<tr><th>n</th><th>a&amp;b</th></tr>\n</thead>\n<tbody>\n" +
		"<tr><td align=\"right\">1</td><td>&lt;b&gt;</td></tr>\n</tbody>\n</table>\n<p>1 row × 2 columns</p>"
	if got := b.said[0].Data["text/html"]; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestData(t *testing.T) {
	b := newBench(t, nil)
	b.gives(t, `SELECT 1 AS i, 9007199254740993 AS large, 1.50::DECIMAL(9,2) AS d, 'inf'::DOUBLE AS inf, 'nan'::DOUBLE AS nan,
		true AS b, 'x' AS s, DATE '2024-01-02' AS day, INTERVAL 2 DAY AS span, [1] AS list, repeat('é', 300) AS long
		UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL ORDER BY 1`)
	got, err := json.Marshal(b.said[0].Data[tableMIME])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"columns":[{"name":"i","type":"integer"},{"name":"large","type":"integer"},{"name":"d","type":"number"},` +
		`{"name":"inf","type":"number"},{"name":"nan","type":"number"},{"name":"b","type":"boolean"},{"name":"s","type":"string"},` +
		`{"name":"day","type":"date"},{"name":"span","type":"duration"},{"name":"list","type":"other"},{"name":"long","type":"string"}],` +
		`"rows":[[1,"9007199254740993",1.50,"inf",null,true,"x","2024-01-02","2 days","[1]","` + strings.Repeat("é", 199) + `…"],` +
		`[null,null,null,null,null,null,null,null,null,null,null]],"shape":[2,11]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFaults(t *testing.T) {
	b := newBench(t, map[string]string{"people.csv": people, "people.json": "[]", "Q1 2024.csv": people})
	for _, test := range []struct{ name, code, kind, says, where string }{
		{"Syntax", "SELECT 1;\nSELEC 2", "ParserError", `syntax error at or near "SELEC"`, "line 2: SELEC 2\n        ^ column 1\n"},
		{"Column", "SELECT 1;\n\nSELECT 'é', nosuch FROM 'people.csv'", "BinderError", `Referenced column "nosuch" not found`,
			"line 3: SELECT 'é', nosuch FROM 'people.csv'\n                    ^ column 13\n"},
		{"Tab", "SELECT\n\tnosuch FROM 'people.csv'", "BinderError", "nosuch", "line 2: \tnosuch FROM 'people.csv'\n        \t^ column 2\n"},
		{"LongLine", "SELECT " + strings.Repeat("1, ", 100) + "nosuch" + strings.Repeat(", 2", 100), "BinderError", "nosuch",
			"line 1: …" + strings.Repeat("1, ", 27)[1:] + "nosuch" + strings.Repeat(", 2", 25)[:74] + "…\n" + strings.Repeat(" ", 89) + "^ column 308\n"},
		{"Table", "SELECT * FROM nosuch", "CatalogError", "'Q1 2024.csv', 'people.csv', 'people.json'", "column 15"},
		{"Ambiguous", "FROM people", "BinderError", "any of 'people.csv', 'people.json': write which, as in FROM 'people.", ""},
		{"Value", "SELECT 'x'::INT", "ConversionError", "Could not convert string 'x' to INT32", "line 1: SELECT 'x'::INT\n"},
		{"Spreadsheet", "FROM 'a.xlsx'", "BinderError", "pd.read_excel", ""},
		{"Network", "FROM 'https://example.org/a.csv'", "MissingExtensionError", "The sandbox has no network", ""},
		{"Internals", "FROM threadbook_shown()", "BinderError", "not for cells", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := b.run(test.code)
			if f == nil {
				t.Fatal("it succeeded")
			}
			if f.Name != test.kind || !strings.Contains(f.Value, test.says) || !strings.Contains(f.Traceback, test.where) {
				t.Errorf("got %s\n%s\n%s", f.Name, f.Value, f.Traceback)
			}
			if strings.Contains(f.Traceback, "replacement scan") || strings.Contains(f.Traceback, "INSTALL") {
				t.Errorf("it says what is of no use: %s", f.Traceback)
			}
		})
	}
}

func TestAFailureEndsTheCell(t *testing.T) {
	b := newBench(t, nil)
	if f := b.run("CREATE TABLE t (n INT); INSERT INTO t VALUES ('x'); DROP TABLE t"); f == nil {
		t.Fatal("it succeeded")
	}
	if got := b.gives(t, "SELECT count(*) AS n FROM t"); !strings.Contains(got, "0\n") {
		t.Errorf("got %s", got)
	}
}

func TestTablesStay(t *testing.T) {
	b := newBench(t, nil)
	b.gives(t, "CREATE TABLE t AS SELECT 42 AS n")
	b.reopen(t)
	if got := b.gives(t, "FROM t"); !strings.Contains(got, "42") {
		t.Errorf("got %s", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	b := newBench(t, nil)
	if err := b.limit(leastMemory); err != nil {
		t.Fatal(err)
	}
	if err := b.set("SET max_temp_directory_size = '1MB'"); err != nil {
		t.Fatal(err)
	}
	b.gives(t, "CREATE TEMP TABLE kept AS SELECT 1 AS n")
	f := b.run("CREATE TEMP TABLE big AS SELECT range, random() AS r, md5(range::VARCHAR) AS m FROM range(20000000)")
	if f == nil || f.Name != "OutOfMemoryError" {
		t.Fatalf("fault %+v", f)
	}
	b.gives(t, "FROM kept")
}

func TestTheSettingsOfAFailedTransaction(t *testing.T) {
	b := newBench(t, nil)
	if f := b.run("BEGIN; SELECT error('boom')"); f == nil || f.Value != "boom" {
		t.Fatalf("fault %+v", f)
	}
	if err := b.limit(2 * leastMemory); err != nil {
		t.Errorf("the limit can't be set: %v", err)
	}
	b.gives(t, "ROLLBACK; SELECT 1")
}
