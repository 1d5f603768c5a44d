#!/bin/bash
# Runs every fuzz test of the module for a while, one after the other: `go test` takes one at a time.
#
#   deploy/fuzz.sh TIME
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
while read -r package test; do
  echo "==> $package $test"
  go test -run '^$' -fuzz "^$test\$" -fuzztime "$1" "$package" || status=1
done < <(go test -json -list '^Fuzz' ./... |
  sed -nE 's/.*"Package":"([^"]*)","Output":"(Fuzz[A-Za-z0-9_]*)\\n".*/\1 \2/p')
exit "$status"
