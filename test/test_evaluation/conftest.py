# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Ground truth for the tests of the metrics, in memory and as ``.mat`` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mmface.evaluation.wider_gt import SUBSETS, WiderGroundTruth


@pytest.fixture(scope='session')
def make_gt():
    """Build a ground truth from ``{'event/stem': (boxes, easy, medium, hard)}``, masks as lists."""

    def make(images: dict) -> WiderGroundTruth:
        boxes = [np.array(image[0], float).reshape(-1, 4) for image in images.values()]
        keep = {
            subset: np.concatenate([np.array(image[k], bool) for image in images.values()])
            for k, subset in enumerate(SUBSETS, 1)
        }
        splits = np.cumsum([0, *map(len, boxes)])
        names = tuple(images)
        return WiderGroundTruth(names, np.concatenate(boxes), splits, keep, frozenset(names))

    return make


@pytest.fixture(scope='session')
def write_mats():
    """Return a function that writes a ``WiderGroundTruth`` as the benchmark's four files."""

    def column(items: list) -> np.ndarray:
        cells = np.empty((len(items), 1), object)
        for row, item in enumerate(items):
            cells[row, 0] = item
        return cells

    def write(gt: WiderGroundTruth, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        events: dict[str, list[int]] = {}
        for number, name in enumerate(gt.names):
            events.setdefault(name.split('/')[0], []).append(number)

        def cells(value) -> np.ndarray:
            return column([column([value(i) for i in images]) for images in events.values()])

        def indices(subset: str):
            def chosen(image: int) -> np.ndarray:
                keep = gt.keep[subset][gt.splits[image] : gt.splits[image + 1]]
                numbers = np.flatnonzero(keep) + 1
                # The two forms in which the official files store an empty list of faces.
                if not len(numbers):
                    return np.empty((0, image % 2), np.uint8)
                return numbers.astype(np.uint8).reshape(-1, 1)

            return chosen

        common = {
            'event_list': column(list(events)),
            'file_list': cells(lambda i: gt.names[i].split('/')[1]),
            'face_bbx_list': cells(lambda i: gt.boxes_of(i).astype(np.int32)),
        }
        savemat(folder / 'wider_face_val.mat', common)
        for subset in SUBSETS:
            table = {**common, 'gt_list': cells(indices(subset))}
            savemat(folder / f'wider_{subset}_val.mat', table)
        return folder

    return write


@pytest.fixture
def small_gt(make_gt) -> WiderGroundTruth:
    """Return three events, one face outside every subset, one image without an easy face."""
    return make_gt(
        {
            '0--A/0_A_1': (
                [[10, 10, 40, 50], [100, 20, 30, 40], [200, 200, 6, 7]],
                [1, 1, 0],
                [1, 1, 0],
                [1, 1, 0],
            ),
            '0--A/0_A_2': ([[50, 60, 20, 22]], [0], [1], [1]),
            '1--B/1_B_1': ([[5, 5, 100, 120], [300, 40, 12, 15]], [1, 0], [1, 0], [1, 1]),
            '2--C/2_C_1': ([[30, 30, 60, 60]], [1], [1], [1]),
        }
    )


@pytest.fixture
def small_rows() -> dict[str, np.ndarray]:
    """Return detections for ``small_gt``: hits, a hit outside the subsets, false positives."""
    return {
        '0--A/0_A_1': np.array(
            [
                [11, 11, 40, 50, 0.9],
                [150, 150, 30, 30, 0.8],
                [101, 20, 30, 41, 0.6],
                [200, 200, 6, 7, 0.5],
                [12, 10, 40, 50, 0.3],
            ]
        ),
        '0--A/0_A_2': np.array([[200, 10, 20, 22, 0.7], [51, 60, 20, 22, 0.35]]),
        '1--B/1_B_1': np.array([[5, 5, 100, 120, 0.95], [300, 41, 12, 15, 0.2]]),
        '2--C/2_C_1': np.array([[200, 200, 60, 60, 0.4], [31, 30, 60, 60, 0.1]]),
    }


@pytest.fixture(scope='session')
def drawn_gt(make_gt) -> WiderGroundTruth:
    """Return 40 images of three events, with 0 to 6 faces, many of them outside of subsets."""
    rng = np.random.default_rng(5)
    images = {}
    for number in range(40):
        faces = rng.integers(0, 7) if number else 3
        side = rng.uniform(12, 160, (faces, 1)) * rng.uniform(0.8, 1.2, (faces, 2))
        boxes = np.concatenate([rng.uniform(0, [850, 550], (faces, 2)), side], axis=1).round()
        hard = rng.random(faces) < 0.85
        medium = hard & (boxes[:, 3] > 30)
        easy = medium & (boxes[:, 3] > 50)
        event = ('0--A', '1--B', '2--C')[number % 3]
        images[f'{event}/{event[0]}_{number}'] = (boxes, easy, medium, hard)
    return make_gt(images)


@pytest.fixture(scope='session')
def drawn_rows(drawn_gt) -> dict[str, np.ndarray]:
    """Return detections for ``drawn_gt``: near every face one to three, and some anywhere."""
    rng = np.random.default_rng(6)
    rows = {}
    for number, name in enumerate(drawn_gt.names):
        boxes = np.repeat(drawn_gt.boxes_of(number), rng.integers(1, 4), axis=0)
        boxes = boxes + rng.normal(0, 0.08, boxes.shape) * boxes[:, [2, 3, 2, 3]]
        places, sides = rng.uniform(0, [900, 600], (4, 2)), rng.uniform(10, 90, (4, 2))
        boxes = np.concatenate([boxes, np.concatenate([places, sides], axis=1)])
        scores = rng.random(len(boxes)) * np.repeat([1, 0.7], [len(boxes) - 4, 4])
        # Some values are repeated: ties.
        rows[name] = np.column_stack([boxes.round(2), scores.round(2)])
    return rows
