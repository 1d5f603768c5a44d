package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"threadbook/sessions"
)

// exported runs the export command on a program's data.
func exported(t *testing.T, data string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return commandOn(t, data, "", append([]string{"export"}, args...)...)
}

// checkInImage has Jupyter's own library look at a notebook, and Python at a
// script, with the sandbox image's copies of them.
func checkInImage(t *testing.T, image, ipynb, py string) {
	t.Helper()
	const check = `
import json, sys, nbformat
files = json.load(sys.stdin)
nbformat.validate(nbformat.reads(files["ipynb"], as_version=nbformat.NO_CONVERT))
compile(files["py"], "notebook.py", "exec")
`
	files, err := json.Marshal(map[string]string{"ipynb": ipynb, "py": py})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "docker", "run", "--rm", "-i", "--network=none", "--entrypoint=python3", image, "-c", check)
	cmd.Stdin = bytes.NewReader(files)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A thread of real cells is exported by its people and by an operator, while
// the program runs.
func TestExport(t *testing.T) {
	t.Parallel()
	r := start(t, withWords(t, testConfig(t)))
	thread := r.thread(t)
	own := filepath.Join(t.TempDir(), "notebook.ipynb")
	if err := os.WriteFile(own, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.ask(t, thread, 1, strings.Join([]string{
		`please look`,
		`python import pandas as pd; pd.DataFrame({"a": [1, 2]})`,
		`python import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show(); undefined`,
		`say It is {result}`,
	}, "\n"), own)
	r.ask(t, thread, 2, "```bash\necho \"from bash\"\n```")
	given := func(turn int64, text string) *sessions.File {
		t.Helper()
		log := r.ask(t, thread, turn, text)
		files := bodies[*sessions.File](log)
		if len(files) != 1 || status(log) != sessions.TurnOK {
			t.Fatalf("%s gave:\n%s", text, show(log))
		}
		return files[0]
	}
	// The thread has a file of that name, which an export leaves alone.
	for turn := int64(3); turn < 5; turn++ {
		if f := given(turn, "!export"); f.Path != "notebook (2).ipynb" || f.MIME != "application/x-ipynb+json" || f.Cell != 0 || f.Title != "Notebook" || f.SHA256 != f.Blob {
			t.Errorf("got %+v", f)
		}
	}
	posted := string(r.blob(t, thread, given(5, "!export ipynb").Blob))
	if f := given(6, "!export md"); f.Path != "notebook.md" || !strings.Contains(string(r.blob(t, thread, f.Blob)), "```text\nfrom bash\n```") {
		t.Errorf("got %+v", f)
	}
	log := r.ask(t, thread, 7, "!export pdf")
	if n := bodies[*sessions.Notice](log); len(n) != 1 || !strings.Contains(n[0].Text, `no format "pdf"`) {
		t.Errorf("got %s", show(log))
	}

	ipynb, stderr, code := exported(t, r.cfg.Data, "--thread", string(thread))
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	py, stderr, code := exported(t, r.cfg.Data, "--thread", string(thread), "--format=py")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	checkInImage(t, r.cfg.SandboxImage, ipynb, py)
	checkInImage(t, r.cfg.SandboxImage, posted, py)
	for _, want := range []string{`"image/png": "iVBOR`, `"text/html": [`, `"ename": "NameError"`, `"raises-exception"`, `"%%bash\n"`, `"from bash\n"`, "please look", "**Ada** ran:"} {
		if !strings.Contains(ipynb, want) || !strings.Contains(posted, want) {
			t.Errorf("%q is missing in:\n%s", want, ipynb)
		}
	}
	if strings.Contains(ipynb, "!export") {
		t.Error("the notebook tells of its own export")
	}
	if !strings.Contains(py, "\nimport pandas as pd; pd.DataFrame(") || !strings.Contains(py, "\n# echo \"from bash\"\n") {
		t.Errorf("the script is:\n%s", py)
	}

	out := filepath.Join(t.TempDir(), "page.md")
	if stdout, stderr, code := exported(t, r.cfg.Data, "--thread", string(thread), "--format", "md", "-o", out); code != 0 || stdout != "" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if page, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(page), "# A threadbook thread\n") {
		t.Errorf("the page is %q, %v", page, err)
	}
}

func TestExportExits(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(kept, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"an unknown thread": {[]string{"--thread=web:nobody", "-o", kept}, exitFailed, `no thread "web:nobody"`},
		"no thread's name":  {[]string{"--thread=nobody"}, exitFailed, "is no thread's name"},
		"no thread":         {nil, exitUsage, "which thread?"},
		"another format":    {[]string{"--thread=web:nobody", "--format=pdf"}, exitUsage, `--format is "pdf"`},
		"a word too many":   {[]string{"--thread=web:nobody", "now"}, exitUsage, "unknown command"},
		"no such folder":    {[]string{"--thread=web:nobody", "-o", filepath.Join(data, "none", "x")}, exitFailed, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if stdout, stderr, code := exported(t, data, c.args...); code != c.code || stdout != "" || !strings.Contains(stderr, c.says) {
				t.Errorf("exit %d, want %d; stderr %q, want %q in it; stdout %q", code, c.code, stderr, c.says, stdout)
			}
		})
	}
	if left, err := os.ReadFile(kept); err != nil || string(left) != "before" {
		t.Errorf("an export that failed left %q, %v", left, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(kept)); err != nil || len(entries) != 1 {
		t.Errorf("an export that failed left %v, %v", entries, err)
	}
}
