package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestHibernateAndWake(t *testing.T) {
	m := newMachine(t)
	env := []string{EnvSaveAs + "=thread", EnvBase + "=sha256:1", EnvDisk + "=33554432"}
	a := m.box("a", env, nil).start()
	a.expect("add 41", "total 41")
	a.expect("grow 20", "grown 1")
	a.expect("write 3 /kept", "written")
	a.expect("loop before", "loop before")
	engine := a.sleep()

	files, size := sizes(t, engine)
	if files != 1 || size > 200 {
		t.Errorf("the engine got %d files with %d bytes to copy", files, size)
	}
	list := m.list()
	if len(list.Checkpoints) != 1 {
		t.Fatalf("there are %+v", list)
	}
	k := list.Checkpoints[0]
	if k.Name != "thread" || k.Container != "a" || k.Base != "sha256:1" || k.Bytes < 20<<20 || k.Bytes != list.Bytes ||
		k.Runsc != list.Runsc || k.Created.IsZero() {
		t.Errorf("the checkpoint is told as %+v", k)
	}

	b := m.box("b", append(env, EnvRestore+"=thread", "OTHER=x"), func(spec map[string]any) {
		spec["hostname"] = "elsewhere"
	}).start()
	b.expect("add 1", "total 42")
	b.expect("size /kept", "size 3145728")
	b.expect("loop after", "loop after")
	b.expect("env "+EnvRestore, "env") // what code sees is what it saw
	m.wantNames()                      // it is awake, so it is not asleep

	b.sleep()
	c := m.box("c", append(env, EnvRestore+"=thread"), nil).start()
	c.expect("add 1", "total 43")
}

