# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find the names of the classes that a model predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def class_names(
    checkpoint: Mapping[str, Any], cfg: Mapping[str, Any], count: int
) -> tuple[str, ...]:
    """Return the names of the classes of a model.

    The checkpoint knows the data set that the model was trained with. If it does not, the test
    data set of the config names them.

    Args:
        checkpoint: Content of the checkpoint file.
        cfg: A complete config.
        count: Number of classes of the model.

    Returns:
        ``count`` names, or none if they are unknown.
    """
    for names in _candidates(checkpoint, cfg):
        if isinstance(names, (list, tuple)) and len(names) == count:
            return tuple(map(str, names))
    return ()


def _candidates(checkpoint: Mapping[str, Any], cfg: Mapping[str, Any]) -> Iterator[Any]:
    from mmdet.registry import DATASETS  # imports torch

    meta = checkpoint.get('meta')
    trained = meta.get('dataset_meta') if isinstance(meta, dict) else None
    if isinstance(trained, dict):
        yield trained.get('classes') or trained.get('CLASSES')
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset:  # wrappers
        dataset = dataset['dataset']
    yield (dataset.get('metainfo') or {}).get('classes')
    kind = DATASETS.get(dataset['type']) if isinstance(dataset.get('type'), str) else None
    yield getattr(kind, 'METAINFO', {}).get('classes')
