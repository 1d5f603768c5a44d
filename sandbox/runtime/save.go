package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// stateFile is what runsc calls the part of a checkpoint that begins with its
// version.
const stateFile = "checkpoint.img"

// checkpoint keeps a checkpoint of the container. The sandbox stays until the
// checkpoint is safely on disk, and isn't lost if that fails: runsc alone would
// end it either way.
func (c *call) checkpoint(box *container) error {
	name := box.settings.saveAs
	if name == "" || c.flag("image-path") == "" {
		return c.pass()
	}
	s, err := openStore(c.checkpoints, true)
	if err != nil {
		return err
	}
	defer s.close()
	sandbox, err := c.real().state(box.id)
	if err != nil {
		return err
	}
	defer sandbox.close()
	if err := c.makeRoom(s, box, sandbox); err != nil {
		return err
	}
	resume, err := c.pause(box.id, sandbox)
	if err != nil {
		return err
	}
	_, stays := lookup(c.flags(), "leave-running")
	if err := c.save(s, box, sandbox, stays); err != nil {
		return errors.Join(saving(name, err), resume())
	}
	if stays {
		return resume()
	}
	return nil
}

// pause stops the sandbox's programs, if the engine hasn't, so that nothing
// happens in it after its state was taken; resume undoes it.
func (c *call) pause(id string, sandbox *sandbox) (resume func() error, err error) {
	if sandbox.status != running {
		return func() error { return nil }, nil
	}
	if _, err := c.real().ask("pause", id); err != nil {
		return nil, err
	}
	return func() error {
		_, err := c.real().ask("resume", id)
		return err
	}, nil
}

// save writes the checkpoint, makes it exist, and settles the sandbox if it is to
// end. If any of that fails there is no checkpoint.
func (c *call) save(s *store, box *container, sandbox *sandbox, stays bool) error {
	h, err := s.begin(box.settings.saveAs)
	if err != nil {
		return err
	}
	defer h.release()
	old, _ := s.describe(h.Name)
	h.Container, h.Base, h.Fit = box.id, box.settings.base, box.fit()
	err = c.write(h)
	if err == nil {
		err = h.publish()
	}
	if err == nil && !stays {
		err = c.settle(box, sandbox)
	}
	if err != nil {
		return errors.Join(err, h.remove())
	}
	if old != nil {
		s.discard(old.data())
	}
	return nil
}

// write lets runsc write the checkpoint's data, and the engine have its share.
func (c *call) write(h *held) error {
	if err := writeRedirect(c.flag("image-path"), h.description); err != nil {
		return err
	}
	flags := without(without(c.flags(), "image-path", true), "leave-running", false)
	words := append([]string{"checkpoint"}, flags...)
	words = append(words, "--leave-running", "--image-path", h.path(), c.id())
	var stderr bytes.Buffer
	if err := c.real().run(nil, &stderr, words...); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	var err error
	if h.Runsc, err = c.real().versionOf(h.path() + "/" + stateFile); err != nil {
		return err
	}
	if now, err := c.real().version(); err == nil && now == h.Runsc {
		h.Binary = c.real().binary()
	}
	return nil
}

// saving is the failure to keep a checkpoint.
func saving(name string, err error) error {
	code := Failed
	// runsc has only words for it.
	if errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		code = NoSpace
	}
	return faultf(code, "no checkpoint %s, the sandbox goes on: %v", name, err)
}

// makeRoom refuses a checkpoint that the disk may have no room for. It takes what
// the sandbox has in memory and what was written to its root file system.
func (c *call) makeRoom(s *store, box *container, sandbox *sandbox) error {
	all, _, err := s.sweep()
	if err != nil {
		return err
	}
	need := box.memory(sandbox.pid)
	if info, err := os.Stat(box.rootfs + "/.gvisor.filestore." + box.id); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			need += stat.Blocks * 512
		}
	}
	free, err := s.free()
	if err != nil {
		return err
	}
	name := box.settings.saveAs
	if left := free - c.reserve; left < need {
		return faultf(NoSpace, "no checkpoint %s, the sandbox goes on: it may take %s, and %s has %s free, of which %s are to stay so",
			name, megabytes(need), s.dir, megabytes(free), megabytes(c.reserve))
	}
	if c.quota == 0 {
		return nil
	}
	var taken int64
	for _, k := range all {
		if k.Name != name {
			taken += k.Bytes
		}
	}
	if taken+need > c.quota {
		return faultf(NoSpace, "no checkpoint %s, the sandbox goes on: it may take %s, and the others take %s of %s (--checkpoints-quota)",
			name, megabytes(need), megabytes(taken), megabytes(c.quota))
	}
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", (n+1<<20-1)>>20) }
