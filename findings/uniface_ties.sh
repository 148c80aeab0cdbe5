#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# uniface keeps the last of equal scores
#
# Versions:  uniface 4.2.1, opencv-python 5.0.0.93
# Expected:  Among overlapping boxes of equal score, NMS keeps the first, as OpenCV, torchvision and
#            insightface do.
# Seen:      uniface sorts ascending and turns the order round, so the last box is kept.
# Matters:   Quantised networks give many equal scores. Boxes then differ from those of other
#            programs by pixels, with the same network.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check uniface==4.2.1 onnxruntime==1.32.0 opencv-python==5.0.0.93 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import numpy as np
from uniface.common import non_max_suppression
import cv2

# Three boxes of one face with equal scores, as 8-bit networks give them.
rows = np.array(
    [[10, 10, 50, 50, 0.5], [12, 10, 52, 50, 0.5], [14, 10, 54, 50, 0.5]], np.float32
)
sides = rows[:, :4].copy()
sides[:, 2:] -= sides[:, :2]
kept = [int(i) for i in non_max_suppression(rows, 0.4)]
opencv = np.array(cv2.dnn.NMSBoxes(sides.tolist(), rows[:, 4].tolist(), 0, 0.4)).ravel().tolist()
print('uniface keeps', kept, 'OpenCV', opencv)
assert opencv == [0] and kept == [2]
rows[:, 4] = [0.52, 0.51, 0.5]
assert [int(i) for i in non_max_suppression(rows, 0.4)] == [0]
PY
