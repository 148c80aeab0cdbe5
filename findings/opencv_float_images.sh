#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# OpenCV reads a PFM image of 0 to 1 as black
#
# Versions:  opencv-python-headless 5.0.0.93
# Expected:  imread with its default flag makes the same 8-bit image of all formats of floats.
# Seen:      Radiance HDR is multiplied by 255, PFM is not: its only values are 0 and 1, an image as
#            good as black. A float TIFF gives None.
# Matters:   A detector finds no face in it, and nothing says why.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import cv2
import numpy as np

# A face-like gradient of 0 to 1 in float32, as renderers and scientific cameras write it.
values = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
image = cv2.merge([values] * 3)
means = {}
for name in ('a.hdr', 'a.pfm', 'a.tiff'):
    assert cv2.imwrite(name, image)
    stored = cv2.imread(name, cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.float32 and abs(float(stored.mean()) - 0.5) < 0.01
    seen = cv2.imread(name)
    means[name] = None if seen is None else float(seen.mean())
    print(name, 'as floats', stored.mean(), 'as an image', means[name])
assert abs(means['a.hdr'] - 127) < 2
assert means['a.pfm'] < 1
assert means['a.tiff'] is None
PY
