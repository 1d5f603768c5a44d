# shellcheck shell=bash disable=SC2154 # repo, tmp and missing are setup.sh's
# The images of set-up, sourced by setup.sh: pulled where a registry answers, else made from
# Debian's packages under the same name.

readonly base_image=debian:trixie-slim
readonly sandbox_image=threadbook/sandbox:latest
readonly binary_image=threadbook/threadbook:latest

# Seconds in which …
readonly registry_answers=20 # a registry says something
readonly pull_takes=600      # an image that it has is here

# The classic builder is in every engine, needs no plug-in and sees images that were imported.
export DOCKER_BUILDKIT=0

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# Names the content that an image was built from; a label in the image holds it.
sandbox_source() {
  (cd "$repo/sandbox/image" && find . -type f ! -path '*/__pycache__/*' ! -path './fetched/*' -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
}

ensure_sandbox_image() {
  local wanted found
  wanted=$(sandbox_source)
  found=$(docker image inspect --format '{{index .Config.Labels "threadbook.source"}}' "$sandbox_image" 2>/dev/null || true)
  [[ $found != "$wanted" ]] || return 0
  ensure_base_image || {
    missing+=("$base_image: docker pull $base_image on a machine with a registry, then docker save and load")
    return
  }
  say "building $sandbox_image (ten minutes when from scratch)"
  fetch_for_sandbox_image || wanted+=-incomplete
  if quietly build_sandbox_image "$wanted"; then
    # What it replaces, unless a sandbox still stands on it.
    docker image prune -f --filter label=threadbook.source >/dev/null
  else
    missing+=("$sandbox_image: its build failed, see above")
  fi
}

# What the image has that isn't Debian's. Without it the image lacks a language, which is better
# than no image; the next set-up tries again.
fetch_for_sandbox_image() {
  local line status=0
  have g++ || apt_install "a C++ compiler, for the sandbox's SQL" g++ || true
  have npm || apt_install "npm, for the sandbox's JavaScript" npm || true
  "$repo/sandbox/image/fetch.sh" >"$tmp/fetch" 2>&1 </dev/null || status=$?
  while [[ $status != 0 ]] && read -r line; do
    [[ $line != fetch.sh:* ]] || advice+=("the sandbox image has ${line#fetch.sh: }")
  done <"$tmp/fetch"
  return "$status"
}

build_sandbox_image() {
  # Behind a proxy that intercepts TLS, downloads in the build need the machine's certificates.
  # They go along in the context, as the classic builder has neither secrets nor mounts.
  cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$tmp/ca-bundle.crt" 2>/dev/null || : >"$tmp/ca-bundle.crt"
  # One owner and mode whoever builds: both are in the image, and in the key of the build cache.
  tar -cf - --exclude=__pycache__ --exclude=./sql --owner=0 --group=0 --mode=u+rw,go-w,a+rX \
    -C "$repo/sandbox/image" . -C "$tmp" ca-bundle.crt |
    build_image "$sandbox_image" --label "threadbook.source=$1" -
}

build_binary_image() {
  [[ -x $repo/bin/threadbook ]] || {
    missing+=("bin/threadbook: make build")
    return
  }
  ensure_base_image && say "building $binary_image" &&
    quietly build_image "$binary_image" -f "$repo/deploy/Dockerfile" "$repo" ||
    missing+=("$binary_image: its build failed, see above")
}

# build_image NAME ARGUMENT...: the machine's own network and proxy settings apply
build_image() {
  local name=$1 variable proxies=()
  shift
  for variable in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [[ -z ${!variable:-} ]] || proxies+=(--build-arg "$variable=${!variable}")
  done
  docker build --network host --force-rm "${proxies[@]}" -t "$name" "$@"
}

# pull IMAGE: a registry that doesn't answer is given up soon, one that does has its time
pull() {
  local log=$tmp/pull deadline=$((SECONDS + registry_answers)) answered=
  docker pull "$1" >"$log" 2>&1 </dev/null &
  local pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    if [[ -z $answered ]] && grep -q 'Pulling from' "$log"; then
      answered=yes
      deadline=$((SECONDS + pull_takes))
    fi
    if ((SECONDS > deadline)); then
      kill "$pid"
    fi
    sleep 0.2
  done
  wait "$pid"
}

ensure_base_image() {
  have_image "$base_image" && return
  say "pulling $base_image"
  pull "$base_image" && return
  say "making $base_image from Debian's packages instead, since no registry answers"
  have mmdebstrap || apt_install "what makes it" mmdebstrap debian-archive-keyring || return 1
  local sources=()
  mapfile -t sources < <(debian_sources)
  quietly mmdebstrap --variant=minbase \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    trixie "$tmp/base.tar" "${sources[@]}" &&
    quietly docker import --change 'CMD ["bash"]' "$tmp/base.tar" "$base_image"
}

# The archives that this machine itself installs from, if it is a Debian; with none,
# mmdebstrap takes its own default.
debian_sources() {
  # shellcheck disable=SC2016 # these are for apt to expand
  apt-get indextargets --format '$(LABEL) $(REPO_URI)' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' 2>/dev/null | sort -u |
    while read -r label uri; do
      case $label in
      Debian) printf 'deb %s trixie main\ndeb %s trixie-updates main\n' "$uri" "$uri" ;;
      Debian-Security) printf 'deb %s trixie-security main\n' "$uri" ;;
      esac
    done
}

# The Redis that docker-compose.yml names; where no registry answers, Debian's under that name.
ensure_redis_image() {
  local image
  image=$(sed -n 's/^ *image: *\(redis:.*\)/\1/p' "$repo/docker-compose.yml")
  have_image "$image" && return
  say "pulling $image"
  pull "$image" && return
  say "making $image from Debian's packages instead, since no registry answers"
  ensure_base_image && quietly build_redis_image "$image" || missing+=("$image: docker pull $image")
}

build_redis_image() {
  build_image "$1" - <<EOF
FROM $base_image
RUN apt-get update && apt-get install -y --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* && install -d -o redis -g redis /data
USER redis
VOLUME /data
WORKDIR /data
CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"]
EOF
}
