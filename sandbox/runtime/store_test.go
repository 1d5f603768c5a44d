package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func testStore(t *testing.T) *store {
	t.Helper()
	s, err := openStore(t.TempDir()+"/checkpoints", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// keep makes a checkpoint of two files with that text.
func keep(t *testing.T, s *store, name, text string) *held {
	t.Helper()
	h, err := s.begin(name)
	if err != nil {
		t.Fatal(err)
	}
	defer h.release()
	for _, file := range []string{"checkpoint.img", "pages.img"} {
		if err := os.WriteFile(h.path()+"/"+file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.publish(); err != nil {
		t.Fatal(err)
	}
	return h
}

func entries(t *testing.T, s *store) []string {
	t.Helper()
	found, err := filepath.Glob(s.dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	return found
}

func TestDirectoryIsRootsAlone(t *testing.T) {
	for name, prepare := range map[string]func(dir string) error{
		"others can read": func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o750)) },
		"somebody's":      func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 12345, 0)) },
		"link": func(dir string) error {
			return errors.Join(os.Mkdir(dir+"2", 0o700), os.Symlink(dir+"2", dir))
		},
		"file": func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/checkpoints"
			if err := prepare(dir); err != nil {
				t.Fatal(err)
			}
			for _, create := range []bool{true, false} {
				if s, err := openStore(dir, create); codeOf(err) != BadSetting {
					t.Errorf("%+v, %v", s, err)
				}
			}
		})
	}
	dir := t.TempDir() + "/new/checkpoints"
	if _, err := openStore(dir, false); codeOf(err) != NoCheckpoint {
		t.Error(err)
	}
	s, err := openStore(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestKeepReplaceRemove(t *testing.T) {
	s := testStore(t)
	first := keep(t, s, "a", "one")
	second := keep(t, s, "a", "three")
	d, err := s.describe("a")
	if err != nil || d.ID != second.ID || d.Bytes != 10 || d.Files["pages.img"] != 5 || first.ID == second.ID {
		t.Errorf("%v: %+v", err, d)
	}
	if all, broken, err := s.sweep(); err != nil || len(all) != 1 || broken != nil {
		t.Errorf("%+v, %v, %v", all, broken, err)
	}
	if got := entries(t, s); !slices.Equal(got, []string{"a." + second.ID, "a.json"}) {
		t.Errorf("there are %v", got)
	}
	for range 2 {
		if err := s.remove("a"); err != nil {
			t.Error(err)
		}
	}
	if got := entries(t, s); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
	if _, err := s.hold("a", false); codeOf(err) != NoCheckpoint {
		t.Error(err)
	}
}

func TestDamage(t *testing.T) {
	other := "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for name, damage := range map[string]func(s *store, h *held) error{
		"no data":        func(s *store, h *held) error { return os.RemoveAll(h.path()) },
		"a file missing": func(s *store, h *held) error { return os.Remove(h.path() + "/pages.img") },
		"a file short":   func(s *store, h *held) error { return os.Truncate(h.path()+"/pages.img", 1) },
		"a linked file": func(s *store, h *held) error {
			return errors.Join(os.Rename(h.path()+"/pages.img", s.dir+"/x"), os.Symlink(s.dir+"/x", h.path()+"/pages.img"))
		},
		"a pipe": func(s *store, h *held) error {
			return errors.Join(os.Remove(h.path()+"/pages.img"), syscall.Mkfifo(h.path()+"/pages.img", 0o600))
		},
		"a file of somebody's": func(s *store, h *held) error { return os.Chown(h.path()+"/pages.img", 12345, 0) },
		"linked data": func(s *store, h *held) error {
			return errors.Join(os.Rename(h.path(), s.dir+"/elsewhere"), os.Symlink("elsewhere", h.path()))
		},
		"a description of somebody's": func(s *store, h *held) error { return os.Chown(s.dir+"/a.json", 12345, 0) },
		"a linked description": func(s *store, h *held) error {
			return errors.Join(os.Rename(s.dir+"/a.json", s.dir+"/x"), os.Symlink("x", s.dir+"/a.json"))
		},
		"a folder": func(s *store, h *held) error {
			return errors.Join(os.Remove(s.dir+"/a.json"), os.Mkdir(s.dir+"/a.json", 0o700))
		},
		"an empty description": func(s *store, h *held) error { return os.Truncate(s.dir+"/a.json", 0) },
		"half a description":   func(s *store, h *held) error { return os.Truncate(s.dir+"/a.json", 60) },
		"a huge description":   func(s *store, h *held) error { return os.Truncate(s.dir+"/a.json", maxDescription+1) },
		"of another name":      func(s *store, h *held) error { return edit(s, `"name": "a"`, `"name": "b"`) },
		"no id":                func(s *store, h *held) error { return edit(s, h.ID, "") },
		"a path for an id":     func(s *store, h *held) error { return edit(s, h.ID, "/../../etc") },
		"another id":           func(s *store, h *held) error { return edit(s, h.ID, other) },
		"files elsewhere":      func(s *store, h *held) error { return edit(s, `"pages.img"`, `"../../../pages.img"`) },
	} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t)
			keep(t, s, "b", "whole")
			h := keep(t, s, "a", "text")
			if err := damage(s, h); err != nil {
				t.Fatal(err)
			}
			got, err := s.hold("a", false)
			if codeOf(err) != BadCheckpoint || !strings.Contains(err.Error(), "delete it") {
				t.Fatalf("%+v, %v", got, err)
			}
			// As it says: deleting helps, and nothing else is harmed.
			if name == "a folder" {
				return
			}
			if err := s.remove("a"); err != nil {
				t.Error(err)
			}
			keep(t, s, "a", "text")
			for _, name := range []string{"a", "b"} {
				h, err := s.hold(name, false)
				if err != nil {
					t.Fatal(err)
				}
				h.release()
			}
		})
	}
}

