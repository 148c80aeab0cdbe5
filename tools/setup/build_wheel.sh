#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Build a wheel of mmcv with its operators from a source distribution.
#
# Usage: build_wheel.sh [--plain] --python PYTHON SDIST OUTDIR
#   --plain          compile file by file, as `pip wheel` does; the default merges the sources first
#   --python PYTHON  interpreter with torch, setuptools < 82, wheel and packaging
#   SDIST            .tar.gz of mmcv or onedl-mmcv
#   OUTDIR           folder that gets the wheel
# Environment: MAX_JOBS (compilers at a time), FORCE_CUDA, FORCE_NPU, TORCH_CUDA_ARCH_LIST (mmcv's own).
#
# Example:
#   bash tools/setup/build_wheel.sh --python .venv/bin/python onedl_mmcv-2.3.6.tar.gz wheels
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/_common.sh"

plain=0 python='' places=()
while (($#)); do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --plain) plain=1 ;;
    --python) python="${2:?--python needs a value}"; shift ;;
    -*) die "unknown option $1: see $0 --help" ;;
    *) places+=("$1") ;;
  esac
  shift
done
[[ -n "$python" && ${#places[@]} == 2 ]] || die "expected --python PYTHON SDIST OUTDIR: see $0 --help"
[[ -f "${places[0]}" ]] || die "no source distribution at ${places[0]}"

work="$(mktemp -d "${TMPDIR:-/tmp}/mmface-build.XXXXXX")"
trap 'rm -rf "$work"' EXIT
tar -xzf "${places[0]}" -C "$work"
source_dir=("$work"/*/)

export MMCV_WITH_OPS=1
if ((!plain)); then
  "$python" "$here/merge_sources.py" "${source_dir[0]}"
  # Last on the command line, so they win over the flags Python itself was compiled with. Debug
  # information makes the library 20 times as big. More than -O1 makes no operator we use faster, and
  # NMS 3.6 times slower (gcc 12 then turns the min and max of its inner loop into branches).
  export CFLAGS="${CFLAGS:-} -O1 -g0 -w" CXXFLAGS="${CXXFLAGS:-} -O1 -g0 -w"
fi
"$python" -m pip wheel --no-build-isolation --no-deps --no-cache-dir -w "$work/wheels" "${source_dir[0]}"
mkdir -p "${places[1]}"
mv "$work"/wheels/*.whl "${places[1]}/"
