package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSettings(t *testing.T) {
	s, err := readSettings([]string{"A=b", EnvSaveAs + "=a-1", EnvRestore + "=b", EnvBase + "=sha256:x=y", EnvDisk + "=1048576", "X"})
	if err != nil || s.saveAs != "a-1" || s.restore != "b" || s.base != "sha256:x=y" || s.disk != 1<<20 || !s.any() {
		t.Errorf("%v: %+v", err, s)
	}
	if s, err := readSettings([]string{EnvSaveAs + "=", EnvBase + "=x", EnvDisk + "=", EnvErrand + "=", "THREADBOOK_X=1"}); err != nil || s.any() {
		t.Errorf("%v: %+v", err, s)
	}
	if s, err := readSettings([]string{EnvErrand + "= delete  a b "}); err != nil || strings.Join(s.errand, ",") != "delete,a,b" {
		t.Errorf("%v: %+v", err, s)
	}
}

func TestHostileSettings(t *testing.T) {
	for _, env := range []string{
		EnvRestore + "=../../etc", EnvRestore + "=a/b", EnvRestore + "=/etc", EnvRestore + "=.", EnvRestore + "=..",
		EnvRestore + "=.hidden", EnvRestore + "=a.json", EnvRestore + "=a.ABCDEFGHIJKLMNOPQRSTUVWXYZ", EnvRestore + "=-rf",
		EnvRestore + "=A", EnvRestore + "=ä", EnvRestore + "=a\n", EnvRestore + "=a\x00b", EnvRestore + "= a", EnvRestore + "=a b",
		EnvRestore + "=" + strings.Repeat("a", 101), EnvSaveAs + "=*", EnvSaveAs + "=$(id)", EnvSaveAs + "=--leave-running",
		EnvDisk + "=0", EnvDisk + "=-1", EnvDisk + "=1g", EnvDisk + "=1048576,x", EnvDisk + "=1e9", EnvDisk + "=99999999999999999999",
		EnvBase + "=" + strings.Repeat("x", maxBase+1),
		EnvErrand + "=destroy", EnvErrand + "=delete", EnvErrand + "=list a b", EnvErrand + "=list ..", EnvErrand + "=adopt", EnvErrand + "=adopt ../b", EnvErrand + "=adopt a b", EnvErrand + "=delete a ../b", EnvErrand + "=delete *",
	} {
		if _, err := readSettings([]string{"A=1", env}); codeOf(err) != BadSetting {
			t.Errorf("%.60q: %v", env, err)
		} else if len(err.Error()) > 400 {
			t.Errorf("%.60q: %d bytes of error", env, len(err.Error()))
		}
	}
	if _, err := readSettings([]string{EnvRestore + "=a", EnvRestore + "=a"}); codeOf(err) != BadSetting {
		t.Error(err)
	}
	if _, err := readSettings([]string{EnvRestore + "=a", EnvErrand + "=list"}); codeOf(err) != BadSetting {
		t.Error(err)
	}
}

func TestConfigurationIsRoots(t *testing.T) {
	const good = `{"process":{"env":["THREADBOOK_RESTORE=a"]},"root":{"path":"rootfs"}}`
	for name, prepare := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"folder":    func(path string) error { return os.Mkdir(path, 0o700) },
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"everybody": func(path string) error { return writeMode(path, good, 0o666) },
		"somebody's": func(path string) error {
			if err := writeMode(path, good, 0o600); err != nil {
				return err
			}
			return os.Chown(path, 12345, 0)
		},
		"no JSON": func(path string) error { return writeMode(path, "{", 0o600) },
		"no list": func(path string) error { return writeMode(path, `{"process":{"env":{}}}`, 0o600) },
		"huge": func(path string) error {
			return errorsFirst(writeMode(path, "", 0o600), os.Truncate(path, maxConfig+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := prepare(dir + "/config.json"); err != nil {
				t.Fatal(err)
			}
			c, _ := parse([]string{"--log", dir + "/log.json", "start", "id"})
			if _, err := c.container(); codeOf(err) != BadSetting {
				t.Errorf("%v", err)
			}
		})
	}
	dir := t.TempDir()
	if err := writeMode(dir+"/config.json", good, 0o644); err != nil {
		t.Fatal(err)
	}
	c, _ := parse([]string{"--log", dir + "/log.json", "start", "id"})
	box, err := c.container()
	if err != nil || box.settings.restore != "a" || box.rootfs != filepath.Join(dir, "rootfs") || box.id != "id" {
		t.Errorf("%v: %+v", err, box)
	}
}

