#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# sahi merges faces that stand close together, with its default settings
#
# Versions:  sahi 0.12.8
# Expected:  Joining the detections of slices removes copies of one face and keeps two faces that
#            overlap.
# Seen:      The default joins boxes of which the smaller lies half in the larger one (GREEDYNMM,
#            IOS, 0.5). Two faces shifted by 45 % of their width become one box around both, with
#            the higher score. A small face inside the box of a large one disappears.
# Matters:   Sliced inference is used for small faces in crowds, where faces overlap like this. In
#            anonymisation the joined box still covers both; in counting and in AP one face is lost
#            and the other box is too wide.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check sahi==0.12.8 numpy==2.2.6 || exit 2
env/bin/python - << 'PY'
import inspect

from sahi.postprocess.combine import GreedyNMMPostprocess
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction

defaults = {
    key: value.default
    for key, value in inspect.signature(get_sliced_prediction).parameters.items()
    if key.startswith('postprocess')
}
print(defaults)
assert defaults['postprocess_type'] == 'GREEDYNMM', defaults
join = GreedyNMMPostprocess(
    match_threshold=defaults['postprocess_match_threshold'],
    match_metric=defaults['postprocess_match_metric'],
)


def joined(*boxes):
    faces = [
        ObjectPrediction(
            bbox=box, score=0.9 - i / 10, category_id=0, category_name='face', full_shape=[999, 999]
        )
        for i, box in enumerate(boxes)
    ]
    return [[int(v) for v in face.bbox.to_xyxy()] for face in join(faces)]


neighbours = joined([0, 0, 100, 100], [45, 0, 145, 100])  # IoU 0.38
inside = joined([0, 0, 200, 200], [120, 120, 170, 170])  # IoU 0.06
print('neighbours', neighbours, 'small inside large', inside)
assert neighbours == [[0, 0, 145, 100]], neighbours
assert inside == [[0, 0, 200, 200]], inside
PY
