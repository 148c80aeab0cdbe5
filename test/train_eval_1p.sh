#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Evaluate a checkpoint on one device.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/_entry_point.sh"
entry_point eval 1 "$@"
