package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A redirect is what the engine gets in place of a checkpoint. The id makes the
// redirects of a name's checkpoints differ, in meaning and in bytes: containerd
// refuses to take up the same content twice at once.
type redirect struct {
	Checkpoint string `json:"threadbook_checkpoint"`
	ID         string `json:"id"`
}

// redirectName is the file's, where runsc would have put a checkpoint's files.
const redirectName = "threadbook.json"

func writeRedirect(dir string, d *description) error {
	text, err := json.Marshal(redirect{d.Name, d.ID})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, redirectName), append(text, '\n'), 0o600)
}

// readRedirect returns nil where there is none.
func readRedirect(dir string) (*redirect, error) {
	text, err := readConfig(filepath.Join(dir, redirectName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	to := new(redirect)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err == nil && (!names.MatchString(to.Checkpoint) || !ids.MatchString(to.ID)) {
		err = errors.New("it names no checkpoint")
	}
	if err != nil {
		return nil, faultf(BadCheckpoint, "what the engine kept of the checkpoint is damaged: %v", err)
	}
	return to, nil
}

// maxReason bounds what is passed on of runsc's reasons.
const maxReason = 400

// start restores the checkpoint that the container names.
func (c *call) start(box *container) error {
	name := box.settings.restore
	if name == "" {
		return c.pass()
	}
	s, err := openStore(c.checkpoints, false)
	if err == nil {
		defer s.close()
		err = c.startFrom(s, box, name)
	}
	if err != nil {
		// An engine doesn't clean up after a start that failed, only after a
		// container that ended; so this one has to. What is in the way of that
		// matters less than why.
		c.real().ask("delete", "--force", box.id)
	}
	return err
}

func (c *call) startFrom(s *store, box *container, name string) error {
	takes := name == box.settings.saveAs
	h, err := s.hold(name, takes)
	if err != nil {
		return err
	}
	defer h.release()
	if err := h.fits(box.fit(), c.real()); err != nil {
		return err
	}
	err = box.unthrottled(func() error {
		return c.restoreFrom(h, "--detach", "--image-path", h.path(), box.id)
	})
	if err != nil {
		return err
	}
	if takes {
		return h.remove()
	}
	return nil
}

// restore is the engine's own restore, of what it kept of a checkpoint.
func (c *call) restore(box *container) error {
	c.limitDisk(box)
	to, err := readRedirect(c.flag("image-path"))
	if err != nil {
		return err
	}
	if to == nil {
		return c.pass()
	}
	s, err := openStore(c.checkpoints, false)
	if err != nil {
		return err
	}
	defer s.close()
	h, err := s.hold(to.Checkpoint, false)
	if err != nil {
		return err
	}
	defer h.release()
	if h.ID != to.ID {
		return faultf(NoCheckpoint, "checkpoint %s was replaced by a newer one, of %s", h.Name, h.Created.Format("2 January 15:04 MST"))
	}
	if err := h.fits(box.fit(), c.real()); err != nil {
		return err
	}
	flags := append(without(c.flags(), "image-path", true), "--image-path", h.path())
	return c.restoreFrom(h, append(flags, box.id)...)
}

// restoreFrom runs runsc's restore while the checkpoint is held.
func (c *call) restoreFrom(h *held, args ...string) error {
	log := c.global("log")
	from := logSize(log)
	err := c.real().run(nil, nil, append([]string{"restore"}, args...)...)
	if err == nil || codeOf(err) != Failed {
		return err
	}
	if text := lastError(log, from); text != "" {
		text, _, _ = strings.Cut(text, ": goroutine ") // a panic's stack
		err = fmt.Errorf("%w: %.*s", err, maxReason, text)
	}
	return faultf(Failed, "runsc can't restore checkpoint %s: %v", h.Name, err)
}
