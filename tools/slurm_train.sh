#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
set -euo pipefail

if [[ $# -lt 4 || $1 == -h || $1 == --help ]]; then
  cat <<'EOF'
usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]

Train under slurm; environment:
  GPUS           devices in all (default 8)
  GPUS_PER_NODE  devices per host (default 8)
  CPUS_PER_TASK  CPU cores per device (default 5)
  SRUN_ARGS      more options of srun

example:
  GPUS=16 bash tools/slurm_train.sh gpu scrfd configs/scrfd/scrfd_10g.py work_dirs/scrfd_10g
EOF
  [[ ${1:-} == -h || ${1:-} == --help ]] && exit 0 || exit 2
fi
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8}
per_node=$((per_node < gpus ? per_node : gpus))
# shellcheck disable=SC2086 # SRUN_ARGS is a list of words
exec srun -p "$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" \
  --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} python -u "$(dirname "${BASH_SOURCE[0]}")/train.py" "$config" \
  --work-dir "$work_dir" --launcher slurm "$@"