// Later commands find the bundle by the log, so the log has to be there.
func TestLogOutsideOfTheBundle(t *testing.T) {
	dir := t.TempDir()
	if err := writeMode(dir+"/config.json", `{"process":{"env":["THREADBOOK_RESTORE=a"]}}`, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, log := range []string{"--debug", "--log=/elsewhere/log.json"} {
		c, _ := parse([]string{log, "create", "--bundle", dir, "id"})
		if err := c.do(nil); codeOf(err) != BadSetting {
			t.Errorf("%s: %v", log, err)
		}
	}
}

func TestRedirect(t *testing.T) {
	dir := t.TempDir() + "/made"
	if to, err := readRedirect(dir); to != nil || err != nil {
		t.Errorf("%+v, %v", to, err)
	}
	d := &description{Checkpoint: Checkpoint{Name: "a"}, ID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
	if err := writeRedirect(dir, d); err != nil {
		t.Fatal(err)
	}
	if to, err := readRedirect(dir); err != nil || to.Checkpoint != "a" || to.ID != d.ID {
		t.Errorf("%+v, %v", to, err)
	}
	for _, text := range []string{
		"", "{}", `{"threadbook_checkpoint":"../a","id":"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}`,
		`{"threadbook_checkpoint":"a","id":"../../x"}`, `[]`,
	} {
		if err := os.WriteFile(dir+"/"+redirectName, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if to, err := readRedirect(dir); codeOf(err) != BadCheckpoint {
			t.Errorf("%s: %+v, %v", text, to, err)
		}
	}
}

func TestFit(t *testing.T) {
	const config = `{"ociVersion":"1.0.2","hostname":"a","root":{"path":"/one"},
		"process":{"terminal":false,"user":{"uid":0,"gid":0},"args":["/usr/bin/python3","-u"],"env":["A=1"],"cwd":"/",
			"capabilities":{"bounding":["CAP_KILL","CAP_CHOWN"]},"rlimits":[{"type":"A","hard":1},{"type":"B","hard":2}],
			"noNewPrivileges":true},
		"mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec"]},{"destination":"/tmp","type":"tmpfs"}],
		"hooks":{"prestart":[]},"annotations":{"x":"y"},
		"linux":{"resources":{"memory":{"limit":1}},"cgroupsPath":"/a","namespaces":[{"type":"pid"},{"type":"network","path":"/x"}],
			"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},"maskedPaths":["/proc/kcore"]}}`
	of := func(change ...string) fit {
		text := config
		if changed := strings.NewReplacer(change...).Replace(text); changed != text || len(change) == 0 {
			text = changed
		} else {
			t.Fatalf("%q changes nothing", change)
		}
		box := &container{settings: settings{base: "b", disk: 1}}
		if err := decode([]byte(text), &box.spec); err != nil {
			t.Fatal(err)
		}
		return box.fit()
	}
	was := of()
	for _, same := range [][]string{
		{`"hostname":"a"`, `"hostname":"b"`}, {`"A=1"`, `"A=2","B=3"`}, {`/one`, `/two`}, {`"limit":1`, `"limit":2`},
		{`"/a"`, `"/b"`}, {`"/x"`, `"/y"`}, {`"source":"proc"`, `"source":"none"`}, {`/usr/bin/python3`, `/bin/python3`},
		{`"CAP_KILL","CAP_CHOWN"`, `"CAP_CHOWN","CAP_KILL"`}, {`"nosuid","noexec"`, `"noexec","nosuid"`},
		{`"terminal":false,`, ``}, {`"x":"y"`, ``}, {`{"prestart":[]}`, `{}`},
		{`{"type":"A","hard":1},{"type":"B","hard":2}`, `{"type":"B","hard":2},{"type":"A","hard":1}`},
	} {
		if differ := was.differences(of(same...)); differ != "" {
			t.Errorf("%q: %s", same, differ)
		}
	}
	for _, test := range []struct{ old, new, want string }{
		{`"-u"`, `"-c"`, "args"}, {`"uid":0`, `"uid":1`, "user"}, {`"cwd":"/"`, `"cwd":"/tmp"`, "cwd"},
		{`"CAP_KILL",`, ``, "capabilities"}, {`"hard":1`, `"hard":9`, "rlimits"}, {`"noexec"`, `"exec"`, "mounts"},
		{`,{"destination":"/tmp","type":"tmpfs"}`, ``, "mounts"}, {`"path":"/one"`, `"path":"/one","readonly":true`, "readonly"},
		{`ERRNO`, `KILL`, "seccomp"}, {`,{"type":"network","path":"/x"}`, ``, "namespaces"}, {`kcore`, `x`, "linux"},
		{`"noNewPrivileges":true`, `"oomScoreAdj":5`, "process"}, {`"terminal":false`, `"terminal":true`, "terminal"},
		{`1.0.2`, `1.2.0`, "ociVersion"},
	} {
		if differ := was.differences(of(test.old, test.new)); differ != test.want {
			t.Errorf("%s to %s: %q differ", test.old, test.new, differ)
		}
	}
	if differ := was.differences(fit{}); !strings.HasPrefix(differ, "args, base (was \"b\", is \"\"),") {
		t.Error(differ)
	}
}

func writeMode(path, text string, mode os.FileMode) error {
	return errorsFirst(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode))
}

func errorsFirst(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}
