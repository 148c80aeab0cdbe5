# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
# Sourced by build_mmcv.sh, test/run_tests.sh and scripts in tools/.

die() {  # one sentence that names the problem and the remedy
  echo "error: $*" >&2
  exit 2
}

usage() {  # print the comment block at the head of the running script, which is in $here
  sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$here/${0##*/}"
}

active_python() {  # Python of the active virtual environment; nothing if none is active
  if [[ -n "${VIRTUAL_ENV:-}" && -x "$VIRTUAL_ENV/bin/python" ]]; then
    echo "$VIRTUAL_ENV/bin/python"
  elif [[ -n "${CONDA_PREFIX:-}" && "${CONDA_DEFAULT_ENV:-base}" != base ]]; then
    echo "$CONDA_PREFIX/bin/python"
  fi
}

environment_python() {  # Python that build_mmcv.sh set up: of the active environment, else .venv
  local python
  python="$(active_python)"
  echo "${python:-$PWD/.venv/bin/python}"
}

cann_set_env() {  # path of the set_env.sh of an installed CANN; nothing if there is none
  local root part
  for root in "$(sed -n 's/.*Install_Path[^=]*=//p' /etc/Ascend/ascend_cann_install.info 2> /dev/null | head -n 1)" \
    /usr/local/Ascend "$HOME/Ascend"; do
    for part in cann ascend-toolkit nnae; do  # the name is cann since 8.5
      if [[ -f "$root/$part/set_env.sh" ]]; then
        echo "$root/$part/set_env.sh"
        return
      fi
    done
  done
}

start_ranks() {  # TOOL RANKS ARGS...: run a tool in several processes with torchrun
  # SIGTERM and SIGUSR1 reach the ranks. Their exit status is the exit status of the script.
  # With several hosts: run the same on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
  local tool=$1 ranks=$2 nnodes=${NNODES:-1} place threads
  shift 2
  [[ $ranks =~ ^[1-9][0-9]*$ ]] || die "the number of ranks must be 1 or more, not '$ranks'"
  if [[ $nnodes == 1 && -z ${PORT:-} ]]; then
    place=(--standalone) # takes a free port
  else
    [[ $nnodes == 1 || -n ${MASTER_ADDR:-} ]] ||
      die "NNODES=$nnodes needs MASTER_ADDR, the address of the host with NODE_RANK=0"
    place=(--nnodes "$nnodes" --node_rank "${NODE_RANK:-0}"
      --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
  fi
  # Without this, every rank on the CPU would use a single thread.
  threads=$(($(nproc) / ranks))
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
  export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
  # This makes a checkout work without being installed.
  PYTHONPATH="$(cd "$(dirname "$tool")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"
  export PYTHONPATH
  exec python -m mmface.utils.launch "${place[@]}" --nproc_per_node "$ranks" "$tool" "$@" \
    --launcher pytorch
}
