# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""AIPP: the preprocessing of uint8 images that an Ascend NPU does before the network.

ATC builds this operator into the OM file from a text file (``--insert_op_conf``). The bins that
this package writes have their channels in the order of the network, so no swap is needed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.model_spec import ModelSpec

_HEADER = """\
# AIPP of uint8 bins: H x W x {order}, made by ascend_preprocess.py from the model's mean and std.
# The network sees (pixel - mean_chn - min_chn) * var_reci_chn. mean_chn holds integers only.
# Therefore min_chn holds the mean.
"""
_FIXED = {'aipp_mode': 'static', 'input_format': 'RGB888_U8', 'csc_switch': 'false'}
#: Entries that have no effect with the value given here. Any other entry raises an error.
_NEUTRAL = {**_FIXED, 'crop': 'false', 'resize': 'false', 'padding': 'false'}
_NEUTRAL |= {'related_input_rank': '0'}
_ENTRY = re.compile(r'(\w+)\s*:\s*([^\s{}]+)')


@dataclass(frozen=True)
class Aipp:
    """A static AIPP for three-channel images, without cropping or colour space conversion.

    Attributes:
        size: Height and width of the images.
        mean: Subtracted from each channel, after the swap.
        factor: Multiplier applied afterwards: 1 / std.
        swap: Whether the first and the third channel are swapped first.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    factor: tuple[float, ...]
    swap: bool = False

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> Aipp:
        """Build the AIPP that normalizes as ``spec`` says; identity if the graph does it itself."""
        if spec.normalized_inside:
            return cls(spec.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return cls(spec.size, tuple(spec.mean), tuple(1 / value for value in spec.std))

    def to_text(self, rgb: bool) -> str:
        """Return the text for ATC.

        Args:
            rgb: Whether the channels are red, green, blue. Only used in the comment.
        """
        rows: dict[str, object] = {**_FIXED, 'rbuv_swap_switch': str(self.swap).lower()}
        rows['src_image_size_w'], rows['src_image_size_h'] = self.size[1], self.size[0]
        for name, values in (
            ('mean_chn', (0, 0, 0)),
            ('min_chn', [f'{value:.8g}' for value in self.mean]),
            ('var_reci_chn', [f'{value:.10g}' for value in self.factor]),
        ):
            rows |= {f'{name}_{channel}': value for channel, value in enumerate(values)}
        body = ''.join(f'    {key}: {value}\n' for key, value in rows.items())
        order = 'RGB' if rgb else 'BGR'
        return f'{_HEADER.format(order=order)}aipp_op {{\n{body}}}\n'

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the input that the network receives.

        AIPP holds ``min_chn`` and ``var_reci_chn`` as float16 and outputs float16. Each step is
        rounded to float16 here. How the hardware rounds in between is not documented.

        Args:
            pixels: (n, h, w, 3).

        Returns:
            (n, 3, h, w), values that float16 can hold.
        """
        if self.swap:
            pixels = pixels[..., ::-1]
        mean, factor = (np.array(value, np.float16) for value in (self.mean, self.factor))
        # A table of the 256 values of each channel is exact, and much faster than float16.
        table = (np.arange(256, dtype=np.float16)[:, None] - mean) * factor
        planes = [table[:, k].astype(np.float32)[pixels[..., k]] for k in range(3)]
        return np.stack(planes, axis=1)


def read_aipp(path: str | os.PathLike[str]) -> Aipp:
    """Read an AIPP file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an AIPP file, or has an entry that this package does not
            support.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'AIPP file {path} does not exist; ascend_preprocess.py writes it')
    text = Path(path).read_text(encoding='utf-8', errors='replace')
    text = re.sub(r'#.*', '', text)
    if 'aipp_op' not in text:
        raise ValueError(f"{path} is not an AIPP file: expected 'aipp_op {{...}}'")
    rows = dict(_ENTRY.findall(text))
    swap = rows.pop('rbuv_swap_switch', 'false') == 'true'
    try:
        size = (int(rows.pop('src_image_size_h')), int(rows.pop('src_image_size_w')))
        mean, minimum, factor = (
            [float(rows.pop(f'{name}_chn_{channel}', default)) for channel in range(3)]
            for name, default in (('mean', 0), ('min', 0), ('var_reci', 1))
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f'{path}: an entry is missing or not a number: {error}') from None
    strange = [f'{key}: {value}' for key, value in rows.items() if _NEUTRAL.get(key) != value]
    if strange:
        raise ValueError(
            f'{path}: {", ".join(strange)} is not supported here; use the file that '
            'ascend_preprocess.py writes beside uint8 bins'
        )
    total = tuple(a + b for a, b in zip(mean, minimum, strict=True))
    return Aipp(size, total, tuple(factor), swap)
