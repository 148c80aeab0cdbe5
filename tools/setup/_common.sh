# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
# Sourced by build_mmcv.sh, tools/quickstart.sh, test/run_tests.sh and the scripts beside this one.

die() {  # one sentence that says what is wrong and what to do
  echo "error: $*" >&2
  exit 2
}

usage() {  # print the comment block at the head of the running script, which lies in $here
  sed -n '4,/^[^#]/s/^# \{0,1\}//p' "$here/${0##*/}"
}

active_python() {  # Python of the active virtual environment; nothing when none is active
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

cann_set_env() {  # path of the set_env.sh of an installed CANN; nothing when there is none
  local root part
  for root in "$(sed -n 's/.*Install_Path[^=]*=//p' /etc/Ascend/ascend_cann_install.info 2> /dev/null | head -n 1)" \
    /usr/local/Ascend "$HOME/Ascend"; do
    for part in cann ascend-toolkit nnae; do  # cann is the name since 8.5
      if [[ -f "$root/$part/set_env.sh" ]]; then
        echo "$root/$part/set_env.sh"
        return
      fi
    done
  done
}
