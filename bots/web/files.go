package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// pictures are the types that a browser may show in place, by extension. All
// else is saved: an HTML file or a PDF that code wrote would otherwise speak
// in the name of this site. An SVG can hold script, which the policy sent
// with every file keeps from running.
func picture(name string) (mime string, ok bool) {
	switch strings.ToLower(path.Ext(name)) {
	case ".png":
		return "image/png", true
	case ".jpg", ".jpeg":
		return "image/jpeg", true
	case ".gif":
		return "image/gif", true
	case ".webp":
		return "image/webp", true
	case ".svg":
		return "image/svg+xml", true
	}
	return "application/octet-stream", false
}

// filePolicy takes from a file that is opened in the browser all that a page
// could do.
const filePolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

var blobName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// FileURL is the address at which anybody who has it can download a blob of
// the thread under the name given, for a week to come.
func (s *Server) FileURL(ctx context.Context, thread sessions.ThreadID, blob, name string) (string, error) {
	if s.public == nil {
		return "", &sessions.Error{Code: sessions.Invalid, Text: "There are no download links while THREADBOOK_PUBLIC_URL is empty."}
	}
	at, err := s.fileLink(ctx, thread, blob, name)
	if err != nil {
		return "", err
	}
	return s.public.JoinPath("/").String() + strings.TrimPrefix(at, "/"), nil
}

// fileLink is FileURL without the host. Its expiry is rounded up to a day, so
// that a picture keeps its address, and its place in the browser's cache,
// when the page is opened again.
func (s *Server) fileLink(ctx context.Context, thread sessions.ThreadID, blob, name string) (string, error) {
	const day = 24 * time.Hour
	q := url.Values{
		"thread":  {string(thread)},
		"name":    {bots.CleanFileName(name)},
		"expires": {strconv.FormatInt(s.now().Add(linkLife+day).Truncate(day).Unix(), 10)},
	}
	sig, err := s.signer.sign(ctx, forFile, blob+"\x00"+q.Encode())
	if err != nil {
		return "", err
	}
	q.Set("sig", sig)
	return "/files/" + blob + "?" + q.Encode(), nil
}

// file sends a blob to whoever has a link that this fleet has signed. An
// expired one still works for those who may read the page, which may have
// been open for longer than the link's life.
func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	blob, q := r.PathValue("blob"), r.URL.Query()
	signed := url.Values{"thread": {q.Get("thread")}, "name": {q.Get("name")}, "expires": {q.Get("expires")}}
	ok, err := s.signer.check(r.Context(), forFile, blob+"\x00"+signed.Encode(), q.Get("sig"))
	switch {
	case err != nil:
		s.failed(w, r, err)
		return
	case !ok || !blobName.MatchString(blob):
		fail(w, r, http.StatusForbidden, "This download link is not complete, or was changed.")
		return
	}
	expires, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	if late := err != nil || s.now().Unix() > expires; late && s.access(r) != allowed {
		fail(w, r, http.StatusGone, "This download link has expired; ask for the file again in its thread.")
		return
	}
	f, err := s.cfg.Blobs.Get(r.Context(), sessions.ThreadID(q.Get("thread")), blob)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	defer f.Close()
	name := q.Get("name")
	mime, show := picture(name)
	disposition := "attachment"
	if show {
		disposition = "inline"
	}
	h := w.Header()
	h.Set("Content-Type", mime)
	h.Set("Content-Disposition", disposition+"; "+fileNameParameter(name))
	h.Set("Content-Security-Policy", filePolicy)
	h.Set("ETag", `"`+blob+`"`)
	h.Set("Cache-Control", "private, max-age=604800, immutable")
	http.ServeContent(paced{w, http.NewResponseController(w)}, r, "", time.Time{}, f)
}

// fileNameParameter writes the name twice, as RFC 6266 advises: in ASCII for
// old programs, and as UTF-8 (RFC 5987) for the others, which prefer it.
func fileNameParameter(name string) string {
	var ascii, full strings.Builder
	for _, c := range name {
		if c < ' ' || c > '~' || strings.ContainsRune(`"\%`, c) {
			c = '_'
		}
		ascii.WriteRune(c)
	}
	const unreserved = "!#$&+-.^_`|~"
	for _, c := range []byte(name) {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte(unreserved, c) >= 0 {
			full.WriteByte(c)
		} else {
			fmt.Fprintf(&full, "%%%02X", c)
		}
	}
	return `filename="` + ascii.String() + `"; filename*=UTF-8''` + full.String()
}