func TestTemplateIsRestoredByManyAtOnce(t *testing.T) {
	m := newMachine(t)
	a := m.box("a", []string{EnvSaveAs + "=template"}, nil).start()
	a.expect("add 100", "total 100")
	a.sleep()
	boxes := []*box{
		m.box("b", []string{EnvRestore + "=template", EnvSaveAs + "=b"}, nil),
		m.box("c", []string{EnvRestore + "=template", EnvSaveAs + "=c"}, nil),
		m.box("d", []string{EnvRestore + "=template"}, nil),
	}
	for _, b := range boxes {
		if err := b.create(); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for _, b := range boxes {
		all.Go(func() {
			if _, err := m.call(b.id, "start", b.id); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i, b := range boxes {
		b.expect("add "+string(rune('1'+i)), "total 10"+string(rune('1'+i)))
	}
	m.wantNames("template")
}

func TestForkOfARunningSandbox(t *testing.T) {
	m := newMachine(t)
	a := m.box("a", []string{EnvSaveAs + "=a"}, nil).start()
	a.expect("add 1", "total 1")
	if _, err := a.checkpoint("--leave-running"); err != nil {
		t.Fatal(err)
	}
	a.expect("add 1", "total 2")
	b := m.box("b", []string{EnvRestore + "=a", EnvSaveAs + "=b"}, nil).start()
	b.expect("add 10", "total 11")
	a.expect("add 1", "total 3")

	// The next one takes its place.
	a.sleep()
	m.wantNames("a")
	c := m.box("c", []string{EnvRestore + "=a", EnvSaveAs + "=a"}, nil).start()
	c.expect("add 1", "total 4")
	m.wantNames()
}

// Nobody but containerd pauses first.
func TestCheckpointWithoutPause(t *testing.T) {
	m := newMachine(t)
	a := m.box("a", []string{EnvSaveAs + "=a"}, nil).start()
	a.expect("add 1", "total 1")
	m.must("a", "checkpoint", "--leave-running", "--image-path", m.dir+"/one", "a")
	a.expect("add 1", "total 2")
	m.must("a", "checkpoint", "--image-path="+m.dir+"/two", "a")
	if _, err := a.lines.ReadString('\n'); err == nil {
		t.Error("it goes on after its checkpoint")
	}
	m.must("a", "delete", "a")
	b := m.box("b", []string{EnvRestore + "=a"}, nil).start()
	b.expect("add 1", "total 3")
}

// The engine may have other plans than to resume what it has paused.
func TestKilledAfterItsCheckpoint(t *testing.T) {
	m := newMachine(t)
	a := m.box("a", []string{EnvSaveAs + "=a"}, nil).start()
	a.expect("add 1", "total 1")
	m.must("a", "pause", "a")
	m.must("a", "checkpoint", "--image-path", m.dir+"/engine", "a")
	for range 2 {
		m.must("a", "kill", "--all", "a", "9")
	}
	if _, err := a.lines.ReadString('\n'); err == nil {
		t.Error("it goes on after its checkpoint")
	}
	m.must("a", "delete", "a")
	m.box("b", []string{EnvRestore + "=a"}, nil).start().expect("add 1", "total 2")
}

func TestEngineStartsFromItsOwnCheckpoint(t *testing.T) {
	m := newMachine(t)
	env := []string{EnvSaveAs + "=a", EnvRestore + "=template", EnvDisk + "=16777216"}
	m.box("t", []string{EnvSaveAs + "=template", EnvDisk + "=16777216"}, nil).start().sleep()
	a := m.box("a", env, nil).start()
	a.expect("add 7", "total 7")
	engine := a.sleep()

	again := func(id string) (*box, error) {
		b := m.box(id, env, nil)
		return b, b.create("restore", "--image-path", engine, "--detach", "--no-subreaper", "--work-path", m.dir)
	}
	b, err := again("b")
	if err != nil {
		t.Fatal(err)
	}
	b.expect("add 1", "total 8")
	b.expect("write 20 /big", "error write /big: no space left on device")
	m.wantNames("a", "template") // an engine may restore what it has as often as it likes

	b.sleep()
	_, err = again("c")
	wantCode(t, err, NoCheckpoint, "replaced")
	m.list(errandDelete, "a")
	_, err = again("d")
	wantCode(t, err, NoCheckpoint, "there is no checkpoint a")
}

func TestDiskLimit(t *testing.T) {
	m := newMachine(t)
	env := []string{EnvSaveAs + "=a", EnvDisk + "=12582912"}
	a := m.box("a", env, nil).start()
	a.expect("write 8 /one", "written")
	a.expect("write 8 /two", "error write /two: no space left on device")
	a.sleep()

	other := m.box("b", []string{EnvRestore + "=a", EnvDisk + "=99999999"}, nil)
	wantCode(t, other.create(), DoesNotFit, `disk (was "12582912", is "99999999")`)

	c := m.box("c", append(env, EnvRestore+"=a"), nil).start()
	c.expect("size /one", "size 8388608")
	c.expect("write 8 /three", "error write /three: no space left on device")

	// Without the variable it is what the engine's runtimeArgs say.
	d := m.box("d", nil, nil).start()
	d.expect("write 60 /one", "written")
	d.expect("write 8 /two", "error write /two: no space left on device")
}

// The sandbox is not lost where runsc alone would lose it.
func TestDiskFullDuringCheckpoint(t *testing.T) {
	m := newMachine(t)
	if err := os.Mkdir(m.checkpoints, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", m.checkpoints, "tmpfs", 0, "size=24m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(m.checkpoints, syscall.MNT_DETACH) })
	a := m.box("a", []string{EnvSaveAs + "=a"}, nil).start()
	a.expect("add 5", "total 5")
	a.sleep()
	b := m.box("b", []string{EnvSaveAs + "=b", EnvRestore + "=a"}, nil).start()
	b.expect("grow 32", "grown 1")
	for range 2 {
		_, err := b.checkpoint()
		wantCode(t, err, NoSpace, "no checkpoint b, the sandbox goes on", "no space left on device")
		m.wantNames("a")
		b.expect("add 0", "total 5")
	}
	// What was there is unharmed.
	c := m.box("c", []string{EnvRestore + "=a"}, nil).start()
	c.expect("add 1", "total 6")
}

func TestRoomIsKept(t *testing.T) {
	for name, flag := range map[string]string{"reserve": "--checkpoints-reserve=1000000g", "quota": "--checkpoints-quota=1m"} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, flag)
			a := m.box("a", []string{EnvSaveAs + "=a"}, func(spec map[string]any) {
				spec["linux"].(map[string]any)["resources"] = map[string]any{"memory": map[string]any{"limit": 64 << 20}}
			}).start()
			a.expect("add 1", "total 1")
			_, err := a.checkpoint()
			wantCode(t, err, NoSpace, "it may take 64 MB")
			a.expect("add 1", "total 2")
			m.wantNames()
		})
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	m := newMachine(t)
	m.box("a", []string{EnvSaveAs + "=a", EnvBase + "=one"}, nil).start().sleep()
	for id, test := range map[string]struct {
		env    string
		change func(spec map[string]any)
		words  string
	}{
		"base": {EnvBase + "=two", nil, `base (was "one", is "two")`},
		"caps": {EnvBase + "=one", func(spec map[string]any) {
			spec["process"].(map[string]any)["capabilities"] = map[string]any{}
		}, "differ: capabilities"},
		"mounts": {EnvBase + "=one", func(spec map[string]any) {
			spec["mounts"] = []any{}
		}, "differ: mounts"},
	} {
		b := m.box(id, []string{EnvRestore + "=a", test.env}, test.change)
		wantCode(t, b.create(), DoesNotFit, test.words)
		if out, err := m.call(id, "state", id); err == nil {
			t.Errorf("the refused container is there: %s", out)
		}
	}
}

