#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# torchvision gives images of WIDER FACE without faces a face of no size
#
# Versions:  torchvision 0.29.1, torch 2.14.1
# Expected:  An image with the count 0 in wider_face_train_bbx_gt.txt has an empty list of boxes.
# Seen:      It has one box, 0 0 0 0, with all attributes 0, so also with invalid = 0. The row of
#            zeros that the official file writes after the count 0 is read as a face.
# Matters:   A data set made through this class has faces without area at the corner of its images.
#            Losses that divide by the size of a box become infinite, and every such face is missed
#            in a recall.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 pillow==12.3.0 || exit 2
env/bin/python - << 'PY'
from pathlib import Path

from PIL import Image
from torchvision.datasets import WIDERFace

root = Path('widerface')
for split in ('train', 'val', 'test'):
    (root / f'WIDER_{split}/images/0--Parade').mkdir(parents=True)
for name in 'ab':
    Image.new('RGB', (64, 48)).save(root / f'WIDER_train/images/0--Parade/{name}.jpg')
labels = root / 'wider_face_split'
labels.mkdir()
# The form of the official file: the count 0 is followed by a row of zeros.
(labels / 'wider_face_train_bbx_gt.txt').write_text(
    '0--Parade/a.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n0--Parade/b.jpg\n1\n1 2 10 12 0 0 0 0 0 0 \n'
)
(labels / 'wider_face_val_bbx_gt.txt').write_text('')
(labels / 'wider_face_test_filelist.txt').write_text('')
boxes = [target['bbox'].tolist() for _, target in WIDERFace('.', split='train')]
print('boxes of an image without faces', boxes[0], 'of one with a face', boxes[1])
assert boxes == [[[0, 0, 0, 0]], [[1, 2, 10, 12]]], boxes
PY
