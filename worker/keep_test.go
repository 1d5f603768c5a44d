package worker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"threadbook/sandbox"
	"threadbook/sessions"
	"threadbook/worker/agenttest"
)

// keptFiles are the events about files that nobody was given, in short.
func keptFiles(log []sessions.Event) []string {
	var all []string
	for _, ev := range log {
		f, ok := ev.Body.(*sessions.File)
		switch {
		case !ok || !f.Saved:
		case f.Blob != "":
			all = append(all, fmt.Sprintf("%s %d", f.Path, f.Size))
		case f.ModTime.IsZero():
			all = append(all, f.Path+" gone")
		default:
			all = append(all, f.Path+" over")
		}
	}
	return all
}

// released waits until nobody holds the thread, and gives its log.
func (b *bench) released(t *testing.T, thread sessions.ThreadID) []sessions.Event {
	t.Helper()
	b.wait(t, func() bool {
		lease, err := b.store.Lease(b.ctx, thread, "looker")
		if err != nil {
			return false
		}
		return lease.Drop(b.ctx) == nil
	})
	log, err := b.store.Read(b.ctx, thread, 0, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// What changes in the workspace is kept at a turn's end, once, and comes back
// in a new sandbox; what code has deleted does not.
func TestKeep(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:keep")
	b := newBench(t, agenttest.Words)
	b.work(t)
	turn := int64(0)
	run := func(text string, files ...string) {
		t.Helper()
		turn++
		b.send(t, thread, text, files...)
		if end, log := b.finished(t, thread, turn); end.Status != sessions.TurnOK {
			t.Fatalf("%q ended as %s: %s", text, end.Status, kinds(log))
		}
	}
	wantKept := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, keptFiles(b.released(t, thread))); diff != "" {
			t.Fatal(diff)
		}
	}
	run("```\nfile a.txt aa\nfile sub/b.txt b\nfile outputs/c.txt c\n```", "sent.csv")
	wantKept("sub/b.txt 1", "a.txt 2")
	run("```\nprint nothing changes\n```")
	wantKept("sub/b.txt 1", "a.txt 2")
	run("```\nfile a.txt aaa\nfile sent.csv new\n```")
	wantKept("sub/b.txt 1", "a.txt 2", "a.txt 3", "sent.csv 3")

	run("```\nremove sub/b.txt\n```")
	wantKept("sub/b.txt 1", "a.txt 2", "a.txt 3", "sent.csv 3", "sub/b.txt gone")

	b.engine.Kill(string(thread), sandbox.KernelDied)
	run("```\nprint back\n```")
	log := b.released(t, thread)
	times := []string{"a.txt 3", "outputs/c.txt 1", "sent.csv 3"} // they have new ones
	if diff := cmp.Diff(times, keptFiles(log)[5:]); diff != "" {
		t.Fatal(diff)
	}
	run("```\nprint nothing changes\n```")
	given := 0
	for _, ev := range b.released(t, thread) {
		if f, ok := ev.Body.(*sessions.File); ok && !f.Saved {
			given++
		}
	}
	if given != 2 { // the one sent and the one in outputs
		t.Errorf("%d files were given out", given)
	}
	s, err := b.engine.Provider().Open(b.ctx, string(thread))
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := s.List(b.ctx, ".")
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, f := range list {
		there = append(there, fmt.Sprintf("%s %d", f.Path, f.Size))
	}
	if diff := cmp.Diff(times, there); diff != "" {
		t.Error("in the new sandbox: ", diff)
	}
}

