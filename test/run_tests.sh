#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Set up, then lint, check types and run all tests.
#
# Usage: bash test/run_tests.sh [arguments of pytest]
# With arguments, only pytest runs, with these arguments.
# Environment: MMFACE_REFERENCE, the folder of the golden values and real images. Tests that need it
# are skipped without it.
#
# Example:
#   bash test/run_tests.sh test/test_datasets -k crop
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../tools/setup/_common.sh"
case "${1:-}" in -h | --help) usage; exit 0 ;; esac
cd "$here/.."

bash build_mmcv.sh
python="$(environment_python)"
# Tools and shell scripts under test call "python". Two test processes share two cores.
PATH="$(dirname "$python"):$PATH"
export PATH OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# The report of `mmface evaluate` is tested in a browser. Without one, these tests are skipped.
if ! command -v chromium > /dev/null && command -v apt-get > /dev/null && [[ "$(id -u)" == 0 ]]; then
  echo 'installing chromium ...'
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
    > /dev/null 2>&1 || echo 'note: apt-get could not install chromium'
fi
if (($# == 0)); then
  "$python" -m ruff check .
  "$python" -m ruff format --check .
  "$python" -m mypy
fi
exec "$python" -m pytest -n 2 --dist worksteal "$@"
