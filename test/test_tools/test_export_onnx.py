# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run the exporter as a user does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mmface.deploy.runtime import FaceDetector
from mmface.toys.scenes import compose
from mmface.weights.convert import build_model

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'
TOOL = 'tools/deploy/export_onnx.py'


@pytest.fixture(scope='module')
def checkpoint(repo, tmp_path_factory):
    path = tmp_path_factory.mktemp('export') / 'scrfd.pth'
    torch.save(dict(state_dict=build_model(repo / CONFIG).state_dict()), path)
    return path


def test_export__writes_a_file_that_the_runtime_reads_alone(run_tool, checkpoint, tmp_path):
    image, _ = compose(np.random.default_rng(0), 0, (90, 70))
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    out = tmp_path / 'new' / 'scrfd.onnx'
    done = run_tool(
        *(TOOL, CONFIG, checkpoint, out, '--layout', 'decoded', '--size', 96, 64, '--opset', 13),
        *('--fold-normalize', '--check', tmp_path / 'a.png'),
    )
    assert done.stderr == ''
    assert 'boxes: largest difference to torch' in done.stdout
    assert 'note: normalisation inside: subtraction of the mean in front' in done.stdout
    assert f'wrote {out}: scrfd, layout decoded, 96x64 (height x width), opset 13' in done.stdout
    detector = FaceDetector(out, score_thr=0.0)
    assert detector.spec.size == (96, 64)
    assert detector(image)
