# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Recognise the files of other projects by the names and shapes of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from mmface.deploy.layouts import outputs_of
from mmface.deploy.model_spec import METADATA_KEY, ModelSpec

# The thresholds are those of the published accuracies.
_SCRFD = ModelSpec(
    family='scrfd',
    layout='insightface',
    size=(640, 640),
    mean=(127.5,) * 3,
    std=(128.0,) * 3,
    rgb=True,
)
_WIDE = replace(_SCRFD, strides=(8, 16, 32, 64, 128), num_priors=1)
_STAR_CLOUDS = ModelSpec(
    family='centerface',
    layout='starclouds',
    size=(0, 0),
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    rgb=True,
    resize='stretch',
    strides=(4,),
    num_priors=1,
    convention='star_clouds',
    score_thr=0.05,
    nms_iou=0.3,
    nms_offset=1,
)
_CHENJUN2HAO = ModelSpec(
    family='centerface',
    layout='centerface',
    size=(800, 800),
    mean=(104.0136177, 114.0342201, 119.91659325),
    std=(73.6027614, 69.89082075, 70.91507925),
    rgb=False,
    resize='centre',
    strides=(4,),
    num_priors=1,
    convention='centernet',
    clip=False,
    peak=3,
    topk=200,
    score_thr=0.0,
    nms_iou=0.0,
)


class Port(NamedTuple):
    """An input or output of a graph.

    Attributes:
        name: Its name.
        shape: Its dimensions. Dimensions that are not positive integers are dynamic.
    """

    name: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f'{self.name} ({", ".join("?" if s is None else str(s) for s in self.shape)})'

    def fixed(self, axis: int) -> int | None:
        """Return the length of an axis, or ``None`` if it is dynamic."""
        value = self.shape[axis] if -len(self.shape) <= axis < len(self.shape) else None
        return value if isinstance(value, int) and value > 0 else None


def read_spec(
    source: Port, outputs: Sequence[Port], metadata: Mapping[str, str] | None = None
) -> ModelSpec:
    """Return the specification of a file.

    Args:
        source: The graph's input (B, 3, H, W).
        outputs: The graph's outputs, in order.
        metadata: The file's metadata. A specification in it is used without inference.

    Raises:
        ValueError: The file has no specification and its layout is unknown, or the specification
            has a newer version.
    """
    if metadata and METADATA_KEY in metadata:
        return ModelSpec.from_json(metadata[METADATA_KEY])
    return infer_spec(source, outputs)


def infer_spec(source: Port, outputs: Sequence[Port]) -> ModelSpec:
    """Return the specification of a file of another project.

    Args:
        source: The graph's input (B, 3, H, W).
        outputs: The graph's outputs, in order.

    Raises:
        ValueError: The layout is unknown.
    """
    size = fixed_size(source)
    if len(source.shape) == 4 and source.fixed(1) in (3, None):
        for known in (_SCRFD, _WIDE):
            # Any number of keypoints, but the same number at each stride.
            points = min(outputs[-1].fixed(-1) or 10, 1024) // 2 if outputs else 0
            for spec in (replace(known, num_keypoints=n) for n in (0, points)):
                if _agree(spec, outputs, named=False):
                    return replace(spec, size=size or spec.size)
        for spec in (_STAR_CLOUDS, _CHENJUN2HAO):
            if _agree(spec, outputs, named=True):
                return replace(spec, size=size or spec.size)
    found = ', '.join(map(str, outputs))
    raise ValueError(f'unknown layout: found input {source} and outputs {found}; {_known()}')


def fixed_size(source: Port) -> tuple[int, int] | None:
    """Return height and width of an input if both are fixed."""
    height, width = source.fixed(2), source.fixed(3)
    return None if height is None or width is None else (height, width)


def _agree(spec: ModelSpec, ports: Sequence[Port], named: bool) -> bool:
    """Return whether ports match the outputs of a specification, as far as the graph tells.

    Lengths that follow the input are not compared, because old exports declare them for one size
    only. Rows may lack the batch axis, either in all outputs or in none.
    """
    outputs = outputs_of(spec)
    if len(ports) != len(outputs) or len({len(port.shape) for port in ports}) != 1:
        return False
    for port, output in zip(ports, outputs, strict=True):
        missing = len(output.axes) - len(port.shape)
        if missing not in ((-1,) if named else (-1, 0)) or (named and port.name != output.name):
            return False
        for index, axis in enumerate(output.axes, -len(output.axes)):
            if isinstance(axis, int) and port.fixed(index) not in (axis, None):
                return False
    return True


def _known() -> str:
    star_clouds, chenjun2hao = (
        ', '.join(output.name for output in outputs_of(spec))
        for spec in (_STAR_CLOUDS, _CHENJUN2HAO)
    )
    return f"""known are:
- files written by tools/deploy/export_onnx.py, which carry their specification;
- SCRFD of the insightface project: 6 or 9 outputs (strides 8 to 32) or 10 or 15 (8 to 128), \
first all scores, then all boxes, then all keypoints, each (n, C) or (batch, n, C) with 1, 4 and \
10 columns;
- CenterFace of Star-Clouds: outputs {star_clouds};
- CenterFace of chenjun2hao and Ascend: outputs {chenjun2hao}.
For other files, pass spec=ModelSpec(...) that describes their outputs"""
