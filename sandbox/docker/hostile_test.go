package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// A hostile case is code that would do harm, and what must come of it. All of
// a runtime's run in one sandbox, one after the other: each finds it whole.
type hostile struct {
	name     string
	language sandbox.Language // Python by default
	code     string
	timeout  time.Duration
	want     sandbox.Status // OK by default
	lost     bool           // whether the variables are gone then
	says     string         // in the output or the error
	never    string         // in the output
}

var swallow = `
import time
for i in range(%d):
    try:
        time.sleep(1000)
    except KeyboardInterrupt:
        print('swallowed')
`

var hostiles = []hostile{
	// Time.
	{name: "SwallowsOneInterrupt", code: fmt.Sprintf(swallow, 2), timeout: time.Second, want: sandbox.Timeout, says: "swallowed"},
	{name: "SwallowsThemAll", code: fmt.Sprintf(swallow, 1000), timeout: time.Second, want: sandbox.Timeout, lost: true},
	{name: "BusyLoop", code: "while True: pass", timeout: time.Second, want: sandbox.Timeout},
	{name: "WaitsForAChild", code: "import subprocess\nsubprocess.run(['sleep', '1000'])", timeout: time.Second, want: sandbox.Timeout},
	{name: "BashLoop", language: sandbox.Bash, code: "while :; do :; done", timeout: time.Second, want: sandbox.Timeout},
	{name: "BashIgnoresInterrupts", language: sandbox.Bash, code: "trap '' INT\nwhile :; do :; done", timeout: time.Second, want: sandbox.Timeout, lost: true},

	// Memory.
	{name: "OneLargeArray", code: "import numpy as np\nnp.ones(10**10)", want: sandbox.OutOfMemory, says: "Unable to allocate"},
	{name: "ManyArrays", code: "import numpy as np\ndef grow():\n    kept = []\n    while True: kept.append(np.ones(10**6))\ngrow()", want: sandbox.OutOfMemory},
	{name: "AChildsMemory", language: sandbox.Bash, code: "python3 -c \"kept = []\nwhile True: kept.append(b'x' * 1000000)\"", want: sandbox.OutOfMemory, says: "limit"},

	// Processes.
	{name: "Threads", code: "import threading, time\nfor _ in range(2000): threading.Thread(target=time.sleep, args=(1,)).start()", want: sandbox.Failed, says: "can't start new thread"},
	{name: "KillsEverybody", code: "import os\ntry: os.kill(-1, 9)\nfinally: os.kill(os.getpid(), 9)", want: sandbox.KernelDied, lost: true},
	{name: "SaysAndDies", code: "import os\nprint('last words', flush=True)\nos._exit(3)", want: sandbox.KernelDied, lost: true, says: "last words"},
	{name: "ClosesItsDescriptors", code: "import os\nos.closerange(3, 100)", want: sandbox.KernelDied, lost: true},
	{name: "KillsTheAgent", code: "import os\nos.kill(1, 9)", want: sandbox.Failed, says: "PermissionError"},
	{name: "LeavesAJob", language: sandbox.Bash, code: "sleep 1000 &\necho left", says: "left"},
	{name: "LeavesAFork", code: "import os, time\nif os.fork() == 0: time.sleep(1000)\nprint('parent')", says: "parent"},
	{name: "EndsTheShell", language: sandbox.Bash, code: "exit 3", want: sandbox.Failed, lost: true, says: "exit status 3"},
	{name: "KillsTheShell", language: sandbox.Bash, code: "kill -9 $$", want: sandbox.KernelDied, lost: true},

	// The agent and the system.
	{name: "ForgesALine", code: `print('\n{"n":1,"cell":1,"event":"finished","status":"ok"}\n')`, says: `"finished"`},
	{name: "WritesToTheAgent", code: "open('/proc/1/fd/1', 'w').write('x')", want: sandbox.Failed, says: "PermissionError"},
	{name: "ReadsTheAgent", code: "open('/proc/1/environ').read()", want: sandbox.Failed, says: "PermissionError"},
	{name: "ChangesTheAgent", code: "open('/opt/threadbook/agent/main.py', 'a')", want: sandbox.Failed, says: "Error"},
	{name: "ChangesTheSystem", code: "open('/etc/passwd', 'a')", want: sandbox.Failed, says: "Error"},
	{name: "Mounts", language: sandbox.Bash, code: "mount -t tmpfs none /workspace", want: sandbox.Failed},
	{name: "MakesADevice", language: sandbox.Bash, code: "mknod disk b 8 0", want: sandbox.Failed},
	{name: "HasNoRights", language: sandbox.Bash, code: "grep CapEff /proc/self/status; id -u", says: "0000000000000000\n1000"},
	{name: "HasNoNetwork", code: "import socket\nsocket.create_connection(('1.1.1.1', 53), timeout=5)", want: sandbox.Failed, says: "unreachable"},
	{name: "SeesNoHost", language: sandbox.Bash, code: "hostname", says: "sandbox\n"},
	{name: "SeesNoEngine", language: sandbox.Bash, code: "ls /var/run/docker.sock /run/docker.sock", want: sandbox.Failed, says: "No such file"},
	{name: "ReadsTheKernelsMemory", code: "open('/proc/kcore', 'rb').read(1)", want: sandbox.Failed, says: "Error"},
	{name: "ReadsTheMachinesMemory", code: "open('/dev/mem', 'rb')", want: sandbox.Failed, says: "Error"},
	{name: "TriggersTheKernel", language: sandbox.Bash, code: "echo c > /proc/sysrq-trigger", want: sandbox.Failed},
	{name: "SetsACorePattern", language: sandbox.Bash, code: "echo '|/bin/sh' > /proc/sys/kernel/core_pattern", want: sandbox.Failed},
	{name: "RaisesItsCgroup", language: sandbox.Bash, code: "for f in /sys/fs/cgroup/pids/*/pids.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/*/pids.max; do echo max > $f; done 2>/dev/null", want: sandbox.Failed},
	{name: "LeavesItsCgroup", language: sandbox.Bash, code: "for f in /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs; do echo $$ > $f; done 2>/dev/null", want: sandbox.Failed},
	{name: "ReleaseAgent", language: sandbox.Bash, code: "mkdir -p /tmp/c && mount -t cgroup -o memory cgroup /tmp/c", want: sandbox.Failed},
	{name: "TracesTheAgent", code: "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.ptrace(16, 1, 0, 0), ctypes.get_errno())", says: "-1 1\n"},
	{name: "ReadsTheAgentsMemory", code: "open('/proc/1/mem', 'rb')", want: sandbox.Failed, says: "PermissionError"},
	{name: "NewNamespaces", language: sandbox.Bash, code: "unshare --mount --pid --fork true", want: sandbox.Failed},
	{name: "BecomesRoot", code: "import os\nos.setuid(0)", want: sandbox.Failed, says: "PermissionError"},
	{name: "SetUIDPrograms", language: sandbox.Bash, code: "find / -xdev -perm -4000 -type f -exec sh -c 'cp \"$1\" /tmp/p && /tmp/p' _ {} \\; >/dev/null 2>&1; su -c true root </dev/null", want: sandbox.Failed},
	{name: "DumpsCore", language: sandbox.Bash, code: "ulimit -c; sh -c 'kill -SEGV $$'; ls core* 2>/dev/null", want: sandbox.Failed, says: "0\n", never: "core"},

	// Disk.
	{name: "ASparseFile", language: sandbox.Bash, code: "truncate -s 100G sparse", want: sandbox.Failed, says: "SIGXFSZ"},
	{name: "ManyFiles", code: "import os, shutil\nos.mkdir('many')\nfor i in range(20000): open(f'many/{i}', 'w').close()\nprint(len(os.listdir('many')))\nshutil.rmtree('many')", says: "20000\n"},

	// Input and output.
	{name: "AsksForInput", code: "input('name? ')", want: sandbox.Failed, says: "nobody can type"},
	{name: "ReadsStdin", language: sandbox.Bash, code: "cat; read x || echo nothing", says: "nothing"},
	{name: "PrintsForEver", code: "while True: print('x' * 1000)", want: sandbox.Failed, says: "OutputTooLarge"},
	{name: "EscapeCodes", code: `print('\x1b[31mred\x1b[0m \x1b]0;title\x07and \x9b1mbold\x00')`, says: "red and bold\n", never: "\x1b"},
	{name: "Unicode", code: `print('žluťoučký 日本語 🎉 \ud800')`, says: "žluťoučký 日本語 🎉 ?\n"},
	{name: "BadUTF8", language: sandbox.Bash, code: `printf 'a\xffb\n'`, says: "a\ufffdb\n"},
	{name: "ProgressBar", code: "import sys\nfor i in range(101): sys.stderr.write(f'\\r{i:3}%')\nsys.stderr.write('\\n')", says: "100%\n", never: " 50%"},
	{name: "LateOutput", code: "import threading, time\nprint('main')\nthreading.Timer(0.2, lambda: print('late')).start()", says: "main"},
	{name: "AHugeResult", code: "'x' * 25_000_000", says: "too large"},
	{name: "ManyDisplays", code: "from IPython.display import display, Markdown\nfor i in range(200): display(Markdown(str(i)))", says: "100 things"},
	{name: "RawBytesToStdout", code: "import os\nos.write(1, b'raw \\xc3\\xa9\\n');", says: "raw é\n"},
}

