# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Choose the metrics of data sets without the ground truth of WIDER FACE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

#: Options of ``WiderFaceMetric`` that also concern other metrics, or have no meaning for them.
SHARED = ('type', 'gt_dir', 'out_dir', 'part', 'plot', 'collect_device', 'collect_dir')
#: Names of the folders of WIDER FACE's images.
EVENT = re.compile(r'\d+--[A-Z]')
#: Metrics of this package and of mmdet that compute COCO's AP.
COCO_KINDS = {'CocoBoxMetric', 'CocoMetric', 'FasterCocoMetric'}
WIDER_PREFIX = 'wider_face/'
#: The value by which the best checkpoint is chosen instead of an AP of WIDER FACE.
BEST = 'coco/bbox_mAP'


def choose_metrics(settings: dict[str, Any]) -> list[str]:
    """Let own faces be evaluated by their labels.

    ``WiderFaceMetric`` is replaced where its ground truth does not exist: own faces have labels in
    pixels of the images, so that ``CocoBoxMetric`` can compute COCO's AP from them. A model with
    keypoints also gets ``KeypointNMEMetric``. The metric is not replaced, so that it says what is
    missing, if it has an option that only WIDER FACE has, such as ``protocol``, or if the images
    are in the folders of WIDER FACE, such as ``0--Parade``.

    COCO's metrics that name the label file of a ``WiderFaceDataset`` take the labels from its
    samples, because the ids of images in that file are not the ids of the samples.

    Hooks that watch an AP of WIDER FACE, such as ``save_best``, watch COCO's AP instead if only
    that is computed.

    Args:
        settings: Arguments of ``Runner``, changed in place.

    Returns:
        A sentence for each evaluator that was changed.

    Raises:
        ValueError: One of COCO's metrics names another label file than its data set.
    """
    notes = []
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator = settings.get(key)
        metrics = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
        dataset = _dataset_of(settings.get(key.replace('evaluator', 'dataloader')))
        found = _replace_wider_face(metrics, dataset, _num_keypoints(settings.get('model')))
        if found is None:
            found = _without_files(key, metrics, dataset)
        if found is not None:
            metrics, note = found
            settings[key] = metrics
            if settings.get('cfg') is not None:  # for the config in the log folder
                settings['cfg'][key] = metrics
            notes.append(f'{key}: {note}')
        kinds = {metric.get('type') for metric in metrics if isinstance(metric, dict)}
        if kinds & COCO_KINDS and 'WiderFaceMetric' not in kinds and key == 'val_evaluator':
            _watch_coco(settings)
    return notes


def _replace_wider_face(
    metrics: list[Any], dataset: dict[str, Any], num_keypoints: int
) -> tuple[list[Any], str] | None:
    """Return the metrics of own data and a note, or ``None`` if nothing is to be replaced."""
    missing = [metric for metric in metrics if _lacks_truth(metric)]
    if not missing or _is_wider_face(dataset):
        return None
    others = [metric for metric in metrics if metric not in missing]
    kinds = [metric.get('type') for metric in others if isinstance(metric, dict)]
    added: list[dict[str, Any]] = []
    if 'CocoBoxMetric' not in kinds:
        kept: dict[str, Any] = {
            k: missing[0][k] for k in ('out_dir', 'collect_device') if k in missing[0]
        }
        added.append({'type': 'CocoBoxMetric', **kept})
    if num_keypoints and 'KeypointNMEMetric' not in kinds:
        added.append({'type': 'KeypointNMEMetric'})
    names = ' and '.join(metric['type'] for metric in added) or 'the other metrics'
    return [*added, *others], (
        f'{missing[0]["gt_dir"]} has no ground truth of WIDER FACE, so the labels of the data set '
        f'are evaluated by {names}'
    )


def _without_files(
    key: str, metrics: list[Any], dataset: dict[str, Any]
) -> tuple[list[Any], str] | None:
    """Return COCO's metrics without the label file of the data set, and a note."""
    if dataset.get('type') != 'WiderFaceDataset':
        return None
    own = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    changed, result = '', []
    for metric in metrics:
        file = metric.get('ann_file') if isinstance(metric, dict) else None
        if file is None or metric.get('type') not in COCO_KINDS:
            result.append(metric)
            continue
        if Path(file).resolve() != own.resolve():
            raise ValueError(
                f'{key}: {metric["type"]} has the labels {file}, but the data set has {own}. '
                'Remove ann_file of the metric: it then takes the labels of the data set'
            )
        changed = metric['type']
        result.append({k: v for k, v in metric.items() if k != 'ann_file'})
    return (result, f'{changed} takes the labels from the samples of {own}') if changed else None


def _lacks_truth(metric: Any) -> TypeGuard[dict[str, Any]]:
    if not isinstance(metric, dict) or metric.get('type') != 'WiderFaceMetric':
        return False
    if not set(metric) <= set(SHARED):
        return False
    folder = Path(metric['gt_dir'])
    return not any(folder.glob('*.mat'))


def _dataset_of(dataloader: Any) -> dict[str, Any]:
    """Return the config of a data set without its wrappers, empty if it is not a config."""
    dataset = dataloader.get('dataset') if isinstance(dataloader, dict) else None
    while isinstance(dataset, dict) and 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset if isinstance(dataset, dict) else {}


def _is_wider_face(dataset: dict[str, Any]) -> bool:
    prefix = (dataset.get('data_prefix') or {}).get('img_path')
    if prefix is None:
        return False
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
