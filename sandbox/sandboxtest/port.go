package sandboxtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"fmt"
	"io"
	"time"

	"threadbook/sandbox"
)

var _ sandbox.Porter = (*provider)(nil)

// carried is what of a box goes to another engine.
type carried struct {
	Files  map[string]carriedFile
	Vars   map[sandbox.Language]map[string]string
	Number int64
	Ran    bool // whether there is a last cell, with
	Cell   int64
	Said   []sandbox.Output
	Result sandbox.Result
}

type carriedFile struct {
	Data []byte
	At   time.Time
}

func (p *provider) Export(_ context.Context, thread string, w io.Writer) error {
	if err := p.engine.fault("Export"); err != nil {
		return err
	}
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.asleep[thread]
	if b == nil {
		return sandbox.ErrNotAsleep
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := carried{Files: map[string]carriedFile{}, Vars: b.vars, Number: b.number}
	for path, f := range b.files {
		c.Files[path] = carriedFile{f.data, f.at}
	}
	if b.cell != nil {
		c.Ran, c.Cell, c.Said, c.Result = true, b.cell.id, b.cell.outputs, *b.cell.result
	}
	var all bytes.Buffer
	if err := gob.NewEncoder(&all).Encode(c); err != nil {
		return err
	}
	sum := sha256.Sum256(all.Bytes())
	_, err := w.Write(append(sum[:], all.Bytes()...))
	return err
}

func (p *provider) Import(_ context.Context, thread string, r io.Reader) error {
	if err := p.engine.fault("Import"); err != nil {
		return err
	}
	all, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var c carried
	if len(all) < sha256.Size || sha256.Sum256(all[sha256.Size:]) != [sha256.Size]byte(all[:sha256.Size]) {
		return fmt.Errorf("%w: it was damaged on its way", sandbox.ErrCantImport)
	}
	if err := gob.NewDecoder(bytes.NewReader(all[sha256.Size:])).Decode(&c); err != nil {
		return fmt.Errorf("%w: %w", sandbox.ErrCantImport, err)
	}
	p.engine.Kill(thread, sandbox.KernelDied)
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	b := newBox(e)
	b.gone, b.slept, b.number = true, true, c.Number
	for language, vars := range c.Vars {
		b.vars[language] = map[string]string{}
		for name, value := range vars {
			b.vars[language][name] = value
		}
	}
	for path, f := range c.Files {
		b.files[path] = file{f.Data, f.At}
	}
	if c.Ran {
		b.cell = &cell{box: b, id: c.Cell, outputs: c.Said, result: &c.Result}
	}
	e.asleep[thread] = b
	return nil
}
