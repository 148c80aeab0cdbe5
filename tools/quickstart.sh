#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# From an empty machine to average precision: set up, draw the toy data set, train SCRFD on it,
# test, and write images with detections and a precision-recall curve. The first run takes about ten
# minutes on two CPU cores. Steps that are already done are skipped.
#
# Usage: bash tools/quickstart.sh [--fresh] [--photos PATH] [options of build_mmcv.sh]
#   --fresh        draw, train and test again
#   --photos PATH  at the end, find the faces in these photos (a folder or an image) with published
#                  weights, which are fetched with pip
#
# Example:
#   bash tools/quickstart.sh --device cpu
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/setup/_common.sh"

fresh=0 photos='' options=()
while (($#)); do
  option="$1"
  shift
  case "$option" in
    -h | --help) usage; exit 0 ;;
    --fresh) fresh=1 ;;
    --photos) photos="$(realpath -e -- "${1:?--photos needs a folder or an image}")"; shift ;;
    *) options+=("$option") ;;
  esac
done
[[ " ${options[*]-} " != *' --stack openmmlab '* || -n "$(active_python)" ]] ||
  die 'run build_mmcv.sh --stack openmmlab, activate .venv-openmmlab and run this without --stack'
cd "$here/.."

bash build_mmcv.sh ${options[@]+"${options[@]}"}
python="$(environment_python)"
config=configs/scrfd/scrfd_500m_bnkps_toy.py
data=data/toy_widerface out=work_dirs/quickstart
((!fresh)) || rm -rf "$data" "$out"
mkdir -p "$out"

step() {  # name, file that marks the step as done, command...: runs the command unless it is done
  local name="$1" stamp="$2" start=$SECONDS
  shift 2
  if [[ -f "$stamp" ]]; then
    echo "== $name: already done (--fresh starts over)"
    return
  fi
  echo "== $name"
  "$@" || die "this step failed, see above: $*"
  touch "$stamp"
  echo "== $name: $((SECONDS - start)) s"
}
step 'toy data set' "$data/.complete" "$python" tools/data/make_toy.py widerface "$data"
# --resume continues an interrupted run.
step 'training' "$out/.trained" "$python" tools/train.py "$config" --data-path "$data" --work-dir "$out" --seed 0 --resume
step 'test' "$out/.tested" "$python" tools/test.py "$config" "$(cat "$out/last_checkpoint" 2> /dev/null || true)" \
  --data-path "$data" --work-dir "$out/test" --show-dir "$out/images"

"$python" - "$out" << 'END'
import json
import sys
from pathlib import Path

out = Path(sys.argv[1])
found = json.loads((out / 'test' / 'metrics.json').read_text())['ap']
print('\naverage precision on the toy set:')
for subset in ('easy', 'medium', 'hard'):
    print(f'  {subset:7} {found[subset]:.4f}')
images = sorted(p for p in (out / 'images').rglob('*') if p.suffix in {'.jpg', '.png'})
print('precision-recall curve:', out / 'test' / 'pr_curve.png')
print('image with detections:', images[0] if images else 'none written', f'({len(images)} in all)')
END
if [[ -n "$photos" ]]; then
  echo "== faces in $photos"
  "$python" -m mmface detect "$photos" --out "$out/photos" || die "no faces found there, see above"
else
  echo "faces in your own photos: $python -m mmface detect PATH"
fi
echo "total time: $SECONDS s"
