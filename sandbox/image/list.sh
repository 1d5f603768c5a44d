#!/bin/bash
# Writes LIBRARIES.md, and libraries.txt for the model's prompt, from the image.
#
#   sandbox/image/list.sh [IMAGE]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

list() {
  docker run --rm --network none --entrypoint python3 "$image" /opt/threadbook/list.py "$@"
}

image=${1:-threadbook/sandbox:latest}
page=$(list)
prompt=$(list --prompt)
echo "$page" >LIBRARIES.md
echo "$prompt" >libraries.txt
