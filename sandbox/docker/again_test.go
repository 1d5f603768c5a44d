package docker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"threadbook/sandbox"
	"threadbook/sandbox/sandboxtest"
)

// much is a cell that puts out all there is, for some seconds: text, pictures of
// several parts, several representations of a thing, displays that are updated.
const much = `
import time, sys
from IPython.display import Image, HTML, display
png = b"\x89PNG\r\n\x1a\n"
class Both:
    def __init__(self, text): self.text = text
    def _repr_html_(self): return f"<b>{self.text}</b>"
    def __repr__(self): return self.text
bar = display(Both("0 of 40"), display_id=True)
for i in range(40):
    print("line", i)
    if i % 8 == 3:
        display(Image(data=png + bytes([i]) * 1_200_000, format="png"))
    if i % 5 == 2:
        display(Both(f"both {i}"))
    bar.update(Both(f"{i + 1} of 40"))
    time.sleep(0.05)
print("over", file=sys.stderr)`

// said is what outputs come to: the text, and what was displayed, by its
// number, each representation with what it is at last.
func said(outputs []sandbox.Output) (text string, shown []string) {
	var b strings.Builder
	at := map[string]int{}
	for _, o := range outputs {
		if o.Stream != "" {
			b.WriteString(o.Text)
			continue
		}
		sum := sha256.Sum256(o.Data)
		key := fmt.Sprintf("%d %s", o.Display, o.MIME)
		line := key + " " + hex.EncodeToString(sum[:4])
		if i, again := at[key]; again {
			shown[i] = line
			continue
		}
		at[key] = len(shown)
		shown = append(shown, line)
	}
	return b.String(), shown
}

// TestKilledAgainAndAgain: of a cell whose clients are killed one after the other
// every output comes once, and each thing displayed is there once.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	whole := sandboxtest.Open(t, b.attached(t), "whole")
	ran := whole.Do(t, whole.Next(sandbox.Python, much)).Want(t, sandbox.OK)
	wantText, wantShown := said(ran.Outputs())
	if n := strings.Count(wantText, "line"); n != 40 || len(wantShown) != 2+5+2*8 {
		t.Fatalf("a cell that nobody interrupts says %d lines and shows %q", n, wantShown)
	}

	killed := errors.New("killed")
	var outputs []sandbox.Output
	cell := sandbox.Cell{ID: 1, Language: sandbox.Python, Code: much, Timeout: time.Minute}
	for clients := 1; ; clients++ {
		p := b.provider(t)
		opened, err := p.Open(t.Context(), "killed")
		if err != nil {
			t.Fatal(err)
		}
		// A client may be killed before it has taken anything, and in the middle
		// of a picture's parts: the connection is just gone.
		lives, err := rand.Int(rand.Reader, big.NewInt(6))
		if err != nil {
			t.Fatal(err)
		}
		left := lives.Int64()
		ctx, kill := context.WithTimeoutCause(t.Context(), time.Duration(20+60*left)*time.Millisecond, killed)
		result, err := opened.Run(ctx, cell, func(o sandbox.Output) error {
			if left--; left < 0 {
				return killed
			}
			outputs = append(outputs, o)
			cell.After = o.N
			return nil
		})
		kill()
		// It may have been admitted, or not: whoever comes next finds that out.
		cell.Resume = opened.(*session).lastCell.Load() == cell.ID
		opened.(*session).stop(errLetGo)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			if result.Status != sandbox.OK || result.Lost {
				t.Errorf("in the end %+v, %+v", result, result.Error)
			}
			t.Logf("%d clients, %d outputs", clients, len(outputs))
			break
		}
		if !errors.Is(err, killed) {
			t.Fatalf("client %d: %v", clients, err)
		}
		if clients > 500 {
			t.Fatal("the cell never ends")
		}
	}
	if !slices.IsSortedFunc(outputs, func(a, b sandbox.Output) int {
		if a.N < b.N {
			return -1
		}
		return 1
	}) {
		t.Error("an output came twice, or out of turn")
	}
	text, shown := said(outputs)
	if text != wantText {
		t.Errorf("it said %q, want %q", text, wantText)
	}
	if !slices.Equal(shown, wantShown) {
		t.Errorf("it showed %q, want %q", shown, wantShown)
	}
}

// TestOpensRaceATemplate: threads that come while the template is made, by two
// processes at once, all get a sandbox; the next one begins as the template.
func TestOpensRaceATemplate(t *testing.T) {
	t.Parallel()
	config := testConfig(t, runtimeOurs)
	config.Limits.Memory += 1 << 20 // a template of its own
	b := newBench(t, config)
	p, q := b.attached(t), b.attached(t)
	plan, err := p.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		last := b.provider(t)
		_, err := last.errand(ctx, plan, plan.template)
		if err := errors.Join(err, last.Close()); err != nil {
			t.Errorf("removing the template: %v", err)
		}
	})
	var all errgroup.Group
	made := make(chan error, 2)
	for _, maker := range []*Provider{p, q} {
		all.Go(func() error { made <- maker.MakeTemplate(t.Context()); return nil })
	}
	for i := range 4 {
		all.Go(func() error {
			s, err := []*Provider{p, q}[i%2].Open(t.Context(), fmt.Sprintf("racer %d", i))
			if err != nil {
				return err
			}
			result, err := s.Run(t.Context(), sandbox.Cell{
				ID: 1, Language: sandbox.Python, Code: "1 + 1", Timeout: time.Minute,
			}, func(sandbox.Output) error { return nil })
			if err == nil && result.Status != sandbox.OK {
				err = fmt.Errorf("%+v, %+v", result, result.Error)
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if one, two := <-made, <-made; one != nil && two != nil {
		t.Fatalf("neither made the template: %v; %v", one, two)
	}
	for _, maker := range []*Provider{p, q} {
		maker.trustTemplate(plan) // as Keep would find out
		c, err := maker.makeNew(t.Context(), plan, blueprint{role: roleThread})
		if err != nil {
			t.Fatal(err)
		}
		if !maker.hasTemplate(plan) {
			t.Error("the template does not work")
		}
		found, err := maker.engine.ContainerInspect(t.Context(), c.container)
		if err != nil || !slices.Contains(found.Config.Env, envRestore+"="+plan.template) {
			t.Errorf("a sandbox does not begin as the template: %v", err)
		}
		c.stop(errLetGo)
	}
	if err := p.removeContainer(t.Context(), templatePrefix+p.hostKey()); err != nil {
		t.Errorf("the template's own container: %v", err)
	}
}
