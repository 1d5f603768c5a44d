package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"threadbook/sandbox"
	"threadbook/sessions"
)

// What is kept of a workspace for the thread's next machine, beside the files
// that were sent and given out.
const (
	maxKept     = 200       // files at a time
	maxKeptSize = 512 << 20 // bytes of them
	// maxCopied is for all that was ever copied, in bytes: a file that changes
	// at each turn is a blob each time, and those go with the thread alone.
	maxCopied = 4 << 30
	// keepTimeout bounds one look between turns. What it did not come to is
	// copied after the next turn.
	keepTimeout = 2 * time.Minute
	// maxOver is how many files of a thread are noted, and told, as being over
	// the limits.
	maxOver = 20
)

// takeFile takes a file's event, recorded at that time.
func (l *threadLog) takeFile(at time.Time, f *sessions.File) {
	l.filed[f.Path] = at
	if f.Blob != "" && !l.blobs[f.Blob] {
		if l.blobs[f.Blob] = true; f.Saved {
			l.copied += f.Size
		}
	}
	if !f.Saved {
		l.files[f.Path] = f
		delete(l.saved, f.Path)
		return
	}
	if isOver(f) && !isOver(l.saved[f.Path]) {
		l.untold = append(l.untold, f.Path)
	}
	l.saved[f.Path] = f
}

// isOver says that the event notes a file as being over the limits.
func isOver(f *sessions.File) bool { return f != nil && f.Saved && f.Blob == "" && !f.ModTime.IsZero() }

