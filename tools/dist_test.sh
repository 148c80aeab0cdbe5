#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
set -euo pipefail

if [[ $# -lt 3 || $1 == -h || $1 == --help ]]; then
  cat <<'EOF'
usage: dist_test.sh CONFIG CHECKPOINT RANKS [options of test.py]

Evaluate on RANKS devices of this host (or CPU processes if there is no accelerator).
NNODES, NODE_RANK, MASTER_ADDR and PORT as in dist_train.sh.

example:
  bash tools/dist_test.sh configs/scrfd/scrfd_10g.py work_dirs/scrfd_10g/epoch_640.pth 8
EOF
  [[ ${1:-} == -h || ${1:-} == --help ]] && exit 0 || exit 2
fi
config=$1 checkpoint=$2 ranks=$3
shift 3
here="$(dirname "${BASH_SOURCE[0]}")"
. "$here/setup/_common.sh"
start_ranks "$here/test.py" "$ranks" "$config" "$checkpoint" "$@"
