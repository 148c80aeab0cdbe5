# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Pack a sample for the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from numpy.typing import NDArray

META_KEYS = (
    'img_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'pad_offset',
    'flip',
    'flip_direction',
    'flip_indices',
    'colour_map',
    'instances',
)
DEFAULTS = dict(scale_factor=(1.0, 1.0), flip=False, flip_direction=None)
LABELS = dict(bboxes='gt_bboxes', labels='gt_bboxes_labels', keypoints='gt_keypoints')


class HostArray(np.ndarray):
    """An array that only ``FaceDataPreprocessor`` can make a tensor of.

    Other preprocessors move samples with ``to`` and would leave arrays as they are.
    """

    def to(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to go to a device.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            'PackFaceInputs packs the labels for FaceDataPreprocessor, found another data '
            "preprocessor: set model=dict(data_preprocessor=dict(_delete_=True, type='"
            "FaceDataPreprocessor', mean=[...], std=[...])) with the values of the other one"
        )


@TRANSFORMS.register_module()
class PackFaceInputs(BaseTransform):
    """Pack image and ground truth.

    Returns ``inputs``, uint8 (3, h, w), and ``data_samples``, a ``DetDataSample``. Its
    ``gt_instances`` are the faces to learn and its ``ignored_instances`` the others. Both have
    ``bboxes`` (n, 4), ``labels`` (n,) and ``keypoints`` (n, K, 3). These are numpy arrays, which
    ``FaceDataPreprocessor`` converts to tensors: each tensor that a worker sends is a file that
    the training process must open, and arrays are not. The metainfo has ``img_id``, ``img_path``,
    ``ori_shape`` and ``img_shape`` (h, w), ``scale_factor`` (w_scale, h_scale), ``flip`` and
    ``flip_direction``. The last three are present even if no transform set them. After
    ``FaceLetterbox`` it has ``pad_offset`` (x, y). After transforms that defer the colours to the
    device it has ``colour_map``. ``flip_indices`` and ``instances`` come from the item of
    ``WiderFaceDataset``. The image does not share memory with ``results``.

    Args:
        meta_keys: Names of the entries of the metainfo.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack the sample."""
        results = {**DEFAULTS, **results}
        sample = DetDataSample()
        for key in self.meta_keys:
            if key in results:
                # set_metainfo makes deep copies, which take longer than all labels.
                sample.set_field(results[key], key, field_type='metainfo')
        ignored = results.get('gt_ignore_flags')
        if ignored is None:
            sample.gt_instances = _instances(results, slice(None))
            sample.ignored_instances = InstanceData()
        else:
            sample.gt_instances = _instances(results, ~ignored)
            sample.ignored_instances = _instances(results, ignored)
        return dict(inputs=torch.from_numpy(_to_planes(results['img'])), data_samples=sample)


def _to_planes(img: NDArray) -> NDArray:
    """Transpose (h, w, 3) to (3, h, w), several times faster than numpy and torch."""
    planes = np.empty((img.shape[2], *img.shape[:2]), img.dtype)
    cv2.split(img, list(planes))
    return planes


def _instances(results: dict, chosen: NDArray[np.bool_] | slice) -> InstanceData:
    instances = InstanceData()
    for name, key in LABELS.items():
        if key in results:
            # Setting an attribute compares lengths, which takes longer than copying the values.
            instances.set_field(results[key][chosen].view(HostArray), name)
    return instances
