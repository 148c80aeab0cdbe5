# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The specification of an exported network, from the config it is tested with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from mmface.datasets.transforms import RESIZES
from mmface.deploy.export.networks import CenterFaceNetwork, ExportNetwork
from mmface.deploy.model_spec import ModelSpec

#: Overlap for models tested with soft-NMS, which a file cannot ask for: the NMS that most of the
#: field falls back to.
_FALLBACK_IOU = 0.5


def find_resize(cfg: Config) -> tuple[str, tuple[int, int]]:
    """Find out how the pictures of the test are resized.

    Args:
        cfg: A whole config.

    Returns:
        ``resize`` and ``size`` of ``ModelSpec``; (0, 0) where each picture keeps its own size.

    Raises:
        ValueError: If the test pipeline has no resizing that the runtime knows.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset:  # wrappers
        dataset = dataset['dataset']
    steps = [step for step in dataset.get('pipeline', ()) if step['type'] in RESIZES]
    if len(steps) != 1:
        raise ValueError(
            f'the test pipeline of the config has {len(steps)} of {", ".join(RESIZES)}: expected '
            'one, which says what the network is fed'
        )
    (step,) = steps
    if step['type'] == 'FaceStretch':
        return 'stretch', (0, 0)
    if step['type'] == 'FaceLetterbox':
        if not step.get('aligned', True):
            raise ValueError('FaceLetterbox(aligned=False) is for comparisons: remove that option')
        return 'centre', (int(step['size']), int(step['size']))
    preprocessor = cfg.model.data_preprocessor
    canvas = preprocessor.get('pad_size') or tuple(step['scale'])[::-1]
    divisor = preprocessor.get('pad_size_divisor', 32)
    height, width = (-(-int(side) // divisor) * divisor for side in canvas)
    return 'keep_ratio' if step.get('keep_ratio') else 'stretch', (height, width)


def make_spec(
    cfg: Config,
    model: Any,
    network: ExportNetwork,
    tested: Sequence[int],
    resize: str,
    normalized_inside: bool,
) -> ModelSpec:
    """Write down how to feed and read an exported network.

    Args:
        cfg: The config it is tested with.
        model: The detector.
        network: The network made of it.
        tested: Height and width of the input, or (0, 0) for those of each picture.
        resize: See ``find_resize``.
        normalized_inside: Whether the graph subtracts the mean and divides.

    Returns:
        The specification.
    """
    preprocessor = cfg.model.data_preprocessor
    test_cfg = model.bbox_head.test_cfg
    nms = test_cfg.get('nms') or {}
    values: dict[str, Any] = dict(
        family='scrfd',
        layout=network.layout,
        size=(int(tested[0]), int(tested[1])),
        mean=tuple(map(float, preprocessor.mean)),
        std=tuple(map(float, preprocessor.std)),
        rgb=bool(preprocessor.get('bgr_to_rgb', True)),
        normalized_inside=normalized_inside,
        resize=resize,
        num_keypoints=network.num_keypoints,
        score_thr=float(test_cfg.get('score_thr', 0.0)),
        nms_iou=float(nms.get('iou_threshold', _FALLBACK_IOU)) if nms else 0.0,
        nms_offset=int(nms.get('offset', 0)),
    )
    if isinstance(network, CenterFaceNetwork):
        converted = network.layout in ('centerface', 'decoded')
        values.update(
            family='centerface',
            strides=(network.stride,),
            num_priors=1,
            convention='centernet' if converted else model.bbox_head.coder.convention,
            keypoint_anchor=network.keypoint_anchor,
            clip=network.rule.clip,
            # What the graph has done need not be done again.
            peak=1 if network.layout == 'decoded' else network.peak,
            peak_tolerance=0.0 if network.layout == 'decoded' else network.peak_tolerance,
            topk=int(test_cfg.get('topk', -1)),
        )
    else:
        values.update(
            strides=tuple(int(s[0]) for s in model.bbox_head.prior_generator.strides),
            num_priors=int(model.bbox_head.prior_generator.num_base_priors[0]),
            min_bbox_size=float(test_cfg.get('min_bbox_size', 0)),
        )
    return ModelSpec(**values)
