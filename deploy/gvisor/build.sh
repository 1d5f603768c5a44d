#!/usr/bin/env bash
# Builds runsc, with its syscall filters compiled in (see precompile): deploy/gvisor/build.sh FILE
set -euo pipefail

to=$(realpath "${1:?usage: deploy/gvisor/build.sh FILE}")
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The build takes gVisor from a copy of the module, for the cache of modules is not to be changed.
go mod download gvisor.dev/gvisor
cp -r --no-preserve=mode "$(go list -m -f '{{.Dir}}' gvisor.dev/gvisor)" "$work/gvisor"
go run ./precompile "$work/gvisor"
cp go.mod go.sum "$work"
go mod edit -replace "gvisor.dev/gvisor=$work/gvisor" "$work/go.mod"

version=$(go list -m -f '{{.Version}}' gvisor.dev/gvisor)
CGO_ENABLED=0 go build -modfile="$work/go.mod" -trimpath -o "$to" \
  -ldflags "-s -w -X gvisor.dev/gvisor/runsc/version.version=$version" gvisor.dev/gvisor/runsc
