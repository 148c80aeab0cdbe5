# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the arrays of a data sample, which is an object or the evaluator's dict of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_array(values: Any) -> NDArray[np.float64]:
    """Return a tensor (any device and dtype), box structure or array as float64."""
    values = getattr(values, 'tensor', values)  # HorizontalBoxes
    if hasattr(values, 'detach'):
        # First to the CPU: NPUs do not support float64, and numpy does not support bfloat16.
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, np.float64)


def xyxy_to_xywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert x1, y1, x2, y2 to x, y, w, h, both (n, 4)."""
    with np.errstate(invalid='ignore'):  # infinite corners: NaN sides, dropped later
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def detection_rows(instances: Any) -> NDArray[np.float64]:
    """Return ``pred_instances`` as rows x, y, w, h, score, shape (n, 5)."""
    boxes = to_array(instances['bboxes']).reshape(-1, 4)
    scores = to_array(instances['scores']).reshape(-1, 1)
    return np.concatenate([xyxy_to_xywh(boxes), scores], axis=1)


def image_name(sample: Any) -> str:
    """Return ``event/name.jpg`` of a data sample: its ``img_id``, else the end of its path."""
    name = str(sample.get('img_id', ''))
    if '/' not in name:
        path = str(sample.get('img_path', '')).replace('\\', '/')
        name = '/'.join(path.split('/')[-2:])
    return name
