package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"threadbook/sessions"
)

// maxHead is how many bytes of a text in a blob are shown with the event.
const maxHead = 64 << 10

// fields are what the page gets with an event beside those of the log.
type fields map[string]any

// view is an event as the page gets it.
func (s *Server) view(ctx context.Context, ev sessions.Event) ([]byte, error) {
	data, err := json.Marshal(ev)
	if err != nil {
		return nil, err
	}
	more, err := s.more(ctx, ev)
	if err != nil || len(more) == 0 {
		return data, err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	for name, value := range more {
		if all[name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(all)
}

// attachment is a message's file with the link to it.
type attachment struct {
	sessions.Attachment
	URL    string `json:"url,omitempty"`
	Inline bool   `json:"inline,omitempty"`
}

func (s *Server) more(ctx context.Context, ev sessions.Event) (fields, error) {
	switch b := ev.Body.(type) {
	case *sessions.Message:
		more := fields{"html": s.render.Message(b.Text)}
		var files []attachment
		for _, f := range b.Files {
			a := attachment{Attachment: f}
			if f.Blob != "" {
				var err error
				if a.URL, err = s.fileLink(ctx, ev.Thread, f.Blob, f.Name); err != nil {
					return nil, err
				}
				_, a.Inline = picture(f.Name)
			}
			files = append(files, a)
		}
		if files != nil {
			more["files"] = files
		}
		return more, nil
	case *sessions.Reply:
		return fields{"html": s.render.Markdown(b.Text)}, nil
	case *sessions.CellStarted:
		return fields{"html": s.render.Code(b.Language, b.Code)}, nil
	case *sessions.CellOutput:
		return s.output(ctx, ev.Thread, b)
	case *sessions.File:
		return s.link(ctx, ev.Thread, b.Blob, b.Path)
	case *sessions.Question:
		return fields{"html": s.render.Markdown(b.Text)}, nil
	case *sessions.Notice:
		return fields{"html": s.render.Markdown(b.Text)}, nil
	}
	return nil, nil
}

// link gives the address of a blob, where there is one.
func (s *Server) link(ctx context.Context, thread sessions.ThreadID, blob, name string) (fields, error) {
	if blob == "" {
		return nil, nil
	}
	at, err := s.fileLink(ctx, thread, blob, name)
	_, inline := picture(name)
	return fields{"url": at, "inline": inline}, err
}

// output adds to an output what shows it: its HTML, its picture, or the
// beginning of its text.
func (s *Server) output(ctx context.Context, thread sessions.ThreadID, o *sessions.CellOutput) (fields, error) {
	more, err := s.link(ctx, thread, o.Blob, outputName(o))
	if err != nil {
		return nil, err
	}
	if more == nil {
		more = fields{}
	}
	text := o.Text
	if o.Blob != "" && isText(o) && (o.MIME != "text/html" || o.Size <= maxHTML) {
		limit := int64(maxHead)
		if o.MIME == "text/html" {
			limit = maxHTML
		}
		if text, err = s.head(ctx, thread, o.Blob, limit); err != nil {
			// One figure that is gone must not keep the thread from view.
			s.log.WarnContext(ctx, "an output can't be shown", "thread", thread, "blob", o.Blob, "err", err)
			return more, nil
		}
		if o.MIME != "text/html" {
			more["head"] = text
		}
	}
	switch o.MIME {
	case "text/html":
		more["html"] = s.render.HTML(text)
	case "text/markdown":
		more["html"] = s.render.Markdown(text)
	case "application/json":
		more["html"] = s.render.Code("json", text)
	case "image/svg+xml":
		if o.Blob == "" {
			more["url"] = "data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(text))
			more["inline"] = true
		}
	}
	return more, nil
}

func isText(o *sessions.CellOutput) bool {
	return o.Stream != "" || strings.HasPrefix(o.MIME, "text/") || o.MIME == "application/json"
}

// outputName is under which name an output that has none is saved.
func outputName(o *sessions.CellOutput) string {
	name := fmt.Sprintf("cell-%d", o.Cell)
	if o.Display > 0 {
		name += fmt.Sprintf("-%d", o.Display)
	}
	switch o.MIME {
	case "image/png", "image/jpeg", "image/gif", "image/webp", "application/json", "application/pdf":
		_, kind, _ := strings.Cut(o.MIME, "/")
		return name + "." + kind
	case "image/svg+xml":
		return name + ".svg"
	case "text/html":
		return name + ".html"
	case "text/markdown":
		return name + ".md"
	case "", "text/plain", "text/latex":
		return name + ".txt"
	}
	if strings.HasSuffix(o.MIME, "+json") {
		return name + ".json"
	}
	return name + ".bin"
}

// head reads the beginning of a blob as text.
func (s *Server) head(ctx context.Context, thread sessions.ThreadID, blob string, limit int64) (string, error) {
	f, err := s.cfg.Blobs.Get(ctx, thread, blob)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return "", err
	}
	for cut := 1; cut < utf8.UTFMax && cut <= len(data) && int64(len(data)) == limit; cut++ {
		// The limit may fall inside a character.
		if start := len(data) - cut; utf8.RuneStart(data[start]) {
			if !utf8.FullRune(data[start:]) {
				data = data[:start]
			}
			break
		}
	}
	return strings.ToValidUTF8(string(data), "\uFFFD"), nil
}

// draft is what the page gets of a reply that is being written.
type draft struct {
	sessions.Draft
	HTML     string `json:"html"`
	CodeHTML string `json:"code_html,omitempty"`
}

func (s *Server) viewDraft(d sessions.Draft) ([]byte, error) {
	v := draft{Draft: d, HTML: s.render.Markdown(head(d.Text))}
	if d.Code != "" {
		// Its language is not known before the whole call is; most are this.
		v.CodeHTML = s.render.Code("python", head(d.Code))
	}
	v.Text, v.Code = "", ""
	return json.Marshal(v)
}

// head bounds what is shown of a draft. All of it comes with the reply.
func head(s string) string {
	if len(s) <= maxDraft {
		return s
	}
	return strings.ToValidUTF8(s[:maxDraft], "") + "\n…"
}
