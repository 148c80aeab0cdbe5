#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# HD videos written by PyAV have shifted colours
#
# Versions:  av 18.1.0 (FFmpeg 8.1)
# Expected:  from_ndarray and encode give a file that shows the colours of the array.
# Seen:      RGB becomes BT.601 at every size, and the file does not say so. Players take BT.709 for
#            HD without a tag: red 220 0 0 is shown as about 239 21 0.
# Matters:   Skin tones change, and detectors trained on right colours see others in the copy than
#            in the original.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
from fractions import Fraction

import av
import numpy as np

for width, height in ((640, 360), (1920, 1080)):
    red = np.zeros((height, width, 3), np.uint8)
    red[..., 0] = 220
    with av.open('red.mp4', 'w') as out:
        stream = out.add_stream('libx264', rate=25, options={'crf': '0', 'preset': 'ultrafast'})
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        out.mux(stream.encode(av.VideoFrame.from_ndarray(red, format='rgb24')))
        out.mux(stream.encode())
    with av.open('red.mp4') as file:
        frame = next(file.decode(video=0))
    y, cb, cr = (bytes(plane)[0] for plane in frame.planes)
    # Full-range R, G, B of limited-range Y, Cb, Cr with the coefficients of a standard
    seen = {}
    for name, kr, kb in (('BT.601', 0.299, 0.114), ('BT.709', 0.2126, 0.0722)):
        luma = 255 / 219 * (y - 16)
        r = luma + 255 / 224 * 2 * (1 - kr) * (cr - 128)
        b = luma + 255 / 224 * 2 * (1 - kb) * (cb - 128)
        g = (luma - kr * r - kb * b) / (1 - kr - kb)
        seen[name] = [round(v) for v in (r, g, b)]
    print(width, height, 'colour space tag', frame.colorspace, 'YCbCr', (y, cb, cr), seen)
    assert np.abs(np.array(seen['BT.601']) - (220, 0, 0)).max() <= 3
    assert np.abs(np.array(seen['BT.709']) - (220, 0, 0)).max() >= 15
    assert frame.colorspace == 2
PY