func TestHostileCode(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		th := sandboxtest.Open(t, b.attached(t), "hostile")
		for _, h := range hostiles {
			t.Run(h.name, func(t *testing.T) { h.run(t, th) })
		}
	})
}

func (h hostile) run(t *testing.T, th *sandboxtest.Thread) {
	if h.language == "" {
		h.language = sandbox.Python
	}
	if h.want == "" {
		h.want = sandbox.OK
	}
	set, show := "kept = 'is kept'", "print(kept)"
	if h.language == sandbox.Bash {
		set, show = "kept='is kept'", "echo $kept"
	}
	th.Do(t, th.Next(h.language, set)).Want(t, sandbox.OK)
	cell := th.Next(h.language, h.code)
	if h.timeout != 0 {
		cell.Timeout = h.timeout
	}
	ran := th.Do(t, cell).Want(t, h.want)
	said := ran.Text("")
	if e := ran.Error; e != nil {
		said += fmt.Sprintf("%s: %s\n%s", e.Name, e.Value, e.Traceback)
	}
	if !strings.Contains(said, h.says) {
		t.Errorf("it says %.2000q, without %q", said, h.says)
	}
	if h.never != "" && strings.Contains(said, h.never) {
		t.Errorf("it says %.2000q, with %q", said, h.never)
	}
	if ran.Lost != h.lost || ran.Gone {
		t.Errorf("lost %v, gone %v; error %+v", ran.Lost, ran.Gone, ran.Error)
	}
	if h.lost {
		show = "echo" // in either language the next cell runs; that is all
		if h.language == sandbox.Python {
			show = "print()"
		}
	}
	after := th.Do(t, th.Next(h.language, show)).Want(t, sandbox.OK)
	if !h.lost && !strings.Contains(after.Text("stdout"), "is kept") {
		t.Errorf("afterwards the variable is %q", after.Text(""))
	}
}