// What is over the limits is noted and said once, and named when it is lost.
func TestKeepLimits(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:limits")
	b := newBench(t, agenttest.Words)
	b.work(t)
	var code strings.Builder
	for i := range 230 {
		fmt.Fprintf(&code, "file f%03d x\n", i)
	}
	b.send(t, thread, "```\n"+code.String()+"```")
	b.finished(t, thread, 1)
	log := b.released(t, thread)
	kept := keptFiles(log)
	over := slices.DeleteFunc(slices.Clone(kept), func(s string) bool { return !strings.HasSuffix(s, "over") })
	if len(kept) != 220 || len(over) != 20 || over[0] != "f200 over" {
		t.Errorf("%d kept, with %v", len(kept), over)
	}
	told := func(turn int64) (texts []string) {
		t.Helper()
		b.send(t, thread, "```\nprint again\n```")
		b.finished(t, thread, turn)
		for _, ev := range b.released(t, thread)[len(log):] {
			if n, ok := ev.Body.(*sessions.Notice); ok && n.Code == "not_kept" {
				texts = append(texts, n.Text)
			}
		}
		return texts
	}
	if texts := told(2); len(texts) != 1 || !strings.HasSuffix(texts[0], ": f200, f201, f202, f203, f204, f205, f206, f207, f208, f209, f210, f211, f212, f213, f214, f215, f216, f217, f218, f219, and perhaps more.") {
		t.Errorf("told %q", texts)
	}
	if texts := told(3); len(texts) != 1 {
		t.Errorf("it is said again: %q", texts)
	}
	if again := keptFiles(b.released(t, thread)[len(log):]); len(again) != 0 {
		t.Errorf("it is noted again: %q", again)
	}
	b.engine.Kill(string(thread), sandbox.KernelDied)
	b.send(t, thread, "```\nprint lost\n```")
	_, log = b.finished(t, thread, 4)
	for _, ev := range log {
		if n, ok := ev.Body.(*sessions.Notice); ok && n.Code == "state_lost" && !strings.Contains(n.Text, "f200, f201") {
			t.Errorf("told %q", n.Text)
		}
	}
}

// A message that comes while the workspace is kept goes first.
func TestKeepMakesWay(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:way")
	b := newBench(t, agenttest.Words)
	b.work(t)
	for turn := int64(1); turn <= 30; turn++ {
		b.send(t, thread, fmt.Sprintf("```\nfile a%d x\nfile b%d x\nfile c%d x\n```", turn, turn, turn))
		b.finished(t, thread, turn)
	}
	kept := keptFiles(b.released(t, thread))
	slices.Sort(kept)
	if kept = slices.Compact(kept); len(kept) != 90 {
		t.Errorf("%d files are kept, want 90: %v", len(kept), kept)
	}
}

// "!rerun" runs every cell that ended well once more, once however often it is
// asked for, and stops at the first that fails.
func TestRerun(t *testing.T) {
	t.Parallel()
	const thread = sessions.ThreadID("test:rerun")
	b := newBench(t, agenttest.Words)
	b.work(t)
	var log []sessions.Event
	turn := int64(0)
	run := func(text, want string) {
		t.Helper()
		turn++
		b.send(t, thread, text)
		if _, log = b.finished(t, thread, turn); printed(log, turn) != want {
			t.Fatalf("%q printed %q, want %q: %s", text, printed(log, turn), want, kinds(log))
		}
	}
	last := func() string {
		for _, ev := range slices.Backward(log) {
			if n, ok := ev.Body.(*sessions.Notice); ok {
				return n.Text
			}
		}
		return ""
	}
	run("!rerun", "")
	if !strings.HasPrefix(last(), "No cell") {
		t.Errorf("told %q", last())
	}
	run("```\nset x 1\n```\n```\nfail boom\n```", "")
	run("python show x\\nset y 2\nsay done", "1\n")
	b.engine.Kill(string(thread), sandbox.KernelDied)
	run("```\nshow x\n```", "")
	run("!rerun", "1\n")
	run("```\nshow y\n```", "2\n")
	run("!rerun", "1\n2\n")
	if last() != "All 3 cells that had ended well were run again." {
		t.Errorf("told %q", last())
	}
	b.engine.Kill(string(thread), sandbox.KernelDied)
	run("```\nset z 3\n```", "")
	b.engine.Fail("Put", sandbox.ErrDiskFull) // whatever fails next is no cell's matter
	run("```bash\nset only here\n```", "")
	run("!rerun", "1\n2\n")
}
