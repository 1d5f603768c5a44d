package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"threadbook/bots"
	"threadbook/sandbox"
	"threadbook/sessions"
)

const (
	// outputsDir is where code puts files that the thread should get.
	outputsDir = "outputs"
	// fetchTimeout bounds the fetching of one file from its platform.
	fetchTimeout = 5 * time.Minute
	// maxOutputs is how many files one cell may give out.
	maxOutputs = 50
	// maxOutputSize is how large each may be, in bytes.
	maxOutputSize = 512 << 20
)

// Codes of notices that programs look for.
const (
	noticeResumed   = "resumed"
	noticeStateLost = "state_lost"
	noticeFile      = "file_skipped"
	noticeForgotten = "forgotten"
	noticeMoved     = "moved"
	noticeNotKept   = "not_kept"
)

// open returns the thread's sandbox with the thread's files in it.
func (h *holder) open(ctx context.Context) (sandbox.Session, error) {
	if h.session != nil {
		return h.session, nil
	}
	began := time.Now()
	s, from, err := h.openHere(ctx)
	if err != nil {
		return nil, unavailableSandbox(err)
	}
	since(h.Metrics.acquired.WithLabelValues(string(howOpened(s))), began)
	defer since(h.Metrics.phases.WithLabelValues(phaseSandbox), began)
	if s.Fresh() && h.log.cells > 0 {
		if err := h.record(ctx, h.tellLost(from)...); err != nil {
			return nil, err
		}
	} else if from != "" && h.log.cells > 0 {
		if err := h.record(ctx, &sessions.Notice{Code: noticeMoved,
			Text: "The machine that had this thread's sandbox is away, so the thread goes on on another one, with its variables and its files."}); err != nil {
			return nil, err
		}
	}
	if err := h.restore(ctx, s); err != nil {
		return nil, err
	}
	h.session = s
	return s, nil
}

// names are the paths of the files in the sandbox.
func names(ctx context.Context, s sandbox.Files) (map[string]bool, error) {
	list, _, err := s.List(ctx, ".")
	there := make(map[string]bool, len(list))
	for _, f := range list {
		there[f.Path] = true
	}
	return there, err
}

// put writes a file of the log into the sandbox and says whether it is there.
// One that can't be written is told and left out.
func (h *holder) put(ctx context.Context, s sandbox.Session, f *sessions.File) (there bool, err error) {
	blob, err := h.Blobs.Get(ctx, h.thread, f.Blob)
	if err == nil {
		defer blob.Close()
		err = s.Put(ctx, f.Path, blob, f.Size)
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, sandbox.ErrDiskFull), errors.Is(err, sandbox.ErrBadPath), sessions.CodeOf(err) == sessions.NotFound:
		h.slog.WarnContext(ctx, "a file was not put into the sandbox", "path", f.Path, "err", err)
		return false, h.skip(ctx, f.Path, err)
	default:
		return false, unavailableSandbox(err)
	}
}

// skip tells the thread of a file that was left out.
func (h *holder) skip(ctx context.Context, name string, why error) error {
	text := sessions.TextOf(why)
	for _, known := range []error{sandbox.ErrDiskFull, sandbox.ErrBadPath, sandbox.ErrTooLarge} {
		if errors.Is(why, known) {
			text = known.Error() + "."
		}
	}
	return h.record(ctx, &sessions.Notice{Code: noticeFile, Text: fmt.Sprintf("%s was left out: %s", name, text)})
}

