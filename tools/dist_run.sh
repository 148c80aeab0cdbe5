#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
# Start a tool in several processes with torchrun; used by dist_train.sh and dist_test.sh:
#   dist_run.sh TOOL RANKS ARGS...
# SIGTERM and SIGUSR1 reach the ranks, whose exit status is that of the script.
# Several hosts: run the same command on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail

tool=$1 ranks=$2
shift 2
if ! [[ $ranks =~ ^[1-9][0-9]*$ ]]; then
  echo "error: the number of ranks must be 1 or more, not '$ranks'" >&2
  exit 2
fi
nnodes=${NNODES:-1}
if [[ $nnodes == 1 && -z ${PORT:-} ]]; then
  place=(--standalone) # takes a free port
else
  if [[ $nnodes != 1 && -z ${MASTER_ADDR:-} ]]; then
    echo "error: NNODES=$nnodes needs MASTER_ADDR, the address of the host with NODE_RANK=0" >&2
    exit 2
  fi
  place=(--nnodes "$nnodes" --node_rank "${NODE_RANK:-0}"
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
fi
# Without this every rank on the CPU would get a single thread.
threads=$(($(nproc) / ranks))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# A checkout also works without being installed.
export PYTHONPATH=${here%/*}${PYTHONPATH:+:$PYTHONPATH}
exec python -m mmface.utils.launch "${place[@]}" --nproc_per_node "$ranks" \
  "$here/$tool" "$@" --launcher pytorch
