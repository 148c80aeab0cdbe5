#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# The package mean-average-precision counts pixels in its IoU, COCO does not
#
# Versions:  mean-average-precision 2024.1.5.0
# Expected:  The IoU of [0,0,10,5] in [0,0,10,10] is 0.5, as in the COCO evaluation that the
#            package follows.
# Seen:      It is 66 / 121 = 0.545: one pixel is added to each side, as in the evaluation of VOC
#            2007. A detection that fails at 0.51 everywhere else is a hit.
# Matters:   The smaller the faces, the more AP is given away: for 4-pixel faces, half a face has
#            IoU 0.6. Numbers from this package cannot stand beside COCO or WIDER FACE numbers.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check mean-average-precision==2024.1.5.0 numpy==2.2.6 pandas==2.3.3 || exit 2
env/bin/python - << 'PY'
import warnings

import numpy as np
from mean_average_precision import MetricBuilder

warnings.simplefilter('ignore')


def found(truth, box, threshold):
    metric = MetricBuilder.build_evaluation_metric('map_2d', async_mode=False, num_classes=1)
    # class, difficult, crowd behind the truth; class and score behind the detection
    metric.add(np.array([[*box, 0, 0.9]], float), np.array([[*truth, 0, 0, 0]], float))
    return metric.value(iou_thresholds=threshold)['mAP'] == 1


def border(side):
    steps = [t / 1000 for t in range(400, 700)]
    return max(t for t in steps if found([0, 0, side, side], [0, 0, side, side / 2], t))


for side, seen in ((10, 0.545), (4, 0.6)):
    print(f'face of {side} pixels, half of it found: IoU', border(side), '(0.5 without +1)')
    assert abs(border(side) - seen) < 0.002, border(side)
PY
