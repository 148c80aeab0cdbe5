# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Training targets of CenterNet2's dense heads, for a whole batch on its device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from mmface.models.losses.plus_one_giou_loss import plus_one_giou
from mmface.models.task_modules.padded_ground_truth import PaddedGroundTruth

#: Bounds of p3 to p7 in input pixels, which overlap (CenterNet2 ``config.py``).
SIZES_OF_INTEREST = ((0, 80), (64, 160), (128, 320), (256, 640), (512, 1e7))
# Number of (box, cell) pairs held at a time while heatmaps are drawn: 64 MiB in float32.
_PAIRS_AT_ONCE = 1 << 24
# Smaller heatmap values become 0 (CenterNet2 ``_create_agn_heatmaps_from_dist``).
_LEAST_HEAT = 1e-4
# Coordinate, in pixels, at which padding boxes are drawn: too far away to reach the maps.
_FAR_AWAY = -1e6
# Index of the middle one of 3x3 cells, counted row by row.
_MIDDLE = 4


class CenterNetTargetMaps(NamedTuple):
    """Targets of B images, on maps of A cells with C heatmap channels.

    The cells of an image are counted level by level, and row by row within each level.

    Attributes:
        heatmap: (B, C, A) in [0, 1].
        distances: (B, A, 4) left, top, right, bottom in strides; 1 where no box is learned.
        regressed: (B, A) whether the cell learns a box.
        pos_cell: (B, P) cell of each candidate for a positive of the heatmap.
        pos_channel: (B, P) heatmap channel of the candidate.
        positive: (B, P) whether the candidate is positive. A cell may be positive more than once.
    """

    heatmap: Tensor
    distances: Tensor
    regressed: Tensor
    pos_cell: Tensor
    pos_channel: Tensor
    positive: Tensor


class _Neighbourhoods(NamedTuple):
    """The 3x3 cells around the centre of each of N boxes on L levels.

    Attributes:
        cell: (B, N, L, 9) index of the cell; 0 outside the map.
        in_map: (B, N, L, 9) whether it is inside the map.
        distances: (B, N, L, 9, 4) from the cell's point to the sides of the box, in strides.
        remoteness: (B, N, L, 9) squared distance to the box centre divided by the squared radius
            of the box; 0 at the middle cell.
    """

    cell: Tensor
    in_map: Tensor
    distances: Tensor
    remoteness: Tensor


