// Command threadbook is a code interpreter that lives in chat threads. This
// package reads the configuration and wires the parts together; it holds no
// behaviour of its own beside the commands' and the demo's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, as scripts rely on them.
const (
	exitFailed = 1 // what was asked did not work
	exitUsage  = 2 // wrong words or wrong configuration
)

// Set by the build.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	// The first signal asks to end; the second, by the default handler, ends.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	err := newCommand(os.Stdin, os.Stdout, os.Stderr).ExecuteContext(ctx)
	if err == nil {
		return
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, "threadbook:", text)
	}
	var code exitError
	if errors.As(err, &code) {
		os.Exit(code.code)
	}
	os.Exit(exitFailed)
}

// exitError is an error with the exit code that it asks for.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }
