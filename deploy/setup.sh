#!/bin/bash
# Brings a machine to where `make demo`, `make test` or `make up` can run, and does nothing
# when it is there already. Safe to run twice, at once, or after a run that was cut off:
# every step looks at the machine, not at what an earlier run says it did, and puts its
# result in place in one move.
#
#   deploy/setup.sh [demo|test|up|image]
#
# What it installs, and where: deploy/README.md.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mode=${1:-demo}
readonly repo mode

readonly state=/var/lib/threadbook              # what this script did to the machine
readonly docker_is_ours=$state/installed-docker # a marker: no engine was here before
readonly daemon_json=/etc/docker/daemon.json
readonly dockerd_log=/var/log/threadbook-dockerd.log
readonly runsc=/usr/local/bin/runsc
readonly runsc_source=$state/runsc-source          # names what that was built from
readonly runtime=/usr/local/bin/threadbook-runtime # ours, in front of runsc
readonly runtime_source=$state/runtime-source      # names what that was built from
readonly versitygw=$repo/bin/versitygw             # the S3 server of tests

readonly engine_starts=60 # seconds from the start of dockerd to its first answer

missing=() # what is needed and can't be had: the run fails, and lists these
advice=()  # what threadbook does without, for worse
tmp=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT # else a stopped build looks like a failed one

# Go's own installer puts it where sudo's PATH doesn't look, and plain su leaves out sbin.
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin
# Debian's Go is told not to fetch a newer one; the modules here may need it.
export GOTOOLCHAIN=${GOTOOLCHAIN:-auto}

# shellcheck source=deploy/images.sh
source "$repo/deploy/images.sh"

main() {
  case $mode in
  demo | test | up | image) ;;
  *)
    echo "usage: deploy/setup.sh [demo|test|up|image]" >&2
    exit 2
    ;;
  esac
  take_lock
  ensure_packages
  ensure_go
  begin_gvisor
  [[ $mode != test ]] || begin_versitygw
  ensure_runtime
  ensure_engine
  if engine_is_up; then
    ensure_sandbox_image
    [[ $mode != up ]] || ensure_redis_image
    [[ $mode != image ]] || build_binary_image
  fi
  finish_gvisor
  finish_versitygw
  report
}

clean_up() {
  local job
  for job in $(jobs -p); do
    kill "$job" 2>/dev/null || true
  done
  rm -rf "$tmp"
}

say() { echo "==> $*"; }
have() { command -v "$1" >/dev/null; }
is_root() { [[ $EUID == 0 ]]; }
has_systemd() { [[ -d /run/systemd/system ]]; }

# Runs a command that has much to say, and says it only if the command fails.
quietly() {
  local log
  log=$(mktemp -p "$tmp")
  if ! "$@" >"$log" 2>&1 </dev/null; then
    echo "failed: $*" >&2
    tail -n 25 "$log" | sed 's/^/    /' >&2
    return 1
  fi
}

# One set-up at a time on a machine: apt, the engine and the image are the machine's.
# Children inherit the lock, so an apt-get that outlives a killed run is waited for too.
take_lock() {
  local file=/var/lock/threadbook-setup.lock
  is_root || file=${XDG_RUNTIME_DIR:-/tmp}/threadbook-setup-$EUID.lock
  exec 9>"$file"
  if ! flock -n 9; then
    say "waiting for another set-up on this machine"
    flock 9
  fi
}

# Says what is missing; exit 1 only if threadbook can't do without it.
report() {
  local item
  for item in "${advice[@]}"; do
    echo "note: $item"
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  echo "Set-up is not complete. Missing here:" >&2
  for item in "${missing[@]}"; do
    echo "  - $item" >&2
  done
  is_root || echo "Run deploy/setup.sh $mode as root to have all of it installed, or see deploy/README.md." >&2
  exit 1
}

# --- Debian packages -----------------------------------------------------------------------

apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 "$@"
}

# apt_install WHAT PACKAGE...
apt_install() {
  local what=$1
  shift
  is_root && have apt-get || return 1
  say "installing $what ($*)"
  # An apt-get that was killed leaves packages unpacked; nothing installs until they are set up.
  if [[ -n $(dpkg --audit) ]]; then
    dpkg --configure -a --force-confold >/dev/null 2>&1 || quietly apt_get install -y -f
  fi
  # Fresh lists are fetched only if the ones here don't do.
  apt_get install -y --no-install-recommends "$@" >/dev/null 2>&1 </dev/null && return
  quietly apt_get update && quietly apt_get install -y --no-install-recommends "$@"
}

