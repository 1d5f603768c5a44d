package runtime

import (
	"encoding/json"
	"fmt"
	"io"
	"syscall"
)

// The words of an errand.
const (
	errandList   = "list"
	errandDelete = "delete"
)

// operatorCommand is the command that people run errands with.
const operatorCommand = "checkpoints"

// A Listing is what an errand prints, as one line of JSON.
type Listing struct {
	Layout int    `json:"layout"` // rises when this changes in a way that breaks readers
	Dir    string `json:"dir"`
	Free   int64  `json:"free"`            // bytes on its disk that checkpoints may still take
	Quota  int64  `json:"quota,omitempty"` // bytes for all of them together
	Bytes  int64  `json:"bytes"`           // that they take now
	Runsc  string `json:"runsc"`           // its version; others' checkpoints don't fit
	// Checkpoints are ordered by name.
	Checkpoints []Checkpoint `json:"checkpoints"`
	// Broken are names whose checkpoints are good for nothing but to be deleted.
	Broken []string `json:"broken,omitempty"`
}

// errand deletes the checkpoints that it is to, and what crashes have left, and
// prints what is there.
func (c *call) errand(words []string, stdout io.Writer) error {
	s, err := openStore(c.checkpoints, true)
	if err != nil {
		return err
	}
	defer s.close()
	for _, name := range words[1:] {
		if err := s.remove(name); err != nil {
			return fmt.Errorf("checkpoint %s can't be deleted: %w", name, err)
		}
	}
	list := Listing{Layout: layout, Dir: s.dir, Quota: c.quota, Checkpoints: []Checkpoint{}}
	all, broken, err := s.sweep()
	if err != nil {
		return err
	}
	list.Checkpoints, list.Broken = append(list.Checkpoints, all...), broken
	for _, k := range all {
		list.Bytes += k.Bytes
	}
	if list.Free, err = s.free(); err != nil {
		return err
	}
	list.Free = max(list.Free-c.reserve, 0)
	if list.Runsc, err = c.real().version(); err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(list)
}

// operator runs an errand for a person.
func (c *call) operator(stdout io.Writer) error {
	words := c.args
	if len(words) == 0 {
		words = []string{errandList}
	}
	if err := checkErrand(words); err != nil {
		return err
	}
	return c.errand(words, stdout)
}

// free is how many bytes the directory's disk has left.
func (s *store) free() (int64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * stat.Bsize, nil
}
