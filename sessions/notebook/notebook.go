// Package notebook writes a thread's log as a file that is of use without
// threadbook: a Jupyter notebook, a Python script, or a page of Markdown.
//
// A log is first folded into blocks: what people wrote, what the model said,
// what the thread was told, and cells with their outputs. That is pure, and
// each format is then a writer of blocks, one block at a time, so that the
// memory it takes is that of the largest cell and not of the thread. The same
// events give the same bytes, so that two exports can be compared.
//
// Left out is what is about the chat and not about the work: commands such as
// !files with their answers, the ledger of posts, calls of tools that ran no
// code. A message that was only code is told by its cells. An edited message
// has its last words, one that was taken back is gone.
//
// Blobs are read up to a limit each and in all; what is over it is named in
// its place, as is a blob that is not kept any more. A turn that has not ended
// is written as far as it has come.
//
// Words and outputs are other people's: in each format they stay inside what
// stands for them. No line of a message becomes code in a script, and no
// output or message ends its fence or quote on a page.
package notebook

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"threadbook/sessions"
)

// Format is a kind of file, by its extension.
type Format string

// The formats.
const (
	Jupyter  Format = "ipynb" // nbformat 4.5, with outputs
	Script   Format = "py"    // cells between "# %%" lines as jupytext has them, without outputs
	Markdown Format = "md"    // a page, with outputs as text and small figures
)

// ParseFormat finds a format by its name; the empty name is Jupyter's.
func ParseFormat(name string) (Format, bool) {
	switch f := Format(name); f {
	case "":
		return Jupyter, true
	case Jupyter, Script, Markdown:
		return f, true
	}
	return "", false
}

// Limits on the blobs that go into a file, in bytes before base64. A notebook
// of 32 MiB is about the largest that Jupyter opens with ease; a page is read
// as text by most, who should not scroll past figures.
const (
	maxFigure      = 4 << 20
	maxFigures     = 24 << 20
	maxPageFigure  = 64 << 10
	maxPageFigures = 1 << 20
)

// Write writes a thread's events, in order and from the first, to w. blobs
// opens one of the thread's blobs, as [sessions.Blobs] does with the thread
// given; its errors of the code NotFound are told in the file, all others end
// the writing. An error leaves w with half a file.
func Write(ctx context.Context, w io.Writer, format Format, events []sessions.Event, blobs func(name string) (io.ReadCloser, error)) error {
	out := bufio.NewWriter(w)
	var header, footer string
	var put func(block) error
	switch format {
	case Jupyter:
		j := &jupyter{w: out, figures: &figures{open: blobs, each: maxFigure, all: maxFigures}}
		header, put, footer = jupyterHeader, j.block, jupyterFooter
	case Script:
		header, put = scriptHeader, (&script{out}).block
	case Markdown:
		put = (&page{w: out, figures: &figures{open: blobs, each: maxPageFigure, all: maxPageFigures}}).block
	default:
		return &sessions.Error{Code: sessions.Invalid, Text: fmt.Sprintf("There is no format %q; ipynb, py and md there are.", string(format))}
	}
	out.WriteString(header) // its error comes again with Flush
	for _, b := range fold(events) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := put(b); err != nil {
			return fmt.Errorf("writing a notebook: %w", err)
		}
	}
	out.WriteString(footer)
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing a notebook: %w", err)
	}
	return nil
}
