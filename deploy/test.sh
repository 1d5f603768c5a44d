#!/bin/bash
# Runs what `make test` runs once the machine is set up, and closes with what came of it.
# Every check runs, whatever the ones before it said; each counts as one test.
#
#   deploy/test.sh [lint]     lint: the checks alone
set -uo pipefail
cd "$(dirname "$0")/.." || exit
mkdir -p bin
events=bin/test-events.json   # what `go test` said, test by test
summary=bin/test-summary.txt  # the closing lines, for .ci/run to end with
rm -f "$events" "$summary"

passed=0 failed=0 skipped=0 packages=0

check() {
  local name=$1
  shift
  if "$@"; then
    echo "ok    $name"
    passed=$((passed + 1))
  else
    echo "FAIL  $name"
    failed=$((failed + 1))
  fi
}

formatted() {
  local folders files
  mapfile -t folders < <(go list -f '{{.Dir}}' ./...)
  files=$("$(go env GOROOT)/bin/gofmt" -l "${folders[@]}") || return
  [[ -z $files ]] || {
    printf 'not formatted:\n%s\n' "$files"
    return 1
  }
}

# Adds up what `go test` did. The events are one line of JSON each with their fields always in
# this order, and quotes inside a program's output are escaped, so that splitting at quotes does.
# A package that doesn't compile or that exits half-way can fail without a test that does.
count_events() {
  awk -F '"' '
    $6 != "Action" || $10 != "Package" { next }
    $14 == "Test" && $8 ~ /^(pass|fail|skip)$/ { tests[$8]++; if ($8 == "fail") explained[$12] }
    $14 != "Test" && $8 ~ /^(pass|fail)$/ { packages++; if ($8 == "fail") failed[$12] }
    END {
      for (package in failed) if (!(package in explained)) tests["fail"]++
      print packages + 0, tests["pass"] + 0, tests["fail"] + 0, tests["skip"] + 0
    }' "$events"
}

check "build" make --no-print-directory build
check "go vet" go vet ./...
check "gofmt" formatted
check "staticcheck" go tool staticcheck ./...

if [[ ${1:-} != lint ]]; then
  # A module of its own, since it needs a C++ compiler.
  check "tests of the sandbox's SQL" go -C sandbox/image/sql test -race -count=1 ./...
  go tool gotestsum --format pkgname --hide-summary skipped --jsonfile "$events" -- \
    -race -count=1 -timeout 15m ./...
  status=$?
  read -r packages ran broke left_out < <(count_events)
  passed=$((passed + ran)) failed=$((failed + broke)) skipped=$((skipped + left_out))
  # Whatever it was, a failure isn't to pass for a success.
  [[ $status == 0 || $failed != 0 ]] || failed=1
fi

{
  echo
  echo "$packages packages and 4 checks in $SECONDS seconds"
  echo "$passed passed, $failed failed, $skipped skipped"
} | tee "$summary"
[[ $failed == 0 ]]
