package notebook

import (
	"fmt"
	"io"
	"strings"

	"threadbook/sessions"
)

// figures reads what outputs show, within limits.
type figures struct {
	open      func(name string) (io.ReadCloser, error)
	each, all int64
	used      int64
}

// read is what an output shows: or, where that is left out, a sentence of
// Markdown that names it and says why.
func (f *figures) read(out *sessions.CellOutput) (data []byte, leftOut string, err error) {
	if out.Blob == "" {
		return []byte(out.Text), "", nil
	}
	if why := f.over(out.Size); why != "" {
		return nil, missing(out, why), nil
	}
	r, err := f.open(out.Blob)
	if sessions.CodeOf(err) == sessions.NotFound {
		return nil, missing(out, "it is not kept any more"), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("opening %s: %w", fileName(out), err)
	}
	defer r.Close()
	// One byte over tells what is larger than the log said.
	data, err = io.ReadAll(io.LimitReader(r, min(f.each, f.all-f.used)+1))
	if err != nil {
		return nil, "", fmt.Errorf("reading %s: %w", fileName(out), err)
	}
	if why := f.over(int64(len(data))); why != "" {
		return nil, missing(out, why), nil
	}
	f.used += int64(len(data))
	return data, "", nil
}

// over says why so many bytes are too many; empty where they are not.
func (f *figures) over(size int64) string {
	switch {
	case size > f.each:
		return "it is larger than " + bytesText(f.each) + ", the limit"
	case size > f.all-f.used:
		return "the figures before it have used up the limit of " + bytesText(f.all) + " in all"
	}
	return ""
}

func missing(out *sessions.CellOutput, why string) string {
	return fmt.Sprintf("*Left out:* %s (%s, %s): %s.", codeSpan(fileName(out)), escape(out.MIME), bytesText(max(out.Size, int64(len(out.Text)))), why)
}

// fileName is the name that the thread's page gives to an output.
func fileName(out *sessions.CellOutput) string {
	name := fmt.Sprintf("cell-%d", out.Cell)
	if out.Display > 0 {
		name += fmt.Sprintf("-%d", out.Display)
	}
	switch {
	case out.MIME == "image/svg+xml":
		return name + ".svg"
	case isJSON(out.MIME):
		return name + ".json"
	case out.MIME == "text/html":
		return name + ".html"
	case out.MIME == "text/markdown":
		return name + ".md"
	case strings.HasPrefix(out.MIME, "text/"):
		return name + ".txt"
	}
	_, kind, _ := strings.Cut(out.MIME, "/")
	return name + "." + kind
}

func isJSON(mime string) bool { return mime == "application/json" || strings.HasSuffix(mime, "+json") }

// isText says which types are text in a notebook; all others but JSON are
// base64 there.
func isText(mime string) bool { return strings.HasPrefix(mime, "text/") || mime == "image/svg+xml" }
