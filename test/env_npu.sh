#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Environment of a run on Ascend NPUs: `source test/env_npu.sh`, as the scripts beside this one do.
# Where no CANN is found it changes nothing and says nothing, so it does no harm on other machines.
# What the user has set stays. All variables below are read by torch_npu 2.13 or by CANN.
#
# Of the settings that older Ascend scripts bring along, these are left out on purpose:
#   PTCOPY_ENABLE, DYNAMIC_OP, TRI_COMBINED_ENABLE, BMMV2_ENABLE, SCALAR_TO_HOST_MEM, FORMAT_JUDGE
#                               torch_npu 2.13 has no trace of them: they do nothing
#   INF_NAN_MODE_ENABLE=0       refused by A2 and A3 cards, whose default of 1 is wanted: overflow then
#                               gives inf, which the loss scale needs to see
#   COMBINED_ENABLE=1           alive, but for pairs of copying operators that our models do not have
#   HCCL_WHITELIST_DISABLE, HCCL_IF_IP
#                               CANN's own, for clusters of several servers; the user's to set
#   ASCEND_GLOBAL_LOG_LEVEL, ASCEND_SLOG_PRINT_TO_STDOUT, ASCEND_GLOBAL_EVENT_ENABLE
#                               CANN's logs; the defaults are quiet, and silence would hide errors
#   ASCEND_DEVICE_ID            only ever a folder name; cards are chosen with ASCEND_RT_VISIBLE_DEVICES

_mmface_cann="$(. "$(dirname "${BASH_SOURCE[0]}")/../tools/setup/_common.sh" && cann_set_env)"
if [[ -n "$_mmface_cann" && -z "${ASCEND_HOME_PATH:-}${ASCEND_TOOLKIT_HOME:-}" ]]; then
  # CANN's script reads variables that are not set, and a caller's errexit is not meant for it.
  _mmface_options="$-"
  set +eu
  . "$_mmface_cann"
  [[ "$_mmface_options" != *e* ]] || set -e
  [[ "$_mmface_options" != *u* ]] || set -u
fi
if [[ -n "${ASCEND_HOME_PATH:-}${ASCEND_TOOLKIT_HOME:-}" ]]; then
  # Operators are prepared on a second thread while the first goes on; level 2 moves more of the work
  # there, which the vendor advises where operators come compiled, at the price of some memory.
  export TASK_QUEUE_ENABLE="${TASK_QUEUE_ENABLE:-2}"
  # Each card's process keeps to its own share of the cores, which older scripts did with taskset.
  export CPU_AFFINITY_CONF="${CPU_AFFINITY_CONF:-1}"
  # Memory segments that can grow break up less. torch_npu refuses this one beside the general one.
  if [[ -z "${PYTORCH_ALLOC_CONF:-}" ]]; then
    export PYTORCH_NPU_ALLOC_CONF="${PYTORCH_NPU_ALLOC_CONF:-expandable_segments:True}"
  fi
  # Seconds that ranks wait for each other at the start. The default of 120 is too short when one of
  # them reads annotations or compiles operators first.
  export HCCL_CONNECT_TIMEOUT="${HCCL_CONNECT_TIMEOUT:-1800}"
fi
unset _mmface_cann _mmface_options