// over are the paths that are noted so, in order.
func (l *threadLog) over() []string {
	var paths []string
	for path, f := range l.saved {
		if isOver(f) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// file is what the log last said of a path, nil for nothing.
func (l *threadLog) file(path string) *sessions.File {
	if f := l.saved[path]; f != nil {
		return f
	}
	return l.files[path]
}

// paths are those that the log has said something of, in order.
func (l *threadLog) paths() []string {
	all := maps.Clone(l.files)
	maps.Copy(all, l.saved)
	return slices.Sorted(maps.Keys(all))
}

// unchanged says that the file is as the log has it. The log doesn't know the
// time of a file that came with a message; that one was put there before it
// was recorded, and by this machine's clock.
func (l *threadLog) unchanged(f sandbox.File) bool {
	known := l.file(f.Path)
	switch {
	case known == nil || known.Size != f.Size:
		return false
	case known.ModTime.IsZero():
		return known.Blob != "" && !f.ModTime.After(l.filed[f.Path])
	default:
		return known.ModTime.Equal(f.ModTime)
	}
}

// given says that the file was given out as it is: these very bytes, though
// they may have been put into another sandbox since.
func (l *threadLog) given(f sandbox.File) bool {
	out := l.files[f.Path]
	if out == nil || out.Size != f.Size {
		return false
	}
	saved := l.saved[f.Path]
	return out.ModTime.Equal(f.ModTime) || saved != nil && saved.Blob == out.Blob && saved.ModTime.Equal(f.ModTime)
}

// tellLost says that the sandbox is new, and what that means. from is the host
// that had the old one, where that was another.
func (h *holder) tellLost(from string) []sessions.Body {
	var bodies []sessions.Body
	if from != "" {
		bodies = append(bodies, &sessions.Notice{Code: noticeMoved, Text: "The machine that had this thread's sandbox is away, so the thread goes on on another one."})
	}
	text := "The thread has a new sandbox: variables of earlier cells are gone; its files are back as they were at the end of the last turn"
	if over := h.log.over(); len(over) > 0 {
		text += ", but for what was over the limit of what is kept: " + strings.Join(over, ", ")
	}
	return append(bodies, &sessions.Notice{Code: noticeStateLost, Text: text + ". `!rerun` runs all cells again."})
}

// restore puts files into a sandbox that should have them and hasn't: in a
// fresh one all that the log holds, in an older one what came with messages,
// since a crash may have come between the sandbox's start and its files.
func (h *holder) restore(ctx context.Context, s sandbox.Session) (err error) {
	if h.there, err = names(ctx, s); err != nil {
		return unavailableSandbox(err)
	}
	put := false
	for _, path := range h.log.paths() {
		f := h.log.file(path)
		if f.Blob == "" || h.there[path] || f.Message == 0 && !s.Fresh() {
			continue
		}
		there, err := h.put(ctx, s, f)
		if err != nil {
			return err
		}
		if there {
			h.there[path], put = true, true
		}
	}
	if put && s.Fresh() {
		return h.recordTimes(ctx, s)
	}
	return nil
}

// recordTimes notes the times that the files have in a new sandbox, where all
// of them are the log's: else they would be taken for changed ones, copied
// again and given out again.
func (h *holder) recordTimes(ctx context.Context, s sandbox.Session) error {
	list, _, err := s.List(ctx, ".")
	if err != nil {
		return unavailableSandbox(err)
	}
	var bodies []sessions.Body
	for _, f := range list {
		known := h.log.file(f.Path)
		if known == nil || known.Blob == "" || known.Size != f.Size || known.ModTime.Equal(f.ModTime) {
			continue
		}
		bodies = append(bodies, &sessions.File{Path: f.Path, Size: f.Size, SHA256: known.Blob, MIME: known.MIME, Blob: known.Blob,
			ModTime: f.ModTime, Saved: true})
	}
	return h.record(ctx, bodies...)
}

// keep copies what has changed in the workspace into the blob store, so that
// the thread can go on on another machine. It is done between turns, once what
// they did is recorded, and makes way for a message that comes: then, as after
// a holder's death, it is done after the next turn.
func (h *holder) keep(ctx context.Context) error {
	if !h.unkept || h.session == nil {
		return nil
	}
	copying, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(keepTimeout, func() { cancel(errors.New("keeping the workspace took too long")) })
	defer late.Stop()
	err := h.keepChanged(ctx, copying, cancel)
	switch {
	case err == nil, errors.Is(context.Cause(copying), errMakeWay), errors.Is(context.Cause(copying), errPaused):
		return nil
	case errors.Is(err, sandbox.ErrGone):
		h.session = nil
		return nil
	case ctx.Err() != nil || errors.As(err, new(logError)):
		return err
	}
	h.slog.WarnContext(ctx, "the workspace was not kept; it will be tried after the next turn", "err", err)
	return nil
}

// errMakeWay ends keeping when something else is to be done.
var errMakeWay = errors.New("a message has come")

// untilNews ends keeping when a message comes, and leaves the news of it.
func (h *holder) untilNews(ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-h.news:
		cancel(errMakeWay)
		h.tell()
	case <-ctx.Done():
	}
}

func (h *holder) keepChanged(ctx, copying context.Context, cancel context.CancelCauseFunc) error {
	list, more, err := h.session.List(copying, ".")
	if err != nil {
		return err
	}
	files, size := 0, int64(0) // that are kept as they are
	present := map[string]bool{}
	var changed []sandbox.File
	for _, f := range list {
		present[f.Path] = true
		if !h.log.unchanged(f) {
			changed = append(changed, f)
		} else if known := h.log.saved[f.Path]; known != nil && known.Blob != "" {
			files, size = files+1, size+f.Size
		}
	}
	if len(changed) > 0 {
		go h.untilNews(copying, cancel)
		go h.untilPaused(copying, cancel)
	}
	// The small ones first: more of them find room.
	slices.SortStableFunc(changed, func(a, b sandbox.File) int { return cmp.Compare(a.Size, b.Size) })
	var over []sandbox.File
	for _, f := range changed {
		if err := context.Cause(copying); err != nil {
			return err
		}
		if files == maxKept || size+f.Size > maxKeptSize || h.log.copied+f.Size > maxCopied {
			over = append(over, f)
			continue
		}
		blob, n, err := h.copyOut(copying, f, maxKeptSize-size)
		switch {
		case errors.Is(err, sandbox.ErrNotFound), errors.Is(err, sandbox.ErrBadPath):
			delete(present, f.Path) // it has just gone
			continue
		case errors.Is(err, sandbox.ErrTooLarge): // it has just grown
			over = append(over, f)
			continue
		case err != nil:
			return err
		}
		files, size = files+1, size+n
		if err := h.record(ctx, &sessions.File{Path: f.Path, Size: n, SHA256: blob, MIME: mimeOf(f.Path, ""), Blob: blob, ModTime: f.ModTime, Saved: true}); err != nil {
			return err
		}
	}
	h.unkept = false
	bodies := h.noteOver(over)
	for _, path := range slices.Sorted(maps.Keys(h.there)) {
		known := h.log.file(path)
		if known != nil && (known.Blob != "" || isOver(known)) && !present[path] && !more {
			bodies = append(bodies, &sessions.File{Path: path, Saved: true})
		}
	}
	return h.record(ctx, bodies...)
}

// noteOver notes files as being over the limits. The thread is told of them in
// its next turn: what comes between turns is shown by no chat.
func (h *holder) noteOver(files []sandbox.File) []sessions.Body {
	noted := len(h.log.over())
	var bodies []sessions.Body
	for _, f := range files {
		if noted == maxOver {
			break
		}
		if !isOver(h.log.saved[f.Path]) {
			noted++
			h.there[f.Path] = true
			bodies = append(bodies, &sessions.File{Path: f.Path, Size: f.Size, MIME: mimeOf(f.Path, ""), ModTime: f.ModTime, Saved: true})
		}
	}
	return bodies
}

// tellOver tells the thread of files that were noted as being over the limits
// since it was last told of any.
func (h *holder) tellOver(ctx context.Context) error {
	untold := h.log.untold
	if len(untold) == 0 {
		return nil
	}
	names := strings.Join(untold, ", ")
	if len(h.log.over()) == maxOver {
		names += ", and perhaps more"
	}
	return h.record(ctx, &sessions.Notice{Code: noticeNotKept, Text: fmt.Sprintf(
		"Files in /workspace beside those sent and given out are kept for the case that this machine dies, up to %d files and %d MiB. Over that, and lost then: %s.",
		maxKept, maxKeptSize>>20, names)})
}
