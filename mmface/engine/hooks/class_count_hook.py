# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check that the model and the data sets have the same classes."""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import HOOKS

from mmface.engine.hooks.data_check_hook import DataCheckHook, metainfo, place_of


@HOOKS.register_module()
class ClassCountHook(DataCheckHook):
    """Reject a model whose classes differ from those of the data set.

    With too few classes, the loss fails with an obscure error. With too many, the model trains
    and tests without an error. ``rpn_head``, a head for proposals, has no classes.

    Raises:
        ValueError: See ``DataCheckHook``.
    """

    names = 'classes'
    remedy = 'name them in the same order in metainfo=dict(classes=(...)) of the data sets'

    def check(self, model: Any, dataset: Any, training: bool) -> None:
        """Compare the number of classes."""
        classes = metainfo(dataset).get('classes')
        if classes is None:
            return
        for name, module in model.named_modules():
            if not isinstance(module, BaseDenseHead | BBoxHead) or name.endswith('rpn_head'):
                continue
            if module.num_classes != len(classes):
                shown = ', '.join(classes[:3]) + (', ...' if len(classes) > 3 else '')
                raise ValueError(
                    f'the model predicts {module.num_classes} classes, {type(dataset).__name__} '
                    f'has {len(classes)} ({shown}): set {place_of(name)}.'
                    f'num_classes={len(classes)}, or metainfo=dict(classes=(...)) of the datasets'
                )
