// Command precompile puts the compiled syscall filters into a copy of gVisor's
// source, given as its folder, as gVisor's own releases have them. The published
// module has none, and a runsc built from it compiles its filters whenever a
// sandbox starts: 25 ms of a processor each time on a small machine.
//
// The rules and the compiler are gVisor's: nothing about what is allowed changes.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	sentry "gvisor.dev/gvisor/runsc/boot/filter/config"
	gofer "gvisor.dev/gvisor/runsc/fsgofer/filter/config"
)

// assignment ends the function that registers a package's filters. In the module
// it registers none.
const assignment = "\tprecompiledPrograms = programs\n"

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: precompile FOLDER")
	}
	for name, filters := range map[string]func() ([]precompiledseccomp.Program, error){
		"runsc/boot/filter":    sentry.PrecompiledPrograms,
		"runsc/fsgofer/filter": gofer.PrecompiledPrograms,
	} {
		if err := register(filepath.Join(os.Args[1], name, "filter_precompiled.go"), filters); err != nil {
			log.Fatalf("precompile: %v", err)
		}
	}
}

// register writes the filters' registration into a source file.
func register(path string, filters func() ([]precompiledseccomp.Program, error)) error {
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.Count(string(source), assignment) != 1 {
		return fmt.Errorf("%s doesn't register filters as it did: look how it does now", path)
	}
	programs, err := filters()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var b strings.Builder
	for _, p := range programs {
		if !strings.Contains(p.Name, "Proxy=true") { // for accelerators: nine tenths of all
			b.WriteString(p.Registration("\t", "precompiledseccomp", "programs"))
		}
	}
	return os.WriteFile(path, []byte(strings.Replace(string(source), assignment, b.String()+assignment, 1)), 0o644)
}
