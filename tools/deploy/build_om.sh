#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Convert an ONNX file to an OM file for Ascend NPUs with CANN's ATC.
#
# Usage: bash tools/deploy/build_om.sh MODEL.onnx --soc SOC [options] [-- more options of atc]
#   --soc SOC      chip: "Ascend" plus the name that `npu-smi info` shows: Ascend310P3, Ascend310B1, ...
#   --batch N      batch size (default 1); an OM has only one
#   --size H W     input size if the ONNX file does not fix it (default: the size of its tests)
#   --aipp FILE    the NPU normalizes uint8 bins with the aipp.config written beside them
#   --precision M  atc's --precision_mode (default force_fp16, which is also atc's default)
#   --output NAME  OM file without .om (default: <MODEL>_bs<N> in the folder of the model)
#   --dry-run      only print the command; CANN is not needed
# Outputs are float32, as ascend_postprocess.py reads them.
#
# Example:
#   bash tools/deploy/build_om.sh centerface.onnx --soc Ascend310P3 --batch 4 --aipp bins/aipp.config
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
repo="$(cd "$here/../.." && pwd)"
. "$repo/tools/setup/_common.sh"

model='' soc='' batch=1 size=() aipp='' precision=force_fp16 output='' dry=0 more=()
while (($#)); do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --soc | --batch | --aipp | --precision | --output)
      [[ $# -ge 2 ]] || die "$1 needs a value"
      declare "${1#--}=$2"
      shift ;;
    --size)
      [[ $# -ge 3 ]] || die '--size needs height and width'
      size=("$2" "$3")
      shift 2 ;;
    --dry-run) dry=1 ;;
    --) shift; more=("$@"); break ;;
    -*) die "unknown option $1, see --help" ;;
    *) [[ -z "$model" ]] || die "expected one model, found '$model' and '$1'"; model=$1 ;;
  esac
  shift
done
[[ -n "$model" ]] || die 'no model given: build_om.sh MODEL.onnx --soc Ascend310P3'
[[ -f "$model" ]] || die "$model does not exist; tools/deploy/export_onnx.py writes ONNX files"
[[ "$soc" == Ascend?* ]] || die "--soc '$soc': expected Ascend plus the name that npu-smi info shows, such as Ascend310P3"
[[ "$batch" =~ ^[1-9][0-9]*$ ]] || die "--batch '$batch': expected 1 or more"

# The active environment may lack the packages, such as that of CANN, or none may be active.
with_mmface() { PYTHONPATH="$repo${PYTHONPATH:+:$PYTHONPATH}" "$@"; }
python=''
for place in "$(active_python)" "$repo/.venv/bin/python" python3; do
  if [[ -n "$place" ]] && with_mmface "$place" -c 'import mmface.deploy.ascend.om' 2> /dev/null; then
    python=$place
    break
  fi
done
[[ -n "$python" ]] || die 'found no Python with the packages to read ONNX files: run bash build_mmcv.sh, or' \
  "python3 -m pip install '$repo[cpu]'"
shape="$(
  with_mmface "$python" - "$model" "$batch" "$aipp" ${size[@]+"${size[@]}"} << 'END'
import sys

from mmface.deploy.ascend.om import atc_input_shape, open_for_om
from mmface.utils.cli import main_guard


def main() -> None:
    model, batch, aipp, *sides = sys.argv[1:]
    if not all(side.isdecimal() for side in sides):
        raise ValueError(f'--size {" ".join(sides)}: expected height and width in pixels')
    detector = open_for_om(model, [int(side) for side in sides] or None)
    print(atc_input_shape(detector, int(batch), aipp or None))


main_guard(main)
END
)" || exit 2

command=(atc --framework=5 "--model=$model" "--output=${output:-${model%.onnx}_bs$batch}"
  --input_format=NCHW "--input_shape=$shape" "--soc_version=$soc"
  "--precision_mode=$precision" --output_type=FP32 --log=error)
# The small-channel optimisation is for convolutions that read three channels from AIPP.
[[ -z "$aipp" ]] || command+=("--insert_op_conf=$aipp" --enable_small_channel=1)
command+=(${more[@]+"${more[@]}"})

line=''
for word in "${command[@]}"; do
  # Shells leave these characters unchanged, so the line looks as in ATC's documentation.
  [[ "$word" =~ ^[A-Za-z0-9_./:=,+-]+$ ]] || word="$(printf '%q' "$word")"
  line+="$word "
done
echo "${line% }"
((!dry)) || exit 0
if ! command -v atc > /dev/null; then
  set_env="$(cann_set_env)"
  [[ -z "$set_env" ]] || die "atc is not on the PATH, but CANN is installed: run 'source $set_env' and then this again"
  die 'atc was not found: it is part of CANN (the toolkit package, https://www.hiascend.com/software/cann). Install it, run' \
    "'source /usr/local/Ascend/ascend-toolkit/set_env.sh' and this again; no NPU is needed to convert." \
    '--dry-run prints the command for another host'
fi
exec "${command[@]}"
