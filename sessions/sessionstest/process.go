package sessionstest

import (
	"bytes"
	"net"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// FreePort is an address of this machine that nobody listened on just now.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Start runs a program until the test ends, even if that is by a kill. What it says
// may be read once ended is closed.
func Start(t testing.TB, said *bytes.Buffer, cmd *exec.Cmd) (ended <-chan struct{}) {
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig means the death of this thread
		defer runtime.UnlockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
	})
	return done
}
