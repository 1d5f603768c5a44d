package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"threadbook/sandbox"
)

// getAhead is how many lines of a file may wait for the reader: the answer
// with the size, the 8 that come unasked, and the end.
const getAhead = 10

var _ sandbox.Files = (*session)(nil)

// List: see sandbox.Files.
func (s *session) List(ctx context.Context, dir string) ([]sandbox.File, bool, error) {
	m, err := s.ask(ctx, request{Op: "list", Path: dir}, nil)
	if err != nil {
		return nil, false, fmt.Errorf("listing %q: %w", dir, err)
	}
	if len(m.Files) > sandbox.MaxListed {
		m.Files, m.More = m.Files[:sandbox.MaxListed], true
	}
	files := make([]sandbox.File, 0, len(m.Files))
	for _, f := range m.Files {
		if f.Size < 0 || plain(f.Path) != f.Path {
			continue // not from the agent
		}
		files = append(files, sandbox.File{
			Path: f.Path, Size: f.Size, ModTime: time.Unix(0, int64(f.MTime*1e9)),
		})
	}
	return files, m.More, nil
}

// Put: see sandbox.Files.
func (s *session) Put(ctx context.Context, path string, r io.Reader, size int64) error {
	call, err := s.open(request{Op: "put", Path: path, Size: size}, 1, nil)
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	defer s.close(call)
	if err := s.upload(ctx, call, r, size); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return nil
}

func (s *session) upload(ctx context.Context, call *call, r io.Reader, size int64) error {
	buffer := make([]byte, min(size, chunk))
	for left := size; ; {
		part := buffer[:min(left, chunk)]
		if _, err := io.ReadFull(r, part); err != nil {
			s.cancel(call)
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("reading what to write, %d bytes before its end: %w", left, err)
		}
		left -= int64(len(part))
		if err := s.send(request{Op: "data", ID: call.id, End: left == 0}, part); err != nil {
			return err
		}
		if left == 0 {
			_, err := s.answer(ctx, call)
			if ctx.Err() != nil {
				s.cancel(call)
			}
			return err
		}
		select {
		case m := <-call.answers: // before the end there is only a refusal
			if err := refusal(m); err != nil {
				return err
			}
			return violation("an answer in the middle of a file")
		case <-ctx.Done():
			s.cancel(call)
			return context.Cause(ctx)
		default:
		}
	}
}

// Get: see sandbox.Files.
func (s *session) Get(ctx context.Context, path string, w io.Writer, limit int64) error {
	call, err := s.open(request{Op: "get", Path: path, Limit: limit}, getAhead, nil)
	if err != nil {
		return fmt.Errorf("reading %q: %w", path, err)
	}
	defer s.close(call)
	if err := s.download(ctx, call, w, limit); err != nil {
		return fmt.Errorf("reading %q: %w", path, err)
	}
	return nil
}

func (s *session) download(ctx context.Context, call *call, w io.Writer, limit int64) error {
	m, err := s.answer(ctx, call)
	if err != nil {
		return err
	}
	left := m.Size
	if left < 0 || left > limit {
		return violation("%d bytes of a file, where %d is the limit", left, limit)
	}
	for {
		m, err := s.answer(ctx, call)
		if err != nil {
			s.cancel(call)
			return err
		}
		if m.End {
			break
		}
		if left -= int64(len(m.payload)); left < 0 || len(m.payload) == 0 {
			s.cancel(call)
			return violation("a file with more bytes than it said")
		}
		if _, err := w.Write(m.payload); err != nil {
			s.cancel(call)
			return err
		}
		if err := s.send(request{Op: "more", ID: call.id}, nil); err != nil {
			return err
		}
	}
	if left != 0 {
		return violation("a file with %d bytes less than it said", left)
	}
	return nil
}

// cancel tells the agent that a file is not wanted any more.
func (s *session) cancel(call *call) {
	if s.alive() {
		_ = s.send(request{Op: "cancel", ID: call.id}, nil)
	}
}
