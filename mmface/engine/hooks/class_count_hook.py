# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check that the model and the dataset have the same number of classes."""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from torch.utils.data import DataLoader


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Reject a model whose number of classes differs from that of the dataset.

    With too few classes, the loss fails with an obscure error. With too many, the model trains
    and tests without an error. The check runs once at the start of a training, validation or
    test. ``rpn_head``, a head for proposals, has no classes.

    Raises:
        ValueError: At one of these starts, if the numbers differ.
    """

    def before_train(self, runner: Any) -> None:
        """Check the model against the training data."""
        self._check(runner, runner.train_dataloader)

    def before_val(self, runner: Any) -> None:
        """Check the model against the validation data."""
        self._check(runner, runner.val_dataloader)

    def before_test(self, runner: Any) -> None:
        """Check the model against the test data."""
        self._check(runner, runner.test_dataloader)

    @staticmethod
    def _check(runner: Any, dataloader: DataLoader) -> None:
        dataset = dataloader.dataset
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if classes is None:
            return
        for name, module in runner.model.named_modules():
            if not isinstance(module, BaseDenseHead | BBoxHead) or name.endswith('rpn_head'):
                continue
            if module.num_classes != len(classes):
                place = '.'.join(part for part in name.split('.') if not part.isdecimal())
                place = place.removeprefix('module.')
                raise ValueError(
                    f'the model predicts {module.num_classes} classes, {type(dataset).__name__} '
                    f'has {len(classes)} ({", ".join(classes[:3])}, ...): set model.{place}.'
                    f'num_classes={len(classes)}, or metainfo=dict(classes=(...)) of the datasets'
                )
