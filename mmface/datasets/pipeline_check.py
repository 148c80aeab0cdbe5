# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check that a pipeline keeps boxes, keypoints, labels and ignore flags together with the image.

Transforms of mmcv and mmdet do not know keypoints. They move the image and its boxes and leave
the keypoints where they are, or they drop faces and keep the keypoints of all. Such a pipeline
trains on wrong labels without an error, so it is refused when the data set is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.datasets import MultiImageMixDataset
from mmdet.registry import DATASETS
from mmengine.dataset import Compose

LOAD = 'LoadFaceAnnotations'
MMDET_LOAD = 'LoadAnnotations'
PACK = 'PackFaceInputs'
#: Transforms of this package that move the image.
OWN_MOVES = (
    'DataAnchorSample',
    'FaceAffineCrop',
    'FaceFlip',
    'FaceLetterbox',
    'FaceResize',
    'FaceStretch',
    'RandomSquareCrop',
)
#: Transforms of this package that neither move the image nor load labels.
OWN_OTHERS = ('ColourJitter', 'FacePhotometric', 'LoadFaceImage', 'SeedSample')
#: Transforms of mmcv and mmdet that contain other transforms, which are checked instead.
WRAPPERS = (
    'AutoAugment',
    'Compose',
    'MultiScaleFlipAug',
    'RandAugment',
    'RandomApply',
    'RandomChoice',
    'RandomOrder',
    'TestTimeAug',
)
#: Transforms of mmcv and mmdet that change only colours, or add pixels at the right and bottom, or
#: read the image.
HARMLESS = (
    'AutoContrast',
    'Brightness',
    'Color',
    'ColorTransform',
    'Contrast',
    'CutOut',
    'Equalize',
    'InferencerLoader',
    'Invert',
    'LoadImageFromFile',
    'LoadImageFromNDArray',
    'LoadMultiChannelImageFromFiles',
    'Normalize',
    'Pad',
    'PhotoMetricDistortion',
    'Posterize',
    'RandomGrayscale',
    'SegRescale',
    'Sharpness',
    'Solarize',
    'SolarizeAdd',
    'YOLOXHSVRandomAug',
)
_CROP = 'RandomSquareCrop or FaceAffineCrop'
_ROTATE = 'RandomSquareCrop or FaceAffineCrop, which crop but do not rotate or shear'
_MIX = (
    'a pipeline without it: no transform that mixes images keeps keypoints. For boxes alone, write '
    "JSON with tools/data/convert_labels.py and use mmdet's CocoDataset"
)
_DROP = 'min_size of WiderFaceDataset, which ignores small faces, or classes in its metainfo'
#: Transforms of mmcv and mmdet with a replacement, and its name. Others are refused without it.
REPLACEMENTS = {
    'CachedMixUp': _MIX,
    'CachedMosaic': _MIX,
    'CenterCrop': _CROP,
    'CopyPaste': _MIX,
    'Expand': 'RandomSquareCrop with crop_choice above 1',
    'FilterAnnotations': _DROP,
    'FixScaleResize': 'FaceResize',
    'FixShapeResize': 'FaceResize',
    'GeomTransform': _ROTATE,
    'ImageToTensor': PACK,
    MMDET_LOAD: LOAD,
    'LoadEmptyAnnotations': LOAD,
    'LoadPanopticAnnotations': LOAD,
    'LoadTrackAnnotations': LOAD,
    'MinIoURandomCrop': _CROP,
    'MixUp': _MIX,
    'Mosaic': _MIX,
    'PackDetInputs': PACK,
    'PackReIDInputs': PACK,
    'PackTrackInputs': PACK,
    'RandomAffine': _CROP,
    'RandomCenterCropPad': _CROP,
    'RandomChoiceResize': f'RandomChoice of FaceResize, or {_CROP}',
    'RandomCrop': _CROP,
    'RandomErasing': 'CutOut',
    'RandomFlip': 'FaceFlip',
    'RandomFlip_GLIP': 'FaceFlip',
    'RandomResize': f'RandomChoice of FaceResize, or {_CROP}',
    'RandomShift': _CROP,
    'Resize': 'FaceResize',
    'ResizeShortestEdge': 'FaceResize',
    'Rotate': _ROTATE,
    'ShearX': _ROTATE,
    'ShearY': _ROTATE,
    'ToTensor': PACK,
    'TranslateX': _CROP,
    'TranslateY': _CROP,
}


@dataclass(frozen=True)
class _State:
    """What happened before a step: whether labels are loaded, and what moved the image.

    ``mmdet_labels``: mmdet's transform has loaded boxes without keypoints, in testing.
    """

    loaded: bool
    moved: str = ''
    mmdet_labels: bool = False


