# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The options of an export."""

from __future__ import annotations

from dataclasses import dataclass

from mmface.deploy.layouts import LAYOUTS

#: Sides of the input must be multiples of this value, the largest stride.
DIVISOR = 32


@dataclass(frozen=True)
class ExportOptions:
    """The options of an exported file.

    Attributes:
        layout: Names and shapes of the outputs, see ``mmface.deploy.layouts``.
        size: Height and width of the input; ``None`` for that of the config.
        dynamic: Whether batch, height and width are dynamic.
        batch: Batch size of a static file.
        opset: ONNX opset.
        fold_normalize: Whether the graph subtracts the mean and divides by std itself.
        half: Whether the graph computes in half precision.
    """

    layout: str = 'raw'
    size: tuple[int, int] | None = None
    dynamic: bool = False
    batch: int = 1
    opset: int = 11
    fold_normalize: bool = False
    half: bool = False

    def __post_init__(self) -> None:
        if self.dynamic and (self.size is not None or self.batch != 1):
            raise ValueError('a dynamic file has no fixed size and batch: leave both unset')
        if self.batch < 1:
            raise ValueError(f'batch {self.batch}: expected at least 1')
        if self.size is not None and any(side < 1 or side % DIVISOR for side in self.size):
            raise ValueError(
                f'size {self.size[0]} {self.size[1]} (height, width): both must be multiples of '
                f'{DIVISOR}'
            )
        if self.half and self.layout in LAYOUTS and LAYOUTS[self.layout].form == 'boxes':
            raise ValueError(
                f'half precision holds positions beyond 512 only to 0.5 px: use another layout '
                f'than {self.layout}, so that the host computes the boxes'
            )
