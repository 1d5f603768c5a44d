package docker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sys/unix"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// stored are the files of a sleeping thread's checkpoint, which takes the
// engine to be on this machine: what it is, and the folder of its data.
func stored(t *testing.T, p *Provider, thread string) (description, data string) {
	t.Helper()
	note, err := p.engine.VolumeInspect(t.Context(), p.noteName(thread))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.errand(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(l.Dir, note.Labels[labelCheckpoint])
	found, err := filepath.Glob(name + ".*")
	if err != nil || len(found) != 2 {
		t.Fatalf("the checkpoint is %q, %v", found, err)
	}
	description = name + ".json"
	return description, found[1-slices.Index(found, description)]
}

// rewrite changes a file in its place.
func rewrite(t *testing.T, path string, change func(text []byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamage: a checkpoint that can't be what it was gives the thread a new
// sandbox, and goes.
func TestDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, description, data string){
		"half of the memory": func(t *testing.T, _, data string) {
			rewrite(t, data+"/pages.img", func(pages []byte) []byte { return pages[:len(pages)/2] })
		},
		"no state": func(t *testing.T, _, data string) {
			if err := os.Remove(data + "/checkpoint.img"); err != nil {
				t.Fatal(err)
			}
		},
		"another state": func(t *testing.T, _, data string) {
			rewrite(t, data+"/checkpoint.img", func(state []byte) []byte {
				for i := len(state) / 2; i < len(state)/2+4096; i++ {
					state[i] ^= 0x55
				}
				return state
			})
		},
		"no description": func(t *testing.T, description, _ string) {
			rewrite(t, description, func(text []byte) []byte { return text[:len(text)/2] })
		},
		"another runsc": func(t *testing.T, description, _ string) {
			rewrite(t, description, func(text []byte) []byte {
				changed := strings.Replace(string(text), `"runsc": "`, `"runsc": "another-`, 1)
				changed = strings.Replace(changed, `"binary": "`, `"binary": "0 `, 1)
				if strings.Count(changed, "another-")+strings.Count(changed, `"0 `) != 2 {
					t.Fatalf("a description is %s", text)
				}
				return []byte(changed)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := sleeper(t)
			p := b.attached(t)
			th := sandboxtest.Open(t, p, "t")
			th.Python(t, "x = 41").Want(t, sandbox.OK)
			putToSleep(t, p, "t")
			description, data := stored(t, p, "t")
			damage(t, description, data)
			th.Reopen(t)
			if !th.Fresh() {
				t.Error("the new sandbox isn't fresh")
			}
			th.Python(t, "x = 42").Want(t, sandbox.OK)
			wantThreads(t, p.Asleep)
			if _, err := p.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(strings.TrimSuffix(description, ".json") + "*"); len(left) != 0 {
				t.Errorf("left are %q", left)
			}
			if got := th.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "42\n" {
				t.Errorf("x is %q", got)
			}
		})
	}
}

// imageWithoutR is the sandbox's image without R: another one.
func imageWithoutR(t *testing.T) string {
	t.Helper()
	p, err := New(testConfig(t, runtimeRunc))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	base, err := p.engine.ImageInspect(ctx, p.config.Image)
	if err != nil {
		t.Fatal(err)
	}
	made, err := p.engine.ContainerCreate(ctx, &container.Config{
		Image: p.config.Image, Labels: p.labels("image"), Entrypoint: []string{"rm", "-f", "/usr/bin/R"},
	}, &container.HostConfig{Runtime: runtimeRunc, NetworkMode: "none"}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.discard(ctx, made.ID)
	if err := p.engine.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	ended, failed := p.engine.ContainerWait(ctx, made.ID, container.WaitConditionNotRunning)
	select {
	case <-ended:
	case err := <-failed:
		t.Fatal(err)
	}
	saved, err := p.engine.ContainerCommit(ctx, made.ID, container.CommitOptions{Config: &container.Config{
		Entrypoint: base.Config.Entrypoint, WorkingDir: base.Config.WorkingDir, User: base.Config.User, Env: base.Config.Env,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := p.engine.ImageRemove(ctx, saved.ID, image.RemoveOptions{Force: true})
		if err := errors.Join(err, p.Close()); err != nil {
			t.Errorf("removing the image that the test made: %v", err)
		}
	})
	return saved.ID
}

// TestAnotherImage: a thread that slept on one image wakes up as a new sandbox on
// another, which also lacks a language: a cell in it is a failed cell.
func TestAnotherImage(t *testing.T) {
	t.Parallel()
	without := imageWithoutR(t)
	b := sleeper(t)
	p := b.attached(t)
	th := sandboxtest.Open(t, p, "t")
	th.Python(t, "x = 41").Want(t, sandbox.OK)
	putToSleep(t, p, "t")
	b.config.Image = without
	p = b.attached(t)
	th.Provider = p
	th.Reopen(t)
	if !th.Fresh() {
		t.Error("the new sandbox isn't fresh")
	}
	cell := th.Next(sandbox.R, "1")
	for _, resume := range []bool{false, true} {
		cell.Resume = resume
		ran := th.Do(t, cell).Want(t, sandbox.Failed)
		if e := ran.Error; ran.Lost || e == nil || e.Name != "LanguageMissing" || !strings.Contains(e.Value, "it has python, bash") {
			t.Errorf("R, where there is none, resumed %v: %+v, %+v", resume, ran.Result, e)
		}
	}
	th.Python(t, "1").Want(t, sandbox.OK)
	wantThreads(t, p.Asleep)
	if _, err := p.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := b.checkpoints(t); len(names) != 0 {
		t.Errorf("left are %q", names)
	}
}

// TestNoRoomForACheckpoint: the disk is full in the middle of writing it. Here
// that is a limit on how large a file the sandbox's kernel may write, since a
// test can't fill the machine's disk.
func TestNoRoomForACheckpoint(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	p := b.attached(t)
	th := sandboxtest.Open(t, p, "t")
	th.Python(t, "x = 41").Want(t, sandbox.OK)
	found, err := p.engine.ContainerInspect(t.Context(), p.containerName("t"))
	if err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Prlimit(found.State.Pid, unix.RLIMIT_FSIZE, nil, &before); err != nil {
		t.Fatal(err)
	}
	limit := func(most uint64) {
		t.Helper()
		if err := unix.Prlimit(found.State.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: before.Max}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(8 << 20)
	err = p.Sleep(t.Context(), "t")
	limit(before.Cur)
	if err == nil {
		t.Fatal("Sleep succeeds where the checkpoint has no room")
	}
	t.Logf("Sleep: %v", err)
	wantThreads(t, p.Asleep)
	wantThreads(t, p.Awake, "t")
	if names := b.checkpoints(t); len(names) != 0 {
		t.Errorf("left are %q", names)
	}
	if got := th.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "41\n" {
		t.Errorf("x is %q", got)
	}
	putToSleep(t, p, "t") // there is room again
	th.Reopen(t)
	if got := th.Python(t, "print(x)").Want(t, sandbox.OK).Text("stdout"); got != "41\n" || th.Fresh() {
		t.Errorf("x is %q, fresh %v", got, th.Fresh())
	}
}
