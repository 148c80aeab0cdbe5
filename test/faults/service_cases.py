# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A service: many threads ask one detector at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from case import Case, Outcome
from mmface_benchmark.toy_onnx import write_toy_centerface

from mmface.deploy.runtime import FaceDetector
from mmface.structures import Face

THREADS, REQUESTS = 16, 3200


def signature(faces: list[Face]) -> bytes:
    """Return the faces as bytes, to compare them to the last bit."""
    return b''.join(face.bbox.tobytes() + np.float64(face.score).tobytes() for face in faces)


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    pages = Path('/proc/self/statm').read_text().split()[1]
    return int(pages) * os.sysconf('SC_PAGE_SIZE')


def many_requests(folder: Path) -> Outcome:
    """Check that results equal those of one request after the other, and that memory is flat."""
    detector = FaceDetector(write_toy_centerface(folder / 'toy.onnx'), score_thr=0.3, threads=1)
    rng = np.random.default_rng(0)
    sizes = [(120, 160), (96, 96), (201, 77), (480, 640), (33, 400), (720, 1280)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    expected = [signature(detector(image)) for image in images]

    def ask(number: int) -> bool:
        which = number % len(images)
        return signature(detector(images[which])) == expected[which]

    with ThreadPoolExecutor(THREADS) as pool:
        same = sum(pool.map(ask, range(REQUESTS // 4)))
        before = resident()
        same += sum(pool.map(ask, range(REQUESTS // 4, REQUESTS)))
    grown = (resident() - before) / 1e6
    faces = sum(map(len, expected))
    text = (
        f'{THREADS} threads, {grown:+.0f} MB over the last three quarters, {faces} bytes of faces'
    )
    return Outcome(same if grown < 100 else 0, text)


CASES = [Case('requests from 16 threads, compared bit for bit', REQUESTS, many_requests)]
