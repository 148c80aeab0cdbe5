#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# globox loses iscrowd when it reads COCO labels
#
# Versions:  globox 2.9.0, pycocotools 2.0.11
# Expected:  COCOEvaluator of globox gives the AP of pycocotools, so a box with iscrowd = 1 absorbs
#            detections.
# Seen:      from_coco reads the crowd as an ordinary box. Three detections in the crowd are false
#            positives and the crowd is missed: AP 0.126 where pycocotools gives 1.0.
# Matters:   Faces that are too small or too blurred to judge are marked in this way. The better a
#            detector finds them, the lower its AP becomes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check globox==2.9.0 pycocotools==2.0.11 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import contextlib
import io
import json

from globox import AnnotationSet, COCOEvaluator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

rows = [([0, 0, 500, 500], 1), ([600, 600, 100, 100], 0)]
truth = {
    'images': [{'id': 1, 'file_name': 'a.jpg', 'width': 1000, 'height': 1000}],
    'categories': [{'id': 1, 'name': 'face'}],
    'annotations': [
        {'id': i, 'image_id': 1, 'category_id': 1, 'bbox': b, 'area': b[2] * b[3], 'iscrowd': c}
        for i, (b, c) in enumerate(rows, 1)
    ],
}
boxes = [[10, 10, 100, 100], [150, 10, 100, 100], [300, 10, 100, 100], [600, 600, 100, 100]]
found = [
    {'image_id': 1, 'category_id': 1, 'bbox': b, 'score': 0.9 - i / 10}
    for i, b in enumerate(boxes)
]
for name, table in (('truth.json', truth), ('found.json', found)):
    with open(name, 'w') as file:
        json.dump(table, file)

with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO('truth.json')
    evaluation = COCOeval(coco, coco.loadRes('found.json'), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
predictions = AnnotationSet.from_coco_results(
    'found.json', id_to_label={1: 'face'}, id_to_imageid={1: 'a.jpg'}
)
ap = COCOEvaluator(
    ground_truths=AnnotationSet.from_coco('truth.json'), predictions=predictions
).ap()
print('pycocotools', evaluation.stats[0], 'globox', round(ap, 4))
assert evaluation.stats[0] > 0.999 and round(ap, 3) == 0.126, ap
PY
