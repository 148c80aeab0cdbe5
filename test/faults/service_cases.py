# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A service: many threads ask one detector at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from case import Case, Outcome
from mmface_benchmark.toy_onnx import write_toy_centerface

from mmface.deploy.runtime import FaceDetector
from mmface.structures import Face

THREADS, REQUESTS, LARGE_REQUESTS = 16, 3200, 400


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


def large_photos(folder: Path) -> Outcome:
    """Check that photos of 48 megapixels between small images neither add up nor change results.

    The network takes each image in its own size, so one such photo would need gigabytes without
    the limit of pixels.
    """
    detector = FaceDetector(write_toy_centerface(folder / 'toy.onnx'), score_thr=0.3, threads=1)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((480, 640), (96, 96))]
    images += images[:1] * 17
    images.append(cv2.resize(images[0], (8000, 6000)))  # every 20th
    expected = [signature(detector(image)) for image in images]

    def ask(number: int) -> tuple[bool, int]:
        which = number % len(images)
        return signature(detector(images[which])) == expected[which], resident()

    with ThreadPoolExecutor(THREADS) as pool:
        first = list(pool.map(ask, range(LARGE_REQUESTS // 2)))
        second = list(pool.map(ask, range(LARGE_REQUESTS // 2, LARGE_REQUESTS)))
    peaks = [max(memory for _, memory in half) / 1e6 for half in (first, second)]
    same = sum(equal for equal, _ in first + second)
    text = f'{THREADS} threads, at most {peaks[0]:.0f} MB, then {peaks[1]:.0f} MB'
    return Outcome(same if peaks[1] < 1.2 * peaks[0] else 0, text)


CASES = [
    Case('requests from 16 threads, compared bit for bit', REQUESTS, many_requests),
    Case('photos of 48 megapixels among them', LARGE_REQUESTS, large_photos),
]
