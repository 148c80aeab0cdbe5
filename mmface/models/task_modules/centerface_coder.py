# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Conversion between faces and the values of CenterFace's maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from mmface.utils.centerface_convention import CONVENTIONS, KEYPOINT_ANCHORS, MAX_LOG_SIZE


class EncodedFaces(NamedTuple):
    """Target values of the maps at the cells of some faces.

    Attributes:
        cell: (..., 2) column and row of the cell of each face, int64.
        size: (..., 2) in the channel order of the size map.
        offset: (..., 2) in the channel order of the offset map.
        keypoints: (..., 2K) in the channel order of the keypoint map, or ``None``.
    """

    cell: Tensor
    size: Tensor
    offset: Tensor
    keypoints: Tensor | None


@TASK_UTILS.register_module()
class CenterFaceCoder:
    """Encode faces as values of CenterFace's maps, and decode them.

    A face belongs to the cell that contains its centre. The table lists the values in the order
    of the channels, for sides w, h and centre c in input pixels, cell index i, keypoint p and
    stride 4:

    =============  =======================  ======================  ===========================
    convention     size                     offset                  keypoint
    =============  =======================  ======================  ===========================
    'centernet'    ln(w / 16), ln(h / 16)   c / 4 - i, x first      (p - 4a) / 4, x first
    'mindspore'    as above                 as above                (p - 4a) / (w, h), x first
    'star_clouds'  ln(h / 4), ln(w / 4)     c / 4 - i - 0.5, y      (p - left-top) / (w, h), y
                                            first                   first
    =============  =======================  ======================  ===========================

    'centernet' is used by chenjun2hao and Ascend. The anchor a is the cell i, or c / 4 with
    ``keypoint_anchor='centre'``. chenjun2hao trains with the first and decodes with the
    second, which moves keypoints by up to a cell; 'centre' gives its published outputs.
    MindSpore trains keypoints and never decodes them.

    Args:
        convention: 'centernet', 'star_clouds' or 'mindspore'.
        keypoint_anchor: Origin of keypoint coordinates: 'cell' or 'centre'. 'star_clouds' uses
            the corner of the box and accepts only 'cell'.
        stride: Input pixels per cell.

    Raises:
        ValueError: An option is unknown, or the two options do not fit together.
    """

    def __init__(
        self, convention: str = 'centernet', keypoint_anchor: str = 'cell', stride: int = 4
    ) -> None:
        if convention not in CONVENTIONS:
            raise ValueError(
                f'unknown convention {convention!r} of CenterFaceCoder: expected one of '
                f'{", ".join(CONVENTIONS)}'
            )
        if keypoint_anchor not in KEYPOINT_ANCHORS:
            raise ValueError(
                f'unknown keypoint_anchor {keypoint_anchor!r} of CenterFaceCoder: expected one '
                f'of {", ".join(KEYPOINT_ANCHORS)}'
            )
        self.rule = CONVENTIONS[convention]
        if self.rule.keypoint_frame == 'box' and keypoint_anchor != 'cell':
            raise ValueError(
                f"keypoint_anchor={keypoint_anchor!r} has no meaning in convention '{convention}', "
                'whose keypoints start at the left-top corner of the box: remove it'
            )
        self.convention = convention
        self.keypoint_anchor = keypoint_anchor
        self.stride = stride

    def encode(self, bboxes: Tensor, keypoints: Tensor | None = None) -> EncodedFaces:
        """Encode faces as values of the maps.

        Args:
            bboxes: (..., 4) xyxy in input pixels, with positive sides and the centre inside
                the image.
            keypoints: (..., K, 2) x, y in input pixels, or ``None``.

        Returns:
            Cells and values of the faces.
        """
        sides = bboxes[..., 2:] - bboxes[..., :2]
        centre = (bboxes[..., :2] + bboxes[..., 2:]) / (2 * self.stride)
        cell = centre.floor()
        offset = centre - cell - (0.5 if self.rule.half_cell else 0.0)
        values = None
        if keypoints is not None:
            anchor, unit = self._keypoint_frame(bboxes[..., :2], sides, cell, centre)
            values = (keypoints - anchor[..., None, :]) / unit[..., None, :]
            values = self._reorder(values).flatten(-2)
        size = (sides / self.rule.size_unit).log()
        return EncodedFaces(cell.long(), self._reorder(size), self._reorder(offset), values)

    def decode(
        self,
        cell: Tensor,
        size: Tensor,
        offset: Tensor,
        keypoints: Tensor | None = None,
        img_shape: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Decode the values of the maps at some cells to faces.

        Args:
            cell: (n, 2) column and row.
            size: (n, 2) values of the size map.
            offset: (n, 2) values of the offset map.
            keypoints: (n, 2K) values of the keypoint map, or ``None``.
            img_shape: Height and width of the image in input pixels, used by conventions that
                clip boxes to it. As published, the left-top corner is moved inside first with
                the size unchanged, then the right-bottom corner is clipped.

        Returns:
            Boxes (n, 4) xyxy and keypoints (n, K, 2) x, y or ``None``, in input pixels.
        """
        cell = cell.to(size.dtype)
        sides = self._reorder(size).clamp(max=MAX_LOG_SIZE).exp() * self.rule.size_unit
        centre = cell + self._reorder(offset) + (0.5 if self.rule.half_cell else 0.0)
        corner = centre * self.stride - sides / 2
        opposite = corner + sides
        if self.rule.clip and img_shape is not None:
            # Two numbers, because a tensor would have to be copied to the device.
            height, width = img_shape[:2]
            corner = torch.stack(
                [corner[..., 0].clamp(0, width), corner[..., 1].clamp(0, height)], dim=-1
            )
            opposite = corner + sides
            opposite = torch.stack(
                [opposite[..., 0].clamp(max=width), opposite[..., 1].clamp(max=height)], dim=-1
            )
        points = None
        if keypoints is not None:
            anchor, unit = self._keypoint_frame(corner, sides, cell, centre)
            points = self._reorder(keypoints.unflatten(-1, (-1, 2)))
            points = points * unit[..., None, :] + anchor[..., None, :]
        return torch.cat([corner, opposite], dim=-1), points

    def _reorder(self, pairs: Tensor) -> Tensor:
        """Swap between x, y order and the order of the channels."""
        return pairs.flip(-1) if self.rule.rows_first else pairs

    def _keypoint_frame(
        self, corner: Tensor, sides: Tensor, cell: Tensor, centre: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return origin and unit of keypoints in input pixels."""
        if self.rule.keypoint_frame == 'box':
            return corner, sides
        anchor = (cell if self.keypoint_anchor == 'cell' else centre) * self.stride
        if self.rule.keypoint_frame == 'sized':
            return anchor, sides
        return anchor, torch.full_like(sides, self.stride)
