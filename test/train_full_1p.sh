#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Train on one device with the published schedule, then evaluate the last checkpoint.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/_entry_point.sh"
entry_point full 1 "$@"
