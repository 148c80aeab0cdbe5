# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""WIDER FACE evaluation as in the usual Python ports: loops over images and thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.wider_gt import SUBSETS, WiderGroundTruth

NUM_THRESHOLDS = 1000
Table = NDArray[np.float64]


def read_port(folder: Path) -> dict[str, Table]:
    """Read ``<folder>/<event>/<image>.txt`` line by line: rows (n, 5), keyed by ``event/image``."""
    rows: dict[str, Table] = {}
    for event in sorted(folder.iterdir()):
        for file in sorted(event.iterdir()):
            with file.open() as stream:
                lines = stream.read().splitlines()
            table = []
            for line in lines[2:]:
                cells = line.split()
                if cells:
                    table.append([float(cell) for cell in cells[:5]])
            rows[f'{event.name}/{file.stem}'] = np.array(table).reshape(-1, 5)
    return rows


def evaluate_port(gt: WiderGroundTruth, rows: dict[str, Table]) -> dict[str, float]:
    """Evaluate rows that are sorted by score, with the algorithm of the usual port.

    For each subset and image, each detection is matched in turn, and each of the 1000 thresholds
    is looked up in turn. Written from a description of that port; it is a baseline for speed.
    """
    rows = _normalise(rows)
    ap = {}
    for subset in SUBSETS:
        curve = np.zeros((NUM_THRESHOLDS, 2))
        faces = 0
        for number, name in enumerate(gt.names):
            keep = gt.keep[subset][gt.splits[number] : gt.splits[number + 1]]
            faces += int(keep.sum())
            boxes, found = gt.boxes_of(number), rows.get(name, np.empty((0, 5)))
            if len(boxes) and len(found):
                curve += _image_curve(found, boxes, keep)
        ap[subset] = _average_precision(curve, faces)
    return ap


def _normalise(rows: dict[str, Table]) -> dict[str, Table]:
    low, high = 1.0, 0.0
    for table in rows.values():
        if len(table):
            low, high = min(low, table[:, 4].min()), max(high, table[:, 4].max())
    normal = {}
    for name, table in rows.items():
        normal[name] = table.copy()
        normal[name][:, 4] = (table[:, 4] - low) / (high - low)
    return normal


def _overlaps(boxes: Table, others: Table) -> Table:
    """Compute the IoU (n, m) of boxes x1, y1, x2, y2. One pixel is added to each side."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = (high - low + 1).clip(min=0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2] + 1).prod(-1) for b in (boxes, others)]
    return inter / (areas[0][:, None] + areas[1][None] - inter)


def _image_curve(found: Table, faces: Table, keep: NDArray[np.bool_]) -> Table:
    boxes, faces = found[:, :4].copy(), faces.astype(np.float64)
    boxes[:, 2:] += boxes[:, :2]
    faces[:, 2:] += faces[:, :2]
    overlaps = _overlaps(boxes, faces)
    state = np.zeros(len(faces))
    proposal = np.ones(len(boxes))
    recalled = np.zeros(len(boxes))
    for row in range(len(boxes)):
        face = overlaps[row].argmax()
        if overlaps[row, face] >= 0.5:
            if not keep[face]:
                state[face] = -1
                proposal[row] = -1
            elif state[face] == 0:
                state[face] = 1
        recalled[row] = len(np.where(state == 1)[0])
    curve = np.zeros((NUM_THRESHOLDS, 2))
    for step in range(NUM_THRESHOLDS):
        above = np.where(found[:, 4] >= 1 - (step + 1) / NUM_THRESHOLDS)[0]
        if len(above):
            last = above[-1]
            curve[step, 0] = len(np.where(proposal[: last + 1] == 1)[0])
            curve[step, 1] = recalled[last]
    return curve


def _average_precision(curve: Table, faces: int) -> float:
    with np.errstate(invalid='ignore', divide='ignore'):
        precision = np.nan_to_num(curve[:, 1] / curve[:, 0])
    recall = curve[:, 1] / faces
    precision = np.concatenate([[0.0], precision, [0.0]])
    recall = np.concatenate([[0.0], recall, [1.0]])
    for place in range(len(precision) - 1, 0, -1):
        precision[place - 1] = max(precision[place - 1], precision[place])
    steps = np.where(recall[1:] != recall[:-1])[0]
    return float(((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum())
