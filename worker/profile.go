package worker

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"threadbook/worker/agent"
)

const (
	// maxProfile bounds what the model is told of one file, in bytes.
	maxProfile = 2 << 10
	// profileBytes is how much of a file is read for it; larger ones get an
	// estimate of their rows.
	profileBytes = 32 << 20
	sampleRows   = 3
	// typedRows is how many rows decide a column's type.
	typedRows  = 1000
	maxColumns = 60
	maxCell    = 40 // characters of a value in a sample
)

// profile says what is in a file, for the model: a table's columns with their
// types, its rows and the first of them; the first lines of other text; and
// nothing for what is neither. It never fails: a profile is a courtesy.
func profile(name string, r io.Reader) string {
	head := bufio.NewReaderSize(io.LimitReader(r, profileBytes), 64<<10)
	start, err := head.Peek(4 << 10)
	if err != nil && !errors.Is(err, io.EOF) || !looksText(start) {
		return ""
	}
	var text string
	switch strings.ToLower(path.Ext(name)) {
	case ".csv", ".tsv", ".tab":
		text = profileTable(head, delimiter(start))
	case ".json":
		text = profileJSON(head)
	default:
		text = "First lines:\n" + string(bytes.ToValidUTF8(firstLines(start, sampleRows+2), []byte("\uFFFD")))
	}
	return agent.Shorten(strings.TrimSpace(text), maxProfile)
}

// looksText says whether the beginning of a file is text, in UTF-8 or one of
// the older single-byte encodings.
func looksText(start []byte) bool {
	return len(start) > 0 && bytes.IndexByte(start, 0) < 0
}

func firstLines(start []byte, n int) []byte {
	end := 0
	for range n {
		i := bytes.IndexByte(start[end:], '\n')
		if i < 0 {
			return start
		}
		end += i + 1
	}
	return start[:end]
}

// delimiter is the likeliest of a table's first line.
func delimiter(start []byte) rune {
	line := firstLines(start, 1)
	best, most := ',', 0
	for _, d := range ",;\t|" {
		if n := bytes.Count(line, []byte(string(d))); n > most {
			best, most = d, n
		}
	}
	return best
}

// profileTable reads a table with a header.
func profileTable(r io.Reader, comma rune) string {
	table := csv.NewReader(r)
	table.Comma, table.LazyQuotes, table.FieldsPerRecord, table.ReuseRecord = comma, true, -1, true
	first, err := table.Read()
	if err != nil {
		return ""
	}
	header := append([]string(nil), first...)
	columns := make([]column, len(header))
	rows, capped := 0, false
	var sample strings.Builder
	for {
		record, err := table.Read()
		if err != nil {
			capped = !errors.Is(err, io.EOF) || table.InputOffset() >= profileBytes
			break
		}
		if rows++; rows <= sampleRows {
			sample.WriteString(sampleLine(record) + "\n")
		}
		for i, v := range record {
			if rows <= typedRows && i < len(columns) {
				columns[i].see(v)
			}
		}
	}
	var b strings.Builder
	more := ""
	if capped {
		more = " or more"
	}
	fmt.Fprintf(&b, "Table, %d rows%s, %d columns", rows, more, len(header))
	if comma != ',' {
		fmt.Fprintf(&b, ", separated by %q", comma)
	}
	b.WriteString(": ")
	for i, name := range header {
		if i == maxColumns {
			fmt.Fprintf(&b, " … and %d more", len(header)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (%s)", strings.ToValidUTF8(strings.TrimPrefix(name, "\ufeff"), "\uFFFD"), columns[i].kind())
	}
	return b.String() + "\nFirst rows:\n" + sample.String()
}

func sampleLine(record []string) string {
	short := make([]string, 0, len(record))
	for _, v := range record[:min(len(record), maxColumns)] {
		if utf8.RuneCountInString(v) > maxCell {
			v = string([]rune(v)[:maxCell]) + "…"
		}
		short = append(short, strings.ToValidUTF8(v, "\uFFFD"))
	}
	return strings.Join(short, " | ")
}

// column guesses a column's type from its values.
type column struct{ empty, whole, real, date, other int }

func (c *column) see(v string) {
	switch v = strings.TrimSpace(v); {
	case v == "" || strings.EqualFold(v, "na") || strings.EqualFold(v, "nan") || strings.EqualFold(v, "null"):
		c.empty++
	case isWhole(v):
		c.whole++
	case isReal(v):
		c.real++
	case isDate(v):
		c.date++
	default:
		c.other++
	}
}

func (c *column) kind() string {
	kind := "text"
	switch {
	case c.other > 0 || c.date > 0 && c.whole+c.real > 0:
	case c.date > 0:
		kind = "date"
	case c.real > 0:
		kind = "number"
	case c.whole > 0:
		kind = "integer"
	case c.empty > 0:
		return "empty"
	}
	if c.empty > 0 {
		kind += ", some missing"
	}
	return kind
}

func isWhole(v string) bool { _, err := strconv.ParseInt(v, 10, 64); return err == nil }
func isReal(v string) bool  { _, err := strconv.ParseFloat(v, 64); return err == nil }

func isDate(v string) bool {
	for _, layout := range []string{time.DateOnly, time.DateTime, time.RFC3339, "2006-01-02T15:04:05", "01/02/2006", "1/2/2006", "02.01.2006", "2006/01/02", "2006-01"} {
		if _, err := time.Parse(layout, v); err == nil {
			return true
		}
	}
	return false
}

// profileJSON tells a document's outermost shape.
func profileJSON(r io.Reader) string {
	dec := json.NewDecoder(r)
	open, err := dec.Token()
	if err != nil {
		return ""
	}
	switch open {
	case json.Delim('['):
		n := 0
		var first json.RawMessage
		for dec.More() {
			var v json.RawMessage
			if dec.Decode(&v) != nil {
				break
			}
			if n++; n == 1 {
				first = v
			}
		}
		return fmt.Sprintf("JSON list of %d. The first: %s", n, agent.Shorten(string(first), maxProfile/2))
	case json.Delim('{'):
		var keys []string
		for dec.More() && len(keys) < maxColumns {
			key, err := dec.Token()
			if err != nil {
				break
			}
			keys = append(keys, fmt.Sprint(key))
			var skip json.RawMessage
			if dec.Decode(&skip) != nil {
				break
			}
		}
		return "JSON object with the keys " + strings.Join(keys, ", ")
	}
	return ""
}

// mimeOf is a file's type: by its name where that tells, else what its sender
// said. The system's own table differs from machine to machine, so the usual
// names of this trade are here.
func mimeOf(name, said string) string {
	ext := strings.ToLower(path.Ext(name))
	if known, ok := map[string]string{
		".csv": "text/csv", ".tsv": "text/tab-separated-values", ".txt": "text/plain", ".md": "text/markdown", ".json": "application/json",
		".xlsx":    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
		".docx":    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
		".pptx":    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
		".parquet": "application/vnd.apache.parquet", ".ipynb": "application/x-ipynb+json", ".py": "text/x-python", ".r": "text/x-r",
		".zip": "application/zip", ".pdf": "application/pdf", ".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
	}[ext]; ok {
		return known
	}
	if known := mime.TypeByExtension(ext); known != "" {
		return known
	}
	if _, _, err := mime.ParseMediaType(said); err == nil && said != "" {
		return said
	}
	return "application/octet-stream"
}
