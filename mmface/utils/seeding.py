# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Random seeds that depend on numbers one can write down, not on what was drawn before."""

from __future__ import annotations

import random

import numpy as np


def derive_seed(*numbers: int) -> int:
    """Mix non-negative integers into one seed of 32 bits.

    Neighbouring inputs give unrelated seeds, (1, 2) and (2, 1) give different ones.
    """
    return int(np.random.SeedSequence([int(n) for n in numbers]).generate_state(1)[0])


def seed_host_generators(seed: int) -> None:
    """Seed the global generators of ``random`` and ``numpy.random``."""
    random.seed(seed)
    # The transforms draw from the module-level functions, which is this generator.
    np.random.seed(seed)
