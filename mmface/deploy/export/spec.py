# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Build the specification of an exported network from the config that it is tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmface.datasets.transforms import RESIZES
from mmface.deploy.layouts import LAYOUTS, layout_names
from mmface.deploy.model_spec import ModelSpec
from mmface.models.dense_heads.centerface_head import CenterFaceHead
from mmface.models.dense_heads.scrfd_head import SCRFDHead
from mmface.models.roi_heads.centernet2_roi_head import CenterNet2RoIHead

#: IoU for models tested with soft-NMS, which a file cannot specify. It is the threshold of the
#: usual NMS.
_FALLBACK_IOU = 0.5


def find_resize(cfg: Config) -> tuple[str, tuple[int, int]]:
    """Find out how the images of the test are resized.

    Args:
        cfg: A complete config.

    Returns:
        ``resize`` and ``size`` of ``ModelSpec``; (0, 0) if each image keeps its own size.

    Raises:
        ValueError: The test pipeline has no resizing that the runtime supports.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset:  # wrappers
        dataset = dataset['dataset']
    known = (*RESIZES, 'Resize')  # the last one is mmcv's, used by CenterNet2's configs
    steps = [step for step in dataset.get('pipeline', ()) if step['type'] in known]
    if len(steps) != 1:
        raise ValueError(
            f'the test pipeline of the config has {len(steps)} of {", ".join(known)}: expected '
            'one, which defines the input of the network'
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
    layout: str,
    tested: Sequence[int],
    resize: str,
    normalized_inside: bool = False,
) -> ModelSpec:
    """Build the specification of a detector in a layout.

    Args:
        cfg: The config that the detector is tested with.
        model: The detector.
        layout: Names and shapes of the outputs, see ``mmface.deploy.layouts``.
        tested: Height and width of the input, or (0, 0) for the size of each image.
        resize: See ``find_resize``.
        normalized_inside: Whether the graph normalizes its input.

    Returns:
        The specification.

    Raises:
        ValueError: The detector cannot be exported in the layout.
    """
    family = find_family(model)
    check_layout(model, family, layout)
    preprocessor = cfg.model.data_preprocessor
    count = num_classes(model)
    values = dict(centerface=_centerface, scrfd=_scrfd, centernet2=_centernet2)[family]
    return ModelSpec(
        family=family,
        layout=layout,
        size=(int(tested[0]), int(tested[1])),
        mean=tuple(map(float, preprocessor.mean)),
        std=tuple(map(float, preprocessor.std)),
        rgb=bool(preprocessor.get('bgr_to_rgb', True)),
        normalized_inside=normalized_inside,
        resize=resize,
        num_classes=count,
        classes=() if count == 1 else getattr(model, 'dataset_meta', {}).get('classes', ()),
        **values(model, layout),
    )


def num_classes(model: Any) -> int:
    """Return the number of classes that a detector predicts, 1 for other models."""
    stages = getattr(getattr(model, 'roi_head', None), 'stages', None)
    head = stages[0] if stages else getattr(model, 'bbox_head', None)
    return int(getattr(head, 'num_classes', 1))


def find_family(model: Any) -> str:
    """Return the family of a detector, one of ``mmface.deploy.layouts.FAMILIES``.

    Raises:
        ValueError: The detector belongs to none of them.
    """
    if isinstance(getattr(model, 'roi_head', None), CenterNet2RoIHead):
        return 'centernet2'
    head = getattr(model, 'bbox_head', None)
    for kind, family in ((SCRFDHead, 'scrfd'), (CenterFaceHead, 'centerface')):
        if isinstance(head, kind):
            return family
    raise ValueError(
        f'{type(model).__name__} cannot be exported: expected a config of SCRFD or CenterFace, '
        'or of CenterNet2 with two stages'
    )


def check_layout(model: Any, family: str, layout: str) -> None:
    """Check that a detector can be exported in a layout.

    Raises:
        ValueError: The detector cannot be exported in it.
    """
    if layout not in LAYOUTS or family not in LAYOUTS[layout].families:
        raise ValueError(
            f'{type(model).__name__} has no layout {layout!r}: expected one of '
            f'{", ".join(layout_names(family))}'
        )
    wanted = LAYOUTS[layout].convention
    if family == 'centerface' and wanted not in ('', 'centernet', model.bbox_head.coder.convention):
        raise ValueError(
            f'the layout {layout} needs a model of the convention {wanted}, found '
            f'{model.bbox_head.coder.convention}: use raw or centerface'
        )


def _scrfd(model: Any, layout: str) -> dict[str, Any]:
    head = model.bbox_head
    return dict(
        strides=tuple(int(stride[0]) for stride in head.prior_generator.strides),
        num_priors=int(head.prior_generator.num_base_priors[0]),
        num_keypoints=int(head.num_keypoints),
        min_bbox_size=float(head.test_cfg.get('min_bbox_size', 0)),
        **_thresholds(head.test_cfg),
    )


def _centerface(model: Any, layout: str) -> dict[str, Any]:
    head, coder = model.bbox_head, model.bbox_head.coder
    convention = LAYOUTS[layout].convention or coder.convention
    converted = convention != coder.convention
    # The runtime does not repeat what the graph has already done.
    done = LAYOUTS[layout].form == 'boxes'
    return dict(
        strides=(int(coder.stride),),
        num_priors=1,
        num_keypoints=int(head.num_keypoints),
        convention=convention,
        # chenjun2hao's code also decodes keypoints relative to the centre.
        keypoint_anchor=(
            'centre' if converted and coder.rule.keypoint_frame == 'box' else coder.keypoint_anchor
        ),
        clip=coder.rule.clip,
        peak=1 if done else int(head.test_cfg.get('peak', 1)),
        peak_tolerance=0.0 if done else float(head.test_cfg.get('peak_tolerance', 0.0)),
        topk=int(head.test_cfg.get('topk', -1)),
        **_thresholds(head.test_cfg),
    )


def _centernet2(model: Any, layout: str) -> dict[str, Any]:
    first, second = model.rpn_head, model.roi_head
    return dict(
        strides=tuple(int(stride) for stride in first.strides),
        num_priors=1,
        num_keypoints=0,
        num_candidates=int(first.test_cfg['nms_pre']),
        num_proposals=int(first.test_cfg['max_per_img']),
        proposal_thr=float(first.test_cfg['score_thr']),
        proposal_iou=float(first.test_cfg['nms']['iou_threshold']),
        **_thresholds(second.test_cfg),
    )


def _thresholds(test_cfg: Mapping[str, Any]) -> dict[str, Any]:
    nms = test_cfg.get('nms') or {}
    return dict(
        score_thr=float(test_cfg.get('score_thr', 0.0)),
        nms_iou=float(nms.get('iou_threshold', _FALLBACK_IOU)) if nms else 0.0,
        nms_offset=int(nms.get('offset', 0)),
        max_per_img=int(test_cfg.get('max_per_img', -1)),
    )
