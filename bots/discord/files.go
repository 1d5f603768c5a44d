package discord

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"threadbook/bots"
	"threadbook/sessions"
)

// fetchTimeout bounds the download of one file.
const fetchTimeout = 5 * time.Minute

// fileHosts are where Discord keeps files.
var fileHosts = map[string]bool{"cdn.discordapp.com": true, "media.discordapp.net": true}

// files are a message's files, to be fetched while it is handed in: their
// addresses expire and are kept nowhere.
func (d *Discord) files(m message) []bots.File {
	files := make([]bots.File, 0, len(m.Files))
	for _, a := range m.Files {
		kind, _, err := mime.ParseMediaType(a.ContentType)
		if err != nil {
			kind = ""
		}
		files = append(files, bots.File{Name: a.Filename, MIME: kind, Open: func(ctx context.Context) (io.ReadCloser, error) {
			return d.fetch(ctx, m, a)
		}})
	}
	return files
}

// errExpired says that an address is not good any more.
var errExpired = errors.New("the file's address has expired")

// fetch opens a file; where its address has expired, the message is asked for
// another one.
func (d *Discord) fetch(ctx context.Context, m message, a attachment) (io.ReadCloser, error) {
	if a.Size > bots.MaxFileSize {
		return nil, &sessions.Error{Code: sessions.TooLarge, Text: fmt.Sprintf("It is larger than %d MiB, the limit.", bots.MaxFileSize>>20)}
	}
	body, err := d.get(ctx, a.URL)
	if !errors.Is(err, errExpired) || !isID(m.ID) || !isID(m.Channel) {
		return body, err
	}
	var fresh message
	if err := d.api.do(ctx, "GET", "channels/"+m.Channel+"/messages/"+m.ID, nil, &fresh); err != nil {
		return nil, &sessions.Error{Code: sessions.Unavailable, Text: "Discord does not give the file any more; please send it again.", Err: err}
	}
	for _, f := range fresh.Files {
		if f.ID == a.ID && f.ID != "" || f.ID == "" && f.Filename == a.Filename {
			return d.get(ctx, f.URL)
		}
	}
	return nil, &sessions.Error{Code: sessions.NotFound, Text: "The file is not in its message any more.", Err: errGoneFile}
}

// get opens an address of Discord's file store.
func (d *Discord) get(ctx context.Context, address string) (io.ReadCloser, error) {
	u, err := url.Parse(address)
	if err != nil || !d.mayFetch(u) {
		return nil, &sessions.Error{Code: sessions.Invalid, Text: "The file is not on Discord's own servers, so it was not fetched.", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel()
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	client := http.Client{Transport: d.api.http.Transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || !d.mayFetch(r.URL) {
			return errors.New("the file's address leads away from Discord")
		}
		return nil
	}}
	resp, err := client.Do(req)
	failed := func(err error) (io.ReadCloser, error) {
		cancel()
		return nil, &sessions.Error{Code: sessions.Unavailable, Text: "Discord does not give the file just now; please send it again.", Err: err}
	}
	switch {
	case err != nil:
		var ue *url.Error // its text has the signed address
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return failed(err)
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		resp.Body.Close()
		return failed(errExpired)
	case resp.StatusCode != http.StatusOK:
		resp.Body.Close()
		return failed(fmt.Errorf("the file store answers %s", resp.Status))
	}
	return &download{resp.Body, cancel}, nil
}

// mayFetch says whether a file's address is Discord's. The one of another API
// is there for tests and proxies.
func (d *Discord) mayFetch(u *url.URL) bool {
	if d.fileHost != "" && u.Hostname() == d.fileHost {
		return u.Scheme == "http" || u.Scheme == "https"
	}
	return u.Scheme == "https" && fileHosts[strings.ToLower(u.Host)]
}

// download ends its request when it is closed.
type download struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements [io.Closer].
func (d *download) Close() error {
	defer d.cancel()
	return d.ReadCloser.Close()
}
