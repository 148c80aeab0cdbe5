# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What a deployed network takes and gives, written into the file itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

#: Key of the ONNX metadata (and of the manifest of bins) under which a specification is stored.
METADATA_KEY = 'mmface'
FAMILIES = ('scrfd', 'centerface')
LAYOUTS = ('raw', 'insightface', 'centerface', 'starclouds', 'decoded')
RESIZES = ('keep_ratio', 'centre', 'stretch')


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to feed a face detector and to read its outputs.

    The exporter writes it into the ONNX file's metadata, so that no second file can get lost;
    for files of other projects the runtime infers it from names and shapes.

    Attributes:
        family: 'scrfd' or 'centerface'.
        layout: Names and shapes of the outputs, see ``mmface.deploy.export``. All scores and heats
            are probabilities.
        size: Height and width the model was tested with; the default where the graph is dynamic.
            (0, 0): the size of each picture.
        mean: Subtracted from the channels, in the order of the input's channels, pixels 0 to 255.
        std: Divided by afterwards, same order.
        rgb: Whether the input's channels are red, green, blue instead of blue, green, red.
        normalized_inside: Whether the graph subtracts and divides itself: its input is 0 to 255.
        resize: How a picture is put into the input: 'keep_ratio' (at the left-top corner, the rest
            0 after normalisation), 'centre' (in the middle of a black canvas, bilinear affine) or
            'stretch' (each side for itself).
        strides: Input pixels per cell of each level.
        num_priors: Priors per cell (SCRFD).
        num_keypoints: Landmarks per face, 0 for none.
        convention: Of ``CenterFaceCoder``; of the maps in the file, not of the trained model.
        keypoint_anchor: Of ``CenterFaceCoder``.
        clip: Whether boxes are kept inside the picture.
        peak: A cell counts if it is the hottest of so many in each direction (CenterFace; 1: all).
        peak_tolerance: By how much of the hottest it may be colder.
        topk: Hottest cells kept (CenterFace), -1 for all.
        score_thr: Lowest score of a face.
        nms_iou: Overlap above which the less certain box goes; 0 for no suppression.
        nms_offset: Pixels added to sides in overlaps: 0, or 1 as older code does.
        min_bbox_size: Boxes with a side not larger are dropped, pixels of the original picture.
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

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ('family', self.family, FAMILIES),
            ('layout', self.layout, LAYOUTS),
            ('resize', self.resize, RESIZES),
        ):
            if value not in allowed:
                raise ValueError(f'{name} {value!r}: expected one of {", ".join(allowed)}')

    def to_json(self) -> str:
        """Give the specification as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: If the text is no specification, or one of a newer version.
        """
        try:
            values = json.loads(text)
            known = {field.name for field in fields(cls)}
            unknown = sorted(set(values) - known)
            if unknown:
                raise ValueError(f'unknown entries {", ".join(unknown)}')
            arguments: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'the model was written by another version of mmface ({error}): export it again'
            ) from error
