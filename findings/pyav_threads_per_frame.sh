#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Each frame of PyAV that was converted keeps a thread for each core
#
# Versions:  av 18.1.0 (FFmpeg 8.1)
# Expected:  to_ndarray and reformat convert the pixels and leave nothing behind.
# Seen:      Each frame makes a scaler of its own, with a thread for each core. The threads live as
#            long as the frame: 20 frames in a list have 20 times the cores. One VideoReformatter
#            for all frames, with threads=1, gives the same pixels and starts none.
# Matters:   A detector asks for BGR pixels of every frame. The usual loop starts and ends threads
#            for each of them, and a tracker that keeps the frames of some seconds has thousands.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import os
import sys

import av
import numpy as np
from av.video.reformatter import VideoReformatter

if len(os.sched_getaffinity(0)) < 2:
    print('one core: FFmpeg starts no threads here')
    sys.exit(2)
ramp = np.add.outer(np.arange(360), np.arange(640))
images = [np.stack([ramp + 9 * i, ramp * 2, ramp * 3], 2).astype(np.uint8) for i in range(20)]
one = VideoReformatter()


def own(frame):
    return frame.to_ndarray(format='bgr24')


def own_reformat(frame):
    return frame.reformat(format='bgr24').to_ndarray()


def shared(frame):
    return one.reformat(frame, format='bgr24', threads=1).to_ndarray()


def threads():
    return len(os.listdir('/proc/self/task'))


results = {}
for convert in (own, own_reformat, shared):
    kept = [av.VideoFrame.from_ndarray(image, format='rgb24') for image in images]
    kept = [one.reformat(frame, format='yuv420p', threads=1) for frame in kept]
    before = threads()
    pixels = [convert(frame) for frame in kept]
    with_frames = threads() - before
    del kept
    results[convert] = with_frames, pixels
    print(f'{convert.__name__}: {with_frames} threads more while 20 frames are kept,',
          f'{threads() - before} after')
assert results[shared][0] == 0, results[shared][0]
for convert in (own, own_reformat):
    assert results[convert][0] >= 40, results[convert][0]
    assert np.array_equal(results[convert][1], results[shared][1])
PY
