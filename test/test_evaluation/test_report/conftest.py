# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmface.evaluation.attributes import ATTRIBUTES
from mmface.evaluation.report.study import Study, study
from mmface.evaluation.wider_ap import evaluate_matched, match_rows

SIZE = (1024, 700)


@pytest.fixture(scope='session')
def drawn_study(drawn_gt, drawn_rows) -> Study:
    """Return a study of two detectors on drawn images; their names try to be markup."""
    rng = np.random.default_rng(1)
    faces = len(drawn_gt.boxes)
    attributes = {name: rng.integers(0, len(values), faces) for name, values in ATTRIBUTES.items()}
    other = {
        name: np.column_stack([table[:, :4] + rng.normal(0, 3, (len(table), 4)), table[:, 4] ** 2])
        for name, table in drawn_rows.items()
    }
    matched = {
        'first': match_rows(drawn_gt, drawn_rows),
        '<b>x</b>&amp;</script>': match_rows(drawn_gt, other),
    }
    results = {name: evaluate_matched(own) for name, own in matched.items()}
    return study(drawn_gt, matched, results, attributes, draws=50)


@pytest.fixture(scope='session')
def drawn_images(drawn_gt, tmp_path_factory) -> Path:
    """Write an image for every name of ``drawn_gt``, in a folder with a difficult name."""
    root = tmp_path_factory.mktemp('world') / "all images #1 of 100%'s"
    for number, name in enumerate(drawn_gt.names):
        image = np.full((SIZE[1], SIZE[0], 3), 5 * number, np.uint8)
        for x, y, w, h in drawn_gt.boxes_of(number).astype(int).tolist():
            cv2.rectangle(image, (x, y), (x + w, y + h), (60, 120, 220), -1)
        path = root / f'{name}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode('.jpg', image)[1].tobytes())
    return root


@pytest.fixture(scope='session')
def read_data():
    """Return a function that reads the data of a report."""

    def read(folder: Path) -> dict:
        text = (folder / 'data.js').read_text()
        return json.loads(text.removeprefix('window.REPORT=').removesuffix(';\n'))

    return read
