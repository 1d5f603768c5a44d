package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		argv    string
		globals string
		command string
		args    string
	}{
		"as containerd calls": {
			"--runsc=/r --overlay2=root:self,size=2g --root /run/r --log /b/log.json --log-format json create --bundle /b --pid-file /b/p id",
			"--overlay2=root:self,size=2g --root /run/r --log /b/log.json --log-format json",
			"create", "--bundle /b --pid-file /b/p id"},
		"boolean flags":        {"--systemd-cgroup --debug state id", "--systemd-cgroup --debug", "state", "id"},
		"one dash":             {"-root /x -checkpoints=/c kill id", "-root /x", "kill", "id"},
		"value like a command": {"--root create start id", "--root create", "start", "id"},
		"unknown with value":   {"--platform ptrace --strace start id", "--platform ptrace --strace", "start", "id"},
		"unknown command":      {"--root=/x new-command --image-path", "--root=/x", "new-command", "--image-path"},
		"only flags":           {"--version", "--version", "", ""},
		"end of flags":         {"--root /x -- start id", "--root /x --", "start", "id"},
		"ours after the command": {
			"exec id sh --runsc=/x", "", "exec", "id sh --runsc=/x"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := parse(strings.Fields(test.argv))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.globals, " "); got != test.globals {
				t.Errorf("globals are %q, not %q", got, test.globals)
			}
			if got := strings.Join(c.args, " "); c.command != test.command || got != test.args {
				t.Errorf("the command is %q %q, not %q %q", c.command, got, test.command, test.args)
			}
		})
	}
}

func TestParseOwnFlags(t *testing.T) {
	c, err := parse([]string{"--runsc=/r", "--checkpoints=/c", "--checkpoints-quota=3g", "--checkpoints-reserve=5K", "list"})
	if err != nil || c.runsc != "/r" || c.checkpoints != "/c" || c.quota != 3<<30 || c.reserve != 5<<10 {
		t.Errorf("%v: %+v", err, c)
	}
	if c, err := parse(nil); err != nil || c.runsc != DefaultRunsc || c.checkpoints != DefaultCheckpoints || c.reserve != defaultReserve {
		t.Errorf("%v: %+v", err, c)
	}
	for _, word := range []string{
		"--runsc", "--runsc=", "--runsc=runsc", "--checkpoints=../c", "--checkpoints-quota=-1", "--checkpoints-quota=1t",
		"--checkpoints-reserve=g", "--checkpoints-reserve=9999999999g",
	} {
		// The failure must reach the log that is named behind it.
		c, err := parse([]string{word, "--log", "/l", "start", "id"})
		if codeOf(err) != BadSetting || c.global("log") != "/l" {
			t.Errorf("%s: %v", word, err)
		}
	}
}

func TestFlags(t *testing.T) {
	words := strings.Fields("-a 1 --image-path /x --image-path=/y --leave-running -z")
	if value, found := lookup(words, "image-path"); value != "/y" || !found {
		t.Errorf("--image-path is %q", value)
	}
	if _, found := lookup(words, "image"); found {
		t.Error("there is no --image")
	}
	rest := without(without(words, "image-path", true), "leave-running", false)
	if got := strings.Join(rest, " "); got != "-a 1 -z" {
		t.Errorf("without the flags it is %q", got)
	}
}

// Whatever is not ours goes to runsc as it came.
func FuzzParse(f *testing.F) {
	f.Add("--root\n/x\n--log=y\nstart\nid")
	f.Add("--\n\n-\n--\n-=")
	f.Fuzz(func(t *testing.T, text string) {
		argv := strings.Split(text, "\n")
		c, err := parse(argv)
		if err != nil || strings.Contains(text, "runsc") || strings.Contains(text, "checkpoints") {
			return
		}
		if got := append(slices.Clone(c.globals), c.words...); !slices.Equal(got, argv) {
			t.Errorf("%q became %q", argv, got)
		}
		c.id()
		c.flag("image-path")
		c.bundle()
	})
}

// fakeRunsc writes a script in runsc's place, which notes its words.
func fakeRunsc(t *testing.T, script string) (path string, words func() []string) {
	t.Helper()
	dir := t.TempDir()
	path = dir + "/runsc"
	text := "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done >" + dir + "/words\n" + script + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path, func() []string {
		t.Helper()
		text, err := os.ReadFile(dir + "/words")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
}

func TestWordsReachRunsc(t *testing.T) {
	bundle := t.TempDir()
	config := `{"process":{"env":["THREADBOOK_DISK=9000000"]},"root":{"path":"/"}}`
	if err := os.WriteFile(bundle+"/config.json", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	runsc, words := fakeRunsc(t, "exit 42")
	log := "--log=" + bundle + "/log.json"
	m := &machine{t: t}
	for name, test := range map[string]struct{ argv, want []string }{
		"version": {[]string{"--version"}, nil},
		"unknown": {[]string{"--root", "/x", "frobnicate", "", "--image-path", "a b", "--runsc=x"}, nil},
		"exec":    {[]string{log, "exec", "--process", "/p", "--detach", "id"}, nil},
		"kill":    {[]string{log, "kill", "--all", "id", "9"}, nil},
		"start":   {[]string{log, "start", "id"}, nil},
		"create": {
			[]string{"--overlay2=all:memory", "-overlay2", "none", log, "create", "--bundle", bundle, "id"},
			[]string{log, "--overlay2=root:self,size=9000000", "create", "--bundle", bundle, "id"}},
		"checkpoint": {[]string{log, "checkpoint", "--image-path", bundle, "id"}, nil},
		"no bundle":  {[]string{"--log", "/nowhere/log.json", "create", "--bundle", "/nowhere", "id"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			want := test.want
			if want == nil {
				want = test.argv
			}
			cmd := m.bare(append([]string{"--runsc=" + runsc}, test.argv...)...)
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != 42 {
				t.Errorf("its exit code is lost: %v", err)
			}
			if got := words(); !slices.Equal(got, want) {
				t.Errorf("runsc was given %q, not %q", got, want)
			}
		})
	}
}

func TestNoRunsc(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log.json")
	m := &machine{t: t}
	out, err := m.bare("--runsc=/nowhere/runsc", "--log", log, "--log-format=json", "state", "id").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "install gVisor") {
		t.Errorf("%v: %s", err, out)
	}
	if text := lastError(log, 0); !strings.HasPrefix(text, program+": "+BadSetting+": ") {
		t.Errorf("the engine is told %q", text)
	}
}

func TestFailuresAreOneLine(t *testing.T) {
	text := sentence(faultf(NoSpace, "a\nb\tc"))
	if text != "threadbook-runtime: no-space: a b c" {
		t.Errorf("%q", text)
	}
	if text := sentence(errors.Join(errors.New("x"), faultf(NoSpace, "y"))); strings.Contains(text, "\n") {
		t.Errorf("%q", text)
	}
	if text := sentence(errors.New("x")); text != "threadbook-runtime: failed: x" {
		t.Errorf("%q", text)
	}
}
