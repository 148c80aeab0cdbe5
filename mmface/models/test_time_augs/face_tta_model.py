# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Test-time augmentation: merge the detections of several views of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import nn

from mmface.models.task_modules.suppression import suppress
from mmface.structures import FLIP_INDICES_5


@MODELS.register_module()
class FaceTTAModel(BaseTTAModel):
    """Detect faces in several views of each image and merge them, with their keypoints.

    It works with any detector whose results have ``bboxes``, ``scores``, ``labels`` and,
    optionally, ``keypoints`` in pixels of the original image. mmdet's ``DetTTAModel`` loses
    keypoints and supports only NMS. Views come from mmcv's ``TestTimeAug``, see
    ``configs/_base_/tta``. Heads undo the scale and padding of a view (``scale_factor``,
    ``pad_offset``); this model undoes the flip (``flip``). The flip comes first in the pipeline,
    so it always flips the original image, wherever padding is added afterwards.

    Views differ in size, so the ``pad_size`` of the detector's data preprocessor is not used. Each
    view is padded to the next multiple of its ``pad_size_divisor``. Where GroupNorm sees the
    padding, scores of the same view differ slightly from those of a test without augmentation.

    Checkpoints of the detector load into this model unchanged.

    Args:
        module: The detector, or its config.
        tta_cfg: ``nms``, the way to merge views, see ``suppress``, and ``max_per_img``, the number
            of faces kept (default -1, all).
        flip_indices: For each keypoint, its source index after a horizontal flip. Default
            ``None``: as the samples say (``flip_indices`` of the data set), else those of the five
            keypoints.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        tta_cfg: dict,
        flip_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__(MODELS.build(module) if isinstance(module, dict) else module)
        self.module.data_preprocessor.pad_size = None
        self.tta_cfg = tta_cfg
        self.flip_indices = None if flip_indices is None else tuple(flip_indices)

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list:
        """Merge the views of each image.

        Args:
            data_samples_list: The views of each image, with ``pred_instances``.

        Returns:
            The first view of each image, with the merged ``pred_instances``.

        Raises:
            ValueError: A view has a flip that is not horizontal, or ``flip_indices`` do not fit
                the keypoints.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence[DetDataSample]) -> DetDataSample:
        found = InstanceData.cat([self._unflip(view) for view in views])
        merged = views[0]
        limit = self.tta_cfg.get('max_per_img', -1)
        merged.pred_instances = suppress(found, self.tta_cfg['nms'], limit)
        return merged

    def _unflip(self, view: DetDataSample) -> InstanceData:
        found = view.pred_instances
        if not view.get('flip'):
            return found
        if view.flip_direction != 'horizontal':
            raise ValueError(
                'FaceTTAModel supports only flip_direction horizontal, found '
                f'{view.flip_direction!r}'
            )
        width = view.ori_shape[1]
        x1, y1, x2, y2 = found.bboxes.unbind(-1)
        found.bboxes = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
        if 'keypoints' in found:
            indices = self.flip_indices or view.get('flip_indices', FLIP_INDICES_5)
            if sorted(indices) != list(range(found.keypoints.shape[1])):
                raise ValueError(
                    f'flip_indices {indices} do not fit the {found.keypoints.shape[1]} '
                    'keypoints of the model: expected each index from 0 once'
                )
            x, y, weight = found.keypoints[:, list(indices)].unbind(-1)
            found.keypoints = torch.stack([width - x, y, weight], dim=-1)
        return found