# need COMMAND WHAT PACKAGE...: a program that nothing replaces
need() {
  local command=$1 what=$2
  shift 2
  have "$command" || apt_install "$what" "$@" ||
    missing+=("$what: apt-get install --no-install-recommends $*")
}

ensure_packages() {
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || apt_install "CA certificates" ca-certificates || true
  case $mode in
  demo)
    have redis-server || install_redis ||
      advice+=("without redis-server (apt-get install redis-server) the demo forgets its threads at exit")
    ;;
  test)
    have redis-server || install_redis || missing+=("Redis server: apt-get install redis-server")
    need gcc "a C compiler, for Go's race detector" gcc libc6-dev
    have_browser || need chromium "a browser, for the page's tests" chromium fonts-liberation
    ;;
  up)
    docker compose version >/dev/null 2>&1 || need docker-compose "Compose" docker-compose
    ;;
  esac
}

# threadbook starts a private Redis of its own: a service beside it would only hold a port.
install_redis() {
  apt_install "Redis server" redis-server || return 1
  if has_systemd; then
    quietly systemctl disable --now redis-server || true
  else
    service redis-server stop >/dev/null 2>&1 || true
  fi
}

have_browser() {
  have chromium || have chromium-browser || have google-chrome || have headless-shell
}

# --- Go ------------------------------------------------------------------------------------

wanted_go() {
  awk '$1 == "go" { print $2 }' "$repo/go.mod" "$repo"/deploy/{gvisor,versitygw}/go.mod | sort -V | tail -n 1
}

# From 1.21 on, Go fetches the toolchain that a module asks for, and answers with its version.
have_go() {
  have go || return 1
  local found
  found=$(cd "$repo/deploy/gvisor" && go version 2>/dev/null | awk '{ sub("go", "", $3); print $3 }')
  [[ -n $found && $(printf '%s\n' "$(wanted_go)" "$found" | sort -V | head -n 1) == "$(wanted_go)" ]]
}

ensure_go() {
  have_go && return
  if is_root; then
    have go || apt_install "Go" golang-go || true
    have_go || go_from_module || true
  fi
  have_go || missing+=("Go $(wanted_go) or newer: https://go.dev/dl, unpacked at /usr/local/go")
}

# The Go of a stable Debian is too old to fetch a newer one by itself. But every toolchain is
# published as a module, and any Go can download a module and verify it.
go_from_module() {
  have go && [[ ! -e /usr/local/go ]] || return 1
  say "installing Go $(wanted_go) in /usr/local/go, since the one in Debian is too old"
  local answer dir
  answer=$(cd / && go mod download -json "golang.org/toolchain@v0.0.1-go$(wanted_go).linux-$(go env GOARCH)")
  dir=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$answer")
  if [[ ! -d $dir ]]; then
    echo "$answer" >&2
    return 1
  fi
  rm -rf /usr/local/go.new
  cp -r "$dir" /usr/local/go.new
  # The module cache is read-only and its files carry no execute bits.
  chmod -R u+w,a+rX /usr/local/go.new
  chmod a+x /usr/local/go.new/bin/* /usr/local/go.new/pkg/tool/*/*
  mv /usr/local/go.new /usr/local/go
  ln -sf /usr/local/go/bin/go /usr/local/go/bin/gofmt /usr/local/bin/
  hash -r
}

# --- gVisor --------------------------------------------------------------------------------

