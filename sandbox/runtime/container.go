package runtime

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The variables of a container's environment that this package reads; the
// package comment says what they mean.
const (
	EnvSaveAs  = "THREADBOOK_SAVE_AS"
	EnvRestore = "THREADBOOK_RESTORE"
	EnvBase    = "THREADBOOK_BASE"
	EnvDisk    = "THREADBOOK_DISK"
	EnvErrand  = "THREADBOOK_ERRAND"
)

const (
	// minDisk is what a root file system needs to be of any use.
	minDisk = 1 << 20
	// maxBase bounds a text that is copied into every checkpoint's description.
	maxBase = 1024
	// maxConfig bounds a config.json; an engine's are some tens of kilobytes.
	maxConfig = 16 << 20
)

// names are what a checkpoint can be called: no dot, so that a name can't be
// taken for a file of another one, and nothing that leads out of the directory.
var names = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,99}$`)

// A container is what its bundle says of it.
type container struct {
	id       string
	bundle   string
	rootfs   string
	settings settings
	spec     map[string]any // config.json
}

// settings are the container's variables.
type settings struct {
	saveAs  string
	restore string
	base    string
	disk    int64 // 0: the engine's runtimeArgs say
	errand  []string
}

func (s *settings) any() bool {
	return s.saveAs != "" || s.restore != "" || s.disk != 0 || s.errand != nil
}

// bundle is the folder of the container's config.json. Only create and restore
// are told it. For the other commands it is where the engine's log of the
// container is, a habit of containerd's that create makes sure of.
func (c *call) bundle() string {
	if dir := c.flag("bundle"); dir != "" {
		return dir
	}
	if log := c.global("log"); log != "" {
		return filepath.Dir(log)
	}
	return ""
}

// container reads what the bundle says. Where there is no bundle it is nil, and
// the command is runsc's alone.
func (c *call) container() (*container, error) {
	dir := c.bundle()
	if dir == "" || c.id() == "" {
		return nil, nil
	}
	data, err := readConfig(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, faultf(BadSetting, "the container's configuration can't be read: %v", err)
	}
	var config struct {
		Process struct{ Env []string }
		Root    struct{ Path string }
	}
	box := &container{id: c.id(), bundle: dir}
	if err := errors.Join(json.Unmarshal(data, &config), decode(data, &box.spec)); err != nil {
		return nil, faultf(BadSetting, "%s/config.json is no container's configuration: %v", dir, err)
	}
	box.rootfs = config.Root.Path
	if !filepath.IsAbs(box.rootfs) {
		box.rootfs = filepath.Join(dir, box.rootfs)
	}
	box.settings, err = readSettings(config.Process.Env)
	return box, err
}

// readConfig reads a file that only this user, which is root, could have written.
func readConfig(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New(path + " is no regular file")
	case !ours(info) || info.Mode().Perm()&0o022 != 0:
		return nil, errors.New(path + " can be written by others than root")
	case info.Size() > maxConfig:
		return nil, errors.New(path + " is too large")
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data[:n], err
}

// ours is whether the file belongs to this process's user.
func ours(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

func readSettings(env []string) (settings, error) {
	var s settings
	seen := map[string]string{}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		switch name {
		case EnvSaveAs, EnvRestore, EnvBase, EnvDisk, EnvErrand:
		default:
			continue
		}
		if _, twice := seen[name]; twice {
			return s, faultf(BadSetting, "%s is set twice", name)
		}
		seen[name] = value
	}
	for _, name := range []string{EnvSaveAs, EnvRestore} {
		if value := seen[name]; value != "" && !names.MatchString(value) {
			return s, faultf(BadSetting, "%s=%.120q is no name: lower-case letters, digits and dashes, 100 at most",
				name, value)
		}
	}
	s.saveAs, s.restore, s.base = seen[EnvSaveAs], seen[EnvRestore], seen[EnvBase]
	if len(s.base) > maxBase {
		return s, faultf(BadSetting, "%s has %d bytes; %d are allowed", EnvBase, len(s.base), maxBase)
	}
	if text := seen[EnvDisk]; text != "" {
		disk, err := strconv.ParseInt(text, 10, 64)
		if err != nil || disk < minDisk {
			return s, faultf(BadSetting, "%s=%.40q is no number of bytes from %d up", EnvDisk, text, minDisk)
		}
		s.disk = disk
	}
	if text := seen[EnvErrand]; text != "" {
		s.errand = strings.Fields(text)
		if s.saveAs != "" || s.restore != "" {
			return s, faultf(BadSetting, "a container with %s can have no %s and no %s", EnvErrand, EnvSaveAs, EnvRestore)
		}
		return s, checkErrand(s.errand)
	}
	return s, nil
}

// checkErrand is whether the words are an errand's.
func checkErrand(words []string) error {
	n := len(words) - 1 // names
	switch {
	case n >= 0 && n <= 1 && words[0] == errandList, n == 1 && words[0] == errandAdopt, n >= 1 && words[0] == errandDelete:
	default:
		return faultf(BadSetting, "the errand is %.120q, which is neither %q nor %q nor %q and names",
			strings.Join(words, " "), errandList, errandDelete, errandAdopt)
	}
	if i := slices.IndexFunc(words[1:], func(name string) bool { return !names.MatchString(name) }); i >= 0 {
		return faultf(BadSetting, "the errand names %.120q, which is no checkpoint's name", words[i+1])
	}
	return nil
}
