package runtime

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A store is the directory that checkpoints are kept in.
type store struct {
	dir  string
	root *os.Root
}

// openStore opens the directory, and makes it if need be. One that others than
// its owner can look into is refused: somebody else may have put things there.
func openStore(dir string, create bool) (*store, error) {
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, faultf(BadSetting, "no directory for checkpoints: %v", err)
		}
	}
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, faultf(NoCheckpoint, "there is no %s yet", dir)
	}
	if err == nil {
		err = trusted(info, fs.FileMode.IsDir)
	}
	if err != nil {
		return nil, faultf(BadSetting, "checkpoints can't be kept in %s: %v", dir, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, faultf(BadSetting, "%s holds people's memory and others can look into it: chmod 700 %s", dir, dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, faultf(BadSetting, "checkpoints can't be kept in %s: %v", dir, err)
	}
	return &store{dir, root}, nil
}

func (s *store) close() { s.root.Close() }

// A held is a checkpoint's data with a lock on it: shared for reading, so that
// it isn't deleted meanwhile, or exclusive for writing it and for taking it.
type held struct {
	*description
	store *store
	lock  *os.File // the data's folder; closing it lets go
}

func (h *held) path() string { return filepath.Join(h.store.dir, h.data()) }

// hold looks a checkpoint up and locks it. It waits for those who hold it in a
// way that excludes this one: a start that takes it away, which is soon over.
func (s *store) hold(name string, exclusive bool) (*held, error) {
	for {
		d, err := s.describe(name)
		if err != nil {
			return nil, err
		}
		how := syscall.LOCK_SH
		if exclusive {
			how = syscall.LOCK_EX
		}
		lock, err := s.lock(d.data(), how)
		if err != nil {
			err = damaged(name, err)
		} else {
			err = s.whole(d)
		}
		// It may have been replaced or deleted before the lock was had.
		if again, changed := s.describe(name); changed == nil && again.ID == d.ID {
			if err != nil {
				lock.Close() // a nil one too
				return nil, err
			}
			return &held{d, s, lock}, nil
		}
		lock.Close()
	}
}

// lock opens a folder and locks it. A folder that was removed while it waited
// is locked all the same: the caller looks again.
func (s *store) lock(folder string, how int) (*os.File, error) {
	f, err := s.root.OpenFile(folder, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, err
		}
	}
}

// release lets go. Data that was replaced or deleted meanwhile goes with it.
func (h *held) release() {
	h.lock.Close()
	h.store.discard(h.data())
}

// begin makes a folder for the data of a new checkpoint, and locks it. Until it
// has the lock, somebody's sweep may take it for rubbish.
func (s *store) begin(name string) (*held, error) {
	for {
		d := &description{Layout: layout, Checkpoint: Checkpoint{Name: name}, ID: rand.Text()}
		if err := s.root.Mkdir(d.data(), 0o700); err != nil {
			return nil, err
		}
		lock, err := s.lock(d.data(), syscall.LOCK_EX)
		if err == nil {
			if _, err = s.root.Lstat(d.data()); err == nil {
				return &held{d, s, lock}, nil
			}
			lock.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// publish makes the checkpoint exist, in the place of the one before. All of
// its data must be there.
func (h *held) publish() error {
	if err := h.measure(h.store.root); err != nil {
		return err
	}
	return h.announce()
}

// announce is publish for data that is measured already.
func (h *held) announce() error {
	h.Created = time.Now().UTC().Truncate(time.Millisecond)
	text, err := json.MarshalIndent(h.description, "", "  ")
	if err != nil {
		return err
	}
	part := h.data() + "/" + inData
	f, err := h.store.root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := h.store.root.Rename(part, h.Name+suffix); err != nil {
		return err
	}
	return h.store.flush()
}

// flush makes the directory's own entries survive a crash of the machine.
func (s *store) flush() error {
	f, err := s.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// remove deletes a checkpoint, if there is one. Its data stays for as long as
// somebody is reading it. Nothing waits for the disk here: it would be most of
// the time that a thread takes to wake up, and a checkpoint that comes back
// with a crash of the machine is one that the driver has no note of, which the
// reaper takes.
func (s *store) remove(name string) error {
	d, err := s.describe(name)
	if codeOf(err) == NoCheckpoint {
		return nil
	}
	if err := s.root.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if d != nil {
		s.discard(d.data())
	}
	return nil
}

// remove deletes the checkpoint unless it was replaced; its data goes when it is
// let go of.
func (h *held) remove() error {
	if !h.store.names(h.Name, h.ID) {
		return nil
	}
	return h.store.remove(h.Name)
}

// discard deletes data that no checkpoint names and nobody holds.
func (s *store) discard(folder string) {
	name, id, ok := dataName(folder)
	if !ok || s.names(name, id) {
		return
	}
	lock, err := s.lock(folder, syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		return // gone, or held: who holds it discards it
	}
	defer lock.Close()
	// What was being written may have been published before the lock was had.
	if !s.names(name, id) {
		s.root.RemoveAll(folder)
	}
}

// names is whether that data belongs to a checkpoint. A description that can't
// be read keeps its data, until it is deleted by name.
func (s *store) names(name, id string) bool {
	d, err := s.describe(name)
	if d == nil {
		return codeOf(err) != NoCheckpoint
	}
	return d.ID == id
}

// sweep deletes what a crash has left. It returns the checkpoints there are, by
// name; broken are the names of those whose description can't be read.
func (s *store) sweep() (all []Checkpoint, broken []string, err error) {
	dir, err := s.root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	slices.Sort(entries)
	for _, entry := range entries {
		name, isDescription := strings.CutSuffix(entry, suffix)
		if entry == incoming {
			s.sweepIncoming()
			continue
		}
		if !isDescription {
			s.discard(entry)
			continue
		}
		switch d, err := s.describe(name); {
		case err == nil:
			all = append(all, d.Checkpoint)
		case names.MatchString(name) && codeOf(err) != NoCheckpoint:
			broken = append(broken, name)
		}
	}
	return all, broken, err
}
