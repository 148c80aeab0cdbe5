# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The recipe of tools/README.md for supervision runs as it stands there."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

pytest.importorskip('supervision')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')


@pytest.mark.parametrize('grey', [120, 0])
def test_supervision_recipe(grey, repo, tmp_path, monkeypatch):
    from mmface_benchmark.toy_onnx import write_toy_centerface

    text = (repo / 'tools/README.md').read_text()
    (code,) = re.findall(r'```python\n(import cv2\n.*?supervision.*?)```', text, re.DOTALL)
    # Under the name of the recipe lies a toy network, which finds no face in a black image.
    write_toy_centerface(tmp_path / 'scrfd_2.5g_bnkps.onnx')
    noise = np.random.default_rng(0).integers(0, grey + 1, (96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'people.jpg'), noise)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    faces, detections = names['faces'], names['detections']
    assert len(detections) == len(faces)
    if faces:
        np.testing.assert_array_equal(detections.xyxy[0], faces[0].bbox)
        assert detections.confidence[0] == np.float32(faces[0].score)
    assert np.array_equal(names['drawn'], names['image']) == (not faces)
