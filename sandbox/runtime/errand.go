package runtime

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The words of an errand.
const (
	errandList   = "list"
	errandDelete = "delete"
	errandAdopt  = "adopt"
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
	// More is the name that the next page begins with; empty on the last one.
	More string `json:"more,omitempty"`
}

// errand deletes the checkpoints that it is to, and what crashes have left, and
// prints what is there, in about limit bytes; 0 is all of it.
func (c *call) errand(words []string, stdout io.Writer, limit int) error {
	s, err := openStore(c.checkpoints, true)
	if err != nil {
		return err
	}
	defer s.close()
	from := ""
	for _, name := range words[1:] {
		switch words[0] {
		case errandList:
			from = name
		case errandDelete:
			if err := s.remove(name); err != nil {
				return fmt.Errorf("checkpoint %s can't be deleted: %w", name, err)
			}
		default:
			return faultf(BadSetting, "%q is an errand of containers alone", words[0])
		}
	}
	list := Listing{Layout: layout, Dir: s.dir, Quota: c.quota, Checkpoints: []Checkpoint{}}
	all, broken, err := s.sweep()
	if err != nil {
		return err
	}
	list.page(all, broken, from, limit)
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
	return c.errand(words, stdout, 0)
}

// page puts in what has names from the given one on and takes about limit bytes.
func (l *Listing) page(all []Checkpoint, broken []string, from string, limit int) {
	for taken := 0; len(all)+len(broken) > 0; {
		if len(all) > 0 && (len(broken) == 0 || all[0].Name < broken[0]) {
			k := all[0]
			if all = all[1:]; k.Name < from {
				continue
			}
			text, _ := json.Marshal(k)
			if taken += len(text) + 1; limit > 0 && taken > limit && len(l.Checkpoints)+len(l.Broken) > 0 {
				l.More = k.Name
				return
			}
			l.Checkpoints = append(l.Checkpoints, k)
			continue
		}
		name := broken[0]
		if broken = broken[1:]; name < from {
			continue
		}
		if taken += len(name) + len(`"",`); limit > 0 && taken > limit && len(l.Checkpoints)+len(l.Broken) > 0 {
			l.More = name
			return
		}
		l.Broken = append(l.Broken, name)
	}
}

const (
	// roomyPipe is what a container's output is made to hold, and plainPipe what
	// can be relied on where that isn't known.
	roomyPipe = 1 << 20
	plainPipe = 64 << 10
	// listingHead is more than a listing without checkpoints takes.
	listingHead = 8 << 10
)

// pageSize is how long a page of the listing may be. The engine's shim reads a
// container's output only once create is over, so till then it has to fit into
// a pipe.
func pageSize(stdout io.Writer) int {
	size := plainPipe
	if f, ok := stdout.(*os.File); ok {
		unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, roomyPipe)
		if n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0); err == nil {
			size = n
		}
	}
	return max(size-listingHead, 1)
}

// free is how many bytes the directory's disk has left.
func (s *store) free() (int64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * stat.Bsize, nil
}