// edit changes the description of checkpoint a.
func edit(s *store, old, new string) error {
	text, err := os.ReadFile(s.dir + "/a.json")
	if err != nil || !bytes.Contains(text, []byte(old)) {
		return fmt.Errorf("%w: %s lacks %s", err, text, old)
	}
	return os.WriteFile(s.dir+"/a.json", bytes.ReplaceAll(text, []byte(old), []byte(new)), 0o600)
}

func TestOtherLayout(t *testing.T) {
	s := testStore(t)
	keep(t, s, "a", "text")
	if err := edit(s, fmt.Sprintf(`"layout": %d`, layout), `"layout": 99`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.hold("a", false); codeOf(err) != DoesNotFit {
		t.Error(err)
	}
	if _, broken, _ := s.sweep(); !slices.Equal(broken, []string{"a"}) {
		t.Errorf("%v", broken)
	}
}

// What a crash leaves at any point is no checkpoint, and goes.
func TestLeftovers(t *testing.T) {
	s := testStore(t)
	kept := keep(t, s, "a", "text")
	crash := func(name string, until func(h *held)) string {
		h, err := s.begin(name)
		if err != nil {
			t.Fatal(err)
		}
		until(h)
		h.lock.Close() // and no more
		return h.data()
	}
	crash("a", func(*held) {})
	crash("b", func(h *held) { os.WriteFile(h.path()+"/checkpoint.img", []byte("ha"), 0o600) })
	crash("c", func(h *held) {
		os.WriteFile(h.path()+"/checkpoint.img", []byte("all"), 0o600)
		text, _ := json.Marshal(h.description)
		os.WriteFile(h.path()+"/"+inData, text[:len(text)/2], 0o600)
	})
	writing, err := s.begin("d")
	if err != nil {
		t.Fatal(err)
	}
	all, broken, err := s.sweep()
	if err != nil || len(all) != 1 || broken != nil {
		t.Errorf("%+v, %v, %v", all, broken, err)
	}
	if got := entries(t, s); !slices.Equal(got, []string{kept.data(), "a.json", writing.data()}) {
		t.Errorf("there are %v", got)
	}
	writing.release()
	if got := entries(t, s); !slices.Equal(got, []string{kept.data(), "a.json"}) {
		t.Errorf("there are %v", got)
	}
}

// Data stays for as long as somebody reads it, and no longer.
func TestDeletedWhileHeld(t *testing.T) {
	s := testStore(t)
	keep(t, s, "a", "text")
	one, err := s.hold("a", false)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.hold("a", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.remove("a"); err != nil {
		t.Fatal(err)
	}
	one.release()
	if text, err := os.ReadFile(two.path() + "/pages.img"); err != nil || string(text) != "text" {
		t.Errorf("%s, %v", text, err)
	}
	two.release()
	if got := entries(t, s); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
}

// A checkpoint that somebody takes is had by one only.
func TestTakenOnce(t *testing.T) {
	s := testStore(t)
	keep(t, s, "a", "text")
	var (
		all   sync.WaitGroup
		taken = make(chan error, 8)
	)
	for range cap(taken) {
		all.Go(func() {
			h, err := s.hold("a", true)
			if err == nil {
				err = h.remove()
				h.release()
			}
			taken <- err
		})
	}
	all.Wait()
	close(taken)
	had := 0
	for err := range taken {
		switch {
		case err == nil:
			had++
		case codeOf(err) != NoCheckpoint:
			t.Error(err)
		}
	}
	if had != 1 {
		t.Errorf("%d had it", had)
	}
}

// Whoever holds a checkpoint has all of one, whatever others do meanwhile.
func TestNeverMixed(t *testing.T) {
	s := testStore(t)
	keep(t, s, "a", "0")
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 2 {
		writers.Go(func() {
			for i := range 100 {
				keep(t, s, "a", strings.Repeat(fmt.Sprint(w), i+1))
				if i%10 == 0 {
					s.remove("a")
				}
				if _, _, err := s.sweep(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, err := s.hold("a", false)
				if err != nil {
					if codeOf(err) != NoCheckpoint {
						t.Error(err)
					}
					continue
				}
				one, err1 := os.ReadFile(h.path() + "/checkpoint.img")
				two, err2 := os.ReadFile(h.path() + "/pages.img")
				if err := errors.Join(err1, err2); err != nil || !bytes.Equal(one, two) || int64(len(one)+len(two)) != h.Bytes {
					t.Errorf("%v: %q, %q", err, one, two)
				}
				h.release()
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if _, _, err := s.sweep(); err != nil {
		t.Error(err)
	}
	if got := entries(t, s); len(got) != 2 {
		t.Errorf("there are %v", got)
	}
}

// The runtime is killed while runsc writes.
func TestKilledDuringCheckpoint(t *testing.T) {
	dir := t.TempDir()
	begun, never := dir+"/begun", dir+"/never"
	if err := errors.Join(syscall.Mkfifo(begun, 0o600), syscall.Mkfifo(never, 0o600)); err != nil {
		t.Fatal(err)
	}
	runsc, _ := fakeRunsc(t, fmt.Sprintf(`
case "$*" in
*" state "*) echo '{"status":"paused","pid":%d}' ;;
*" checkpoint "*)
	for word; do case $last in --image-path) to=$word ;; esac; last=$word; done
	echo half >"$to/checkpoint.img"
	echo begun >%s
	exec cat %s ;;
esac`, os.Getpid(), begun, never))
	bundle := dir + "/bundle"
	config := `{"process":{"env":["THREADBOOK_SAVE_AS=a"]},"root":{"path":"/"}}`
	if err := errors.Join(os.Mkdir(bundle, 0o700), os.WriteFile(bundle+"/config.json", []byte(config), 0o600)); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, checkpoints: dir + "/checkpoints"}
	m.flags = []string{"--runsc=" + runsc, "--checkpoints=" + m.checkpoints, "--checkpoints-reserve=0"}
	words := []string{"--root", dir, "--log", bundle + "/log.json", "checkpoint", "--image-path", dir + "/engine", "id"}
	cmd := m.bare(append(slices.Clone(m.flags), words...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	signal, err := os.Open(begun) // waits for the writer
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(signal); err != nil || string(text) != "begun\n" {
		t.Fatalf("%q, %v", text, err)
	}
	list := m.list() // meanwhile nobody takes it for a checkpoint, or for rubbish
	if len(list.Checkpoints) != 0 || m.dataOf("a") == "" {
		t.Errorf("%+v", list)
	}
	cmd.Process.Kill()
	cmd.Wait()
	m.wantNames()
	// What the engine may have kept leads nowhere, and says so.
	to, err := readRedirect(dir + "/engine")
	if err != nil || to.Checkpoint != "a" {
		t.Fatalf("%+v, %v", to, err)
	}
	s, err := openStore(m.checkpoints, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if _, err := s.hold(to.Checkpoint, false); codeOf(err) != NoCheckpoint {
		t.Error(err)
	}
}
