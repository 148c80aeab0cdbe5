# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Change the colours of a whole batch on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmface.utils.colour_map import ColourMap

# Weights of blue, green and red, as in OpenCV.
GREY_WEIGHTS = (0.114, 0.587, 0.299)
CHUNK = 16  # Images per step; limits the memory of intermediate results.


@torch.no_grad()
def change_colours(images: Tensor, maps: Sequence[ColourMap]) -> Tensor:
    """Apply to each image its own colour change.

    The values equal those of ``FacePhotometric.apply`` and ``ColourJitter.apply`` up to rounding
    (one grey level). Shapes do not depend on the drawn values, and the host does not wait for
    the device.

    Args:
        images: (B, 3, H, W) uint8, blue, green, red.
        maps: The change of each image.

    Returns:
        (B, 3, H, W) float32 whole grey levels, 0 to 255.
    """
    numbers = [(m.hue, m.own, m.value, m.grey, m.mean, *m.shift, *m.channels) for m in maps]
    # One pinned tensor means one copy: see pack_ground_truth.
    packed = torch.tensor(numbers, pin_memory=images.device.type not in ('cpu', 'meta'))
    packed = packed.to(images.device, non_blocking=True)
    # Known on the host. Skip the steps that no image of the batch needs.
    turned, valued, greyed = (any(row[i] for row in numbers) for i in (0, 2, 3))
    greyed = greyed or any(m.mean for m in maps)
    moved = any(m.channels != (0, 1, 2) for m in maps)
    out = torch.empty_like(images, dtype=torch.float32)
    for start in range(0, len(maps), CHUNK):
        part = images[start : start + CHUNK].float()
        # (b, 11, 1, 1)
        each = packed[start : start + CHUNK, :, None, None]
        result = _turn_hue(part, each[:, :1]) if turned else part
        result = result * each[:, 1:2] + each[:, 5:8]
        if valued:
            result += part.amax(1, keepdim=True) * each[:, 2:3]
        if greyed:
            planes = zip(part.split(1, 1), GREY_WEIGHTS, strict=True)
            grey = torch.cat([plane * weight for plane, weight in planes], 1).sum(1, keepdim=True)
            result += grey * each[:, 3:4] + grey.mean((2, 3), keepdim=True) * each[:, 4:5]
        if moved:
            rows = 3 * torch.arange(len(part), device=part.device)[:, None]
            order = (rows + each[:, 8:, 0, 0].long()).flatten()
            result = result.flatten(0, 1).index_select(0, order).view_as(part)
        out[start : start + CHUNK] = result.round_().clamp_(0, 255)
    return out


def _turn_hue(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn the hue of BGR images (b, 3, H, W) by ``degrees`` (b, 1, 1, 1).

    By HSV's definition a channel is V - C t, where C is the range of the channels of the pixel,
    t = clip(min(k, 4 - k), 0, 1), k = n + hue / 60 modulo 6, and n = 1, 3, 5 for blue, green, red.
    """
    blue, green, red = images.split(1, 1)
    value = images.amax(1, keepdim=True)
    span = value - images.amin(1, keepdim=True)
    hue = torch.where(
        value == red, green - blue, torch.where(value == green, blue - red, red - green)
    ) / span.clamp(min=1)
    # In sixths of the circle. Grey has no hue, but its span is 0, so the hue has no effect.
    hue += torch.where(value == red, 0.0, torch.where(value == green, 2.0, 4.0)) + degrees / 60
    # 1, 3, 5 for blue, green, red. Made on the device: a copy from the host would wait for it.
    offsets = torch.arange(1, 7, 2, device=images.device).view(1, 3, 1, 1)
    place = (hue + offsets).remainder_(6)
    place = torch.minimum(place, 4 - place).clamp_(0, 1)
    return value - span * place
