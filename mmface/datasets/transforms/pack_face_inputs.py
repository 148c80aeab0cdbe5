# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Pack a sample for the model."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS

META_KEYS = (
    'img_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'pad_offset',
    'flip',
    'flip_direction',
)
DEFAULTS = dict(scale_factor=(1.0, 1.0), flip=False, flip_direction=None)


@TRANSFORMS.register_module()
class PackFaceInputs(PackDetInputs):
    """Pack picture and ground truth.

    Gives ``inputs``, uint8 (3, h, w), and ``data_samples``, a ``DetDataSample`` whose
    ``gt_instances`` are the faces to learn and ``ignored_instances`` the others, both with
    ``bboxes`` (n, 4), ``labels`` (n,) and ``keypoints`` (n, K, 3). Its metainfo has ``img_id``,
    ``img_path``, ``ori_shape`` and ``img_shape`` (h, w), ``scale_factor`` (w_scale, h_scale),
    ``flip`` and ``flip_direction``, the last three also where no transform set them, and after
    ``FaceLetterbox`` ``pad_offset`` (x, y).

    Args:
        meta_keys: Names of the entries of the metainfo.
    """

    mapping_table = {**PackDetInputs.mapping_table, 'gt_keypoints': 'keypoints'}

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        super().__init__(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack the sample."""
        return super().transform({**DEFAULTS, **results})
