# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check that the model and the data sets have the same number of keypoints."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS

from mmface.engine.hooks.data_check_hook import DataCheckHook, metainfo, place_of


@HOOKS.register_module()
class KeypointCountHook(DataCheckHook):
    """Reject a model whose number of keypoints differs from that of the data set.

    A model without keypoints fits all data. Data for validation or test without keypoints fit all
    models: only boxes are then evaluated.

    Raises:
        ValueError: See ``DataCheckHook``.
    """

    names = 'keypoints'
    remedy = 'use labels whose keypoints have the same order'

    def check(self, model: Any, dataset: Any, training: bool) -> None:
        """Compare the number of keypoints."""
        found = metainfo(dataset).get('num_keypoints')
        if found is None or (found == 0 and not training):
            return
        for name, module in model.named_modules():
            expected = getattr(module, 'num_keypoints', 0)
            # The network inside a head has the same number as the head.
            if not expected or expected == found or not name.endswith('head'):
                continue
            raise ValueError(
                f'the model predicts {expected} keypoints per face, the labels of '
                f'{type(dataset).__name__} have {found or "none"}: set {place_of(name)}.'
                f'num_keypoints={found}, or use labels with {expected} keypoints'
            )
