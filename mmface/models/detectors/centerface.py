# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The CenterFace detector."""

from __future__ import annotations

from mmdet.models.detectors import SingleStageDetector
from mmdet.registry import MODELS


@MODELS.register_module()
class CenterFace(SingleStageDetector):
    """CenterFace: Joint Face Detection and Alignment Using Face as Point (arXiv 1911.03599).

    A MobileNetV2, a neck that joins its maps at stride 4, and a head that predicts a heatmap
    of face centres with size, offset and, optionally, keypoints. The parts named by the config
    do all the work; this class only provides the name.
    """
