package sandboxtest

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"threadbook/sandbox"
)

type file struct {
	data []byte
	at   time.Time
}

// Figure is the PNG that the word "figure" shows.
func Figure() []byte {
	const width, height = 64, 48
	m := image.NewGray(image.Rect(0, 0, width, height))
	for x := range width {
		m.SetGray(x, height-1-x*height/width, color.Gray{Y: 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err) // into memory
	}
	return b.Bytes()
}

func (s *session) List(_ context.Context, dir string) ([]sandbox.File, bool, error) {
	if err := s.engine.fault("List"); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil, false, s.why()
	}
	prefix := ""
	if dir = path.Clean(dir); dir != "." {
		if leaves(dir) {
			return nil, false, fmt.Errorf("listing %q: %w", dir, sandbox.ErrBadPath)
		}
		prefix = dir + "/"
	}
	var found []sandbox.File
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if strings.HasPrefix(name, prefix) {
			f := s.files[name]
			found = append(found, sandbox.File{Path: name, Size: int64(len(f.data)), ModTime: f.at})
		}
	}
	if prefix != "" && len(found) == 0 {
		return nil, false, fmt.Errorf("listing %q: %w", dir, sandbox.ErrNotFound)
	}
	if len(found) > sandbox.MaxListed {
		return found[:sandbox.MaxListed], true, nil
	}
	return found, false, nil
}

func (s *session) Put(_ context.Context, name string, r io.Reader, size int64) error {
	if err := s.engine.fault("Put"); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r, size))
	if err == nil && int64(len(data)) < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return s.why()
	}
	if leaves(name) || s.isFolder(path.Clean(name)) {
		return fmt.Errorf("writing %q: %w", name, sandbox.ErrBadPath)
	}
	s.files[path.Clean(name)] = file{data: data, at: time.Now()}
	s.change()
	return nil
}

func (s *session) Get(_ context.Context, name string, w io.Writer, limit int64) error {
	if err := s.engine.fault("Get"); err != nil {
		return err
	}
	s.mu.Lock()
	f, found := s.files[path.Clean(name)]
	gone, folder := s.gone, s.isFolder(path.Clean(name))
	s.mu.Unlock()
	switch {
	case gone:
		return s.why()
	case leaves(name) || folder:
		return fmt.Errorf("reading %q: %w", name, sandbox.ErrBadPath)
	case !found:
		return fmt.Errorf("reading %q: %w", name, sandbox.ErrNotFound)
	case int64(len(f.data)) > limit:
		return fmt.Errorf("reading %q: %w", name, sandbox.ErrTooLarge)
	}
	_, err := w.Write(f.data)
	return err
}

// isFolder needs the lock.
func (s *session) isFolder(name string) bool {
	for other := range s.files {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return name == "."
}

func leaves(name string) bool {
	return strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..")
}
