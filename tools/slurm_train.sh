#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
set -euo pipefail

if [[ $# -lt 4 || $1 == -h || $1 == --help ]]; then
  cat <<'EOF'
usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]

Train under slurm; environment:
  GPUS           total number of devices (default 8)
  GPUS_PER_NODE  devices per host (default 8)
  CPUS_PER_TASK  CPU cores per device (default 5)
  GRES           what slurm calls the devices: gpu (default) or npu
  SRUN_ARGS      more options of srun

If a training is preempted, or SIGUSR1 announces the end of its time, it saves a checkpoint and ends
with status 75. Inside a batch job the script then requeues the job, and the next start continues
with --resume.

example:
  GPUS=16 bash tools/slurm_train.sh gpu scrfd configs/scrfd/scrfd_10g.py work_dirs/scrfd_10g
  sbatch tools/slurm_job.sh configs/scrfd/scrfd_10g_8p_o2.py work_dirs/scrfd_10g
EOF
  [[ ${1:-} == -h || ${1:-} == --help ]] && exit 0 || exit 2
fi
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8}
per_node=$((per_node < gpus ? per_node : gpus))
if ((${SLURM_RESTART_COUNT:-0} > 0)); then
  set -- "$@" --resume
fi
# sbatch runs a copy of this file, from the folder where the job was submitted.
tools=$(dirname "${BASH_SOURCE[0]}")
[[ -f $tools/train.py ]] || tools=${SLURM_SUBMIT_DIR:-.}/tools
# shellcheck disable=SC2086 # SRUN_ARGS is a list of words
srun -p "$partition" --job-name="$job" --gres="${GRES:-gpu}:$per_node" --ntasks="$gpus" \
  --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} python -u "$tools/train.py" "$config" \
  --work-dir "$work_dir" --launcher slurm "$@" &
srun=$! status=0 again=1
# srun forwards signals to the tasks. A signal also ends bash's wait, without a status.
trap 'again=1; kill -TERM $srun 2> /dev/null || :' TERM
trap 'again=1; kill -USR1 $srun 2> /dev/null || :' USR1
while ((again)); do
  again=0
  wait "$srun" && status=0 || status=$?
done
if ((status == 75)) && [[ -n ${SLURM_JOB_ID:-} && ${SLURM_JOB_NODELIST:-} ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
