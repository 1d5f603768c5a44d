package runtime

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Main does what the engine asks for in argv, without the program's own name,
// and returns the exit code. Nearly always it becomes runsc instead.
func Main(argv []string) int {
	c, err := parse(argv)
	if err == nil {
		err = c.do(os.Stdout)
	}
	if err != nil {
		c.report(os.Stderr, err)
		return 1
	}
	return 0
}

func (c *call) do(stdout io.Writer) error {
	switch c.command {
	case "create", "start", "checkpoint", "restore":
		box, err := c.container()
		if err != nil {
			return err
		}
		if box == nil || !box.settings.any() {
			return c.pass()
		}
		switch c.command {
		case "create":
			return c.create(box, stdout)
		case "start":
			return c.start(box)
		case "checkpoint":
			return c.checkpoint(box)
		}
		return c.restore(box)
	case "resume", "kill", "delete":
		if c.asleep() {
			return c.bury()
		}
	case operatorCommand:
		return c.operator(stdout)
	}
	return c.pass()
}

// pass leaves the call to runsc as it is.
func (c *call) pass() error { return c.real().become(c.words...) }

// create makes sure that what the later commands need is there, since this is
// the last command that can fail without leaving anything behind.
func (c *call) create(box *container, stdout io.Writer) error {
	log := c.global("log")
	if log == "" || filepath.Dir(log) != filepath.Clean(box.bundle) {
		return faultf(BadSetting, "the engine keeps the container's log at %q and not in its bundle, %s, "+
			"where its other commands would look for its configuration: it can't have %s and the like",
			log, box.bundle, EnvRestore)
	}
	if words := box.settings.errand; words != nil {
		if words[0] == errandAdopt {
			return c.adopt(box, words[1])
		}
		if err := c.errand(words, stdout, pageSize(stdout)); err != nil {
			return err
		}
	}
	if box.settings.saveAs != "" {
		s, err := openStore(c.checkpoints, true)
		if err != nil {
			return err
		}
		s.close()
	}
	if box.settings.restore != "" {
		if err := c.check(box); err != nil {
			return err
		}
	}
	c.limitDisk(box)
	return c.pass()
}

// check is whether the container's start can be a restore.
func (c *call) check(box *container) error {
	s, err := openStore(c.checkpoints, false)
	if err != nil {
		return err
	}
	defer s.close()
	d, err := s.describe(box.settings.restore)
	if err != nil {
		return err
	}
	if err := d.fits(box.fit(), c.real()); err != nil {
		return err
	}
	return s.whole(d)
}

// limitDisk gives the container's root file system its size. runsc takes it when
// it makes the sandbox; later it is part of the sandbox's state.
func (c *call) limitDisk(box *container) {
	if box.settings.disk > 0 {
		const flag = "overlay2"
		c.globals = append(without(c.globals, flag, true),
			fmt.Sprintf("--%s=root:self,size=%d", flag, box.settings.disk))
	}
}
