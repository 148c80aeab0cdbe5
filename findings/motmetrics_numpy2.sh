#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# py-motmetrics installs beside numpy 2 and fails at its first distance
#
# Versions:  motmetrics 1.4.0, numpy 2.4.6
# Expected:  pip resolves motmetrics with the current numpy, so tracks of faces can be scored.
# Seen:      The package has no upper bound for numpy. Its iou_matrix raises AttributeError for
#            np.asfarray. The metrics themselves work, if the distances come from elsewhere.
# Matters:   It is the usual package for MOTA and IDF1. Give it distances of your own (1 - IoU, NaN
#            where too far), or an environment with numpy 1.26.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check motmetrics==1.4.0 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import motmetrics as mm
import numpy as np

faces = np.array([[0.0, 0, 10, 10]])
try:
    mm.distances.iou_matrix(faces, faces, max_iou=0.5)
except AttributeError as error:
    print('iou_matrix:', error)
else:
    raise SystemExit('iou_matrix works now')
tracks = mm.MOTAccumulator(auto_id=True)
for _ in range(3):
    tracks.update([1], [7], np.array([[0.1]]))
result = mm.metrics.create().compute(tracks, metrics=['mota', 'motp'], name='faces')
print(result.to_string())
assert result['mota'].item() == 1.0, result
PY
