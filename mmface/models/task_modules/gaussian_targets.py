# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Training targets of CenterFace, for a whole batch on its device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from mmface.models.task_modules.centerface_coder import CenterFaceCoder
from mmface.models.task_modules.padded_ground_truth import PaddedGroundTruth

#: Number of values held at a time while Gaussians are drawn: 64 MiB in float32.
CHUNK_NUMBERS = 1 << 24
# For all heights and widths up to 300 cells, a radius that is not a whole number differs from every
# whole number by at least 1e-4. The error of float32 is below 1e-5.
_RADIUS_SLACK = 3e-5


class CenterFaceTargets(NamedTuple):
    """Targets of B images with up to N faces each.

    Attributes:
        heatmap: (B, C, H, W) in [0, 1]; exactly 1 at the cells of faces of the class and nowhere
            else.
        heat_weight: (B, C, H, W) 0 where the heatmap is not learned, else 1; or ``None``.
        position: (B, N) row * W + column of the cell of each face.
        mask: (B, N) 1 for faces to learn, else 0.
        weight: (B, N) weight of a face in the size and offset losses; 0 where ``mask`` is 0.
        size: (B, N, 2) see ``CenterFaceCoder``.
        offset: (B, N, 2) see ``CenterFaceCoder``.
        keypoints: (B, N, 2K) see ``CenterFaceCoder``, or ``None``.
        keypoint_mask: (B, N, 2K) 1 for keypoints to learn, else 0; or ``None``.
    """

    heatmap: Tensor
    heat_weight: Tensor | None
    position: Tensor
    mask: Tensor
    weight: Tensor
    size: Tensor
    offset: Tensor
    keypoints: Tensor | None
    keypoint_mask: Tensor | None


@TASK_UTILS.register_module()
class GaussianTargets:
    """Compute the targets of CenterFace (chenjun2hao and MindSpore ``multi_pose.py``).

    Boxes are clipped to [0, side - 1] of the map and belong to the cell of the centre of the
    clipped box; empty boxes are dropped. Every face is used, while the references draw 32 or 64
    of them with replacement. When two faces share a cell, the heatmap has one peak there and both
    are kept in the other losses, as at chenjun2hao (in MindSpore the later one overwrites the
    other). Keypoints are learned if they are labelled and inside the map; ``DataAnchorSample``
    removes the keypoint labels of tiny faces.

    All shapes depend only on the shapes of the input, and nothing waits for the device. Gaussians
    are drawn some faces at a time, so that memory does not grow with the number of faces.

    Args:
        min_overlap: Overlap that remains when the corners of a box are moved by the radius.
        small_face_weights: Whether to weight the size and offset losses by the area of the box in
            square cells, as MindSpore does: 0.1 up to 4, 15 up to 10, 10 up to 20, 5 up to 40,
            else 1.
        mask_ignored: Whether cells inside ignored faces, except the cells of faces to learn, have
            no heatmap loss. In all references these cells are background.

    Raises:
        ValueError: ``min_overlap`` is not inside (0, 1).
    """

    def __init__(
        self,
        min_overlap: float = 0.7,
        small_face_weights: bool = False,
        mask_ignored: bool = False,
    ) -> None:
        if not 0 < min_overlap < 1:
            raise ValueError(f'min_overlap must be inside (0, 1), got {min_overlap}')
        self.min_overlap = min_overlap
        self.small_face_weights = small_face_weights
        self.mask_ignored = mask_ignored

    @torch.no_grad()
    def __call__(
        self,
        gt: PaddedGroundTruth,
        map_size: tuple[int, int],
        coder: CenterFaceCoder,
        ignored: PaddedGroundTruth | None = None,
        num_classes: int = 1,
    ) -> CenterFaceTargets:
        """Compute the targets of a batch.

        Args:
            gt: Faces to learn.
            map_size: Height and width of the maps.
            coder: Computes the values at the cells of faces.
            ignored: Ignored faces; required with ``mask_ignored``.
            num_classes: Number of classes C, each with its own heatmap.

        Returns:
            The targets, on the device of ``gt``.

        Raises:
            ValueError: ``mask_ignored`` is set without ignored faces.
        """
        height, width = map_size
        stride = coder.stride
        x = gt.bboxes[..., 0::2].clamp(0, (width - 1) * stride)
        y = gt.bboxes[..., 1::2].clamp(0, (height - 1) * stride)
        bboxes = torch.stack([x, y], dim=-1).flatten(-2)
        sides = bboxes[..., 2:] - bboxes[..., :2]
        real = gt.mask & (sides > 0).all(-1)
        # Padding and empty boxes get a box of one cell, so that every value stays finite.
        unit = torch.arange(4, device=bboxes.device).ge(2).to(bboxes.dtype) * stride
        bboxes = torch.where(real[..., None], bboxes, unit)
        sides = torch.where(real[..., None], sides, unit[2:])

        points = None if gt.keypoints is None else gt.keypoints[..., :2]
        encoded = coder.encode(bboxes, points)
        in_cells = sides / stride
        radius = gaussian_radius(in_cells.ceil(), self.min_overlap)
        chosen = [real & (gt.labels == label) for label in range(num_classes)]
        heatmap = torch.cat(
            [draw_gaussians(encoded.cell, radius, mask, map_size) for mask in chosen], 1
        )
        mask = real.to(bboxes.dtype)
        weight = mask * _size_weight(in_cells.prod(-1)) if self.small_face_weights else mask
        heat_weight = None
        if self.mask_ignored:
            if ignored is None:
                raise ValueError('mask_ignored=True needs the ignored faces: pass ignored')
            covered = cover_boxes(ignored.bboxes, ignored.mask, map_size, stride)
            heat_weight = (~covered | (heatmap == 1)).to(heatmap.dtype)
        keypoint_mask = None
        values = encoded.keypoints
        if gt.keypoints is not None and values is not None:
            x, y, labelled = gt.keypoints.unbind(-1)
            inside = (x >= 0) & (x < width * stride) & (y >= 0) & (y < height * stride)
            learned = (labelled > 0) & inside & real[..., None]
            keypoint_mask = learned.to(mask.dtype).repeat_interleave(2, dim=-1)
            # Missing keypoints may have any value.
            values = torch.where(keypoint_mask > 0, values, 0)
        return CenterFaceTargets(
            heatmap,
            heat_weight,
            encoded.cell[..., 1] * width + encoded.cell[..., 0],
            mask,
            weight,
            encoded.size,
            encoded.offset,
            values,
            keypoint_mask,
        )


