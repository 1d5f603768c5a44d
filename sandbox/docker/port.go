package docker

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/klauspost/compress/zstd"

	"threadbook/sandbox"
)

// A sleeping sandbox goes to another machine as a tar archive under zstd: the
// runtime's description of the checkpoint, and the checkpoint's files. All that we
// have is the engine's socket, so the engine carries: it copies files out of
// containers and into them, also of those that are made and never started, with
// the runtime's directory bound into it. No code runs in such a container.
//
// What comes in is put where the runtime does not take it for a checkpoint, and is
// adopted once all of it is there; only the runtime can tell whether it fits, and
// it compares every byte. A process may die at any point of that:
//
//	carry    the runtime deletes what is in its folder for incoming ones, after a while
//	remove   the thread has no sandbox here
//	note     there is a note without a checkpoint: as if the checkpoint were lost
//	adopt    asleep
const (
	// carryTimeout bounds all of it; a gigabyte takes some twenty seconds.
	carryTimeout = 10 * time.Minute
	// maxWindow is how much of what came the decoder has to remember, in bytes:
	// twice what our encoder asks for.
	maxWindow = 8 << 20
	// maxFiles is how many files a checkpoint may have; runsc writes three or four.
	maxFiles = 32

	// In the archive, and in the runtime's folder for incoming ones.
	descriptionFile = "checkpoint.json"
	maxDescription  = 64 << 10
	incomingFolder  = "incoming"
	carryPoint      = "/checkpoints" // in a container that carries
)

