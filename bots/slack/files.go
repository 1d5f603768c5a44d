package slack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
	"threadbook/sessions"
)

const (
	// maxReplies is how much of a thread is read: for files when the bot is
	// first called into it, and for a post that may have been made.
	maxReplies  = 400
	repliesPage = 200
	// needsInfo marks files of Slack Connect, which come as an id and no more.
	needsInfo = "check_file_info"
)

// filesOf are the files that come with a message: its own, and those of the
// thread's earlier messages where the bot is first called into it. left counts
// those for which there is no room. What an app_mention lacks is looked up.
func (s *Slack) filesOf(ctx context.Context, at place, ev body, m message, active time.Time) (refs []fileRef, left int, err error) {
	refs = m.Files
	first := active.IsZero() && m.ThreadTS != "" && m.ThreadTS != m.TS
	if !first && (ev.Type != "app_mention" || len(refs) > 0) {
		return refs, 0, nil
	}
	earliest := string(m.TS)
	if first {
		earliest = at.root
	}
	messages, err := s.replies(ctx, at, earliest, string(m.TS), false)
	var pe *bots.PostError
	if errors.As(err, &pe) && pe.Permanent {
		// A missing scope, say. The message is worth more than its files.
		s.cfg.Log.WarnContext(ctx, "the thread's files could not be looked up", "thread", at.thread(), "err", err)
		return refs, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	seen := map[word]bool{}
	var earlier []fileRef
	for _, r := range messages {
		for _, f := range r.Files {
			ref := fileRef{
				ID: word(f.ID), Name: word(f.Name), Title: word(f.Title), MIME: word(f.Mimetype), Filetype: word(f.Filetype), Size: count(f.Size),
				Mode: word(f.Mode), Access: word(f.FileAccess), IsExternal: yes(f.IsExternal), URL: word(f.URLPrivate), Download: word(f.URLPrivateDownload),
			}
			switch {
			case r.Timestamp == string(m.TS) && len(m.Files) == 0:
				refs = append(refs, ref)
			case r.Timestamp != string(m.TS) && first:
				earlier = append(earlier, ref)
			}
		}
	}
	// The message's own come first, then the latest.
	for i := len(earlier) - 1; i >= 0; i-- {
		refs = append(refs, earlier[i])
	}
	kept := refs[:0:0]
	for _, ref := range refs {
		switch {
		case seen[ref.ID]:
		case len(kept) == bots.MaxFiles-1:
			left++
		default:
			kept = append(kept, ref)
		}
		seen[ref.ID] = true
	}
	return kept, left, nil
}

// replies reads messages of a thread between two timestamps, both included.
func (s *Slack) replies(ctx context.Context, at place, oldest, latest string, metadata bool) ([]slackgo.Message, error) {
	var all []slackgo.Message
	for cursor := ""; ; {
		var page []slackgo.Message
		err := s.call(ctx, "conversations.replies", "", func(ctx context.Context) (err error) {
			page, _, cursor, err = s.api.GetConversationRepliesContext(ctx, &slackgo.GetConversationRepliesParameters{
				ChannelID: at.channel, Timestamp: at.root, Cursor: cursor, Inclusive: true,
				Oldest: oldest, Latest: latest, Limit: repliesPage, IncludeAllMetadata: metadata,
			})
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if cursor == "" || len(all) >= maxReplies {
			return all, nil
		}
	}
}

// open makes neutral files of Slack's. left counts those that there was no room for.
func (s *Slack) open(ctx context.Context, refs []fileRef, left int) []bots.File {
	var files []bots.File
	for _, ref := range refs {
		if ref.Access == needsInfo {
			_ = s.complete(ctx, &ref) // for its name; download tries again, and says why not
		}
		name := string(ref.Name)
		if name == "" {
			name = string(ref.Title)
		}
		if name == "" {
			name = string(ref.ID)
		}
		files = append(files, bots.File{Name: name, MIME: string(ref.MIME), Ref: string(ref.ID), Open: func(ctx context.Context) (io.ReadCloser, error) {
			return s.download(ctx, ref)
		}})
	}
	if left > 0 {
		files = append(files, bots.File{Name: fmt.Sprintf("%d more files", left), Open: func(context.Context) (io.ReadCloser, error) {
			return nil, refuse(sessions.TooLarge, nil, fmt.Sprintf("They are earlier in the thread, and %d files are taken at once; please send them again.", bots.MaxFiles))
		}})
	}
	return files
}

// Fetch implements [bots.Fetcher]: ref is a file's id.
func (s *Slack) Fetch(ctx context.Context, _ sessions.ThreadID, ref string) (io.ReadCloser, error) {
	return s.download(ctx, fileRef{ID: word(ref), Access: needsInfo})
}

func refuse(code sessions.Code, err error, text string) error {
	return &sessions.Error{Code: code, Text: text, Err: err}
}

// download opens a file of Slack's. Its errors are sentences.
func (s *Slack) download(ctx context.Context, ref fileRef) (io.ReadCloser, error) {
	if ref.Access == needsInfo || ref.URL == "" && ref.Download == "" && ref.Mode != "tombstone" && ref.Mode != "hidden_by_limit" {
		if err := s.complete(ctx, &ref); err != nil {
			return nil, err
		}
	}
	address := string(ref.Download)
	if address == "" {
		address = string(ref.URL)
	}
	switch {
	case ref.Mode == "tombstone":
		return nil, refuse(sessions.NotFound, nil, "It was deleted in Slack.")
	case ref.Mode == "hidden_by_limit":
		return nil, refuse(sessions.NotFound, nil, "Slack hides it, since the workspace's plan keeps no older files.")
	case bool(ref.IsExternal) || ref.Mode == "external" || ref.Mode == "remote":
		return nil, refuse(sessions.Invalid, nil, "It is a link to another service; please upload the file itself.")
	case ref.Mode == "space" || ref.Mode == "canvas" || ref.Mode == "list" || ref.Filetype == "quip":
		return nil, refuse(sessions.Invalid, nil, "It is a canvas or a list of Slack; please download it and upload the file.")
	case int64(ref.Size) > bots.MaxFileSize:
		return nil, refuse(sessions.TooLarge, nil, fmt.Sprintf("It is larger than %d MiB, the limit.", bots.MaxFileSize>>20))
	case address == "":
		return nil, refuse(sessions.NotFound, nil, "Slack gives no address for it.")
	}
	if !s.trusted(address) {
		return nil, refuse(sessions.Invalid, fmt.Errorf("its address is %q, which is not Slack's", address), "It is not kept by Slack; please upload the file itself.")
	}
	return s.get(ctx, address, string(ref.MIME))
}

// complete asks Slack for the rest of a file.
func (s *Slack) complete(ctx context.Context, ref *fileRef) error {
	var f *slackgo.File
	err := s.call(ctx, "files.info", "", func(ctx context.Context) (err error) {
		f, _, _, err = s.api.GetFileInfoContext(ctx, string(ref.ID), 0, 0)
		return err
	})
	if err != nil {
		return refuse(sessions.Unavailable, err, "Slack does not let threadbook read it.")
	}
	ref.Access = ""
	if f.Name != "" {
		ref.Name = word(f.Name)
	}
	ref.MIME, ref.Size, ref.Mode, ref.IsExternal, ref.Filetype = word(f.Mimetype), count(f.Size), word(f.Mode), yes(f.IsExternal), word(f.Filetype)
	ref.URL, ref.Download = word(f.URLPrivate), word(f.URLPrivateDownload)
	return nil
}

// trusted says whether the token may go to an address: Slack's own hosts, and
// the host of the API, to which it goes anyway. Whoever makes a remote file
// chooses its address.
func (s *Slack) trusted(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	api, err := url.Parse(s.cfg.APIURL)
	if err == nil && u.Scheme == api.Scheme && strings.EqualFold(u.Host, api.Host) {
		return true
	}
	host := strings.ToLower(u.Hostname())
	for _, domain := range []string{"slack.com", "slack-gov.com"} {
		if u.Scheme == "https" && (host == domain || strings.HasSuffix(host, "."+domain)) {
			return true
		}
	}
	return false
}

// get fetches a file with the token. The reader ends after fileTime, and with
// one byte over the limit, which tells the blob store that it is too large.
func (s *Slack) get(ctx context.Context, address, mime string) (_ io.ReadCloser, err error) {
	ctx, cancel := context.WithTimeout(ctx, fileTime)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, refuse(sessions.Invalid, err, "Slack gives no good address for it.")
	}
	req.Header.Set("Authorization", "Bearer "+s.cfg.BotToken)
	resp, err := s.files.Do(req)
	if err != nil {
		return nil, refuse(sessions.Unavailable, err, "Slack did not send it; please send it again.")
	}
	fail := func(code sessions.Code, text string) (io.ReadCloser, error) {
		resp.Body.Close()
		return nil, refuse(code, fmt.Errorf("getting a file from Slack: %s, %s, from %s", resp.Status, resp.Header.Get("Content-Type"), resp.Request.URL.Host), text)
	}
	html := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return fail(sessions.NotFound, "It is not in Slack any more.")
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden,
		// Without access Slack sends its sign-in page, as a page like any other.
		resp.Request.URL.Query().Has("redir"), html && !strings.HasPrefix(mime, "text/html"):
		return fail(sessions.Invalid, "Slack does not let threadbook read it; the app may lack the permission files:read.")
	case resp.StatusCode != http.StatusOK:
		return fail(sessions.Unavailable, "Slack did not send it (status "+strconv.Itoa(resp.StatusCode)+"); please send it again.")
	case resp.ContentLength > bots.MaxFileSize:
		return fail(sessions.TooLarge, fmt.Sprintf("It is larger than %d MiB, the limit.", bots.MaxFileSize>>20))
	}
	return &bounded{Reader: io.LimitReader(resp.Body, bots.MaxFileSize+1), body: resp.Body, cancel: cancel}, nil
}

type bounded struct {
	io.Reader
	body   io.Closer
	cancel context.CancelFunc
}

func (b *bounded) Close() error {
	defer b.cancel()
	return b.body.Close()
}