func TestOtherVersionOfRunscIsRefused(t *testing.T) {
	m := newMachine(t)
	m.box("a", []string{EnvSaveAs + "=a"}, nil).start().sleep()
	version := m.list().Runsc
	change := func(field, value string) {
		t.Helper()
		path := m.checkpoints + "/a.json"
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := map[string]any{}
		err = json.Unmarshal(text, &d)
		if d[field] == nil {
			t.Fatalf("%s lacks %s (%v)", text, field, err)
		}
		d[field] = value
		text, err = json.Marshal(d)
		if err := errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	// The same version in another file, as after a new installation, is fine.
	change("binary", "another")
	m.box("b", []string{EnvRestore + "=a"}, nil).start().expect("add 1", "total 1")

	change("runsc", "release-20200101.0")
	c := m.box("c", []string{EnvRestore + "=a"}, nil)
	wantCode(t, c.create(), DoesNotFit, "written by runsc release-20200101.0 and here is "+version)
}

func TestFailedRestoreLeavesNothing(t *testing.T) {
	m := newMachine(t)
	m.box("a", []string{EnvSaveAs + "=a"}, nil).start().sleep()
	// Damage that only runsc can see.
	state := m.dataOf("a") + "/" + stateFile
	text, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	middle := text[len(text)/2:]
	copy(middle, bytes.Repeat([]byte{0xff}, 1024))
	if err := os.WriteFile(state, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b := m.box("b", []string{EnvSaveAs + "=a", EnvRestore + "=a"}, nil)
	if err := b.create(); err != nil {
		t.Fatal(err)
	}
	_, err = m.call("b", "start", "b")
	wantCode(t, err, Failed, "runsc can't restore checkpoint a")
	if len(err.Error()) > 1000 {
		t.Errorf("%d bytes of error", len(err.Error()))
	}
	if _, err := b.lines.ReadString('\n'); err == nil || os.IsTimeout(err) {
		t.Error("its sandbox lives")
	}
	if out, err := m.call("b", "state", "b"); err == nil {
		t.Errorf("it is there: %s", out)
	}
	m.wantNames("a") // not used up
}

func TestErrands(t *testing.T) {
	m := newMachine(t)
	m.box("a", []string{EnvSaveAs + "=a"}, nil).start().sleep()
	m.box("b", []string{EnvSaveAs + "=b"}, nil).start().sleep()

	errand := m.box("errand", []string{EnvErrand + "=delete a nobody"}, nil)
	if err := errand.create(); err != nil {
		t.Fatal(err)
	}
	line, err := errand.lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var list Listing
	if err := json.Unmarshal([]byte(line), &list); err != nil || len(list.Checkpoints) != 1 || list.Checkpoints[0].Name != "b" {
		t.Errorf("%v: %s", err, line)
	}
	m.must("errand", "start", "errand") // a container like any other
	errand.expect("add 1", "total 1")
	m.wantNames("b")
	if list := m.list(errandDelete, "b"); len(list.Checkpoints) != 0 || list.Bytes != 0 || list.Free <= 0 {
		t.Errorf("after deleting all there is %+v", list)
	}
}

// Containers that ask for nothing get runsc and nothing else.
func TestPlainContainer(t *testing.T) {
	m := newMachine(t)
	a := m.box("a", []string{"THREADBOOK=1", EnvBase + "=x"}, nil).start()
	a.expect("add 3", "total 3")
	engine, err := a.checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(engine + "/" + stateFile); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(m.checkpoints); err == nil {
		t.Error("checkpoints are kept of who didn't ask for it")
	}
	b := m.box("b", nil, nil)
	if err := b.create("restore", "--image-path", engine, "--detach"); err != nil {
		t.Fatal(err)
	}
	b.expect("add 1", "total 4")
	out, err := m.bare(append(m.flags, "--version")...).Output()
	if err != nil || !strings.HasPrefix(string(out), "runsc version ") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := m.bare(append(m.flags, "features")...).Output(); err != nil || !json.Valid(out) {
		t.Errorf("%v: %s", err, out)
	}
}
