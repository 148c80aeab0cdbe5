#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# The smoother of supervision trails behind a moving face until it no longer covers it
#
# Versions:  supervision 0.31.2
# Expected:  DetectionsSmoother steadies boxes: they stay on the face.
# Seen:      A box is the mean of the last frames in which the face was seen (5 by default). At
#            half a face a frame the box is one whole face behind, IoU 0; at a fifth of a face a
#            frame IoU is 0.43.
# Matters:   Smoothed boxes look better, so people use them to hide faces. A person who walks
#            quickly is then visible.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check supervision==0.31.2 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import numpy as np
import supervision as sv


def overlap(step):
    smoother = sv.DetectionsSmoother()
    for frame in range(12):
        face = np.array([[frame * step, 0, frame * step + 20, 20]], float)
        one = sv.Detections(face, confidence=np.array([0.9]), tracker_id=np.array([1]))
        smoothed = smoother.update_with_detections(one).xyxy[0]
    common = max(0, min(face[0, 2], smoothed[2]) - max(face[0, 0], smoothed[0]))
    return common / (40 - common)


for step, seen in ((0, 1.0), (4, 0.43), (10, 0.0)):
    print(f'face of 20 pixels, {step} pixels a frame: IoU {overlap(step):.2f}')
    assert abs(overlap(step) - seen) < 0.01, overlap(step)
PY
