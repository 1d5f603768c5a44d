package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A container whose checkpoint was taken and that is to end is asleep: paused,
// with a mark in its bundle, until the engine does the next thing with it.
//
// containerd pauses a container, has it checkpointed, and resumes it. runsc alone
// makes it end within its checkpoint, and it is dead soon after the engine has
// resumed it. Here it is killed after its checkpoint, and if that were at once,
// the engine would be resuming what is dead, which leaves its shim behind for
// ever. So the resume is what kills it, without waking it: nothing may happen in
// it that its checkpoint doesn't know.

// mark is the mark's name.
const mark = "threadbook-asleep"

// settle puts the container to sleep for good.
func (c *call) settle(box *container, sandbox *sandbox) error {
	if err := os.WriteFile(filepath.Join(box.bundle, mark), nil, 0o600); err != nil {
		return err
	}
	if sandbox.status == running { // not paused by the engine: it won't resume it
		return sandbox.kill()
	}
	return nil
}

func (c *call) asleep() bool {
	if c.bundle() == "" {
		return false
	}
	_, err := os.Lstat(filepath.Join(c.bundle(), mark))
	return err == nil
}

// bury ends a container that is asleep. runsc takes it for paused still, which
// it doesn't resume, signal or delete once it is dead.
func (c *call) bury() error {
	if c.command == "delete" {
		return c.real().become(append([]string{"delete", "--force"}, c.args...)...)
	}
	// kill has the signal after the id.
	i := slices.IndexFunc(c.args, func(word string) bool { return !strings.HasPrefix(word, "-") })
	if i < 0 {
		return c.pass()
	}
	sandbox, err := c.real().state(c.args[i])
	if err != nil {
		return nil // dead already
	}
	defer sandbox.close()
	return sandbox.kill()
}
