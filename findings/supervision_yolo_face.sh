#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# supervision reads the keypoints of a YOLO face label as the outline of the face
#
# Versions:  supervision 0.31.2
# Expected:  A label of 5 + 15 numbers (class, box, five keypoints with visibility) gives its box,
#            or an error.
# Seen:      All numbers behind the class become the corners of a polygon, and the visibility 2 is
#            a coordinate. The box of the face is 128, 96, 1280, 960 in an image of 640 x 480.
#            Nothing is said.
# Matters:   This is the usual label format of YOLO face models. Drawn, converted or evaluated with
#            this package, every box is wrong.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check supervision==0.31.2 numpy==2.4.6 pillow==12.3.0 || exit 2
env/bin/python - << 'PY'
from pathlib import Path

import supervision as sv
from PIL import Image

for folder in ('images', 'labels'):
    Path(folder).mkdir()
Image.new('RGB', (640, 480)).save('images/a.jpg')
points = [(0.45, 0.45), (0.55, 0.45), (0.5, 0.5), (0.46, 0.55), (0.54, 0.55)]
row = '0 0.5 0.5 0.2 0.2 ' + ' '.join(f'{x} {y} 2' for x, y in points)
Path('labels/a.txt').write_text(row + '\n')
Path('data.yaml').write_text('names: [face]\nnc: 1\n')
data = sv.DetectionDataset.from_yolo('images', 'labels', 'data.yaml')
(found,) = data.annotations.values()
print('box of the label 256 192 384 288, box read', found.xyxy.tolist())
assert found.xyxy.round().tolist() == [[128, 96, 1280, 960]], found.xyxy
PY
