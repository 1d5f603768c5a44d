#!/bin/bash
# Makes ready what the image needs and Debian doesn't have, into fetched/, where the Dockerfile
# takes it from: the program that runs SQL, built here, and Deno, out of its npm package.
# Neither can be had inside the build: there is no Go of the right version and no npm.
#
#   sandbox/image/fetch.sh
#
# Needs Go, a C++ compiler and npm. What can't be made is left out, with a line on stderr and
# exit status 1; an image without it lacks that language and is whole otherwise.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit

# The npm package of Deno for this kind of machine, and the SHA-512 of its tarball.
deno_version=2.9.6
case $(uname -m) in
x86_64)
  deno_package=@deno/linux-x64-glibc
  deno_sha512=de67784ca2c2bb3b0b0e67cea02e4a37b34065ac525643209bae2f83a7e80f4d090400c2a584b6ff942a5dfce09cfe59433de22cff6f05026d120735d7a380a1
  ;;
*)
  deno_package=
  ;;
esac

status=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p fetched/slim fetched/full

lack() {
  echo "fetch.sh: $*" >&2
  status=1
}

# Static, since the machine that builds need not have the image's C library.
fetch_sql() {
  (cd sql && CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags osusergo,netgo \
    -ldflags '-s -w -linkmode external -extldflags "-static"' -o "$tmp/threadbook-sql" .) 2>"$tmp/log" ||
    { lack "no SQL: it could not be built"; rm -f fetched/*/threadbook-sql; tail -n 5 "$tmp/log" >&2; return; }
  # The same bytes keep their date, and so their place in the build cache.
  cmp -s "$tmp/threadbook-sql" fetched/slim/threadbook-sql || mv "$tmp/threadbook-sql" fetched/slim/
  ln -f fetched/slim/threadbook-sql fetched/full/
}

fetch_deno() {
  [[ $(fetched/full/deno --version 2>/dev/null) != "deno $deno_version "* ]] || return 0
  [[ -n $deno_package ]] || { lack "no JavaScript: no Deno is pinned for $(uname -m)"; return; }
  (cd "$tmp" && npm pack --silent --fetch-retries=1 --fetch-timeout=60000 "$deno_package@$deno_version") >"$tmp/log" 2>&1 ||
    { lack "no JavaScript: npm can't get $deno_package@$deno_version"; tail -n 5 "$tmp/log" >&2; return; }
  local tarball
  tarball=$(echo "$tmp"/*.tgz)
  sha512sum --quiet --check <<<"$deno_sha512  $tarball" >&2 ||
    { lack "no JavaScript: the package of Deno is not the one that is pinned"; return; }
  tar -xzf "$tarball" -C "$tmp" package/deno || { lack "no JavaScript: there is no program in the package"; return; }
  chmod 755 "$tmp/package/deno"
  mv "$tmp/package/deno" fetched/full/
}

fetch_sql
fetch_deno
exit "$status"
