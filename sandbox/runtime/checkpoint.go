package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"
)

const (
	// layout is the version of what this package writes; it reads no other.
	layout = 1

	suffix = ".json" // of a description's file
	// inData is a description's name while its data is not yet whole.
	inData = "checkpoint" + suffix
	// maxDescription bounds what is read as one.
	maxDescription = 64 << 10
)

// ids are what crypto/rand.Text gives: upper case, so that none is "json".
var ids = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// A Checkpoint is what is told of a kept checkpoint.
type Checkpoint struct {
	Name      string    `json:"name"`
	Created   time.Time `json:"created"`
	Bytes     int64     `json:"bytes"`          // what it takes on disk
	Container string    `json:"container"`      // the id of the one that was saved
	Base      string    `json:"base,omitempty"` // its THREADBOOK_BASE
	Runsc     string    `json:"runsc"`          // the version of the sandbox that wrote it
}

// A description is all that is known of it: what is in NAME.json.
type description struct {
	Layout int `json:"layout"`
	Checkpoint
	ID     string           `json:"id"`
	Binary string           `json:"binary,omitempty"` // the runsc of that version; see runsc.binary
	Files  map[string]int64 `json:"files"`            // the data, with sizes
	// Sums are the files' checksums; none where an earlier version kept it.
	Sums map[string]string `json:"sums,omitempty"`
	Fit  fit               `json:"fit"`
}

// data is the name of the folder of what runsc wrote.
func (d *description) data() string { return d.Name + "." + d.ID }

// dataName takes the name of such a folder apart.
func dataName(folder string) (name, id string, ok bool) {
	name, id, _ = strings.Cut(folder, ".")
	return name, id, names.MatchString(name) && ids.MatchString(id)
}

// describe reads the description of a checkpoint.
func (s *store) describe(name string) (*description, error) {
	if !names.MatchString(name) {
		return nil, faultf(BadSetting, "%.120q is no checkpoint's name", name)
	}
	d, err := s.read(name + suffix)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, faultf(NoCheckpoint, "there is no checkpoint %s in %s", name, s.dir)
	case err == nil && d.Layout != layout:
		return nil, faultf(DoesNotFit, "checkpoint %s was kept by another version of %s: delete it", name, program)
	case err == nil && (d.Name != name || !ids.MatchString(d.ID) || len(d.Files) == 0):
		err = errors.New("its description is not its own")
	}
	if err != nil {
		return nil, damaged(name, err)
	}
	return d, nil
}

// read reads a file that is to be a description.
func (s *store) read(file string) (*description, error) {
	info, err := s.root.Lstat(file)
	if err == nil {
		err = trusted(info, fs.FileMode.IsRegular)
	}
	if err == nil && info.Size() > maxDescription {
		err = fmt.Errorf("its description has %d bytes", info.Size())
	}
	if err != nil {
		return nil, err
	}
	text, err := s.root.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := new(description)
	return d, json.Unmarshal(text, d)
}

// whole makes sure that the data is what the description says.
func (s *store) whole(d *description) error {
	folder, err := s.root.Lstat(d.data())
	if err == nil {
		err = trusted(folder, fs.FileMode.IsDir)
	}
	if err != nil {
		return damaged(d.Name, err)
	}
	for file, size := range d.Files {
		info, err := s.root.Lstat(d.data() + "/" + file)
		if err == nil {
			err = trusted(info, fs.FileMode.IsRegular)
		}
		if err == nil && info.Size() != size {
			err = fmt.Errorf("%s has %d bytes of %d", file, info.Size(), size)
		}
		if err != nil {
			return damaged(d.Name, err)
		}
	}
	return nil
}

// trusted is whether a file is of that kind and its owner is this user.
func trusted(info fs.FileInfo, kind func(fs.FileMode) bool) error {
	if !kind(info.Mode()) {
		return fmt.Errorf("%s is a %v", info.Name(), info.Mode())
	}
	if !ours(info) {
		return fmt.Errorf("%s is not root's", info.Name())
	}
	return nil
}

func damaged(name string, err error) error {
	return faultf(BadCheckpoint, "checkpoint %s is damaged (%v): delete it", name, err)
}

// fits makes sure that the checkpoint can be restored into a container.
func (d *description) fits(now fit, runsc *runsc) error {
	if differ := d.Fit.differences(now); differ != "" {
		return faultf(DoesNotFit, "checkpoint %s was made for another container, these differ: %s", d.Name, differ)
	}
	if d.Binary != "" && d.Binary == runsc.binary() {
		return nil
	}
	version, err := runsc.version()
	if err != nil {
		return err
	}
	if version != d.Runsc {
		return faultf(DoesNotFit, "checkpoint %s was written by runsc %s and here is %s: delete it", d.Name, d.Runsc, version)
	}
	return nil
}

// measure notes which files there are and what is in them, and flushes them: a
// description must not outlive what it describes. That costs no time: the files
// have just been written, so they are read from memory while the disk is busy.
func (d *description) measure(root *os.Root) error {
	folder, err := root.Open(d.data())
	if err != nil {
		return err
	}
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return err
	}
	d.Files, d.Sums, d.Bytes = map[string]int64{}, map[string]string{}, 0
	for _, entry := range entries {
		f, err := root.Open(d.data() + "/" + entry.Name())
		if err != nil {
			return err
		}
		flushed := make(chan error, 1)
		go func() { flushed <- f.Sync() }()
		sum, size, err := sumOf(f)
		if err := errors.Join(err, <-flushed, f.Close()); err != nil {
			return err
		}
		d.Files[entry.Name()], d.Sums[entry.Name()] = size, sum
		d.Bytes += size
	}
	return folder.Sync()
}
