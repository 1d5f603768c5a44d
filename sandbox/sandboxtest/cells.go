package sandboxtest

import (
	"bytes"
	"image/png"
	"strings"
	"testing"
	"time"

	"threadbook/sandbox"
)

// limit is that of cells which are to run out of time.
const limit = time.Second

func testCells(t *testing.T, s Suite) {
	th := Open(t, s.New(t), "cells")
	t.Run("Hello", func(t *testing.T) {
		ran := th.Python(t, s.Code.Hello).Want(t, sandbox.OK)
		if got := ran.Text("stdout"); got != "hello\n" {
			t.Errorf("it printed %q", got)
		}
		if ran.Error != nil || ran.Lost || ran.Gone {
			t.Errorf("result %+v", ran.Result)
		}
	})
	t.Run("StreamsInOrder", func(t *testing.T) {
		ran := th.Python(t, s.Code.Streams).Want(t, sandbox.OK)
		var got []string
		for _, o := range ran.Outputs() {
			got = append(got, o.Stream+":"+o.Text)
		}
		if got, want := strings.Join(got, ""), "stdout:one\nstderr:two\nstdout:three\n"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
	})
	t.Run("StateIsKept", func(t *testing.T) {
		th.Python(t, s.Code.SetX).Want(t, sandbox.OK)
		if got := th.Python(t, s.Code.ShowX).Want(t, sandbox.OK).Text("stdout"); got != "41\n" {
			t.Errorf("x is %q in the next cell", got)
		}
	})
	t.Run("ALanguageHasItsOwnState", func(t *testing.T) {
		th.Bash(t, s.Code.BashX).Want(t, sandbox.Failed)
		th.Bash(t, s.Code.BashSetX).Want(t, sandbox.OK)
		if got := th.Bash(t, s.Code.BashX).Want(t, sandbox.OK).Text("stdout"); got != "43\n" {
			t.Errorf("x is %q in the next cell", got)
		}
	})
	t.Run("OutputIsLive", func(t *testing.T) {
		ran := th.Start(t.Context(), th.Next(sandbox.Python, s.Code.Gates))
		ran.Seen(t, "1\n")
		th.write(t, "go1", "")
		ran.Seen(t, "2\n")
		th.write(t, "go2", "")
		<-ran.done
		if got := ran.Want(t, sandbox.OK).Text("stdout"); got != "1\n2\n3\n" {
			t.Errorf("it printed %q", got)
		}
	})
	t.Run("Error", func(t *testing.T) {
		ran := th.Python(t, s.Code.Fail).Want(t, sandbox.Failed)
		if ran.Error == nil || ran.Error.Name != "ValueError" || ran.Error.Value != "boom" {
			t.Fatalf("error %+v", ran.Error)
		}
		if !strings.Contains(ran.Error.Traceback, "ValueError: boom") || strings.Contains(ran.Error.Traceback, "\x1b") {
			t.Errorf("traceback %q", ran.Error.Traceback)
		}
	})
	t.Run("Figure", func(t *testing.T) {
		figures := th.Python(t, s.Code.Figure).Want(t, sandbox.OK).Data("image/png")
		if len(figures) != 1 {
			t.Fatalf("%d figures", len(figures))
		}
		if _, err := png.Decode(bytes.NewReader(figures[0])); err != nil {
			t.Errorf("the figure: %v", err)
		}
	})
	t.Run("Table", func(t *testing.T) {
		ran := th.Python(t, s.Code.Table).Want(t, sandbox.OK)
		displays := map[int64]int{}
		for _, o := range ran.Outputs() {
			displays[o.Display]++
		}
		if len(ran.Data("text/plain")) != 1 || len(ran.Data("text/html")) != 1 || len(displays) != 1 {
			t.Errorf("outputs %+v", ran.Outputs())
		}
	})
	t.Run("LongOutput", func(t *testing.T) {
		const size = 3_000_000
		cell := th.Next(sandbox.Python, s.Code.Flood)
		ran := th.Do(t, cell).Want(t, sandbox.OK)
		var truncated int64
		for _, o := range ran.Outputs() {
			truncated += o.Truncated
		}
		shown := ran.Text("stdout")
		if len(shown) > size/2 || int64(len(shown))+truncated != size {
			t.Fatalf("%d bytes shown and %d left out of %d", len(shown), truncated, size)
		}
		all := th.read(t, sandbox.OutputFile(cell.ID))
		if len(all) != size {
			t.Fatalf("the file has %d bytes of %d", len(all), size)
		}
		last := ran.Outputs()[len(ran.Outputs())-1]
		if !strings.HasPrefix(all, shown[:500]) || !strings.HasSuffix(all, last.Text) {
			t.Error("what is shown is not the file's beginning and end")
		}
	})
}

