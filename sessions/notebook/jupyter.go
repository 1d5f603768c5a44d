package notebook

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// jupyter writes nbformat 4.5. What a cell is made of
// is in https://nbformat.readthedocs.io/en/latest/format_description.html.
type jupyter struct {
	w       *bufio.Writer
	figures *figures
	cells   int
}

type (
	markdownCell struct {
		CellType string   `json:"cell_type"`
		ID       string   `json:"id"`
		Metadata struct{} `json:"metadata"`
		Source   []string `json:"source"`
	}
	codeCell struct {
		CellType       string       `json:"cell_type"`
		ExecutionCount int64        `json:"execution_count"`
		ID             string       `json:"id"`
		Metadata       codeMetadata `json:"metadata"`
		Outputs        []any        `json:"outputs"`
		Source         []string     `json:"source"`
	}
	codeMetadata struct {
		Language string   `json:"language,omitempty"`
		Tags     []string `json:"tags,omitempty"`
	}
	streamOutput struct {
		OutputType string   `json:"output_type"`
		Name       string   `json:"name"`
		Text       []string `json:"text"`
	}
	displayOutput struct {
		OutputType string         `json:"output_type"`
		Data       map[string]any `json:"data"`
		Metadata   struct{}       `json:"metadata"`
	}
	errorOutput struct {
		OutputType string   `json:"output_type"`
		Name       string   `json:"ename"`
		Value      string   `json:"evalue"`
		Traceback  []string `json:"traceback"`
	}
)

// What stands around the cells. Python is the kernel of a notebook whatever
// its cells are in: those of other languages say so in a magic.
const (
	jupyterHeader = "{\n \"cells\": [\n"
	jupyterFooter = `
 ],
 "metadata": {
  "kernelspec": {
   "display_name": "Python 3",
   "language": "python",
   "name": "python3"
  },
  "language_info": {
   "name": "python"
  }
 },
 "nbformat": 4,
 "nbformat_minor": 5
}
`
)

func (j *jupyter) block(b block) error {
	if b.cell == nil {
		return j.markdown(joined(b))
	}
	if err := j.code(b.cell); err != nil {
		return err
	}
	for _, f := range b.cell.files {
		if err := j.markdown(fileText(f)); err != nil {
			return err
		}
	}
	return nil
}

// joined is a block of words as one text.
func joined(b block) string { return strings.TrimSpace(b.head + "\n\n" + clean(b.text)) }

// id names a cell: cells are only added to a thread, so an export names those
// of the export before as that did.
func (j *jupyter) id() string { return fmt.Sprintf("c%d", j.cells+1) }

func (j *jupyter) markdown(text string) error {
	return j.put(markdownCell{CellType: "markdown", ID: j.id(), Source: lines(text)})
}

func (j *jupyter) code(c *cell) error {
	out := codeCell{CellType: "code", ExecutionCount: c.Cell, ID: j.id(), Outputs: []any{}}
	code := c.Code
	if magic := magicOf(c.Language); magic != "" {
		out.Metadata.Language = c.Language
		code = "%%" + magic + "\n" + code
	}
	out.Source = lines(code)
	for _, o := range c.outputs {
		if o.stream != "" {
			out.Outputs = append(out.Outputs, streamOutput{"stream", o.stream, lines(o.text.String())})
			continue
		}
		shown, err := j.display(o)
		if err != nil {
			return err
		}
		out.Outputs = append(out.Outputs, shown...)
	}
	if name, value, traceback, ok := c.trouble(); ok {
		if traceback == "" {
			traceback = name + ": " + value
		}
		out.Outputs = append(out.Outputs, errorOutput{"error", name, value, strings.Split(strings.TrimRight(traceback, "\n"), "\n")})
		if c.end != nil && c.end.Status == "error" {
			// Jupyter's own word for "go on behind this one when all cells are run".
			out.Metadata.Tags = []string{"raises-exception"}
		}
	}
	return j.put(out)
}

// display is one thing displayed, and before it what is left out of it.
func (j *jupyter) display(o *output) ([]any, error) {
	var all []any
	bundle := map[string]any{}
	for _, s := range o.shown {
		data, leftOut, err := j.figures.read(s)
		switch {
		case err != nil:
			return nil, err
		case leftOut != "":
			all = append(all, displayOutput{OutputType: "display_data", Data: map[string]any{"text/markdown": lines(leftOut)}})
		case isJSON(s.MIME) && json.Valid(data):
			bundle[s.MIME] = json.RawMessage(data)
		case isText(s.MIME) || isJSON(s.MIME): // any type may be text in a notebook
			bundle[s.MIME] = lines(string(data))
		default:
			bundle[s.MIME] = base64.StdEncoding.EncodeToString(data)
		}
	}
	if len(bundle) > 0 {
		all = append(all, displayOutput{OutputType: "display_data", Data: bundle})
	}
	return all, nil
}

func (j *jupyter) put(cell any) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // as Jupyter writes it: HTML stays to be read
	enc.SetIndent("  ", " ")
	if err := enc.Encode(cell); err != nil {
		return err
	}
	before := "  "
	if j.cells > 0 {
		before = ",\n  "
	}
	j.cells++
	_, err := j.w.WriteString(before)
	if err == nil {
		_, err = j.w.Write(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
	}
	return err
}

// lines is a text as Jupyter keeps it: a list of lines with their ends, so
// that versions can be compared line by line.
func lines(text string) []string {
	all := strings.SplitAfter(text, "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

// magicOf is the cell magic that says a cell's language; Python needs none.
func magicOf(language string) string {
	switch language {
	case "python":
		return ""
	case "r":
		return "R" // of rpy2
	}
	return language
}
