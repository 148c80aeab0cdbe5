#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Measure the throughput of training on eight devices: three epochs, no accuracy.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/_entry_point.sh"
entry_point perf 8 "$@"