func testStopping(t *testing.T, s Suite) {
	th := Open(t, s.New(t), "stopping")
	th.Python(t, s.Code.SetX).Want(t, sandbox.OK)
	keeps := func(t *testing.T) {
		t.Helper()
		if got := th.Python(t, s.Code.ShowX).Want(t, sandbox.OK).Text("stdout"); got != "41\n" {
			t.Errorf("afterwards x is %q", got)
		}
	}
	t.Run("Timeout", func(t *testing.T) {
		cell := th.Next(sandbox.Python, s.Code.Sleep)
		cell.Timeout = limit
		ran := th.Do(t, cell).Want(t, sandbox.Timeout)
		if ran.Lost || ran.Error == nil {
			t.Errorf("result %+v", ran.Result)
		}
		keeps(t)
	})
	t.Run("Interrupt", func(t *testing.T) {
		ran := th.Start(t.Context(), th.Next(sandbox.Python, s.Code.Sleep))
		ran.Seen(t, "begun")
		if err := th.Interrupt(t.Context()); err != nil {
			t.Fatalf("Interrupt: %v", err)
		}
		<-ran.done
		if ran.Want(t, sandbox.Interrupted).Lost {
			t.Errorf("result %+v", ran.Result)
		}
		keeps(t)
	})
	t.Run("InterruptOfNothing", func(t *testing.T) {
		if err := th.Interrupt(t.Context()); err != nil {
			t.Fatalf("Interrupt: %v", err)
		}
		keeps(t)
	})
	t.Run("ResetEndsTheCellAndTheState", func(t *testing.T) {
		th.write(t, "stays.txt", "files stay")
		ran := th.Start(t.Context(), th.Next(sandbox.Python, s.Code.Sleep))
		ran.Seen(t, "begun")
		if err := th.Reset(t.Context()); err != nil {
			t.Fatalf("Reset: %v", err)
		}
		<-ran.done
		if !ran.Want(t, sandbox.Interrupted).Lost {
			t.Errorf("result %+v", ran.Result)
		}
		after := th.Python(t, s.Code.ShowX).Want(t, sandbox.Failed)
		if after.Lost {
			t.Error("a loss that was asked for is told of as one")
		}
		if got := th.read(t, "stays.txt"); got != "files stay" {
			t.Errorf("a file is %q after a reset", got)
		}
	})
}

func testFailures(t *testing.T, s Suite) {
	th := Open(t, s.New(t), "failures")
	th.Python(t, s.Code.SetX).Want(t, sandbox.OK)
	t.Run("OutOfMemory", func(t *testing.T) {
		if ran := th.Python(t, s.Code.Memory).Want(t, sandbox.OutOfMemory); ran.Lost {
			t.Errorf("result %+v, error %+v", ran.Result, ran.Error)
		}
		th.Python(t, s.Code.ShowX).Want(t, sandbox.OK)
	})
	t.Run("DiskFull", func(t *testing.T) {
		if ran := th.Python(t, s.Code.Disk).Want(t, sandbox.DiskFull); ran.Lost || ran.Error == nil {
			t.Errorf("result %+v", ran.Result)
		}
		th.Python(t, s.Code.ShowX).Want(t, sandbox.OK)
	})
	t.Run("KernelDies", func(t *testing.T) {
		th.write(t, "stays.txt", "files stay")
		ran := th.Python(t, s.Code.Die).Want(t, sandbox.KernelDied)
		if !ran.Lost || ran.Gone || ran.Error == nil {
			t.Errorf("result %+v", ran.Result)
		}
		th.Python(t, s.Code.ShowX).Want(t, sandbox.Failed)
		th.Python(t, s.Code.Hello).Want(t, sandbox.OK)
		if got := th.read(t, "stays.txt"); got != "files stay" {
			t.Errorf("a file is %q afterwards", got)
		}
	})
}
