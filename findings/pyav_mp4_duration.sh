#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# mp4 files of PyAV lose time at the end
#
# Versions:  av 18.1.0 (FFmpeg 8.1)
# Expected:  A file of frames that carry pts and duration lasts until the end of the last frame.
# Seen:      Frames come back at the right times, but libx264 drops their durations. With B-frames
#            the file says 1.23 s, without them 2.03 s, where frames last 2.5 s. Setting
#            packet.duration and bf=0 helps.
# Matters:   Videos of phones and surveillance cameras have uneven times. Players cut the end of the
#            video whose faces were found or hidden.
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

# A camera that slows down in the dark. The last frame stays for half a second.
times = [0, 100, 200, 300, 400, 500, 1000, 1500, 2000]


def duration(path, b_frames):
    with av.open(path, 'w') as out:
        stream = out.add_stream('libx264', rate=30, options={'bf': str(b_frames)})
        stream.width = stream.height = 64
        stream.pix_fmt = 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time in enumerate(times):
            pixels = np.full((64, 64, 3), 20 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            frame.duration = 500 if time >= 500 else 100
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with av.open(path) as file:
        read = [round(1000 * frame.time) for frame in file.decode(video=0)]
        return float(file.streams.video[0].duration * file.streams.video[0].time_base), read


for b_frames in (3, 0):
    seconds, read = duration(f'{b_frames}.mp4', b_frames)
    print(f'bf={b_frames}: frames at {read} ms, the file says {seconds:.3f} s, expected 2.5')
    assert read == times
    assert (seconds < 1.5) == (b_frames == 3), seconds
PY
