#!/bin/bash
# Starts and stops docker-compose.yml, with the secrets and settings that it reads.
#
#   deploy/compose.sh up|down
set -euo pipefail
cd "$(dirname "$0")/.."

readonly token=secrets/threadbook_web_token

compose() {
  if docker compose version >/dev/null 2>&1; then
    docker compose -p threadbook "$@"
  else
    docker-compose -p threadbook "$@"
  fi
}

# Every secret that the file names, empty if new: compose starts nothing while one is missing.
# The folder keeps other users out; the files are readable so that the containers' user is in.
make_secrets() {
  install -d -m 0700 secrets
  local file
  while read -r file; do
    [[ -e $file ]] || install -m 0644 /dev/null "$file"
  done < <(sed -nE 's|^ *file: \./(secrets/.*)|\1|p' docker-compose.yml)
  if [[ ! -s $token ]]; then
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$token"
  fi
}

# The group that may use the engine's socket, kept where compose finds it without this script.
note_socket_group() {
  local group
  group=$(stat -L -c %g /var/run/docker.sock)
  touch .env
  if ! grep -qx "DOCKER_GID=$group" .env; then
    sed -i '/^DOCKER_GID=/d' .env
    echo "DOCKER_GID=$group" >>.env
  fi
}

case ${1:-} in
up)
  make_secrets
  note_socket_group
  compose up -d
  echo "The page: http://127.0.0.1:8080, and its token: $token"
  ;;
down)
  compose down
  ;;
*)
  echo "usage: deploy/compose.sh up|down" >&2
  exit 2
  ;;
esac
