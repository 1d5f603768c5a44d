package docker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"threadbook/sandbox"
)

const pngStart = "\x89PNG\r\n\x1a\n"

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// feed decodes lines and takes them as events of cell 1.
func feed(lines ...string) (got []sandbox.Output, result *sandbox.Result, err error) {
	o := outputs{cell: 1}
	for _, line := range lines {
		m, err := decodeLine([]byte(line))
		if err != nil {
			return got, nil, err
		}
		output, r, err := o.take(m)
		if err != nil {
			return got, nil, err
		}
		if output != nil {
			got = append(got, *output)
		}
		if r != nil {
			result = r
		}
	}
	return got, result, nil
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	got, result, err := feed(
		`{"n":1,"cell":1,"event":"text","stream":"stdout","text":"a\u001b[1m\u0000b\n"}`,
		`{"n":2,"cell":1,"event":"a later version's","of":"what it likes"}`,
		`{"n":3,"cell":1,"event":"data","mime":"image/png","display":1,"more":true}`+"\t"+encoded(pngStart),
		`{"n":4,"cell":1,"event":"data","mime":"image/png","display":1}`+"\t"+encoded("rest"),
		`{"n":5,"cell":1,"event":"data","mime":"image/png","display":2}`+"\t"+encoded("no png"),
		`{"n":6,"cell":1,"event":"data","mime":"application/x-evil","display":3}`+"\t"+encoded("x"),
		`{"n":7,"cell":1,"event":"data","mime":"text/html","display":4}`+"\t"+encoded("a\xffb"),
		`{"n":8,"cell":1,"event":"text","stream":"stderr","text":"tail","truncated":9}`,
		`{"n":9,"cell":1,"event":"finished","status":"error","seconds":1.5,"raised":{"name":"E","value":"v\u0007","traceback":"t"}}`,
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []sandbox.Output{
		{N: 1, Stream: "stdout", Text: "a[1mb\n"},
		{N: 4, MIME: "image/png", Data: []byte(pngStart + "rest"), Display: 1},
		{N: 7, MIME: "text/html", Data: []byte("a�b"), Display: 4},
		{N: 8, Stream: "stderr", Text: "tail", Truncated: 9},
	}
	if len(got) != len(want) {
		t.Fatalf("outputs %+v", got)
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.N != w.N || g.Stream != w.Stream || g.Text != w.Text || g.MIME != w.MIME ||
			!bytes.Equal(g.Data, w.Data) || g.Display != w.Display || g.Truncated != w.Truncated {
			t.Errorf("output %+v, want %+v", g, w)
		}
	}
	if result == nil || result.Status != sandbox.Failed || result.Seconds != 1.5 || *result.Error != (sandbox.CellError{Name: "E", Value: "v", Traceback: "t"}) {
		t.Errorf("result %+v", result)
	}
}

func TestDataIsChecked(t *testing.T) {
	t.Parallel()
	rows := strings.TrimSuffix(strings.Repeat(`[1],`, 101), ",")
	points := strings.TrimSuffix(strings.Repeat(`[1,2],`, 1001), ",")
	series := func(points string) string {
		return `{"charts":[{"type":"line","series":[{"type":"line","total":9999,"points":[` + points + `]}]}]}`
	}
	for _, c := range []struct{ mime, data, want string }{
		{sandbox.TableMIME, `{"columns":[{"name":"a\u202eb","type":"string"}],"rows":[["c\u0007\u2066d"],[null]],"shape":[9,1],"evil":1}`,
			`{"columns":[{"name":"a⟨U+202E⟩b","type":"string"}],"rows":[["c⟨U+2066⟩d"],[null]],"shape":[9,1]}`},
		{sandbox.TableMIME, `{"columns":[{"name":"a"}],"rows":[[1,2]],"shape":[1,1]}`, ""},
		{sandbox.TableMIME, `{"columns":[{"name":"a"}],"rows":[[{"a":1}]],"shape":[1,1]}`, ""},
		{sandbox.TableMIME, `{"columns":[{"name":"a"}],"rows":[[1]],"shape":[0,1]}`, ""},
		{sandbox.TableMIME, `{"columns":[{"name":"a"}],"rows":[` + rows + `],"shape":[1000,1]}`, ""},
		{sandbox.TableMIME, `no table`, ""},
		{sandbox.ChartMIME, `{"title":"t","alt":"a\u202e","charts":[]}`, `{"title":"t","alt":"a⟨U+202E⟩","charts":[]}`},
		{sandbox.ChartMIME, series(`["a\u202e",1],[null,null]`), `{"title":"","alt":"","charts":[{"type":"line","title":"","x":{"label":"","unit":"","scale":""},"y":{"label":"","unit":"","scale":""},"series":[{"type":"line","name":"","points":[["a⟨U+202E⟩",1],[null,null]],"total":9999}]}]}`},
		{sandbox.ChartMIME, series(`[1,"a"]`), ""},
		{sandbox.ChartMIME, series(`[[1],2]`), ""},
		{sandbox.ChartMIME, series(points), ""},
		{sandbox.ChartMIME, `{"title":"` + strings.Repeat("x", maxNumbers) + `"}`, ""},
		{"image/gif", "GIF89a…", "GIF89a…"},
		{"image/gif", "GIF", ""},
		{"image/webp", "RIFF1234WEBP…", "RIFF1234WEBP…"},
		{"image/webp", "RIFF", ""},
		{"text/html", "a\u202eb", "a⟨U+202E⟩b"},
	} {
		got, ok := checked(c.mime, []byte(c.data))
		if ok != (c.want != "") || ok && string(got) != c.want {
			t.Errorf("%s %.200s becomes %.500q, %v; want %q", c.mime, c.data, got, ok, c.want)
		}
	}
}

func TestOutputsRefused(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("x", n) }
	for name, lines := range map[string][]string{
		"another cell":         {`{"n":1,"cell":2,"event":"text","stream":"stdout"}`},
		"a number again":       {`{"n":1,"cell":1,"event":"x"}`, `{"n":1,"cell":1,"event":"x"}`},
		"no such stream":       {`{"n":1,"cell":1,"event":"text","stream":"stdin"}`},
		"too much text":        {`{"n":1,"cell":1,"event":"text","stream":"stdout","text":"` + long(maxText+1) + `"}`},
		"less than none":       {`{"n":1,"cell":1,"event":"text","stream":"stdout","truncated":-1}`},
		"no display":           {`{"n":1,"cell":1,"event":"data","mime":"text/plain"}`},
		"text amid data":       {`{"n":1,"cell":1,"event":"data","mime":"image/png","display":1,"more":true}`, `{"n":2,"cell":1,"event":"text","stream":"stdout"}`},
		"data amid other data": {`{"n":1,"cell":1,"event":"data","mime":"image/png","display":1,"more":true}`, `{"n":2,"cell":1,"event":"data","mime":"text/html","display":1}`},
		"the end amid data":    {`{"n":1,"cell":1,"event":"data","mime":"image/png","display":1,"more":true}`, `{"n":2,"cell":1,"event":"finished","status":"ok"}`},
		"no such status":       {`{"n":1,"cell":1,"event":"finished","status":"splendid"}`},
		"less than no time":    {`{"n":1,"cell":1,"event":"finished","status":"ok","seconds":-1}`},
		"too long an error":    {`{"n":1,"cell":1,"event":"finished","status":"error","raised":{"traceback":"` + long(maxWords+1) + `"}}`},
	} {
		if got, result, err := feed(lines...); !errors.Is(err, errProtocol) {
			t.Errorf("%s: outputs %v, result %v, error %v", name, got, result, err)
		}
	}
	endless := make([]string, maxData/chunk+2)
	for i := range endless {
		head, err := json.Marshal(map[string]any{"n": i + 1, "cell": 1, "event": "data", "mime": "text/plain", "display": 1, "more": true})
		if err != nil {
			t.Fatal(err)
		}
		endless[i] = string(head) + "\t" + encoded(long(chunk))
	}
	if _, _, err := feed(endless...); !errors.Is(err, errProtocol) {
		t.Errorf("endless data: %v", err)
	}
}