def gaussian_radius(sides: Tensor, min_overlap: float = 0.7) -> Tensor:
    """Compute the radius of the Gaussian of a face as CenterNet's code does.

    It takes the smallest of three roots, each divided by 2 (not by 2a, so it is larger than in
    CornerNet and in mmdet). The third root, of a box that contains the other, is always the
    smallest. With m the overlap it is r = (sqrt(4 m^2 (h + w)^2 + 16 m (1 - m) h w)
    - 2 m (h + w)) / 2.

    Args:
        sides: (..., 2) width and height in cells, whole numbers.
        min_overlap: Overlap m, inside (0, 1).

    Returns:
        (...) radii, rounded down to whole numbers.
    """
    linear = 2 * min_overlap * sides.sum(-1)
    product = 16 * min_overlap * (1 - min_overlap) * sides.prod(-1)
    # Same value without the difference of two large numbers, which float32 computes inexactly.
    root = product / (2 * ((linear.square() + product).sqrt() + linear))
    return (root + _RADIUS_SLACK).floor()


def draw_gaussians(cell: Tensor, radius: Tensor, mask: Tensor, map_size: tuple[int, int]) -> Tensor:
    """Draw one Gaussian per face and take the largest value at every cell.

    A Gaussian has sigma (2r + 1) / 6 and is cut off outside the square of cells up to r away.

    Args:
        cell: (B, N, 2) column and row of the centres.
        radius: (B, N) radii r in cells.
        mask: (B, N) whether the face is real.
        map_size: Height and width of the map.

    Returns:
        (B, 1, H, W) in [0, 1], exactly 1 at centres and nowhere else.
    """
    rows = _profile(cell[..., 1], radius, map_size[0]) * mask[..., None]
    columns = _profile(cell[..., 0], radius, map_size[1])
    batch, faces = radius.shape
    heatmap = rows.new_zeros(batch, *map_size)
    step = max(1, CHUNK_NUMBERS // (batch * map_size[0] * map_size[1]))
    for start in range(0, faces, step):
        part = slice(start, start + step)
        values = rows[:, part, :, None] * columns[:, part, None, :]
        heatmap = torch.maximum(heatmap, values.amax(1))
    return heatmap[:, None]


def cover_boxes(bboxes: Tensor, mask: Tensor, map_size: tuple[int, int], stride: int) -> Tensor:
    """Mark the cells whose middle is inside a box.

    Args:
        bboxes: (B, N, 4) xyxy in input pixels.
        mask: (B, N) whether the box is real.
        map_size: Height and width of the map.
        stride: Input pixels per cell.

    Returns:
        (B, 1, H, W), true inside.
    """

    def inside(low: Tensor, high: Tensor, length: int) -> Tensor:
        middle = (torch.arange(length, device=low.device) + 0.5) * stride
        return ((middle >= low[..., None]) & (middle < high[..., None])).float()

    x1, y1, x2, y2 = bboxes.unbind(-1)
    rows = inside(y1, y2, map_size[0]) * mask[..., None]
    columns = inside(x1, x2, map_size[1])
    # The number of boxes over each cell, as a matrix product that needs no (B, N, H, W) tensor.
    return (rows.transpose(1, 2) @ columns > 0)[:, None]


def _profile(centre: Tensor, radius: Tensor, length: int) -> Tensor:
    """Compute one axis of separable Gaussians, (B, N, length)."""
    cells = torch.arange(length, device=radius.device, dtype=radius.dtype)
    distance = cells - centre[..., None]
    sigma = (2 * radius + 1)[..., None] / 6
    values = (-distance.square() / (2 * sigma.square())).exp()
    return values * (distance.abs() <= radius[..., None])


def _size_weight(area: Tensor) -> Tensor:
    weight = torch.ones_like(area)
    for limit, value in ((40, 5.0), (20, 10.0), (10, 15.0), (4, 0.1)):
        weight = torch.where(area <= limit, value, weight)
    return weight
