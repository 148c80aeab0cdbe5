#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Time the build of mmcv as build_mmcv.sh does it against a plain `pip wheel` of the same source.
#
# Usage: measure_build.sh [SDIST]
#   SDIST  .tar.gz of mmcv or onedl-mmcv (default: onedl-mmcv 2.3.6, downloaded)
# Uses the environment made by build_mmcv.sh. Environment: MAX_JOBS (default: all cores).
#
# Example:
#   bash tools/setup/measure_build.sh
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/_common.sh"
case "${1:-}" in
  -h | --help) usage; exit 0 ;;
  -*) die "unknown option $1: see $0 --help" ;;
esac

sdist="${1:+$(realpath "$1")}"
cd "$here/../.."
python="$(environment_python)"
[[ -x "$python" ]] || die "no environment at $python: run bash build_mmcv.sh first"
export MAX_JOBS="${MAX_JOBS:-$(nproc)}"
work="$(mktemp -d "${TMPDIR:-/tmp}/mmface-measure.XXXXXX")"
trap 'rm -rf "$work"' EXIT
if [[ -z "$sdist" ]]; then
  "$python" -m pip download -q --no-deps --no-binary :all: --no-build-isolation -d "$work" \
    onedl-mmcv==2.3.6 2> "$work/log" || die "download failed: $(tail -n 1 "$work/log")"
  sdist="$(echo "$work"/*.tar.gz)"
fi

measure() {  # name, options of build_wheel.sh...: prints the times, leaves the CPU seconds in $work
  local name="$1" TIMEFORMAT='%U %S %R'
  shift
  { time bash tools/setup/build_wheel.sh "$@" --python "$python" "$sdist" "$work/$name" \
    > "$work/log" 2>&1; } 2> "$work/$name.time" || { tail -n 20 "$work/log" >&2; die "$name build failed"; }
  awk -v name="$name" '{printf "%-6s user %.1f s, sys %.1f s, CPU %.1f s, wall %.1f s\n", name, $1, $2, $1 + $2, $3}' \
    "$work/$name.time"
}
echo "building $(basename "$sdist") twice with MAX_JOBS=$MAX_JOBS"
measure fast
measure plain --plain
paste -d' ' "$work/fast.time" "$work/plain.time" |
  awk '{printf "CPU time fast / plain = %.2f (wall %.2f)\n", ($1 + $2) / ($4 + $5), $3 / $6}'
