# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A sample index that carries the seed and epoch in which it was drawn."""

from __future__ import annotations

from typing import SupportsIndex


class EpochIndex(int):
    """An ``int`` that carries the epoch and the seed it was drawn with.

    It indexes a data set like a plain ``int``. Data set wrappers shift or wrap the
    index (``idx - start``, ``idx % length``). These two operations keep the additional values.
    Any other arithmetic returns a plain ``int``.

    Attributes:
        epoch: Epoch, from 0, in which the index was drawn.
        seed: Seed of the run.
        origin: Index from the sampler, before wrappers changed it. Two copies of an
            image in a repeated data set have different origins.
    """

    epoch: int
    seed: int
    origin: int

    def __new__(
        cls, value: SupportsIndex, epoch: int, seed: int, origin: int | None = None
    ) -> EpochIndex:
        """Create an index with value ``value``. ``origin`` defaults to ``value``."""
        self = super().__new__(cls, value)
        self.epoch = epoch
        self.seed = seed
        self.origin = int(value) if origin is None else origin
        return self

    def moved(self, value: int) -> EpochIndex:
        """Return ``value`` with the epoch, seed and origin of this index."""
        return EpochIndex(value, self.epoch, self.seed, self.origin)

    def __sub__(self, other: int) -> EpochIndex:
        """Return ``self - other``, which a concatenated data set needs."""
        return self.moved(int(self) - int(other))

    def __mod__(self, other: int) -> EpochIndex:
        """Return ``self % other``, which a repeated data set needs."""
        return self.moved(int(self) % int(other))

    def __reduce__(self) -> tuple[type[EpochIndex], tuple[int, int, int, int]]:
        """Pickle all four values, because samples are sent to worker processes this way."""
        return EpochIndex, (int(self), self.epoch, self.seed, self.origin)
