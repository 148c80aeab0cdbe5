#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# sahi cuts a COCO data set into slices and loses keypoints and crowds
#
# Versions:  sahi 0.12.8
# Expected:  slice_coco moves the keypoints of a face with its box and keeps iscrowd.
# Seen:      The categories still name five keypoints, but no annotation has any. iscrowd = 1
#            becomes 0, so an ignored face becomes one to learn and to find.
# Matters:   The sliced data set trains a model with keypoints on none, and faces that nobody can
#            judge count as misses.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check sahi==0.12.8 numpy==2.2.6 pillow==12.3.0 || exit 2
env/bin/python - << 'PY'
import json

from PIL import Image
from sahi.slicing import slice_coco

Image.new('RGB', (1280, 640)).save('a.jpg')
points = [110, 110, 2, 140, 110, 2, 125, 130, 2, 112, 150, 2, 138, 150, 2]
face = dict(image_id=1, category_id=1, num_keypoints=5)
table = dict(
    images=[dict(id=1, file_name='a.jpg', width=1280, height=640)],
    categories=[dict(id=1, name='face', keypoints=['a', 'b', 'c', 'd', 'e'], skeleton=[])],
    annotations=[
        dict(id=1, bbox=[100, 100, 50, 60], area=3000, iscrowd=0, keypoints=points, **face),
        dict(id=2, bbox=[900, 100, 90, 90], area=8100, iscrowd=1, image_id=1, category_id=1),
    ],
)
with open('labels.json', 'w') as file:
    json.dump(table, file)
sliced, _ = slice_coco(
    'labels.json', '.', 'sliced', output_dir='out', slice_height=640, slice_width=640
)
whole = [row for row in sliced['annotations'] if row['area'] in (3000, 8100)]
print(sliced['categories'])
print(whole)
assert len(sliced['categories'][0]['keypoints']) == 5 and len(whole) >= 2, sliced
assert not any('keypoints' in row for row in whole), 'keypoints are kept now'
assert {row['iscrowd'] for row in whole} == {0}, 'iscrowd is kept now'
PY
