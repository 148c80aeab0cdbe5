#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# torchvision flips boxes and keypoints with two different conventions
#
# Versions:  torchvision 0.29.1, torch 2.14.1
# Expected:  A horizontal flip moves a keypoint as it moves the corner of a box: x becomes W - x
#            for both.
# Seen:      RandomHorizontalFlip and RandomVerticalFlip move boxes to W - x and keypoints to W - 1
#            - x. Rotation by 90 and 180 degrees moves both to W - x, so two flips are not a
#            rotation by 180 degrees.
# Matters:   Each flip moves the keypoints of a face by one pixel against its box. On a face of 10
#            pixels that is a tenth of the face, in half of the training samples.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

# A face of 20 x 20 pixels. Its keypoints are two corners of its own box.
box = tv_tensors.BoundingBoxes([[10.0, 20, 30, 40]], format='XYXY', canvas_size=(100, 200))
points = tv_tensors.KeyPoints([[10.0, 20], [30, 40]], canvas_size=(100, 200))

flipped_box, flipped = F.horizontal_flip(box)[0].tolist(), F.horizontal_flip(points).tolist()
print('horizontal flip: box', flipped_box, 'points', flipped)
assert flipped_box == [170, 20, 190, 40], flipped_box
assert flipped == [[189, 20], [169, 40]], 'keypoints now follow the box: ' + str(flipped)

both = F.vertical_flip(F.horizontal_flip(points)).tolist()
turned = F.affine(points, 180, [0, 0], 1.0, [0, 0]).round().tolist()
print('both flips', both, 'rotation by 180 degrees', turned)
assert both == [[189, 79], [169, 59]] and turned == [[190, 80], [170, 60]], (both, turned)
PY
