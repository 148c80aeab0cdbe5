#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Measure on an accelerator what the other benchmarks measure on a CPU: operators, parity with the
# CPU, speed by precision, waits of the host, loading, tests. At most 8 minutes. Needs no
# installation of mmface, only its packages. See --help.
#
# Example:
#   bash tools/benchmark/gpu.sh --device cuda --out gpu.json
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
export PYTHONPATH="$root:$root/tools/benchmark${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec python3 -m mmface_benchmark.device.report "$@"