@TASK_UTILS.register_module()
class CenterNetTargets:
    """Compute the targets of CenterNet2's dense heads (CenterNet2 ``centernet.py``).

    The point of a cell is its middle. A box with width w, height h and centre c belongs to each
    level with lo <= sqrt(w^2 + h^2) / 2 <= hi. These are one or two levels.

    * Heatmap value of a box at point p: exp(-|p - c|^2 / max(2 delta^2 w h, r^2)) with
      delta = (1 - o) / (1 + o), exactly 1 at the cell of the centre, 0 below 1e-4. Each box is
      drawn on all levels; a cell takes the largest value of all boxes.
    * Positives: the cell of the centre on each level the box belongs to.
    * A cell learns a box if it is one of the 3x3 cells around the centre, on a level the box
      belongs to, with its point inside the box. Of several boxes it learns the one with the
      largest heatmap value there.
    * With ``more_pos``, positives are chosen among the 3x3 cells on all levels. The point of the
      cell must be inside the box and its prediction must be good: 1 - GIoU (of ``plus_one_giou``)
      below ``more_pos_thresh`` and below the ``more_pos_topk``-th best of the box. The cell of
      the centre is always positive on the levels the box belongs to, if its point is inside.

    Boxes without an area are skipped. All shapes depend only on the shapes of the input, nothing
    waits for the device, and heatmaps are drawn some boxes at a time to limit memory.

    Args:
        strides: Input pixels per cell of each level.
        sizes_of_interest: Bounds (lo, hi) of each level in input pixels; by default of p3 to p7.
        min_overlap: The o above.
        min_radius: The r above, in input pixels.
        more_pos: Whether predictions decide which cells are positive.
        more_pos_thresh: See above.
        more_pos_topk: See above.

    Raises:
        ValueError: The numbers of bounds and strides differ, or ``min_overlap`` is not inside
            (0, 1).
    """

    def __init__(
        self,
        strides: Sequence[int],
        sizes_of_interest: Sequence[Sequence[float]] = SIZES_OF_INTEREST,
        min_overlap: float = 0.8,
        min_radius: float = 4.0,
        more_pos: bool = False,
        more_pos_thresh: float = 0.2,
        more_pos_topk: int = 9,
    ) -> None:
        if len(sizes_of_interest) != len(strides):
            raise ValueError(
                'sizes_of_interest must have a pair (lo, hi) for each of the '
                f'{len(strides)} strides {list(strides)}, found {len(sizes_of_interest)}'
            )
        if not 0 < min_overlap < 1:
            raise ValueError(f'min_overlap must be inside (0, 1), got {min_overlap}')
        self.strides = tuple(strides)
        self.sizes_of_interest = tuple(sizes_of_interest)
        self.delta = (1 - min_overlap) / (1 + min_overlap)
        self.min_radius = min_radius
        self.more_pos = more_pos
        self.more_pos_thresh = more_pos_thresh
        self.more_pos_topk = more_pos_topk

    @torch.no_grad()
    def __call__(
        self,
        gt: PaddedGroundTruth,
        map_sizes: Sequence[tuple[int, int]],
        num_channels: int = 1,
        predictions: Tensor | None = None,
    ) -> CenterNetTargetMaps:
        """Compute the targets of a batch.

        Args:
            gt: Objects. Their labels are used if there is more than one heatmap channel.
            map_sizes: Height and width of the map of each level.
            num_channels: Heatmap channels C: number of classes, or 1 for all classes together.
            predictions: (B, A, 4) predicted left, top, right, bottom in strides; required with
                ``more_pos``.

        Returns:
            The targets, on the device of ``gt``.

        Raises:
            ValueError: ``more_pos`` is set without predictions.
        """
        boxes = gt.bboxes
        sides = boxes[..., 2:] - boxes[..., :2]
        real = gt.mask & (sides > 0).all(-1)
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        half_diagonal = sides.square().sum(-1).sqrt() / 2
        belongs = [
            real & (half_diagonal >= low) & (half_diagonal <= high)
            for low, high in self.sizes_of_interest
        ]
        owned = torch.stack(belongs, dim=-1)
        radius = (2 * self.delta**2 * sides.prod(-1)).clamp(min=self.min_radius**2)
        around = self._neighbourhoods(boxes, centre, radius, map_sizes)
        channel = gt.labels if num_channels > 1 else torch.zeros_like(gt.labels)

        distances, regressed = self._boxes_to_learn(boxes, owned, around, map_sizes)
        heatmap = self._draw(centre, radius, real, channel, num_channels, map_sizes)
        seen = real[..., None] & around.in_map[..., _MIDDLE]
        spot = channel[..., None] * heatmap.shape[-1] + around.cell[..., _MIDDLE]
        heatmap.flatten(1).scatter_reduce_(
            1, spot.flatten(1), seen.flatten(1).to(heatmap.dtype), 'amax'
        )

        cell, positive = around.cell[..., _MIDDLE, None], (owned & seen)[..., None]
        if self.more_pos:
            if predictions is None:
                raise ValueError('more_pos=True needs the predictions of the head, found None')
            cell, positive = around.cell, self._more_positives(real, owned, around, predictions)
        return CenterNetTargetMaps(
            heatmap,
            distances,
            regressed,
            cell.flatten(1),
            channel[..., None, None].expand_as(cell).flatten(1),
            positive.flatten(1),
        )

    def _neighbourhoods(
        self, boxes: Tensor, centre: Tensor, radius: Tensor, map_sizes: Sequence[tuple[int, int]]
    ) -> _Neighbourhoods:
        step = torch.arange(9, device=boxes.device)
        step = torch.stack([step % 3 - 1, step // 3 - 1], dim=-1)
        levels = []
        start = 0
        for stride, (height, width) in zip(self.strides, map_sizes, strict=True):
            place = (centre / stride).floor().long()[:, :, None] + step
            x, y = place.unbind(-1)
            in_map = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            cell = torch.where(in_map, start + y * width + x, 0)
            point = place * stride + stride / 2
            remoteness = (point - centre[:, :, None]).square().sum(-1) / radius[..., None]
            # The distance from the centre to the middle of its own cell counts as 0.
            remoteness[..., _MIDDLE] = 0
            distances = _distances(point, boxes[:, :, None]) / stride
            levels.append(_Neighbourhoods(cell, in_map, distances, remoteness))
            start += height * width
        return _Neighbourhoods(*(torch.stack(parts, dim=2) for parts in zip(*levels, strict=True)))

    def _boxes_to_learn(
        self,
        boxes: Tensor,
        owned: Tensor,
        around: _Neighbourhoods,
        map_sizes: Sequence[tuple[int, int]],
    ) -> tuple[Tensor, Tensor]:
        """Return the targets (B, A, 4) of the cells in strides, and which cells have one (B, A)."""
        covers = around.in_map & owned[..., None] & (around.distances.amin(-1) > 0)
        points, strides = self._points(map_sizes, boxes)
        batch, num_boxes = boxes.shape[:2]
        cell = around.cell.flatten(1)
        claim = torch.where(covers, around.remoteness, torch.inf).flatten(1)
        nearest = claim.new_full((batch, len(points)), torch.inf)
        nearest = nearest.scatter_reduce_(1, cell, claim, 'amin')
        wins = covers.flatten(1) & (claim == nearest.gather(1, cell))
        number = torch.arange(num_boxes, device=cell.device)[None, :, None, None]
        number = torch.where(wins, number.expand_as(covers).flatten(1), num_boxes)
        # If several boxes are equally near, the first one wins.
        winner = number.new_full((batch, len(points)), num_boxes)
        winner = winner.scatter_reduce_(1, cell, number, 'amin')
        regressed = winner < num_boxes
        index = winner.clamp(max=num_boxes - 1)[..., None].expand(-1, -1, 4)
        distances = _distances(points, boxes.gather(1, index)) / strides
        return torch.where(regressed[..., None], distances, 1), regressed

    def _points(self, map_sizes: Sequence[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points (A, 2) of all cells in input pixels and their strides (A, 1)."""
        points, strides = [], []
        for stride, (height, width) in zip(self.strides, map_sizes, strict=True):
            y, x = torch.meshgrid(
                _middles(height, stride, like), _middles(width, stride, like), indexing='ij'
            )
            points.append(torch.stack([x, y], dim=-1).flatten(0, 1))
            strides.append(like.new_full((height * width, 1), stride))
        return torch.cat(points), torch.cat(strides)

    def _draw(
        self,
        centre: Tensor,
        radius: Tensor,
        real: Tensor,
        channel: Tensor,
        num_channels: int,
        map_sizes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Draw the heatmap (B, C, A) of all boxes, without the values 1 at the centres' cells."""
        centre = torch.where(real[..., None], centre, _FAR_AWAY)
        batch, num_boxes = radius.shape
        levels = []
        for stride, (height, width) in zip(self.strides, map_sizes, strict=True):
            across = (_middles(width, stride, centre) - centre[..., :1]).square()
            down = (_middles(height, stride, centre) - centre[..., 1:]).square()
            least = centre.new_full((batch, num_channels, height * width), torch.inf)
            count = max(_PAIRS_AT_ONCE // (batch * height * width), 1)
            for start in range(0, num_boxes, count):
                part = slice(start, start + count)
                far = (across[:, part, None, :] + down[:, part, :, None]).flatten(2)
                far /= radius[:, part, None]
                if num_channels == 1:
                    least = torch.minimum(least, far.amin(1, keepdim=True))
                else:
                    index = channel[:, part, None].expand_as(far)
                    least.scatter_reduce_(1, index, far, 'amin')
            levels.append(least)
        heat = torch.cat(levels, dim=2).neg_().exp_()
        return torch.where(heat < _LEAST_HEAT, 0, heat)

    def _more_positives(
        self, real: Tensor, owned: Tensor, around: _Neighbourhoods, predictions: Tensor
    ) -> Tensor:
        """Choose positives (B, N, L, 9) among the neighbourhoods by the predictions there."""
        index = around.cell.flatten(1)[..., None].expand(-1, -1, 4)
        found = predictions.float().gather(1, index).view_as(around.distances)
        cost = 1 - plus_one_giou(found, around.distances.clamp(min=0))
        valid = around.in_map & real[..., None, None] & (around.distances.amin(-1) >= 0)
        cost = torch.where(valid, cost, torch.inf)
        middle = cost[..., _MIDDLE]
        cost[..., _MIDDLE] = torch.where(owned & valid[..., _MIDDLE], 0, middle)
        costs = cost.flatten(2)
        limit = costs.topk(min(self.more_pos_topk, costs.shape[-1]), largest=False).values[..., -1]
        return cost < limit.clamp(max=self.more_pos_thresh)[..., None, None]


def _middles(count: int, stride: int, like: Tensor) -> Tensor:
    """Return the middles of ``count`` cells in input pixels."""
    return torch.arange(count, device=like.device, dtype=like.dtype) * stride + stride / 2


def _distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Return left, top, right, bottom (..., 4) of points (..., 2) in boxes (..., 4)."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)