// placeAttachments gives every file of the turn's messages its place in the
// workspace and records it.
func (h *holder) placeAttachments(ctx, turnCtx context.Context) error {
	placed := map[string]bool{} // what a holder before us did
	for _, f := range h.log.files {
		if f.Message != 0 {
			placed[fmt.Sprint(f.Message, f.Blob)] = true
		}
	}
	for _, ev := range h.log.turn.messages {
		for _, a := range ev.Body.(*sessions.Message).Files {
			if err := context.Cause(turnCtx); err != nil {
				return err
			}
			if a.Error != "" {
				if err := h.record(ctx, &sessions.Notice{Code: noticeFile, Text: fmt.Sprintf("%s was left out: %s", a.Name, a.Error)}); err != nil {
					return err
				}
				continue
			}
			if a.Ref != "" && a.Blob == "" {
				var err error
				if a, err = h.fetch(turnCtx, a); err != nil {
					if e := context.Cause(turnCtx); e != nil {
						return e
					}
					if err := h.skip(ctx, a.Name, err); err != nil {
						return err
					}
					continue
				}
			}
			if placed[fmt.Sprint(ev.Seq, a.Blob)] {
				continue
			}
			if err := h.place(ctx, ev.Seq, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// fetch gets the bytes of an attachment that its message did not wait for.
func (h *holder) fetch(turnCtx context.Context, a sessions.Attachment) (sessions.Attachment, error) {
	fetching, cancel := context.WithTimeout(turnCtx, fetchTimeout)
	defer cancel()
	r, err := h.Show.Fetch(fetching, h.thread, a.Ref)
	if err != nil {
		return a, err
	}
	defer r.Close()
	a.Blob, a.Size, err = h.Blobs.Put(fetching, h.thread, r, bots.MaxFileSize)
	return a, err
}

// place puts one attachment into the workspace.
func (h *holder) place(ctx context.Context, message int64, a sessions.Attachment) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	taken, err := names(ctx, s)
	if err != nil {
		return unavailableSandbox(err)
	}
	for p := range h.log.files {
		taken[p] = true
	}
	for p := range h.log.saved {
		taken[p] = true
	}
	f := &sessions.File{Path: freeName(a.Name, taken), Size: a.Size, SHA256: a.Blob, MIME: mimeOf(a.Name, a.MIME), Blob: a.Blob, Message: message}
	blob, err := h.Blobs.Get(ctx, h.thread, a.Blob)
	if err != nil {
		return h.skip(ctx, a.Name, err)
	}
	defer blob.Close()
	if err := s.Put(ctx, f.Path, blob, f.Size); err != nil {
		if errors.Is(err, sandbox.ErrDiskFull) || errors.Is(err, sandbox.ErrBadPath) {
			return h.skip(ctx, a.Name, err)
		}
		return unavailableSandbox(err)
	}
	if _, err := blob.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h.there[f.Path] = true
	f.Profile = profile(f.Path, blob)
	return h.record(ctx, f)
}

// freeName is the name, or where it is taken the first of "a (2).csv",
// "a (3).csv" … that isn't.
func freeName(name string, taken map[string]bool) string {
	ext := path.Ext(name)
	for n, try := 2, name; ; n++ {
		if !taken[try] {
			return try
		}
		try = fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(name, ext), n, ext)
	}
}

// giveOutputs records the files under outputs/ that are new or have changed
// since the log last named them.
func (h *holder) giveOutputs(ctx context.Context, cell int64) error {
	list, _, err := h.session.List(ctx, outputsDir)
	if err != nil {
		if errors.Is(err, sandbox.ErrNotFound) || errors.Is(err, sandbox.ErrBadPath) {
			return nil
		}
		return unavailableSandbox(err)
	}
	given := 0
	for _, f := range list {
		if h.log.given(f) {
			continue
		}
		if given++; given > maxOutputs {
			return h.record(ctx, &sessions.Notice{Code: noticeFile,
				Text: fmt.Sprintf("Cell %d wrote more than %d files; the rest stay in /workspace/outputs, and !get NAME posts one.", cell, maxOutputs)})
		}
		if err := h.give(ctx, f, cell, ""); err != nil {
			if errors.Is(err, sandbox.ErrGone) || sessions.CodeOf(err) == sessions.LeaseLost || ctx.Err() != nil {
				return err
			}
			if err := h.skip(ctx, f.Path, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// give copies a file into the blob store and records it.
func (h *holder) give(ctx context.Context, f sandbox.File, cell int64, title string) error {
	blob, size, err := h.copyOut(ctx, f, maxOutputSize)
	if err != nil {
		return err
	}
	return h.record(ctx, &sessions.File{Path: f.Path, Size: size, SHA256: blob, MIME: mimeOf(f.Path, ""), Blob: blob,
		Cell: cell, Title: title, ModTime: f.ModTime})
}

// copyOut copies a file of at most limit bytes into the blob store.
func (h *holder) copyOut(ctx context.Context, f sandbox.File, limit int64) (blob string, size int64, err error) {
	h.there[f.Path] = true
	r, w := io.Pipe()
	go func() { w.CloseWithError(h.session.Get(ctx, f.Path, w, limit)) }()
	defer r.Close()
	return h.Blobs.Put(ctx, h.thread, r, limit)
}

// share gives one file of the workspace to the thread.
func (h *holder) share(ctx context.Context, name, title string) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	list, _, err := s.List(ctx, path.Dir(name))
	if err != nil {
		return err
	}
	for _, f := range list {
		if f.Path == path.Clean(name) {
			return h.give(ctx, f, h.log.cells, title)
		}
	}
	return sandbox.ErrNotFound
}
