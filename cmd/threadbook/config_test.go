package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, environ []string, args ...string) (Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadConfig(environ, flags)
}

func TestDefaults(t *testing.T) {
	c, err := load(t, []string{"THREADBOOK_DATA=", "PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Addr != "127.0.0.1:8080" || c.Data != "./data" || c.SandboxMemory != 1<<30 || c.CellTimeout != 2*time.Minute || c.Concurrency < 2 || c.TurnSteps != 25 {
		t.Errorf("got %+v", c)
	}
}

// A flag wins over the variable, the variable over the file.
func TestSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want    string
		environ []string
		args    []string
	}{
		{"from the file", []string{"THREADBOOK_WEB_TOKEN_FILE=" + file}, nil},
		{"from the variable", []string{"THREADBOOK_WEB_TOKEN_FILE=" + file, "THREADBOOK_WEB_TOKEN=from the variable"}, nil},
		{"from the flag", []string{"THREADBOOK_WEB_TOKEN=from the variable"}, []string{"--web-token=from the flag"}},
	} {
		if got, err := load(t, c.environ, c.args...); err != nil || got.WebToken != c.want {
			t.Errorf("got %q, %v; want %q", got.WebToken, err, c.want)
		}
	}
}

// Every fault has a line with the variable, the value and what is expected;
// no line has a secret.
func TestFaults(t *testing.T) {
	_, err := load(t, []string{
		"REDIS_URL=mysql://user:sesame@h", "THREADBOOK_ADDR=8080", "THREADBOOK_SANDBOX_MEMORY=lots", "THREADBOOK_SANDBOX_DISK=1",
		"THREADBOOK_CELL_TIMEOUT=120", "THREADBOOK_TURN_STEPS=0", "THREADBOOK_SANDBOX_CPUS=0", "THREADBOOK_LOG_LEVEL=loud",
		"OPENAI_BASE_URL=localhost:11434", "THREADBOOK_DATA=s3://key:sesame@bucket", "THREADBOOK_WEB_TOKEN_FILE=/does/not/exist", "THREADBOOK_DEMO=perhaps",
	})
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 12 {
		t.Errorf("got %d lines, want 12:\n%v", len(lines), err)
	}
	for _, want := range []string{
		`THREADBOOK_SANDBOX_MEMORY is "lots"; expected: a size such as 512m or 2g, at least 128m`,
		`THREADBOOK_SANDBOX_DISK is "1"; expected: a size such as 512m or 2g, at least 16m`,
		`THREADBOOK_CELL_TIMEOUT is "120"; expected: a duration such as 90s or 15m, at least 1s`,
		`THREADBOOK_TURN_STEPS is "0"; expected: a whole number, at least 1`,
		`THREADBOOK_LOG_LEVEL is "loud"; expected: one of debug, info, warn, error`,
		`THREADBOOK_DEMO is "perhaps"; expected: true or false`,
		`REDIS_URL is (not shown)`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no line says %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "sesame") {
		t.Errorf("a secret is shown:\n%v", err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]size{"0": 0, "512": 512, "1k": 1 << 10, "512m": 512 << 20, "2G": 2 << 30, "1.5g": 3 << 29, "2GiB": 2 << 30, "1mb": 1 << 20} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "g", "-1m", "1x", "1e30g"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

// Every field can be set, has help, and stands in "help config".
func TestHelpConfig(t *testing.T) {
	var out bytes.Buffer
	cmd := newCommand(strings.NewReader(""), &out, io.Discard)
	cmd.SetArgs([]string{"help", "config"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if len(settings()) != reflect.TypeFor[Config]().NumField() {
		t.Error("not every field is a setting")
	}
	for _, s := range settings() {
		if s.name == "" || s.Tag.Get("help") == "" {
			t.Errorf("%s has no variable or no help", s.Name)
		}
		if !strings.Contains(out.String(), s.name+"\n    "+s.Tag.Get("help")) || !strings.Contains(out.String(), "--"+s.flag()+" ") {
			t.Errorf("help config does not tell of %s", s.name)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	got := unknownVariables([]string{"THREADBOOK_ADR=x", "THREADBOOK_ADDR=x", "THREADBOOK_WEB_TOKEN_FILE=x", "HOME=/"})
	if len(got) != 1 || got[0] != "THREADBOOK_ADR" {
		t.Errorf("got %v", got)
	}
}