gvisor_version() { "$runsc" --version 2>/dev/null | awk 'NR == 1 { print $3 }'; }
gvisor_wanted() { (cd "$repo/deploy/gvisor" && sha256sum go.mod go.sum build.sh precompile/*.go | sha256sum | cut -c1-16); }

# Starts to build runsc if what is pinned isn't there. The build wants processors and the image
# wants the network, so they go side by side.
gvisor_build=
begin_gvisor() {
  # Somebody's official release (it calls itself release-…) is used as it is.
  case $(gvisor_version || true) in
  release-*) return ;;
  ?*) [[ $(gvisor_wanted) != "$(cat "$runsc_source" 2>/dev/null)" ]] || return 0 ;;
  esac
  is_root && have_go || return 0
  say "building gVisor in the background (a minute or two)"
  quietly build_gvisor &
  gvisor_build=$!
}

# It is replaced in one move: the engine may be starting it.
build_gvisor() {
  "$repo/deploy/gvisor/build.sh" "$runsc.new" &&
    mv "$runsc.new" "$runsc" && mkdir -p "$state" && gvisor_wanted >"$runsc_source"
}

# The runtime that puts sandboxes to disk and starts them from a template. It is replaced in one
# move: the engine may be starting it.
ensure_runtime() {
  local wanted
  wanted=$(cd "$repo" && cat go.mod go.sum cmd/threadbook-runtime/*.go sandbox/runtime/*.go | sha256sum | cut -c1-16)
  [[ ! -x $runtime || $wanted != "$(cat "$runtime_source" 2>/dev/null)" ]] || return 0
  is_root && have_go || return 0
  say "building threadbook-runtime"
  if quietly build_runtime; then
    mkdir -p "$state"
    echo "$wanted" >"$runtime_source"
  else
    advice+=("threadbook-runtime could not be built, see above: sandboxes can't be put to disk")
  fi
}

build_runtime() {
  (cd "$repo" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$runtime.new" ./cmd/threadbook-runtime) &&
    mv "$runtime.new" "$runtime"
}

finish_gvisor() {
  if [[ -n $gvisor_build ]]; then
    wait "$gvisor_build" || advice+=("gVisor could not be built, see above")
    configure_engine
  fi
  engine_is_up || return 0
  # A running engine takes up runtimes a moment after the signal.
  local tries=50
  while [[ -n $signalled ]] && ! engine_has threadbook && ((tries-- > 0)); do
    sleep 0.1
  done
  if ! engine_has threadbook && ! engine_has runsc; then
    advice+=("$(how_to_register_gvisor "this Docker Engine has no gVisor, so sandboxes run on runc and share the machine's kernel.")")
  elif ! engine_has threadbook; then
    advice+=("$(how_to_register_gvisor "this Docker Engine has no runtime threadbook, so sandboxes start slowly and can't be put to disk.")")
  fi
}

how_to_register_gvisor() {
  echo "$1"
  [[ -x $runsc && -x $runtime ]] || echo "First build runsc and threadbook-runtime, as root: deploy/README.md says how."
  echo "It was not set up by threadbook and is left as it is. To add gVisor, put this into"
  echo "$daemon_json and restart Docker Engine:"
  daemon_json_with runsc
}

# --- versitygw -----------------------------------------------------------------------------

versitygw_wanted() { awk '$1 == "github.com/versity/versitygw" { print $2 }' "$repo/deploy/versitygw/go.mod"; }
versitygw_found() { go version -m "$versitygw" 2>/dev/null | awk '$1 == "mod" { print $3 }'; }

# Starts to build the S3 server of the blob store's tests if the pinned version isn't there.
versitygw_build=
begin_versitygw() {
  have_go || return 0
  [[ ! -x $versitygw || $(versitygw_found) != "$(versitygw_wanted)" ]] || return 0
  say "building versitygw $(versitygw_wanted) in the background (a minute or two)"
  quietly build_versitygw &
  versitygw_build=$!
}

build_versitygw() {
  mkdir -p "${versitygw%/*}" && cd "$repo/deploy/versitygw" &&
    CGO_ENABLED=0 go build -trimpath -o "$versitygw.new" -ldflags "-s -w" github.com/versity/versitygw/cmd/versitygw &&
    mv "$versitygw.new" "$versitygw"
}

finish_versitygw() {
  [[ -z $versitygw_build ]] || wait "$versitygw_build" || missing+=("versitygw, the S3 server of tests: it could not be built, see above")
}

# --- Docker Engine -------------------------------------------------------------------------

engine_is_up() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# engine_has RUNTIME
engine_has() {
  [[ " $(docker info --format '{{range $name, $_ := .Runtimes}}{{$name}} {{end}}') " == *" $1 "* ]]
}

# Checkpoints are behind `experimental`. A sandbox's files live in its container's own layer,
# which gVisor keeps in a file on disk: `size` is where that file ends.
daemon_json_with() {
  if [[ $1 == runsc ]]; then
    cat <<EOF
{
  "experimental": true,
  "runtimes": {
    "runsc": {
      "path": "$runsc",
      "runtimeArgs": ["--overlay2=root:self,size=2g"]
    },
    "threadbook": {
      "path": "$runtime",
      "runtimeArgs": ["--runsc=$runsc", "--overlay2=root:self,size=2g"]
    }
  }
}
EOF
  else
    echo '{ "experimental": true }'
  fi
}

signalled= # yes once a running engine has been told of a new configuration

# Whether the engine's configuration is this script's to write: it wrote the file and nobody
# has changed it since, or there is none and no running engine that belongs to somebody else.
may_configure_engine() {
  if [[ -e $daemon_json ]]; then
    cmp -s "$daemon_json" "$state/daemon.json"
  else
    [[ -e $docker_is_ours ]] || ! engine_is_up
  fi
}

configure_engine() {
  is_root && [[ -z ${DOCKER_HOST:-} ]] && may_configure_engine || return 0
  local wanted
  wanted=$(daemon_json_with "$([[ ! -x $runsc || ! -x $runtime ]] || echo runsc)")
  [[ $wanted != "$(cat "$daemon_json" 2>/dev/null)" ]] || return 0
  [[ ! -x $runsc || ! -x $runtime ]] || say "registering gVisor with Docker Engine in $daemon_json"
  mkdir -p "$state" "$(dirname "$daemon_json")"
  echo "$wanted" >"$daemon_json.new"
  cp "$daemon_json.new" "$state/daemon.json"
  mv "$daemon_json.new" "$daemon_json"
  # A signal makes a running engine take up runtimes; a restart would end every sandbox.
  ! is_running dockerd /var/run/docker.pid || {
    kill -HUP "$(cat /var/run/docker.pid)"
    signalled=yes
  }
}

ensure_engine() {
  if ! engine_is_up && is_root && [[ -z ${DOCKER_HOST:-} ]]; then
    have dockerd || install_engine || true
    # In Debian 13 the client is a package of its own.
    have docker || apt_install "Docker's command" docker-cli || true
    configure_engine
    engine_is_up || ! have dockerd || start_engine
  else
    configure_engine
  fi
  engine_is_up || missing+=("$(why_no_engine)")
}

install_engine() {
  local packages=(docker.io)
  # Where the kernel has AppArmor, the engine starts no container without its parser.
  if [[ $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) == Y ]]; then
    packages+=(apparmor)
  fi
  mkdir -p "$state"
  touch "$docker_is_ours"
  configure_engine # first, since some machines start a service as soon as it is installed
  apt_install "Docker Engine" "${packages[@]}" || {
    rm -f "$docker_is_ours"
    return 1
  }
}

start_engine() {
  say "starting Docker Engine"
  local deadline=$((SECONDS + engine_starts))
  if has_systemd; then
    quietly systemctl enable --now docker || return 0
  else
    start_dockerd
  fi
  until engine_is_up; do
    if ((SECONDS > deadline)); then
      has_systemd || tail -n 5 "$dockerd_log" | sed 's/^/    /' >&2
      return 0
    fi
    sleep 0.2
  done
}

# For machines without systemd: containers, small virtual machines, build servers.
start_dockerd() {
  mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
  # A machine that was cut off keeps pid files, and after its restart the numbers can belong to
  # anybody: dockerd would take them for itself and refuse to start, or wait for a containerd.
  is_running dockerd /var/run/docker.pid || rm -f /var/run/docker.pid
  is_running containerd /var/run/docker/containerd/containerd.pid ||
    rm -f /var/run/docker/containerd/containerd.pid
  # Without the lock's descriptor: the engine outlives this run.
  setsid nohup dockerd >>"$dockerd_log" 2>&1 </dev/null 9>&- &
  disown
}

# is_running NAME PIDFILE
is_running() {
  local pid
  pid=$(cat "$2" 2>/dev/null) && [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$1" ]]
}

why_no_engine() {
  if [[ -n ${DOCKER_HOST:-} ]]; then
    echo "Docker Engine: nothing answers at DOCKER_HOST=$DOCKER_HOST"
  elif is_root; then
    echo "Docker Engine: it is not running; see $dockerd_log or journalctl -u docker"
  elif [[ -S /var/run/docker.sock && ! -w /var/run/docker.sock ]]; then
    echo "access to Docker Engine: usermod -aG docker $(id -un), then log in again"
  else
    echo "Docker Engine: apt-get install docker.io, then systemctl enable --now docker"
  fi
}

main
