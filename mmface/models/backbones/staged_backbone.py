# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Shared base of the SCRFD backbones: a stem, four stages, and a choice of outputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmface.models.backbones.freezable import FreezableBackbone


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Build a convolution padded to keep the size (apart from the stride), batch norm and ReLU."""
    return [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


class StagedBackbone(FreezableBackbone):
    """Run ``stem`` and ``layer1`` to ``layer4``, which the subclass adds.

    Args:
        out_indices: Stages whose output is returned (0 is stage 1, stride 4).
        init_cfg: mmengine initialisation; by default Kaiming-normal (fan out) convolutions
            and unit norms.
        frozen_stages: The stem (0) and stages up to this number are not trained; -1: all are.
        norm_eval: Whether the statistics of all batch norms stay as they are.
    """

    stem: nn.Module

    def __init__(
        self,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | list[dict] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
    ) -> None:
        default: list[dict] = [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
        ]
        super().__init__(frozen_stages, norm_eval, init_cfg or default)
        self.out_indices = tuple(out_indices)

    def _stages(self) -> list[list[nn.Module]]:
        return [[self.stem], *([getattr(self, f'layer{stage}')] for stage in range(1, 5))]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the stage outputs.

        Args:
            x: Normalised images, (B, 3, H, W).

        Returns:
            One map (B, C, H / 2^(i+2), W / 2^(i+2)) for each ``i`` of ``out_indices``.
        """
        x = self.stem(x)
        outs = []
        for stage in range(4):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)
