// Command threadbook-runtime is the OCI runtime in front of gVisor's runsc. An
// engine runs it; package runtime says what it does and how it is registered.
package main

import (
	"os"

	"threadbook/sandbox/runtime"
)

func main() { os.Exit(runtime.Main(os.Args[1:])) }
