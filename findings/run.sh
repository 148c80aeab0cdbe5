#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Run findings, and say for each whether it is still so.
#
# Usage: bash findings/run.sh [NAME ...]
# Example: bash findings/run.sh torchvision_flip
# Exit status: 0 if all are still so, 1 if one changed or could not be installed.
set -uo pipefail
[[ "${1-}" != -* ]] || { sed -n '4,8s/^# \{0,1\}//p' "$0"; exit 0; }
cd "$(dirname "$0")" || exit 1
names=("$@")
(($#)) || names=($(for file in *.sh; do [[ $file == run.sh ]] || echo "${file%.sh}"; done))
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
bad=0
for name in "${names[@]}"; do
  name="${name%.sh}"
  [[ -f $name.sh ]] || { echo "no finding $name: see $(pwd)"; bad=1; continue; }
  start=$SECONDS
  bash "$name.sh" > "$log" 2>&1
  case $? in
    0) word=pass ;;
    2) word='not installed' bad=1 ;;
    *) word=changed bad=1 ;;
  esac
  printf '%-32s %-14s %4d s\n' "$name" "$word" $((SECONDS - start))
  [[ $word == pass ]] || tail -n 5 "$log" | sed 's/^/    /'
done
exit $bad