func TestFollowerIsBounded(t *testing.T) {
	t.Parallel()
	f := newFollower()
	var err error
	for range maxCellBytes/maxLine + 2 {
		err = f.push(message{weight: maxLine})
	}
	if !errors.Is(err, errProtocol) {
		t.Errorf("too many bytes: %v", err)
	}
}

// FuzzLines reads what a sandbox might write, in pieces as the engine passes
// it on, and holds what comes of it to what callers rely on.
func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"n":1,"cell":1,"event":"text","stream":"stdout","text":"hello"}`+"\n"), 7)
	f.Add([]byte(`{"n":2,"cell":1,"event":"data","mime":"text/html","display":1}`+"\tPGI+\n"), 1000)
	f.Add([]byte(`{"n":3,"cell":1,"event":"finished","status":"ok","seconds":0.1,"raised":null}`+"\n"), 3)
	f.Add([]byte(`{"re":1,"client":"x","files":[{"path":"a","size":1,"mtime":1.5}]}`+"\n"), 20)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		o := outputs{cell: 1}
		last := int64(0)
		lines := &lineWriter{most: maxLine, take: func(line []byte) error {
			m, err := decodeLine(line)
			if err != nil {
				return err
			}
			output, result, err := o.take(m)
			if err != nil {
				return err
			}
			if output != nil {
				if output.N <= last || !utf8.ValidString(output.Text) || strings.ContainsAny(output.Text, "\x1b\x00") {
					t.Errorf("output %+v after %d", output, last)
				}
				if (output.Stream == "") == (output.MIME == "") || output.Truncated < 0 {
					t.Errorf("output %+v", output)
				}
				last = output.N
			}
			if result != nil && (result.Status == "" || result.Gone || result.Seconds < 0) {
				t.Errorf("result %+v", result)
			}
			return nil
		}}
		cut = max(1, cut%len(append(data, 0)))
		for len(data) > 0 {
			n := min(cut, len(data))
			if _, err := lines.Write(data[:n]); err != nil {
				return
			}
			data = data[n:]
		}
	})
}