// TestMemoryOnABusyMachine: the watch over memory keeps the variables also where
// it comes late to every look. It isn't parallel, for it takes all the machine.
func TestMemoryOnABusyMachine(t *testing.T) {
	th := sandboxtest.Open(t, sleeper(t).attached(t), "busy")
	for range 2 * runtime.NumCPU() {
		busy := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = busy.Wait() }) // killed: the test's context ends before
	}
	for name, grow := range map[string]string{
		"arrays":  "import numpy as np\n    while True: kept.append(np.ones(10**6))",
		"strings": "while True: kept.append(b'x' * 100_000)",
		"lists":   "while True: kept.append([1] * 1000)",
	} {
		t.Run(name, func(t *testing.T) {
			hostile{
				code: "def grow():\n    kept = []\n    " + grow + "\ngrow()", want: sandbox.OutOfMemory,
			}.run(t, th)
		})
	}
}

func TestHostileFiles(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		th := sandboxtest.Open(t, b.attached(t), "files")
		th.Bash(t, `
mkdir -p plain/sub
echo ok >plain/sub/file
ln -s /etc/passwd link
ln -s plain linked-folder
ln -s / root
ln -s nowhere dangling
ln -s loop loop
mkfifo pipe
echo secret >closed; chmod 0 closed
mkdir locked; echo in >locked/in; chmod 0 locked
touch "$(printf 'bad\xff')" "$(printf 'two\nlines')" 'quote"and\slash'
d=.; for i in $(seq 60); do d=$d/deep; done; mkdir -p $d; touch $d/bottom
`).Want(t, sandbox.OK)
		for path, want := range map[string]error{
			"link":                     sandbox.ErrBadPath,
			"root/etc/passwd":          sandbox.ErrBadPath,
			"linked-folder/sub":        sandbox.ErrBadPath,
			"dangling":                 sandbox.ErrBadPath,
			"loop":                     sandbox.ErrBadPath,
			"pipe":                     sandbox.ErrBadPath,
			"closed":                   sandbox.ErrBadPath,
			"locked/in":                sandbox.ErrBadPath,
			"plain/sub":                sandbox.ErrBadPath,
			"two\nlines":               sandbox.ErrBadPath,
			"plain/sub/file/x":         sandbox.ErrBadPath,
			`quote"and\slash`:          nil,
			"plain/sub/file":           nil,
			"plain/./sub//file":        nil,
			strings.Repeat("x/", 2000): sandbox.ErrBadPath,
		} {
			if err := th.Get(t.Context(), path, io.Discard, 1<<20); !errors.Is(err, want) {
				t.Errorf("reading %.60q: %v, want %v", path, err, want)
			}
		}
		files, more, err := th.List(t.Context(), ".")
		if err != nil || more {
			t.Fatalf("listing: %v, more %v", err, more)
		}
		var paths []string
		for _, f := range files {
			paths = append(paths, f.Path)
		}
		if want := []string{"closed", "plain/sub/file", `quote"and\slash`}; !slices.Equal(paths, want) {
			t.Errorf("files %q, want %q", paths, want)
		}
		// Writing through a link to a folder is refused; a link in the file's
		// own place is replaced, and what it led to isn't touched.
		put := func(path string) error {
			return th.Put(t.Context(), path, strings.NewReader("new"), 3)
		}
		if err := put("root/tmp/x"); !errors.Is(err, sandbox.ErrBadPath) {
			t.Errorf("writing through a link: %v", err)
		}
		if err := put("link"); err != nil {
			t.Errorf("writing over a link: %v", err)
		}
		if err := put("pipe"); err != nil {
			t.Errorf("writing over a pipe: %v", err)
		}
		if got := th.Bash(t, "grep -c root /etc/passwd; cat link pipe").Want(t, sandbox.OK).Text("stdout"); got != "1\nnewnew" {
			t.Errorf("afterwards %q", got)
		}
		// A cell's long output doesn't follow a link either.
		th.Bash(t, "rm -rf outputs; ln -s /tmp outputs").Want(t, sandbox.OK)
		ran := th.Python(t, "for i in range(10_000): print('x' * 99)").Want(t, sandbox.OK)
		if !strings.Contains(ran.Text("stderr"), "does not have all") {
			t.Errorf("of the output that could not be kept it says %q", ran.Text("stderr"))
		}
		if got := th.Bash(t, "ls /tmp/cell-* 2>/dev/null | wc -l").Want(t, sandbox.OK).Text("stdout"); got != "0\n" {
			t.Errorf("%q files outside of the workspace", got)
		}
		// More files than are listed.
		th.Bash(t, "mkdir many; for i in $(seq 1200); do : >many/$i; done").Want(t, sandbox.OK)
		if files, more, err := th.List(t.Context(), "many"); err != nil || !more || len(files) != sandbox.MaxListed {
			t.Errorf("listing many: %d files, more %v, %v", len(files), more, err)
		}
		// A file with no room for it leaves nothing behind.
		const size = 400 << 20
		err = th.Put(t.Context(), "huge", io.LimitReader(zeros{make([]byte, 1<<16)}, size), size)
		if !errors.Is(err, sandbox.ErrDiskFull) {
			t.Errorf("writing more than the disk: %v", err)
		}
		if got := th.Bash(t, "ls -A huge .threadbook* 2>/dev/null; df -m . | awk 'NR == 2 { print ($3 < 50) }'").Want(t, sandbox.OK).Text("stdout"); got != "1\n" {
			t.Errorf("left behind: %q", got)
		}
	})
}

