# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Random seeds computed from given numbers, independent of earlier draws."""

from __future__ import annotations

import random

import numpy as np


def derive_seed(*numbers: int) -> int:
    """Mix non-negative integers into one seed of 32 bits.

    Similar inputs give unrelated seeds. (1, 2) and (2, 1) give different seeds.
    """
    return int(np.random.SeedSequence([int(n) for n in numbers]).generate_state(1)[0])


def seed_host_generators(seed: int) -> None:
    """Seed the global generators of ``random`` and ``numpy.random``."""
    random.seed(seed)
    # The transforms call the module-level functions, which use this generator.
    np.random.seed(seed)
