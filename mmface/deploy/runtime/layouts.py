# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find out how a file is fed and read: from what mmface wrote into it, or from its ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmface.deploy.model_spec import METADATA_KEY, ModelSpec

#: Number of outputs of SCRFD files: strides, priors per cell, whether there are landmarks.
_SCRFD_OUTPUTS = {
    6: ((8, 16, 32), 2, False),
    9: ((8, 16, 32), 2, True),
    10: ((8, 16, 32, 64, 128), 1, False),
    15: ((8, 16, 32, 64, 128), 1, True),
}
_STAR_CLOUDS = ('537', '538', '539', '540')
_CHENJUN2HAO = ('output1', 'output2', 'output3', 'output4')
KNOWN = f"""known are:
- files written by tools/deploy/export_onnx.py, which carry their specification;
- SCRFD of the insightface project: 6 or 9 outputs (strides 8 to 32) or 10 or 15 (8 to 128), \
first all scores, then all boxes, then all landmarks, each (n, C) or (batch, n, C) with 1, 4 and \
10 columns;
- CenterFace of Star-Clouds: outputs {', '.join(_STAR_CLOUDS)};
- CenterFace of chenjun2hao and Ascend: outputs {', '.join(_CHENJUN2HAO)}.
For others, pass spec=ModelSpec(...) that says how to read them"""


class Port(NamedTuple):
    """An input or output of a graph.

    Attributes:
        name: Its name.
        shape: Its sizes; what is no positive number is free.
    """

    name: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f'{self.name} ({", ".join("?" if s is None else str(s) for s in self.shape)})'

    def fixed(self, axis: int) -> int | None:
        """Give the size of an axis, or ``None`` where it is free."""
        value = self.shape[axis] if axis < len(self.shape) else None
        return value if isinstance(value, int) and value > 0 else None


def read_spec(
    source: Port, outputs: Sequence[Port], metadata: Mapping[str, str] | None = None
) -> ModelSpec:
    """Give the specification of a file.

    Args:
        source: The graph's input (B, 3, H, W).
        outputs: Its outputs, in its order.
        metadata: Its metadata; the specification in it is believed.

    Raises:
        ValueError: If the file has none and its layout is unknown, or that of a newer version.
    """
    if metadata and METADATA_KEY in metadata:
        return ModelSpec.from_json(metadata[METADATA_KEY])
    return infer_spec(source, outputs)


def infer_spec(source: Port, outputs: Sequence[Port]) -> ModelSpec:
    """Give the specification of a file of another project.

    Thresholds are those that the published accuracies were measured with.

    Args:
        source: The graph's input (B, 3, H, W).
        outputs: Its outputs, in its order.

    Raises:
        ValueError: If the layout is unknown.
    """
    names = tuple(port.name for port in outputs)
    if len(source.shape) == 4 and source.fixed(1) in (3, None):
        if _is_scrfd(outputs):
            return _scrfd(source, outputs)
        if names == _STAR_CLOUDS and _has_maps(outputs):
            return _star_clouds(source)
        if names == _CHENJUN2HAO and _has_maps(outputs):
            return _chenjun2hao(source)
    found = ', '.join(map(str, outputs))
    raise ValueError(f'unknown layout: found input {source} and outputs {found}; {KNOWN}')


def fixed_size(source: Port) -> tuple[int, int] | None:
    """Give height and width of an input where both are fixed."""
    height, width = source.fixed(2), source.fixed(3)
    return None if height is None or width is None else (height, width)


def _is_scrfd(outputs: Sequence[Port]) -> bool:
    if len(outputs) not in _SCRFD_OUTPUTS:
        return False
    strides, _, with_points = _SCRFD_OUTPUTS[len(outputs)]
    count = len(strides)
    if len({len(port.shape) for port in outputs}) != 1 or len(outputs[0].shape) not in (2, 3):
        return False
    channels = [port.fixed(len(port.shape) - 1) for port in outputs]
    expected = [(1,)] * count + [(4,)] * count
    if with_points:
        # Any number of landmarks, but the same at each stride.
        points = {value for value in channels[2 * count :] if value is not None}
        if len(points) > 1 or any(value % 2 for value in points):
            return False
        channels = channels[: 2 * count]
    return all(value in (None, *want) for value, want in zip(channels, expected, strict=True))


def _scrfd(source: Port, outputs: Sequence[Port]) -> ModelSpec:
    strides, num_priors, with_points = _SCRFD_OUTPUTS[len(outputs)]
    points = outputs[-1].fixed(len(outputs[-1].shape) - 1) or 10
    return ModelSpec(
        family='scrfd',
        layout='insightface',
        size=fixed_size(source) or (640, 640),
        mean=(127.5,) * 3,
        std=(128.0,) * 3,
        rgb=True,
        strides=strides,
        num_priors=num_priors,
        num_keypoints=points // 2 if with_points else 0,
    )


def _has_maps(outputs: Sequence[Port]) -> bool:
    return all(
        len(port.shape) == 4 and port.fixed(1) in (channels, None)
        for port, channels in zip(outputs, (1, 2, 2, 10), strict=True)
    )


def _star_clouds(source: Port) -> ModelSpec:
    if fixed_size(source) == (32, 32):
        raise ValueError(
            f'input {source}: the file as Star-Clouds published it takes pictures of 32x32 pixels; '
            'free its sides first, with onnx.tools.update_model_dims.update_inputs_outputs_dims'
        )
    return ModelSpec(
        family='centerface',
        layout='starclouds',
        size=fixed_size(source) or (0, 0),
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


def _chenjun2hao(source: Port) -> ModelSpec:
    return ModelSpec(
        family='centerface',
        layout='centerface',
        size=fixed_size(source) or (800, 800),
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
