# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The SCRFD detector."""

from __future__ import annotations

from mmdet.models.detectors import SingleStageDetector
from mmdet.registry import MODELS


@MODELS.register_module()
class SCRFD(SingleStageDetector):
    """Sample and Computation Redistribution for Face Detection (arXiv 2105.04714).

    A backbone, a PAFPN over strides 8, 16 and 32, and a head that predicts face score,
    box distances and, optionally, keypoints at two priors per cell. The parts named by the
    config do all the work; this class only provides the name.
    """