def check_pipeline(
    steps: Iterable[Any], training: bool, flip_known: bool = True, loaded: bool = False
) -> bool:
    """Check the transforms of a data set with keypoints.

    Before the labels are loaded, a pipeline for testing may contain any transform: labels stay in
    pixels of the image as stored. It may also consist of mmdet's transforms only, for models and
    tools of mmdet, which use no keypoints.

    Args:
        steps: The transforms.
        training: Whether the labels are for training.
        flip_known: Whether the labels say which keypoints are left and right.
        loaded: Whether an earlier pipeline has loaded the labels.

    Returns:
        Whether the labels are loaded at the end.

    Raises:
        ValueError: A transform would leave keypoints, ignore flags or labels behind, the labels
            come too late or not at all, or a flip needs the pairs of left and right keypoints.
    """
    return _walk(steps, _State(loaded), training, flip_known).loaded


def _walk(steps: Iterable[Any], state: _State, training: bool, flip_known: bool) -> _State:
    for step in steps:
        name = _known_name(step)
        if name in WRAPPERS:
            ends = [_walk(part, state, training, flip_known) for part in _parts(step)] or [state]
            state = replace(ends[0], loaded=any(end.loaded for end in ends))
        elif name is not None:
            state = _check(name, state, training, flip_known or _says_pairs(step))
    return state


def _check(name: str, state: _State, training: bool, flip_known: bool) -> _State:
    if name == LOAD:
        if training and state.moved:
            raise ValueError(
                f'{LOAD} comes after {state.moved}, so the labels do not fit the image: put it '
                'before the first transform that moves the image'
            )
        return replace(state, loaded=True)
    if name == PACK and training and not state.loaded:
        raise ValueError(
            f'the pipeline packs samples without labels: put {LOAD} before {PACK} and before the '
            'transforms that move the image'
        )
    if state.mmdet_labels:
        if name in (LOAD, PACK, *OWN_MOVES):
            raise _refusal(MMDET_LOAD, LOAD)
        return state
    if name in OWN_MOVES:
        if name == 'FaceFlip' and not flip_known:
            raise ValueError(
                'FaceFlip must swap left and right keypoints, but the labels do not name them: '
                'set metainfo=dict(flip_indices=(...)) of the data set, for each keypoint the '
                'index of its mirror image (its own index for points in the middle), or prob=0 of '
                'FaceFlip'
            )
        return state if state.loaded else replace(state, moved=name)
    if name == PACK or name in HARMLESS or name in OWN_OTHERS:
        return state
    remedy = REPLACEMENTS.get(name, 'a transform of mmface.datasets.transforms')
    if training:
        raise _refusal(name, remedy)
    if name == MMDET_LOAD and not (state.loaded or state.moved in OWN_MOVES):
        # The items have boxes in mmdet's form too, for its models and its analysis of results.
        return replace(state, mmdet_labels=True)
    if remedy in (LOAD, PACK):
        raise _refusal(name, remedy)
    if state.loaded:
        raise _refusal(name, f'{remedy}, or put {LOAD} after it')
    return replace(state, moved=state.moved or name)


def _refusal(name: str, remedy: str) -> ValueError:
    return ValueError(
        f'{name} does not know the keypoints of faces, so samples would have wrong or no labels: '
        f'instead, use {remedy}'
    )


def _known_name(step: Any) -> str | None:
    """Return the class of a transform, or its first base class of a known package, by name."""
    for kind in type(step).__mro__:
        if kind is BaseTransform:
            return None  # a user's own transform, whose author knows what it does
        if kind.__module__.partition('.')[0] in ('mmcv', 'mmdet', 'mmengine', 'mmface'):
            return kind.__name__
    return None


def _says_pairs(step: Any) -> bool:
    # A flip that never happens needs no pairs.
    return getattr(step, 'flip_indices', None) is not None or getattr(step, 'prob', None) == 0


def _parts(step: Any) -> Iterator[list[Any]]:
    """Return the pipelines inside a transform."""
    if isinstance(step, Compose) or _known_name(step) == 'Compose':
        yield list(step.transforms)
        return
    for value in vars(step).values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, (BaseTransform, Compose)):
                yield [item]


# In place of mmdet's class of this name, which builds its transforms without any check.
@DATASETS.register_module(name='MultiImageMixDataset', force=True)
class CheckedMixDataset(MultiImageMixDataset):
    """mmdet's ``MultiImageMixDataset`` with :func:`check_pipeline` for a data set of faces.

    Args: see ``MultiImageMixDataset``.

    Raises:
        ValueError: See :func:`check_pipeline`.
    """

    def full_init(self) -> None:
        """Initialize the inner data set and check the pipeline."""
        super().full_init()
        # Only WiderFaceDataset has keypoints. Other data sets may use every transform.
        loaded = getattr(self.dataset, 'labels_loaded', None)
        if loaded is not None:
            flip_known = self.dataset.metainfo['flip_indices'] is not None
            training = not self.dataset.test_mode
            check_pipeline(self.pipeline, training, flip_known, loaded=loaded)
