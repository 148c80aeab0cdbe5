# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Choose the metrics of a data set without the ground truth of WIDER FACE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

#: Options of ``WiderFaceMetric`` that also concern other metrics, or have no meaning for them.
SHARED = ('type', 'gt_dir', 'out_dir', 'part', 'plot', 'collect_device', 'collect_dir')
#: Names of the folders of WIDER FACE's images.
EVENT = re.compile(r'\d+--[A-Z]')
WIDER_PREFIX = 'wider_face/'
#: The value by which the best checkpoint is chosen instead of an AP of WIDER FACE.
BEST = 'coco/bbox_mAP'


def choose_metrics(settings: dict[str, Any]) -> list[str]:
    """Replace ``WiderFaceMetric`` where its ground truth does not exist.

    Own faces have labels in pixels of the images, so that ``CocoBoxMetric`` can compute COCO's AP
    from them. A model with keypoints also gets ``KeypointNMEMetric``. Hooks that watch an AP of
    WIDER FACE, such as ``save_best``, then watch COCO's AP. The metric is not replaced, so that it
    says what is missing, if it has an option that only WIDER FACE has, such as ``protocol``, or if
    the images are in the folders of WIDER FACE, such as ``0--Parade``.

    Args:
        settings: Arguments of ``Runner``, changed in place.

    Returns:
        A sentence for each evaluator that was changed.
    """
    notes = []
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator = settings.get(key)
        metrics = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
        missing = [metric for metric in metrics if _lacks_truth(metric)]
        if not missing or _is_wider_face(settings.get(key.replace('evaluator', 'dataloader'))):
            continue
        others = [metric for metric in metrics if metric not in missing]
        own = {'type': 'CocoBoxMetric'}
        own |= {k: missing[0][k] for k in ('out_dir', 'collect_device') if k in missing[0]}
        kinds = [metric.get('type') for metric in others if isinstance(metric, dict)]
        added = [] if 'CocoBoxMetric' in kinds else [own]
        if _num_keypoints(settings.get('model')) and 'KeypointNMEMetric' not in kinds:
            added.append({'type': 'KeypointNMEMetric'})
        settings[key] = [*added, *others]
        if settings.get('cfg') is not None:  # for the config in the log folder
            settings['cfg'][key] = settings[key]
        _watch_coco(settings)
        names = ' and '.join(metric['type'] for metric in added) or 'the other metrics'
        notes.append(
            f'{key}: {missing[0]["gt_dir"]} has no ground truth of WIDER FACE, so the labels of '
            f'the data set are evaluated by {names}'
        )
    return notes


def _lacks_truth(metric: Any) -> TypeGuard[dict[str, Any]]:
    if not isinstance(metric, dict) or metric.get('type') != 'WiderFaceMetric':
        return False
    if not set(metric) <= set(SHARED):
        return False
    folder = Path(metric['gt_dir'])
    return not any(folder.glob('*.mat'))


def _is_wider_face(dataloader: Any) -> bool:
    dataset = dataloader.get('dataset') if isinstance(dataloader, dict) else None
    while isinstance(dataset, dict) and 'dataset' in dataset:  # wrappers
        dataset = dataset['dataset']
    if not isinstance(dataset, dict):
        return False
    prefix = (dataset.get('data_prefix') or {}).get('img_path', '')
    folder = Path(dataset.get('data_root') or '', prefix)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return any(EVENT.match(name) for name in names)


def _num_keypoints(model: Any) -> int:
    if not isinstance(model, dict):
        return 0
    while 'module' in model:  # a model with test-time augmentation
        model = model['module']
    return int((model.get('bbox_head') or {}).get('num_keypoints', 0))


def _watch_coco(settings: dict[str, Any]) -> None:
    """Let hooks watch COCO's AP instead of an AP of WIDER FACE."""
    for hook in _hooks(settings):
        for key in ('save_best', 'monitor'):
            if str(hook.get(key, '')).startswith(WIDER_PREFIX):
                hook[key] = BEST
            elif isinstance(hook.get(key), list):
                hook[key] = [BEST if str(k).startswith(WIDER_PREFIX) else k for k in hook[key]]


def _hooks(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    default = settings.get('default_hooks') or {}
    for hook in [*default.values(), *(settings.get('custom_hooks') or [])]:
        if isinstance(hook, dict):
            yield hook