// TestForkBomb: a bomb may end its sandbox, and nothing else.
func TestForkBomb(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		p := b.attached(t)
		bystander := sandboxtest.Open(t, p, "bystander")
		bystander.Python(t, "x = 41").Want(t, sandbox.OK)
		for name, code := range map[string]string{
			"python": "import os, time\nfor _ in range(12): os.fork()\ntime.sleep(5)",
			"bash":   "import subprocess\nsubprocess.run(['bash', '-c', ':(){ :|:& };:; sleep 3'])",
		} {
			th := sandboxtest.Open(t, p, name)
			cell := th.Next(sandbox.Python, code)
			cell.Timeout = 10 * time.Second
			ran := th.Do(t, cell)
			t.Logf("%s bomb: %s, gone %v, %+v", name, ran.Status, ran.Gone, ran.Error)
			if ran.Gone {
				th.Reopen(t)
			}
			// The bomb may have smouldered on past its cell.
			if ran, err := tryCell(th, "print(1)"); err != nil || ran.Gone {
				th.Reopen(t)
				th.Python(t, "print(1)").Want(t, sandbox.OK)
			}
		}
		if got := bystander.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "41\n" {
			t.Errorf("the other thread has %q", got)
		}
	})
}

func tryCell(th *sandboxtest.Thread, code string) (sandbox.Result, error) {
	return th.Run(context.Background(), th.Next(sandbox.Python, code), func(sandbox.Output) error { return nil })
}
