# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The specification of a deployed network's input and outputs, stored in the model file."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import MISSING, asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

from mmface.deploy.layouts import FAMILIES, LAYOUTS
from mmface.utils.centerface_convention import CONVENTIONS, KEYPOINT_ANCHORS

#: Key of the ONNX metadata (and of the manifest of bins) under which a specification is stored.
METADATA_KEY = 'mmface'
RESIZES = ('keep_ratio', 'centre', 'stretch')
#: Longest side of an input and largest count. Larger values mean a damaged or malicious file.
_MAX_SIDE = 32768
_MAX_COUNT = 1_000_000


@dataclass(frozen=True)
class ModelSpec:
    """Everything that is needed to feed a face detector and to read its outputs.

    The exporter writes the specification into the ONNX file's metadata, so no second file can get
    lost. For files of other projects the runtime infers it from names and shapes. Types and ranges
    are always checked, both when it is read from a file and when it is created by hand.

    Attributes:
        family: 'scrfd', 'centerface' or 'centernet2'.
        layout: Names and shapes of the outputs, see ``mmface.deploy.layouts``. All scores and
            heatmap values are probabilities.
        size: Height and width of the input in tests; the default if the graph is dynamic. (0, 0):
            the size of each image.
        mean: Subtracted from the input's channels, in their order, for pixel values 0 to 255.
        std: The result is divided by it, same order.
        rgb: Whether the input's channels are red, green, blue instead of blue, green, red.
        normalized_inside: Whether the graph normalizes its input, which is then 0 to 255.
        resize: How an image is fitted into the input: 'keep_ratio' (in the top-left corner, padding
            0 after normalization), 'centre' (in the middle of a black canvas, bilinear affine
            transform) or 'stretch' (each side is resized separately).
        strides: Input pixels per cell of each level.
        num_priors: Priors per cell (SCRFD).
        num_keypoints: Keypoints per face, 0 for none.
        convention: See ``CenterFaceCoder``. It describes the maps in the file, which may differ
            from those of the trained model.
        keypoint_anchor: See ``CenterFaceCoder``.
        clip: Whether boxes are clipped to the image.
        peak: Side in cells of the window in which a cell must be the maximum (CenterFace; 1: all
            cells count).
        peak_tolerance: How far a cell may be below the maximum, as a fraction of the maximum.
        topk: Number of cells with the highest scores to keep (CenterFace), -1 for all.
        score_thr: Faces have scores above this value.
        nms_iou: NMS removes the box with the lower score if the IoU is above this; 0: no NMS.
        nms_offset: Pixels added to the sides for the IoU: 0, or 1 as in older code.
        min_bbox_size: Boxes are dropped if a side is not larger, in pixels of the original image.
        max_per_img: Maximum number of faces per image, -1 for all.
        num_classes: Number of classes.
        classes: Names of the classes, or none if they are unknown or there is only one.
        num_candidates: Maximum number of boxes per level from the first stage (CenterNet2).
        num_proposals: Number of boxes that the second stage takes (CenterNet2).
        proposal_thr: Proposals have scores above this value (CenterNet2).
        proposal_iou: As ``nms_iou``, for proposals (CenterNet2).

    Raises:
        ValueError: A value has a wrong type or range. The message names the field.
    """

    family: str
    layout: str
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rgb: bool
    normalized_inside: bool = False
    resize: str = 'keep_ratio'
    strides: tuple[int, ...] = (8, 16, 32)
    num_priors: int = 2
    num_keypoints: int = 5
    convention: str = ''
    keypoint_anchor: str = 'cell'
    clip: bool = True
    peak: int = 1
    peak_tolerance: float = 0.0
    topk: int = -1
    score_thr: float = 0.02
    nms_iou: float = 0.45
    nms_offset: int = 0
    min_bbox_size: float = 0.0
    max_per_img: int = -1
    num_classes: int = 1
    classes: tuple[str, ...] = ()
    num_candidates: int = 0
    num_proposals: int = 0
    proposal_thr: float = 0.0
    proposal_iou: float = 0.0

    def __post_init__(self) -> None:
        for name, (expected, valid) in _checks(self).items():
            value = getattr(self, name)
            if not valid(value):
                raise ValueError(f'{name}: expected {expected}, found {_short(value)}')

    def to_json(self) -> str:
        """Return the specification as one line of JSON."""
        values = asdict(self)
        if not self.classes:  # so that earlier versions read the files of one class
            del values['classes']
        return json.dumps(values)

    def class_name(self, label: int) -> str | None:
        """Return the name of a class, its number if it has none; ``None`` for a single class."""
        if self.num_classes == 1:
            return None
        return self.classes[label] if self.classes else str(label)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: The text is not a specification, or has a newer version.
        """
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError(f'expected an object, found {_short(values)}')
            known = {field.name: field for field in fields(cls)}
            if unknown := sorted(set(values) - set(known)):
                raise ValueError(f'unknown entries {_short(", ".join(unknown))}')
            needed = {name for name, field in known.items() if field.default is MISSING}
            if missing := sorted(needed - set(values)):
                raise ValueError(f'missing entries {", ".join(missing)}')
            arguments: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
            return cls(**arguments)
        except (RecursionError, ValueError) as error:
            raise ValueError(
                f'the metadata {METADATA_KEY!r} is not a specification of this version of mmface '
                f'({error}): export the model again'
            ) from error


_Check = tuple[str, Callable[[Any], bool]]


def _checks(spec: ModelSpec) -> dict[str, _Check]:
    """Return a description of the allowed values of each field, and a function to check them."""
    layouts = [name for name, each in LAYOUTS.items() if spec.family in each.families]
    centerface, two_stage = (spec.family == name for name in ('centerface', 'centernet2'))
    sides = _tuple(2, 2, _integer(0, _MAX_SIDE))
    flag: _Check = ('true or false', lambda value: isinstance(value, bool))
    share = _real(0, 1)
    return {
        'family': _one_of(FAMILIES),
        'layout': _one_of(layouts),
        'size': (
            f'{sides[0]}, none or both of them 0',
            lambda value: sides[1](value) and (value[0] > 0) == (value[1] > 0),
        ),
        'mean': _tuple(3, 3, _real(-1e6, 1e6)),
        'std': _tuple(3, 3, _real(1e-6, 1e6)),
        'rgb': flag,
        'normalized_inside': flag,
        'resize': _one_of(RESIZES),
        'strides': _tuple(1, 1 if centerface else 16, _integer(1, 1024)),
        'num_priors': _integer(1, 64),
        'num_keypoints': _integer(0, 1024),
        'convention': _one_of([*CONVENTIONS] if centerface else [*CONVENTIONS, '']),
        'keypoint_anchor': _one_of(KEYPOINT_ANCHORS),
        'clip': flag,
        'peak': ('an odd number from 1 to 99', lambda v: _integer(1, 99)[1](v) and v % 2 == 1),
        'peak_tolerance': share,
        'topk': _integer(-1, _MAX_COUNT),
        'score_thr': share,
        'nms_iou': share,
        'nms_offset': _integer(0, 1),
        'min_bbox_size': _real(0, 1e6),
        'max_per_img': _integer(-1, _MAX_COUNT),
        'num_classes': _integer(1, _MAX_COUNT),
        'classes': (
            f'no names or {_short(spec.num_classes)}',
            lambda value: (
                isinstance(value, tuple)
                and len(value) in (0, spec.num_classes)
                and all(isinstance(name, str) for name in value)
            ),
        ),
        'num_candidates': _integer(int(two_stage), _MAX_COUNT),
        'num_proposals': _integer(int(two_stage), _MAX_COUNT),
        'proposal_thr': share,
        'proposal_iou': share,
    }


def _one_of(allowed: Collection[str]) -> _Check:
    return (
        f'one of {", ".join(allowed)}',
        lambda value: isinstance(value, str) and value in allowed,
    )


def _integer(low: int, high: int) -> _Check:
    return f'a whole number from {low} to {high}', lambda value: _within(value, Integral, low, high)


def _real(low: float, high: float) -> _Check:
    return f'a number from {low:g} to {high:g}', lambda value: _within(value, Real, low, high)


def _within(value: Any, kind: type, low: float, high: float) -> bool:
    # A comparison with NaN is false, and integers of any length compare without overflow.
    number: Any = value if isinstance(value, kind) and not isinstance(value, bool) else None
    return number is not None and bool(low <= number <= high)


def _tuple(least: int, most: int, item: _Check) -> _Check:
    count = str(least) if least == most else f'{least} to {most}'
    return (
        f'{count} times {item[0]}',
        lambda value: (
            isinstance(value, tuple) and least <= len(value) <= most and all(map(item[1], value))
        ),
    )


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**18 else 'a huge number'
    return text if len(text) <= 80 else f'{text[:77]}...'
