#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
set -euo pipefail

if [[ $# -lt 2 || $1 == -h || $1 == --help ]]; then
  cat <<'EOF'
usage: dist_train.sh CONFIG RANKS [options of train.py]

Train on RANKS devices of this host (or CPU processes if there is no accelerator).
With several hosts, run the same command on each, with
  NNODES       number of hosts
  NODE_RANK    number of this host, from 0
  MASTER_ADDR  address of host 0
  PORT         a free port of host 0 (with one host, a free port is found automatically)

SIGTERM, SIGUSR1 and the end of --max-minutes save a checkpoint and end all ranks with status 75.
--resume continues from it.

example:
  bash tools/dist_train.sh configs/scrfd/scrfd_10g.py 8 --data-path data/WIDERFace
EOF
  [[ ${1:-} == -h || ${1:-} == --help ]] && exit 0 || exit 2
fi
config=$1 ranks=$2
shift 2
here="$(dirname "${BASH_SOURCE[0]}")"
. "$here/setup/_common.sh"
start_ranks "$here/train.py" "$ranks" "$config" "$@"
