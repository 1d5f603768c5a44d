package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// carry puts a checkpoint of one machine where another one takes it in.
func carry(t *testing.T, from *machine, name string, to *machine, as string) (folder string) {
	t.Helper()
	folder = to.checkpoints + "/" + incoming + "/" + as
	err := errors.Join(os.MkdirAll(folder, 0o755), os.Chmod(to.checkpoints, 0o700),
		os.CopyFS(folder, os.DirFS(from.dataOf(name))))
	text, readErr := os.ReadFile(from.checkpoints + "/" + name + suffix)
	if err := errors.Join(err, readErr, os.WriteFile(folder+"/"+inData, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	return folder
}

// change changes a byte of a file.
func change(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// adopts asks for the adoption of what was carried to b, by a container as b.
func (m *machine) adopts(id, disk string) error {
	m.t.Helper()
	return m.box(id, []string{EnvErrand + "=adopt b", EnvBase + "=sha256:1", EnvDisk + "=" + disk}, nil).create()
}

const testDisk = "33554432"

func TestAdopt(t *testing.T) {
	one := newMachine(t)
	env := []string{EnvBase + "=sha256:1", EnvDisk + "=" + testDisk}
	a := one.box("a", append(env, EnvSaveAs+"=a"), nil).start()
	a.expect("add 41", "total 41")
	a.expect("write 3 /kept", "written")
	a.sleep()

	two := newMachineBeside(one)
	carry(t, one, "a", two, "b")
	two.wantNames() // not yet
	wantCode(t, two.adopts("errand", testDisk), Adopted, "checkpoint b, with ")
	two.wantNames("b")
	wantCode(t, two.adopts("again", testDisk), BadSetting, "there is a checkpoint b already")
	b := two.box("b", append(env, EnvSaveAs+"=b", EnvRestore+"=b"), nil).start()
	b.expect("add 1", "total 42")
	b.expect("size /kept", "size 3145728")
	two.wantNames()
	wantCode(t, two.adopts("nothing", testDisk), NoCheckpoint, "nothing was carried here as b")
	one.wantNames("a")

	for name, spoil := range map[string]func(folder string) (code, words string){
		"a flipped bit": func(folder string) (string, string) {
			change(t, folder+"/pages.img")
			return BadCheckpoint, "not what was sent"
		},
		"half a file": func(folder string) (string, string) {
			if err := os.Truncate(folder+"/pages.img", 4096); err != nil {
				t.Fatal(err)
			}
			return BadCheckpoint, "pages.img has 4096 bytes"
		},
		"a file too few": func(folder string) (string, string) {
			if err := os.Remove(folder + "/checkpoint.img"); err != nil {
				t.Fatal(err)
			}
			return BadCheckpoint, "checkpoint.img"
		},
		"a file too many": func(folder string) (string, string) {
			if err := os.WriteFile(folder+"/more.img", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return BadCheckpoint, "not what was sent"
		},
		"a link": func(folder string) (string, string) {
			file := folder + "/pages_meta.img"
			if err := errors.Join(os.Rename(file, two.dir+"/linked"), os.Symlink(two.dir+"/linked", file)); err != nil {
				t.Fatal(err)
			}
			return BadCheckpoint, "pages_meta.img is a L"
		},
		"no description": func(folder string) (string, string) {
			if err := os.Remove(folder + "/" + inData); err != nil {
				t.Fatal(err)
			}
			return BadCheckpoint, inData
		},
		"another runsc": func(folder string) (string, string) {
			describe(t, folder+"/"+inData, func(d *description) { d.Runsc = "another" })
			return DoesNotFit, "written by runsc another"
		},
		"another container": func(folder string) (string, string) {
			describe(t, folder+"/"+inData, func(d *description) { d.Fit["mounts"] = "another" })
			return DoesNotFit, "these differ: mounts"
		},
		"no checksums": func(folder string) (string, string) {
			describe(t, folder+"/"+inData, func(d *description) { d.Sums = nil })
			return BadCheckpoint, "before there were checksums"
		},
		"a way out": func(folder string) (string, string) {
			describe(t, folder+"/"+inData, func(d *description) { d.Files["../../../../etc/passwd"], d.Sums["../../../../etc/passwd"] = 1, "0" })
			return BadCheckpoint, "escapes"
		},
	} {
		folder := carry(t, one, "a", two, "b")
		errand := "errand-" + strings.ReplaceAll(name, " ", "-")
		code, words := spoil(folder)
		wantCode(t, two.adopts(errand, testDisk), code, words)
		two.wantNames()
		if left, _ := filepath.Glob(two.checkpoints + "/incoming/b*"); len(left) > 0 {
			t.Errorf("%s: left is %q", name, left)
		}
	}
	carry(t, one, "a", two, "b")
	wantCode(t, two.adopts("limits", "16777216"), DoesNotFit, "these differ: disk")
	two.wantNames()
}

// newMachineBeside is another machine for the same test.
func newMachineBeside(one *machine) *machine {
	m := *one
	m.checkpoints = one.dir + "/elsewhere"
	m.flags = slices.Clone(one.flags)
	m.flags[slices.Index(m.flags, "--checkpoints="+one.checkpoints)] = "--checkpoints=" + m.checkpoints
	return &m
}

// describe changes what a description says.
func describe(t *testing.T, file string, change func(*description)) {
	t.Helper()
	text, err := os.ReadFile(file)
	d := new(description)
	if err == nil {
		err = json.Unmarshal(text, d)
	}
	if err == nil {
		change(d)
		text, err = json.Marshal(d)
	}
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What was being carried when somebody died goes, and not before that is sure.
func TestSweepOfIncoming(t *testing.T) {
	s := testStore(t)
	for _, name := range []string{"old", "young", "held"} {
		if err := os.MkdirAll(s.dir+"/"+incoming+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.dir+"/"+incoming+"/"+name+"/pages.img", []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held, err := s.lock(incoming+"/held", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	past := time.Now().Add(-incomingAge - time.Second)
	for _, path := range []string{"/old/pages.img", "/old", "/young", "/held/pages.img", "/held"} {
		if err := os.Chtimes(s.dir+"/"+incoming+path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.sweep(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(s.dir + "/incoming/*"); len(left) != 2 || !strings.HasSuffix(left[0], "/held") || !strings.HasSuffix(left[1], "/young") {
		t.Errorf("left are %q", left)
	}
}

// fake makes checkpoints that nothing can be restored from.
func (m *machine) fake(n int) {
	m.t.Helper()
	s, err := openStore(m.checkpoints, true)
	if err != nil {
		m.t.Fatal(err)
	}
	defer s.close()
	for i := range n {
		h, err := s.begin(fmt.Sprintf("fake-%s-%05d", strings.Repeat("x", 60), i))
		if err != nil {
			m.t.Fatal(err)
		}
		h.Base, h.Container, h.Runsc = strings.Repeat("b", 71), strings.Repeat("c", 64), "none"
		h.Files, h.Sums = map[string]int64{stateFile: 0}, map[string]string{stateFile: "00000000"}
		if err := errors.Join(os.WriteFile(h.path()+"/"+stateFile, nil, 0o600), h.announce()); err != nil {
			m.t.Fatal(err)
		}
		h.release()
	}
}

// The engine reads what an errand says only once create is over: more than a pipe
// can hold comes in pages.
func TestLongListing(t *testing.T) {
	m := newMachine(t)
	const n = 4000
	m.fake(n)
	broken := m.checkpoints + "/fake-y.json"
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l := m.list(); len(l.Checkpoints) != n || len(l.Broken) != 1 || l.More != "" {
		t.Errorf("a person sees %d and %d", len(l.Checkpoints), len(l.Broken))
	}
	words, seen, gone := errandList, map[string]bool{}, 0
	for page := 1; ; page++ {
		errand := m.box(fmt.Sprintf("errand-%d", page), []string{EnvErrand + "=" + words}, nil)
		if err := errand.create(); err != nil { // returns before anybody reads
			t.Fatal(err)
		}
		errand.stdout.SetReadDeadline(time.Now().Add(patience))
		line, err := errand.lines.ReadString('\n')
		var l Listing
		if err := errors.Join(err, json.Unmarshal([]byte(line), &l)); err != nil {
			t.Fatal(err)
		}
		for _, k := range l.Checkpoints {
			seen[k.Name] = true
		}
		gone += len(l.Broken)
		if l.More == "" {
			if len(seen) != n || gone != 1 || page < 2 {
				t.Errorf("%d pages have %d and %d", page, len(seen), gone)
			}
			return
		}
		words = errandList + " " + l.More
	}
}

func TestPages(t *testing.T) {
	var all []Checkpoint
	for _, name := range []string{"b", "d", "f"} {
		all = append(all, Checkpoint{Name: name})
	}
	broken := []string{"a", "c", "e", "g"}
	for limit, pages := range map[int]int{0: 1, 1: 7, 1 << 20: 1} {
		var got []string
		from := ""
		n := 0
		for {
			var l Listing
			l.page(all, broken, from, limit)
			for _, k := range l.Checkpoints {
				got = append(got, k.Name)
			}
			got = append(got, l.Broken...)
			n++
			if from = l.More; from == "" {
				break
			}
		}
		slices.Sort(got)
		if n != pages || strings.Join(got, "") != "abcdefg" {
			t.Errorf("limit %d: %d pages of %q", limit, n, got)
		}
	}
}
