# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The networks that are exported: a detector without its losses, in one of the layouts."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmface.models.dense_heads.centerface_head import CenterFaceHead
from mmface.models.dense_heads.scrfd_head import SCRFDHead
from mmface.utils.centerface_convention import CONVENTIONS, MAX_LOG_SIZE

#: Layouts that each head can give.
LAYOUTS = {
    SCRFDHead: ('raw', 'insightface', 'decoded'),
    CenterFaceHead: ('raw', 'centerface', 'starclouds', 'decoded'),
}
DECODED = ('boxes', 'scores', 'keypoints')


class ExportNetwork(nn.Module):
    """A detector from normalised pictures to the outputs of a layout.

    Args:
        model: The trained detector; shared, not changed.
        layout: One of the layouts of its head.
        size: Height and width of the input, or ``None`` for any.

    Attributes:
        input_name: Name of the input.
        output_names: Names of the outputs in order.
        dynamic_axes: Axes of each output that follow the size of the input, and their names.
    """

    def __init__(self, model: Any, layout: str, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck
        self.layout = layout
        self.size = size
        self.num_keypoints = int(model.bbox_head.num_keypoints)
        self.input_name = 'input.1' if layout in ('insightface', 'starclouds') else 'image'
        self.output_names: list[str] = []
        self.dynamic_axes: dict[str, dict[int, str]] = {}

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs for pictures (B, 3, H, W); sides are multiples of 32."""
        return self.outputs(self.neck(self.backbone(image)))

    def outputs(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Go from the neck's maps to the outputs."""
        raise NotImplementedError

    def _name_outputs(self, names: Sequence[str], axes: Sequence[dict[int, str]]) -> None:
        self.output_names = list(names)
        self.dynamic_axes = dict(zip(names, axes, strict=True))

    def _name_decoded(self) -> None:
        names = DECODED[: 3 if self.num_keypoints else 2]
        self._name_outputs(names, [{1: 'candidates'}] * len(names))

    def _decoded(
        self, boxes: Tensor, scores: Tensor, points: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Give the outputs of 'decoded' from rows; ``points`` has several levels, or none."""
        scores = _Reshape.apply(scores, (0, -1))
        if not points:
            return boxes, scores
        rows = torch.cat(list(points), 1)
        return boxes, scores, _Reshape.apply(rows, (0, -1, self.num_keypoints, 2))

    def _fixed_cells(self, strides: Sequence[int]) -> list[Tensor | None]:
        """Give the cells of each level where the size of the input is known."""
        if self.size is None:
            return [None] * len(strides)
        height, width = self.size
        return [_cells(torch.zeros(1, 1, height // s, width // s)) for s in strides]


class SCRFDNetwork(ExportNetwork):
    """SCRFD in the layouts 'raw', 'insightface' and 'decoded'; arguments of ``ExportNetwork``."""

    def __init__(self, model: Any, layout: str, size: tuple[int, int] | None) -> None:
        super().__init__(model, layout, size)
        head = model.bbox_head
        self.module = head.module
        self.strides = [int(stride[0]) for stride in head.prior_generator.strides]
        self.num_priors = int(head.prior_generator.num_base_priors[0])
        if layout == 'decoded':
            self._name_decoded()
            self.cells = self._fixed_cells(self.strides)
            return
        kinds = ('score', 'bbox', 'kps') if self.num_keypoints else ('score', 'bbox')
        names = [f'{kind}_{stride}' for kind in kinds for stride in self.strides]
        if layout == 'raw':
            axes = [{2: f'height_{s}', 3: f'width_{s}'} for _ in kinds for s in self.strides]
        else:
            axes = [{1: f'priors_{s}'} for _ in kinds for s in self.strides]
        self._name_outputs(names, axes)

    def outputs(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Go from the neck's maps to the outputs."""
        logits, distances, offsets = self.module(feats)
        scores = [level.sigmoid() for level in logits]
        if self.layout == 'raw':
            return (*scores, *distances, *offsets)
        widths = ((scores, 1), (distances, 4), (offsets, 2 * self.num_keypoints))
        rows = [[_rows(level, width) for level in maps] for maps, width in widths]
        if self.layout == 'insightface':
            return tuple(level for levels in rows for level in levels)
        boxes, points = [], []
        for level, stride in enumerate(self.strides):
            cells = self.cells[level]
            cells = _cells(logits[level]) if cells is None else cells
            centre = _rows(torch.cat([cells] * self.num_priors, 1), 2) * stride
            distance = rows[1][level] * stride
            boxes.append(torch.cat([centre - distance[..., :2], centre + distance[..., 2:]], -1))
            if self.num_keypoints:
                origin = torch.cat([centre] * self.num_keypoints, -1)
                points.append(rows[2][level] * stride + origin)
        return self._decoded(torch.cat(boxes, 1), torch.cat(rows[0], 1), points)


class CenterFaceNetwork(ExportNetwork):
    """CenterFace in 'raw', 'centerface', 'starclouds' and 'decoded'; see ``ExportNetwork``."""

    def __init__(self, model: Any, layout: str, size: tuple[int, int] | None) -> None:
        super().__init__(model, layout, size)
        head = model.bbox_head
        self.stride = int(head.coder.stride)
        self.rule = head.coder.rule
        self.keypoint_anchor = head.coder.keypoint_anchor
        self.peak = int(head.test_cfg.get('peak', 1))
        self.peak_tolerance = float(head.test_cfg.get('peak_tolerance', 0.0))
        self.module = head.module
        if layout in ('centerface', 'decoded'):
            self.module = _in_centernet_order(head.module, self.rule)
            if self.rule.keypoint_frame == 'box':
                # Landmarks counted from the centre are also what chenjun2hao's code decodes.
                self.keypoint_anchor = 'centre'
        if layout == 'decoded':
            self._name_decoded()
            self.cells = self._fixed_cells([self.stride])[0]
            return
        names = {
            'raw': ('heatmap', 'size', 'offset', 'keypoints'),
            'centerface': ('output1', 'output2', 'output3', 'output4'),
            'starclouds': ('537', '538', '539', '540'),
        }[layout][: 4 if self.num_keypoints else 3]
        self._name_outputs(names, [{2: 'height_4', 3: 'width_4'}] * len(names))

    def outputs(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Go from the neck's maps to the outputs."""
        heat, *maps = self.module(feats)
        heat = heat.sigmoid()
        if self.layout in ('raw', 'starclouds'):
            return (heat, *maps)
        size, offset = maps[:2]
        sides = size.clamp(max=MAX_LOG_SIZE).exp() * 4  # cells: 'centernet' counts in 16 px
        points = maps[2] if self.num_keypoints else None
        if points is not None and self.rule.keypoint_frame != 'map':
            points = points * torch.cat([sides] * self.num_keypoints, 1)
        if self.layout == 'centerface':
            return (heat, size, offset) if points is None else (heat, size, offset, points)
        cells = _cells(heat) if self.cells is None else self.cells
        centre = cells + offset
        boxes = torch.cat([centre - sides / 2, centre + sides / 2], 1) * self.stride
        if self.peak > 1:
            hottest = F.max_pool2d(heat, self.peak, stride=1, padding=self.peak // 2)
            heat = heat * (heat >= hottest * (1 - self.peak_tolerance)).float()
        rows = []
        if points is not None:
            origin = centre if self.keypoint_anchor == 'centre' else cells
            points = (points + torch.cat([origin] * self.num_keypoints, 1)) * self.stride
            rows.append(_rows(points, 2 * self.num_keypoints))
        return self._decoded(_rows(boxes, 4), _rows(heat, 1), rows)


def build_network(model: Any, layout: str, size: tuple[int, int] | None) -> ExportNetwork:
    """Make the network to export.

    Args:
        model: A detector whose head is SCRFD's or CenterFace's.
        layout: Names and shapes of the outputs, see ``mmface.deploy.export``.
        size: Height and width of the input, or ``None`` for any.

    Raises:
        ValueError: If the head has no such layout, or is another one.
    """
    check_layout(model, layout)
    known = SCRFDNetwork if isinstance(model.bbox_head, SCRFDHead) else CenterFaceNetwork
    return known(model, layout, size).eval()


def check_layout(model: Any, layout: str) -> None:
    """Say if a detector cannot be exported in a layout.

    Raises:
        ValueError: If the head has no such layout, or is another one.
    """
    head = getattr(model, 'bbox_head', None)
    layouts = next((names for known, names in LAYOUTS.items() if isinstance(head, known)), None)
    if layouts is None:
        raise ValueError(
            f'{type(model).__name__} cannot be exported: expected a config of SCRFD or CenterFace, '
            'or of CenterNet2 with two stages'
        )
    if layout not in layouts:
        raise ValueError(
            f'{type(model).__name__} has no layout {layout!r}: expected one of {", ".join(layouts)}'
        )
    if layout == 'starclouds' and model.bbox_head.coder.rule is not CONVENTIONS['star_clouds']:
        raise ValueError(
            'the layout starclouds needs a model of the convention star_clouds, this one has '
            f'{model.bbox_head.coder.convention}: use raw or centerface'
        )


class _Reshape(torch.autograd.Function):
    """Reshape by numbers alone: 0 keeps an axis, as in ONNX; torch would read the shape first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape([x.shape[axis] if side == 0 else side for axis, side in enumerate(shape)])

    @staticmethod
    def symbolic(g: Any, x: Any, shape: tuple[int, ...]) -> Any:
        return g.op('Reshape', x, g.op('Constant', value_t=torch.tensor(shape)))


def _rows(maps: Tensor, width: int) -> Tensor:
    """Turn maps (B, P * width, H, W) into rows (B, H * W * P, width)."""
    return _Reshape.apply(maps.permute(0, 2, 3, 1), (0, -1, width))


def _cells(like: Tensor) -> Tensor:
    """Give column and row of the cells of maps (B, C, H, W): (B, 2, H, W)."""
    ones = torch.ones_like(like[:, :1])  # summed: a range would need numbers for the sides
    return torch.cat([ones.cumsum(3), ones.cumsum(2)], 1) - 1


def _in_centernet_order(module: Any, rule: Any) -> Any:
    """Copy CenterFace's predictors so that sizes and offsets come out in 'centernet'.

    Swapping channels and adding numbers are a matter of the last convolutions' weights. Landmarks
    of the frame 'box' then are counted from the centre, still in sides.
    """
    module = copy.deepcopy(module)
    if rule.rows_first:
        for name in ('size', 'offset', 'keypoints')[: 3 if module.num_keypoints else 2]:
            conv = getattr(module, name)
            order = torch.arange(conv.out_channels).view(-1, 2).flip(1).flatten()
            conv.weight.data = conv.weight.data[order]
            conv.bias.data = conv.bias.data[order]
    module.size.bias.data += math.log(rule.size_unit / CONVENTIONS['centernet'].size_unit)
    if rule.half_cell:
        module.offset.bias.data += 0.5
    if rule.keypoint_frame == 'box' and module.num_keypoints:
        module.keypoints.bias.data -= 0.5
    return module
