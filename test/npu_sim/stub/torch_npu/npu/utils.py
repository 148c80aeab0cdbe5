# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""``torch_npu.npu.utils``: what kind of chip this pretends to be."""

from __future__ import annotations

import os


def get_soc_version() -> int:
    """Return the code of the chip: 100-104 is the 910A family, 200-205 310P, 220-225 910B."""
    return int(os.environ.get('NPUSIM_SOC', '223'))


def is_support_inf_nan() -> bool:
    """Whether overflows give inf and NaN; chips of the first generation saturate.

    Only the answer is that of the chip. The arithmetic is the CPU's and never saturates.
    """
    return get_soc_version() >= 220
