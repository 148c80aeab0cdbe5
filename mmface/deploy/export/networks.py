# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The networks that are exported: a detector without its losses, in one of the layouts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmface.deploy.layouts import LAYOUTS, channels, outputs_of
from mmface.deploy.model_spec import ModelSpec
from mmface.utils.centerface_convention import CONVENTIONS, MAX_LOG_SIZE

#: The outputs of a network by their kind and stride, see ``mmface.deploy.layouts.Output``.
Outputs = dict[tuple[str, int], Tensor]
Form = Callable[[Any, Sequence[Tensor]], Outputs]


class ExportNetwork(nn.Module):
    """A detector that maps normalized images to the outputs of a layout.

    Args:
        model: The trained detector. It is shared and not changed.
        spec: The layout of its outputs, see ``make_spec``.
        size: Height and width of the input, or ``None`` for any size.

    Attributes:
        input_name: Name of the input.
        output_names: Names of the outputs in order.
        dynamic_axes: Axes of each output that follow the size of the input, and their names.
        forms: Maps each form of a layout to the function that computes its outputs.
    """

    forms: ClassVar[Mapping[str, Form]] = {}

    def __init__(self, model: Any, spec: ModelSpec, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck
        self.module = model.bbox_head.module
        self.spec = spec
        self.size = size
        layout = LAYOUTS[spec.layout]
        self.form = self.forms[layout.form]
        (self.input_name,) = layout.inputs
        outputs = outputs_of(spec)
        self.output_names = [each.name for each in outputs]
        self.dynamic_axes = {each.name: each.dynamic_axes for each in outputs}
        self.keys = [each.key for each in outputs]
        self.cells = [self._fixed_cells(stride) for stride in spec.strides]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs for images (B, 3, H, W), whose sides are multiples of 32."""
        outputs = self.form(self, self.neck(self.backbone(image)))
        return tuple(outputs[key] for key in self.keys)

    def join(self, boxes: Tensor, scores: Tensor, points: Sequence[Tensor]) -> Outputs:
        """Build the outputs of 'boxes' from rows. ``points`` has several levels, or none."""
        if self.spec.num_classes == 1:
            scores = _Reshape.apply(scores, (0, -1))
        found = {('boxes', 0): boxes, ('scores', 0): scores}
        if points:
            shape = (0, -1, self.spec.num_keypoints, 2)
            found['keypoints', 0] = _Reshape.apply(torch.cat(list(points), 1), shape)
        return found

    def _fixed_cells(self, stride: int) -> Tensor | None:
        """Return the cells of a level if the size of the input is known."""
        if self.size is None:
            return None
        return _cells(torch.zeros(1, 1, self.size[0] // stride, self.size[1] // stride))


class SCRFDNetwork(ExportNetwork):
    """SCRFD. The arguments are those of ``ExportNetwork``."""

    def maps(self, feats: Sequence[Tensor]) -> Outputs:
        """Compute scores, distances and offsets as maps."""
        logits, *others = self.module(feats)
        levels = ([level.sigmoid() for level in logits], *others)
        return {
            (kind, stride): values
            for kind, maps in zip(channels(self.spec), levels, strict=False)
            for stride, values in zip(self.spec.strides, maps, strict=False)
        }

    def rows(self, feats: Sequence[Tensor]) -> Outputs:
        """Compute scores, distances and offsets as rows."""
        widths = channels(self.spec)
        maps = self.maps(feats)
        return {(kind, s): _rows(values, widths[kind]) for (kind, s), values in maps.items()}

    def boxes(self, feats: Sequence[Tensor]) -> Outputs:
        """Compute boxes and keypoints in input pixels."""
        rows = self.rows(feats)
        boxes, points = [], []
        for stride, feat, cells in zip(self.spec.strides, feats, self.cells, strict=True):
            cells = _cells(feat) if cells is None else cells
            centre = _rows(torch.cat([cells] * self.spec.num_priors, 1), 2) * stride
            distance = rows['bbox', stride] * stride
            boxes.append(torch.cat([centre - distance[..., :2], centre + distance[..., 2:]], -1))
            if self.spec.num_keypoints:
                origin = torch.cat([centre] * self.spec.num_keypoints, -1)
                points.append(rows['kps', stride] * stride + origin)
        scores = [rows['score', stride] for stride in self.spec.strides]
        return self.join(torch.cat(boxes, 1), torch.cat(scores, 1), points)

    forms: ClassVar[Mapping[str, Form]] = {'maps': maps, 'rows': rows, 'boxes': boxes}


class CenterFaceNetwork(ExportNetwork):
    """CenterFace. The arguments are those of ``ExportNetwork``."""

    def __init__(self, model: Any, spec: ModelSpec, size: tuple[int, int] | None) -> None:
        super().__init__(model, spec, size)
        (self.stride,) = spec.strides
        coder, self.test_cfg = model.bbox_head.coder, model.bbox_head.test_cfg
        self.rule = coder.rule
        self.converted = spec.convention != coder.convention
        if self.converted:
            self.module = _in_centernet_order(self.module, self.rule)

    def maps(self, feats: Sequence[Tensor]) -> Outputs:
        """Compute heatmap, sizes, offsets and keypoints in the convention of the specification."""
        heat, size, *others = self.module(feats)
        if others[1:] and self.converted and self.rule.keypoint_frame != 'map':
            others[1] = others[1] * torch.cat([self._sides(size)] * self.spec.num_keypoints, 1)
        values = zip(channels(self.spec), (heat.sigmoid(), size, *others), strict=False)
        return {(kind, self.stride): each for kind, each in values}

    def boxes(self, feats: Sequence[Tensor]) -> Outputs:
        """Compute boxes and keypoints in input pixels from maps in the convention 'centernet'."""
        heat, size, offset, *points = self.maps(feats).values()
        cells = _cells(heat) if self.cells[0] is None else self.cells[0]
        centre, sides = cells + offset, self._sides(size)
        boxes = torch.cat([centre - sides / 2, centre + sides / 2], 1) * self.stride
        peak = int(self.test_cfg.get('peak', 1))
        if peak > 1:
            hottest = F.max_pool2d(heat, peak, stride=1, padding=peak // 2)
            limit = hottest * (1 - float(self.test_cfg.get('peak_tolerance', 0.0)))
            heat = heat * (heat >= limit).float()
        rows = []
        if points:
            origin = centre if self.spec.keypoint_anchor == 'centre' else cells
            position = points[0] + torch.cat([origin] * self.spec.num_keypoints, 1)
            rows.append(_rows(position * self.stride, 2 * self.spec.num_keypoints))
        return self.join(_rows(boxes, 4), _rows(heat, self.spec.num_classes), rows)

    def _sides(self, size: Tensor) -> Tensor:
        """Compute box sizes in cells from a size map in the convention 'centernet'."""
        unit = CONVENTIONS['centernet'].size_unit / self.stride
        return size.clamp(max=MAX_LOG_SIZE).exp() * unit

    forms: ClassVar[Mapping[str, Form]] = {'maps': maps, 'boxes': boxes}


_NETWORKS = {'scrfd': SCRFDNetwork, 'centerface': CenterFaceNetwork}


def build_network(
    model: Any, spec: ModelSpec, size: tuple[int, int] | None = None
) -> ExportNetwork:
    """Build the network to export.

    Args:
        model: A detector with the head of SCRFD or CenterFace.
        spec: The layout of its outputs, see ``make_spec``.
        size: Height and width of the input, or ``None`` for any size.
    """
    return _NETWORKS[spec.family](model, spec, size).eval()


class _Reshape(torch.autograd.Function):
    """Reshape with constants only: 0 keeps an axis, as in ONNX. Torch would read the shape."""

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
    """Return column and row of the cells of maps (B, C, H, W): (B, 2, H, W)."""
    ones = torch.ones_like(like[:, :1])  # summed, because a range would need constant sides
    return torch.cat([ones.cumsum(3), ones.cumsum(2)], 1) - 1


def _in_centernet_order(module: Any, rule: Any) -> Any:
    """Copy CenterFace's predictors so that sizes and offsets are in the convention 'centernet'.

    Only the weights of the last convolutions change: channels are swapped and numbers are added.
    Keypoints of the anchor 'box' are then relative to the centre, still in units of the box sides.
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
