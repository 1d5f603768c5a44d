// Package sandbox is the vocabulary of running code that nobody has read: a
// thread's sandbox, the cells run in it, what they put out, and the files it
// holds. It knows no container engine; package docker does.
//
// One thread has at most one sandbox, and one process talks to it at a time:
// the one that holds the thread's lease. The sandbox outlives that process.
// A cell that is running when the process dies goes on; the next holder opens
// the sandbox, runs the same cell with Resume set, and gets what it missed.
//
// The line between the two kinds of failure is the one that matters: code
// that fails, runs out of time or memory, or kills its own kernel is a
// [Result]; an error means that we failed, and says what an operator can do.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Provider makes and finds sandboxes. Its methods may be called
// concurrently for different threads; for one thread the caller holds the
// lease. All of them are safe to repeat.
type Provider interface {
	// Open returns the thread's sandbox, ready to run a cell, making one if
	// there is none.
	Open(ctx context.Context, thread string) (Session, error)
	// Remove deletes the thread's sandbox and everything in it. A thread
	// without one is no error.
	Remove(ctx context.Context, thread string) error
	// Probe asks the engine what it is and how well it isolates.
	Probe(ctx context.Context) (Info, error)
	// Close lets go of every sandbox and leaves them running.
	Close() error
}

// A Session is one process's hold on a thread's sandbox. Once the sandbox
// has died under it every method returns [ErrGone]; Open makes the next one.
type Session interface {
	// Fresh is true until a cell has been run in the sandbox: no variable of
	// the thread is in it, and its files are not, or not all. (A process may
	// have died between making the sandbox and filling it.)
	Fresh() bool
	// Run runs a cell and calls emit, in order and never concurrently, for
	// each output as it comes; the output counts as delivered when emit
	// returns nil. Cells of one session run one at a time.
	//
	// Run keeps its own time limit (Cell.Timeout), and a cell that can't be
	// stopped any other way loses its kernel or its sandbox, so Run returns.
	// Cancelling ctx does not stop the cell: it lets go of it, to be resumed.
	// To stop it call Interrupt; a cell run after that waits for it to end.
	Run(ctx context.Context, cell Cell, emit func(Output) error) (Result, error)
	// Interrupt stops the running cell, which ends as Interrupted with its
	// state kept where the language allows. With nothing running it does
	// nothing. It returns once the sandbox has been asked.
	Interrupt(ctx context.Context) error
	// Reset ends every process of the code, running or left behind, and with
	// them all variables; files stay. The next cell starts afresh.
	Reset(ctx context.Context) error
	Files
}

// Files are the regular files under /workspace, as the sandboxed user sees
// them. Paths are relative to it, with forward slashes; a path that leaves it,
// by ".." or through a link, is [ErrBadPath].
type Files interface {
	// List returns the files under dir ("." for all) sorted by path, at most
	// MaxListed; more says that there are more. Links, pipes and devices are
	// left out.
	List(ctx context.Context, dir string) (files []File, more bool, err error)
	// Put writes a file of exactly size bytes, making its folders and
	// replacing what was there only once all of it has arrived.
	Put(ctx context.Context, path string, r io.Reader, size int64) error
	// Get writes the file's bytes to w. A file larger than limit is
	// ErrTooLarge, before anything is written.
	Get(ctx context.Context, path string, w io.Writer, limit int64) error
}

// MaxListed is how many files List returns at most: more than a person or a
// model would read, few enough for one message.
const MaxListed = 1000

var (
	// ErrGone: the sandbox died or was removed. Its variables are lost, and
	// its files too, save those that the thread's log holds.
	ErrGone = errors.New("the sandbox is gone")
	// ErrBusy: another cell runs in the sandbox, begun by a process that let go
	// of it. Resume that one, or interrupt it.
	ErrBusy = errors.New("another cell is running")
	// ErrNotFound: no such file.
	ErrNotFound = errors.New("no such file")
	// ErrBadPath: the path is not one of a regular file under /workspace.
	ErrBadPath = errors.New("not a regular file under /workspace")
	// ErrTooLarge: the file is over the limit given.
	ErrTooLarge = errors.New("the file is too large")
	// ErrDiskFull: the sandbox's disk has no room for the file.
	ErrDiskFull = errors.New("the sandbox's disk is full")
)

// Limits bound one sandbox. Zero means the engine's default, which is never
// "none": DefaultLimits gives it.
type Limits struct {
	Memory int64   // bytes that code may use; the container may use a little more
	CPUs   float64 // cores
	PIDs   int64   // processes and threads of the code
	Disk   int64   // bytes written, all files together
}

// DefaultLimits are those of a thread on a small machine.
func DefaultLimits() Limits {
	return Limits{Memory: 1 << 30, CPUs: 1, PIDs: 256, Disk: 2 << 30}
}

// A Cell is one piece of code to run.
type Cell struct {
	ID       int64 // unique and rising in the thread
	Language Language
	Code     string
	Timeout  time.Duration // until it is interrupted; must be set

	// Resume takes up a cell that an earlier process started: the code is
	// not run again. Outputs numbered After and below are not emitted again.
	// A sandbox that does not know the cell gives KernelDied: with Lost if it
	// is a new sandbox, and without if the code just never got there.
	Resume bool
	After  int64
}

// Output is one thing that a cell put out: text on a stream, or one
// representation of something displayed.
type Output struct {
	N int64 // rises in the sandbox; see Cell.After

	Stream string // "stdout" or "stderr", else empty
	Text   string // of the stream: valid UTF-8, no escape codes

	MIME string // of Data, where Stream is empty
	Data []byte
	// Display groups the representations of one thing that the cell displayed
	// (a data frame as text and as HTML): show one of them. Beside an image
	// text/plain is its alternative text; TableMIME and ChartMIME are the data
	// of what another representation shows. Where a type comes again the thing
	// was updated, and the later one replaces the earlier.
	Display int64

	// Truncated counts the bytes left out before this output.
	Truncated int64
}

// OutputFile is the path of the file under /workspace that has the whole text
// output of a cell, where some was left out of its Outputs (Truncated).
func OutputFile(cell int64) string {
	return fmt.Sprintf("outputs/cell-%d-output.txt", cell)
}

// Status is how a cell ended. The words are those of the log.
type Status string

// The ways a cell can end.
const (
	OK          Status = "ok"
	Failed      Status = "error" // the code raised an error, or can't be run here at all
	Timeout     Status = "timeout"
	OutOfMemory Status = "out_of_memory"
	Interrupted Status = "interrupted"
	KernelDied  Status = "kernel_died"
	DiskFull    Status = "disk_full"
)

// Result is how a cell ended.
type Result struct {
	Status  Status
	Seconds float64
	Error   *CellError // where the code raised one, or there is more to say
	// Lost says that the language's variables are gone; files stay. With OK
	// it says that they were gone before the cell, which ran in a new kernel.
	Lost bool
	// Gone says that the whole sandbox died with the cell: files are gone
	// too. Every later call on the session gives ErrGone.
	Gone bool
}

// CellError is an error as the language tells it.
type CellError struct {
	Name      string // "ValueError"
	Value     string // its message
	Traceback string // plain text, no escape codes
}

// File is one file under /workspace.
type File struct {
	Path    string
	Size    int64
	ModTime time.Time
}

// Info is what Probe found.
type Info struct {
	Engine   string // name and version
	Runtime  string // the OCI runtime in use
	Isolated bool   // whether that runtime keeps the code off the host's kernel
	Image    string // the sandbox image, with its id
	Warnings []string
}
