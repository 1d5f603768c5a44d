package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"threadbook/bots"
	"threadbook/sessions"
)

const (
	// readyTime is how long Slack may look at a picture before it can be shown
	// (slack-github-action#413 saw some seconds).
	readyTime = 30 * time.Second
	// sharedTime is how long an upload may take to appear, after which the post
	// is looked for later.
	sharedTime = 15 * time.Second
	firstPoll  = 100 * time.Millisecond
	lastPoll   = 2 * time.Second
)

// Prepare implements [bots.Poster]: it sends the bytes of figures and files.
// Nobody sees a file before it is shared.
func (s *Slack) Prepare(ctx context.Context, p bots.Post) (string, error) {
	if len(p.Figures)+len(p.Files) == 0 {
		return "", nil
	}
	h, err := s.prepare(ctx, p)
	if err != nil {
		var pe *bots.PostError
		if !errors.As(err, &pe) {
			pe = &bots.PostError{Err: err, Permanent: sessions.CodeOf(err) == sessions.NotFound}
		}
		return "", &bots.PostError{After: pe.After, Permanent: pe.Permanent, Refused: true, Err: err}
	}
	data, err := json.Marshal(h)
	return string(data), err
}

func (s *Slack) prepare(ctx context.Context, p bots.Post) (h handle, err error) {
	var ready []slackgo.FileSummary
	for _, m := range p.Figures {
		id := ""
		if pictured(m.MIME) {
			if id, err = s.upload(ctx, p.Thread, m); err != nil {
				return handle{}, err
			}
			ready = append(ready, slackgo.FileSummary{ID: id, Title: m.Name})
		}
		h.Figures = append(h.Figures, id)
	}
	for _, m := range p.Files {
		id, err := s.upload(ctx, p.Thread, m)
		if err != nil {
			return handle{}, err
		}
		h.Files = append(h.Files, id)
	}
	if len(ready) == 0 {
		return h, nil
	}
	err = s.call(ctx, "files.completeUploadExternal", "", func(ctx context.Context) error {
		_, err := s.api.CompleteUploadExternalContext(ctx, slackgo.CompleteUploadExternalParameters{Files: ready})
		return err
	})
	if err != nil {
		return handle{}, err
	}
	for _, f := range ready {
		err := s.poll(ctx, f.ID, readyTime, func(f *slackgo.File) bool { return f.Mimetype != "" })
		if err != nil {
			return handle{}, err
		}
	}
	return h, nil
}

// upload sends the bytes of a file.
func (s *Slack) upload(ctx context.Context, thread sessions.ThreadID, m bots.Media) (string, error) {
	r, err := s.cfg.Blobs.Get(ctx, thread, m.Blob)
	if err != nil {
		return "", err
	}
	defer r.Close()
	size, err := r.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = r.Seek(0, io.SeekStart)
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", m.Name, err)
	}
	var body io.Reader = r
	if size == 0 { // Slack refuses an empty file
		body, size = strings.NewReader("\n"), 1
	}
	var target *slackgo.GetUploadURLExternalResponse
	err = s.call(ctx, "files.getUploadURLExternal", "", func(ctx context.Context) (err error) {
		target, err = s.api.GetUploadURLExternalContext(ctx, slackgo.GetUploadURLExternalParameters{
			FileName: m.Name, FileSize: int(size), AltTxt: shorten(m.Alt, maxAltText),
		})
		return err
	})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	err = s.bulk.UploadToURL(ctx, slackgo.UploadToURLParameters{UploadURL: target.UploadURL, Reader: body, Filename: m.Name})
	if err != nil {
		return "", asPostError("sending "+m.Name, err)
	}
	return target.FileID, nil
}

// maxAltText is files.getUploadURLExternal's limit on alt_txt.
const maxAltText = 1000

// share makes uploaded files visible in a thread, all in one message. Slack
// answers before it has done that, so the message's id comes from asking.
func (s *Slack) share(ctx context.Context, at place, p bots.Post, h handle) (string, error) {
	if len(h.Files) != len(p.Files) {
		return "", &bots.PostError{Refused: true, Permanent: true, Err: fmt.Errorf("a post of %d files has the handle of %d", len(p.Files), len(h.Files))}
	}
	files := make([]slackgo.FileSummary, len(h.Files))
	for i, id := range h.Files {
		files[i] = slackgo.FileSummary{ID: id, Title: p.Files[i].Name}
	}
	err := s.call(ctx, "files.completeUploadExternal", at.channel, func(ctx context.Context) error {
		_, err := s.api.CompleteUploadExternalContext(ctx, slackgo.CompleteUploadExternalParameters{
			Files: files, Channel: at.channel, ThreadTimestamp: at.root,
		})
		return err
	})
	if err != nil {
		return "", err
	}
	var ts string
	err = s.poll(ctx, h.Files[0], sharedTime, func(f *slackgo.File) bool {
		ts = sharedIn(f, at)
		return ts != ""
	})
	if err != nil {
		// The files are there or will be: not refused.
		return "", &bots.PostError{Err: err}
	}
	return ts, nil
}

// shared finds the message in which files were shared.
func (s *Slack) shared(ctx context.Context, at place, h handle) (string, error) {
	for _, id := range h.Files {
		f, err := s.file(ctx, id)
		if code := codeOf(err); code == "file_not_found" || code == "file_deleted" {
			continue // never completed
		}
		if err != nil {
			return "", err
		}
		if ts := sharedIn(f, at); ts != "" {
			return ts, nil
		}
	}
	return "", nil
}

// sharedIn is the timestamp of the message in which a file was shared.
func sharedIn(f *slackgo.File, at place) string {
	for _, shares := range []map[string][]slackgo.ShareFileInfo{f.Shares.Public, f.Shares.Private} {
		for _, share := range shares[at.channel] {
			return share.Ts
		}
	}
	return ""
}

func (s *Slack) file(ctx context.Context, id string) (f *slackgo.File, err error) {
	err = s.call(ctx, "files.info", "", func(ctx context.Context) (err error) {
		f, _, _, err = s.api.GetFileInfoContext(ctx, id, 0, 0)
		return err
	})
	return f, err
}

// poll asks for a file until it is as wanted.
func (s *Slack) poll(ctx context.Context, id string, limit time.Duration, done func(*slackgo.File) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for pause := firstPoll; ; pause = min(2*pause, lastPoll) {
		f, err := s.file(ctx, id)
		if err == nil && done(f) {
			return nil
		}
		if err != nil && codeOf(err) != "file_not_found" {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("the file %s was sent, and Slack has not taken it up in %s", id, limit)
		}
	}
}
