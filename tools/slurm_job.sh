#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# A training as a job of slurm that goes back into the queue when its time is over or when it is
# preempted, and continues as if it had never been stopped:
#   sbatch tools/slurm_job.sh CONFIG WORK_DIR [options of train.py]
# Submit it from the root of the repository. Options of sbatch before the name of this file replace
# those below. For NPUs: GRES=npu sbatch --gres=npu:8 tools/slurm_job.sh ...
#
# Example:
#   sbatch --time=4:00:00 tools/slurm_job.sh configs/scrfd/scrfd_10g_8p_o2.py work_dirs/scrfd_10g
#SBATCH --job-name=mmface
#SBATCH --ntasks=8
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=5
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
set -euo pipefail
if [[ $# -lt 2 || $1 == -h || $1 == --help ]]; then
  echo 'usage: sbatch tools/slurm_job.sh CONFIG WORK_DIR [options of train.py]'
  echo 'example: sbatch tools/slurm_job.sh configs/scrfd/scrfd_10g_8p_o2.py work_dirs/scrfd_10g'
  [[ ${1:-} == -h || ${1:-} == --help ]] && exit 0 || exit 2
fi
cd "${SLURM_SUBMIT_DIR:-.}" # sbatch runs a copy of this file
if [[ -z ${VIRTUAL_ENV:-} && -f .venv/bin/activate ]]; then
  . .venv/bin/activate
fi
. test/env_npu.sh # does nothing without CANN
export GPUS=${SLURM_NTASKS:-8} GPUS_PER_NODE=${SLURM_NTASKS_PER_NODE:-8}
export CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-5}
exec bash tools/slurm_train.sh "$SLURM_JOB_PARTITION" "$SLURM_JOB_NAME" "$@"