var fileNames = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,99}$`)

// A description is what our runtime says of a checkpoint to who carries it;
// package runtime has the whole of it.
type description struct {
	ID          string
	Base, Runsc string
	Files       map[string]int64 // with sizes
}

// readDescription reads one, from a machine that needs not be ours.
func readDescription(r io.Reader) (text []byte, d *description, err error) {
	if text, err = io.ReadAll(io.LimitReader(r, maxDescription+1)); err != nil {
		return nil, nil, err
	}
	if len(text) > maxDescription {
		return nil, nil, fmt.Errorf("its description has more than %d bytes", maxDescription)
	}
	d = new(description)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, nil, fmt.Errorf("its description can't be read: %w", err)
	}
	if len(d.Files) > maxFiles || !fileNames.MatchString(d.ID) {
		return nil, nil, errors.New("its description is none")
	}
	for name, size := range d.Files {
		if !fileNames.MatchString(name) || name == descriptionFile || size < 0 {
			return nil, nil, fmt.Errorf("its description has a file %.100q of %d bytes", name, size)
		}
	}
	return text, d, nil
}

func (d *description) size() (n int64) {
	for _, size := range d.Files {
		n += size
	}
	return n
}

// Export: see sandbox.Porter.
func (p *Provider) Export(ctx context.Context, id string, w io.Writer) error {
	return p.carry(ctx, id, func(ctx context.Context, _ *thread, plan *plan) error {
		name, err := p.sleeping(ctx, id)
		if err != nil {
			return err
		}
		if err := p.export(ctx, plan, name, w); err != nil {
			return fmt.Errorf("carrying a sleeping sandbox away: %w", err)
		}
		return nil
	})
}

// carry holds the thread while something is carried, for a bounded time.
func (p *Provider) carry(ctx context.Context, id string, do func(context.Context, *thread, *plan) error) error {
	t, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer p.unlock(id, t)
	ctx, cancel := context.WithTimeout(ctx, carryTimeout)
	defer cancel()
	plan, err := p.plan(ctx)
	if err != nil {
		return err
	}
	return do(ctx, t, plan)
}

// sleeping is the name of the checkpoint that the thread sleeps as.
func (p *Provider) sleeping(ctx context.Context, id string) (string, error) {
	found, err := p.engine.ContainerInspect(ctx, p.containerName(id))
	if err == nil && found.State.Running {
		return "", sandbox.ErrNotAsleep
	}
	if err != nil && !cerrdefs.IsNotFound(err) {
		return "", err
	}
	note, err := p.engine.VolumeInspect(ctx, p.noteName(id))
	if cerrdefs.IsNotFound(err) {
		return "", sandbox.ErrNotAsleep
	}
	if err != nil {
		return "", err
	}
	return note.Labels[labelCheckpoint], nil
}

func (p *Provider) export(ctx context.Context, plan *plan, name string, w io.Writer) error {
	place, err := p.place(ctx, plan)
	if err != nil {
		return err
	}
	carrier, err := p.carrier(ctx, plan, place.Dir+":"+carryPoint+":ro")
	if err != nil {
		return err
	}
	defer p.discardLate(ctx, carrier)
	packed, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	defer packed.Close() // once more, where it was not to be
	archive := tar.NewWriter(packed)
	var d *description
	err = p.copyOut(ctx, carrier, name+".json", func(_ string, _ int64, r io.Reader) error {
		var text []byte
		var err error
		if text, d, err = readDescription(r); err != nil {
			return err
		}
		if err := archive.WriteHeader(plainFile(descriptionFile, int64(len(text)))); err != nil {
			return err
		}
		_, err = archive.Write(text)
		return err
	})
	if cerrdefs.IsNotFound(err) {
		return sandbox.ErrNotAsleep // the note is all that there is
	}
	if err != nil {
		return err
	}
	left := len(d.Files)
	err = p.copyOut(ctx, carrier, name+"."+d.ID, func(file string, size int64, r io.Reader) error {
		if want, ok := d.Files[file]; !ok || want != size {
			return fmt.Errorf("the checkpoint has changed: %s has %d bytes", file, size)
		}
		left--
		if err := archive.WriteHeader(plainFile(file, size)); err != nil {
			return err
		}
		_, err := io.Copy(archive, r)
		return err
	})
	if err == nil && left != 0 {
		err = fmt.Errorf("the checkpoint has changed: of %d files %d are gone", len(d.Files), left)
	}
	if err != nil {
		return err
	}
	return errors.Join(archive.Close(), packed.Close())
}

// copyOut gives the files at a path below the carrier's checkpoints to take.
func (p *Provider) copyOut(ctx context.Context, carrier, from string, take func(name string, size int64, r io.Reader) error) error {
	stream, _, err := p.engine.CopyFromContainer(ctx, carrier, carryPoint+"/"+from)
	if err != nil {
		return err
	}
	defer stream.Close()
	for files := tar.NewReader(stream); ; {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if head.Typeflag != tar.TypeReg {
			continue
		}
		if err := take(path.Base(head.Name), head.Size, files); err != nil {
			return err
		}
	}
}

// carrier makes a container that carries files and is never started.
func (p *Provider) carrier(ctx context.Context, plan *plan, bind string) (string, error) {
	id, err := p.register(ctx, &container.Config{
		Image: plan.image, Labels: p.labelsOf(blueprint{role: roleCarry}), Entrypoint: []string{"true"},
	}, &container.HostConfig{
		NetworkMode: "none", LogConfig: container.LogConfig{Type: "none"}, Binds: []string{bind},
	}, "")
	if err != nil {
		return "", fmt.Errorf("a container to carry checkpoints: %w", err)
	}
	return id, nil
}

func plainFile(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: time.Now(), Format: tar.FormatPAX}
}

// Import: see sandbox.Porter.
func (p *Provider) Import(ctx context.Context, id string, r io.Reader) error {
	return p.carry(ctx, id, func(ctx context.Context, t *thread, plan *plan) error { return p.bring(ctx, t, plan, id, r) })
}

// bring is Import for who has the thread.
func (p *Provider) bring(ctx context.Context, t *thread, plan *plan, id string, r io.Reader) error {
	if plan.machine.runtime != runtimeOurs {
		return fmt.Errorf("%w: %w", sandbox.ErrCantImport, sandbox.ErrCantSleep)
	}
	name := p.newCheckpoint()
	if err := p.carryIn(ctx, plan, name, r); err != nil {
		return fmt.Errorf("carrying a sleeping sandbox here: %w", err)
	}
	if err := p.remove(ctx, t, id); err != nil {
		return errors.Join(err, p.dropIncoming(ctx, plan, name))
	}
	// The note comes first, so that the reaper does not find one without the other.
	err := p.noteSleep(ctx, id, name)
	if err == nil {
		err = p.adoptCheckpoint(ctx, plan, name)
	}
	if err != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		defer cancel()
		return fmt.Errorf("adopting a sleeping sandbox: %w", errors.Join(err, p.forgetSleep(late, id)))
	}
	return nil
}

// carryIn puts what comes into the runtime's folder for it. Where that fails nothing
// of it is left.
func (p *Provider) carryIn(ctx context.Context, plan *plan, name string, r io.Reader) error {
	place, err := p.place(ctx, plan)
	if err != nil {
		return err
	}
	source := &source{r: r}
	files, text, d, err := openArchive(source)
	if err != nil {
		return source.blame(err)
	}
	defer files.close()
	switch need := d.size(); {
	case d.Runsc != place.Runsc:
		return fmt.Errorf("%w: it was written by runsc %.100q and here is %s", sandbox.ErrCantImport, d.Runsc, place.Runsc)
	case d.Base != plan.image:
		return fmt.Errorf("%w: its image is %.100q and here it is %s", sandbox.ErrCantImport, d.Base, plan.image)
	case need > place.Free || place.Quota > 0 && need > place.Quota-place.Bytes:
		return fmt.Errorf("%s has no room for a checkpoint of %d MB", place.Dir, need>>20)
	}
	carrier, err := p.carrier(ctx, plan, place.Dir+"/"+incomingFolder+"/"+name+":"+carryPoint)
	if err != nil {
		return err
	}
	defer p.discardLate(ctx, carrier)
	from, to := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := files.copyTo(to, text, d)
		to.CloseWithError(err)
		written <- err
	}()
	err = p.engine.CopyToContainer(ctx, carrier, carryPoint, from, container.CopyToContainerOptions{})
	from.CloseWithError(errNoReader)
	if bad := <-written; bad != nil && !errors.Is(bad, errNoReader) {
		err = source.blame(bad)
	}
	if err != nil {
		return errors.Join(err, p.dropIncoming(ctx, plan, name))
	}
	return nil
}

// errNoReader: the engine, which took the archive, has ended for reasons of its own.
var errNoReader = errors.New("the engine reads no more")

// A source is a reader that remembers how it failed.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// blame is the source's own failure, or else that what came from it is damaged.
func (s *source) blame(err error) error {
	if s.err != nil {
		return s.err
	}
	return fmt.Errorf("%w: it was damaged on its way: %w", sandbox.ErrCantImport, err)
}

// An archive is what Export wrote, as it is read.
type archive struct {
	*tar.Reader
	unpacked *zstd.Decoder
}

func (a *archive) close() { a.unpacked.Close() }

// openArchive reads the head of an archive.
func openArchive(r io.Reader) (a *archive, text []byte, d *description, err error) {
	// One at a time: it reads when it is read from, and never ahead.
	unpacked, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, nil, nil, err
	}
	a = &archive{tar.NewReader(unpacked), unpacked}
	head, err := a.Next()
	if err == nil && head.Name != descriptionFile {
		err = fmt.Errorf("it begins with %.100q", head.Name)
	}
	if err == nil {
		text, d, err = readDescription(a)
	}
	if err != nil {
		a.close()
		return nil, nil, nil, err
	}
	return a, text, d, nil
}

// copyTo writes an archive for the engine, with names that are ours: the files that
// the description names, and in the end the description. It reads to the very end,
// where a reader may have more to say than that it has come.
func (a *archive) copyTo(w io.Writer, text []byte, d *description) error {
	out := tar.NewWriter(w)
	seen := map[string]bool{}
	for {
		head, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		size, known := d.Files[head.Name]
		if !known || seen[head.Name] || head.Typeflag != tar.TypeReg || head.Size != size {
			return fmt.Errorf("it has %.100q, which it should not", head.Name)
		}
		seen[head.Name] = true
		if err := out.WriteHeader(plainFile(head.Name, size)); err != nil {
			return err
		}
		if _, err := io.Copy(out, a); err != nil {
			return err
		}
	}
	if len(seen) != len(d.Files) {
		return io.ErrUnexpectedEOF
	}
	n, err := io.Copy(io.Discard, io.LimitReader(a.unpacked, maxDescription))
	if err == nil && n == maxDescription {
		err = errors.New("it goes on after its end")
	}
	if err != nil {
		return err
	}
	err = out.WriteHeader(plainFile(descriptionFile, int64(len(text))))
	if err == nil {
		_, err = out.Write(text)
	}
	return errors.Join(err, out.Close())
}

// adoptCheckpoint has our runtime make a checkpoint of what was carried in, for
// containers such as are made here. It answers by refusing to make this one.
func (p *Provider) adoptCheckpoint(ctx context.Context, plan *plan, name string) error {
	config, host := p.spec(plan.machine, plan.image, blueprint{role: roleCarry})
	config.Env = append(config.Env, envErrand+"=adopt "+name)
	id, err := p.register(ctx, config, host, "")
	if err != nil {
		return err
	}
	defer p.discardLate(ctx, id)
	err = p.engine.ContainerStart(ctx, id, container.StartOptions{})
	switch faultOf(err) {
	case faultAdopted:
		return nil
	case faultBadCheckpoint, faultDoesNotFit:
		_, words, _ := strings.Cut(err.Error(), faultOf(err)+": ")
		return fmt.Errorf("%w: %s", sandbox.ErrCantImport, words)
	}
	if err == nil {
		err = errors.New("the runtime " + runtimeOurs + " knows no errand of that name: deploy/setup.sh installs the right one")
	}
	return err
}

// dropIncoming has our runtime delete what came: what isn't whole by adopting it.
func (p *Provider) dropIncoming(ctx context.Context, plan *plan, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), errandTimeout)
	defer cancel()
	switch err := p.adoptCheckpoint(ctx, plan, name); {
	case err == nil:
		_, err = p.errand(ctx, plan, name)
		return err
	case errors.Is(err, sandbox.ErrCantImport), faultOf(err) == faultNoCheckpoint:
		return nil
	default:
		return err
	}
}
