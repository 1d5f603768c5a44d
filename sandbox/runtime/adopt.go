package runtime

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"syscall"
	"time"
)

// incoming is the folder of checkpoints that are being carried here from another
// machine: each is a folder of the name that it is to have, with its data and, as
// inData, the description that it had there. Until it is adopted nothing of it is
// a checkpoint.
const incoming = "incoming"

// incomingAge is how long after the last change of it something that is being
// carried here is taken for left by a crash. Carrying may pause, but not for long.
const incomingAge = 15 * time.Minute

// adopt makes a checkpoint of what was carried here under that name, if it is
// whole and the container could be restored from it, and deletes it otherwise.
// It always fails, with [Adopted] where it succeeded: then the engine has no
// container to start and to end, and this one may have a whole sandbox's
// configuration, to be compared.
func (c *call) adopt(box *container, name string) error {
	s, err := openStore(c.checkpoints, true)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.describe(name); codeOf(err) != NoCheckpoint {
		return faultf(BadSetting, "there is a checkpoint %s already", name)
	}
	h, came, err := s.takeIn(name)
	if err != nil {
		return err
	}
	defer h.release()
	came.Binary = "" // the file that it stands for is on the other machine
	if err := came.fits(box.fit(), c.real()); err != nil {
		return err
	}
	if err := h.check(came); err != nil {
		return err
	}
	h.Container, h.Base, h.Runsc, h.Fit, h.Binary = came.Container, came.Base, came.Runsc, came.Fit, c.real().binary()
	if err := h.announce(); err != nil {
		return err
	}
	return faultf(Adopted, "checkpoint %s, with %d bytes", name, h.Bytes)
}

// takeIn gives what was carried here under that name a place among the data of
// checkpoints, and locks it; came is the description that it came with. Where that
// fails it is deleted.
func (s *store) takeIn(name string) (h *held, came *description, err error) {
	from := incoming + "/" + name
	lock, err := s.lock(from, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, faultf(NoCheckpoint, "nothing was carried here as %s", name)
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
			s.root.RemoveAll(from)
		}
	}()
	if came, err = s.read(from + "/" + inData); err != nil {
		return nil, nil, damaged(name, err)
	}
	if came.Layout != layout {
		return nil, nil, faultf(DoesNotFit, "checkpoint %s was kept by another version of %s", name, program)
	}
	d := &description{Layout: layout, Checkpoint: Checkpoint{Name: name}, ID: rand.Text()}
	// The engine makes folders that anybody may look into.
	err = errors.Join(s.root.Remove(from+"/"+inData), s.root.Chmod(from, 0o700))
	if err == nil {
		err = s.root.Rename(from, d.data())
	}
	if err != nil {
		return nil, nil, err
	}
	return &held{d, s, lock}, came, nil
}

// check makes sure that the data is what the description says, to the byte, and
// nothing more.
func (h *held) check(came *description) error {
	if len(came.Sums) == 0 {
		return faultf(BadCheckpoint, "checkpoint %s was kept before there were checksums", came.Name)
	}
	h.Files = came.Files
	if err := h.store.whole(h.description); err != nil {
		return err
	}
	if err := h.measure(h.store.root); err != nil {
		return err
	}
	if !maps.Equal(h.Files, came.Files) || !maps.Equal(h.Sums, came.Sums) {
		return damaged(h.Name, errors.New("it is not what was sent"))
	}
	return nil
}

// sumOf is a file's checksum and size. CRC-32C is for accidents, which is what
// disks have, and processors calculate it faster than they read memory; who could
// change the file on purpose could change its description too.
func sumOf(f *os.File) (sum string, size int64, err error) {
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	size, err = io.CopyBuffer(struct{ io.Writer }{crc}, struct{ io.Reader }{f}, make([]byte, 256<<10))
	return fmt.Sprintf("%08x", crc.Sum32()), size, err
}

// sweepIncoming deletes what was being carried here when somebody died.
func (s *store) sweepIncoming() {
	dir, err := s.root.Open(incoming)
	if err != nil {
		return
	}
	defer dir.Close()
	entries, _ := dir.Readdirnames(-1)
	for _, name := range entries {
		folder := incoming + "/" + name
		if lock, err := s.lock(folder, syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			if time.Since(s.changed(folder)) > incomingAge {
				s.root.RemoveAll(folder)
			}
			lock.Close()
		}
	}
}

// changed is when something in the folder last did.
func (s *store) changed(folder string) (at time.Time) {
	dir, err := s.root.Open(folder)
	if err != nil {
		return time.Now()
	}
	defer dir.Close()
	entries, _ := dir.Readdirnames(-1)
	for _, name := range append(entries, ".") {
		if info, err := s.root.Lstat(folder + "/" + name); err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
	}
	return at
}
