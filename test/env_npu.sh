#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Environment of a run on Ascend NPUs: `source test/env_npu.sh`, as the scripts in this folder do.
# If no CANN is found, it changes and prints nothing, so it is harmless on other machines.
# Variables that the user has set stay. torch_npu 2.13 or CANN reads all variables below.
#
# These settings of older Ascend scripts are omitted on purpose:
#   PTCOPY_ENABLE, DYNAMIC_OP, TRI_COMBINED_ENABLE, BMMV2_ENABLE, SCALAR_TO_HOST_MEM, FORMAT_JUDGE
#                               torch_npu 2.13 does not contain these names: they have no effect
#   INF_NAN_MODE_ENABLE=0       rejected by A2 and A3 cards. We need their default of 1: overflow then
#                               results in inf, which the loss scale must see
#   COMBINED_ENABLE=1           has an effect, but only on pairs of copy operators, which our models
#                               do not have
#   HCCL_WHITELIST_DISABLE, HCCL_IF_IP
#                               variables of CANN for clusters of several servers; users set them
#   ASCEND_GLOBAL_LOG_LEVEL, ASCEND_SLOG_PRINT_TO_STDOUT, ASCEND_GLOBAL_EVENT_ENABLE
#                               CANN's logs; the defaults are quiet, and less would hide errors
#   ASCEND_DEVICE_ID            was only a folder name; ASCEND_RT_VISIBLE_DEVICES selects cards

_mmface_cann="$(. "$(dirname "${BASH_SOURCE[0]}")/../tools/setup/_common.sh" && cann_set_env)"
if [[ -n "$_mmface_cann" && -z "${ASCEND_HOME_PATH:-}${ASCEND_TOOLKIT_HOME:-}" ]]; then
  # CANN's script reads unset variables, and it must not run with the caller's errexit.
  _mmface_options="$-"
  set +eu
  . "$_mmface_cann"
  [[ "$_mmface_options" != *e* ]] || set -e
  [[ "$_mmface_options" != *u* ]] || set -u
fi
if [[ -n "${ASCEND_HOME_PATH:-}${ASCEND_TOOLKIT_HOME:-}" ]]; then
  # Operators are prepared on a second thread, in parallel to the first. Level 2 moves more work
  # there. The vendor recommends it for compiled operators; it costs some memory.
  export TASK_QUEUE_ENABLE="${TASK_QUEUE_ENABLE:-2}"
  # Each card's process uses only its own share of the cores. Older scripts did this with taskset.
  export CPU_AFFINITY_CONF="${CPU_AFFINITY_CONF:-1}"
  # Memory segments that can grow fragment less. torch_npu does not accept this variable together
  # with the general one.
  if [[ -z "${PYTORCH_ALLOC_CONF:-}" ]]; then
    export PYTORCH_NPU_ALLOC_CONF="${PYTORCH_NPU_ALLOC_CONF:-expandable_segments:True}"
  fi
  # Seconds that ranks wait for each other at the start. The default of 120 is too short if one of
  # them first reads annotations or compiles operators.
  export HCCL_CONNECT_TIMEOUT="${HCCL_CONNECT_TIMEOUT:-1800}"
fi
unset _mmface_cann _mmface_options
