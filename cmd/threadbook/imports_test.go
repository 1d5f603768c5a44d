package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// allowed lists the project's packages that each package may import. A name
// that ends in "/*" stands for every package below. What is not listed may
// import nothing of the project.
var allowed = []struct {
	from string
	to   []string
}{
	{"sessions/*", []string{"sessions"}},
	{"sandbox/docker", []string{"sandbox"}},
	{"sandbox/sandboxtest", []string{"sandbox"}},
	{"bots", []string{"sessions"}},
	{"bots/*", []string{"bots", "sessions"}},
	{"worker/agent", []string{"sessions"}},
	{"worker/openai", []string{"worker/agent", "sessions"}},
	{"worker/tools", []string{"worker/agent", "sandbox", "sessions"}},
	{"worker", []string{"bots", "sessions", "sessions/notebook", "sandbox", "worker/agent", "worker/tools"}},
	{"cmd/*", []string{"*"}},
}

// vendors lists the libraries that one package alone may import.
var vendors = map[string]string{
	"github.com/hibiken/asynq":          "worker",
	"github.com/docker/docker":          "sandbox/docker",
	"github.com/sashabaranov/go-openai": "worker/openai",
	"github.com/redis/go-redis":         "sessions/redisstore",
	"github.com/slack-go/slack":         "bots/slack",
	"github.com/bwmarrin/discordgo":     "bots/discord",
	"github.com/minio/minio-go":         "sessions/blobs",
}

// TestImports holds the tree to its shape. Tests may import more.
func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "threadbook/...")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	packages := 0
	for dec := json.NewDecoder(out); ; packages++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(p.ImportPath, "threadbook/")
		for _, imported := range p.Imports {
			if to, ok := strings.CutPrefix(imported, "threadbook/"); ok && !mayImport(from, to) {
				t.Errorf("%s imports %s, which the table above does not allow", from, to)
			}
			for vendor, home := range vendors {
				if strings.HasPrefix(imported, vendor) && from != home {
					t.Errorf("%s imports %s, which belongs in %s alone", from, imported, home)
				}
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if packages < 10 {
		t.Errorf("only %d packages were looked at", packages)
	}
}

func mayImport(from, to string) bool {
	// The stand-ins are for tests, save the scripted model in the demo.
	if strings.HasSuffix(to, "test") && !(from == "cmd/threadbook" && to == "worker/agenttest") {
		return false
	}
	for _, rule := range allowed {
		if matches(rule.from, from) && slices.ContainsFunc(rule.to, func(pattern string) bool { return matches(pattern, to) }) {
			return true
		}
	}
	return false
}

func matches(pattern, name string) bool {
	if pattern == "*" {
		return true
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
