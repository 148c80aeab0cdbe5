# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A sample index that remembers where in the training it was drawn."""

from __future__ import annotations

from typing import SupportsIndex


class EpochIndex(int):
    """An ``int`` that carries the epoch and the seed it was drawn with.

    It indexes a data set as its plain value does. Data set wrappers shift or fold the
    index (``idx - start``, ``idx % length``): those two keep the additional values, any
    other arithmetic gives a plain ``int``.

    Attributes:
        epoch: Epoch, from 0, the index was drawn in.
        seed: Seed of the run.
        origin: Index as the sampler gave it, before wrappers changed it. Two copies of a
            image in a repeated data set differ in it.
    """

    epoch: int
    seed: int
    origin: int

    def __new__(
        cls, value: SupportsIndex, epoch: int, seed: int, origin: int | None = None
    ) -> EpochIndex:
        """Make an index with value ``value``; ``origin`` is ``value`` unless given."""
        self = super().__new__(cls, value)
        self.epoch = epoch
        self.seed = seed
        self.origin = int(value) if origin is None else origin
        return self

    def moved(self, value: int) -> EpochIndex:
        """Return ``value`` with the epoch, seed and origin of this index."""
        return EpochIndex(value, self.epoch, self.seed, self.origin)

    def __sub__(self, other: int) -> EpochIndex:
        """Give ``self - other``, as the parts of a concatenated data set need it."""
        return self.moved(int(self) - int(other))

    def __mod__(self, other: int) -> EpochIndex:
        """Give ``self % other``, as a repeated data set needs it."""
        return self.moved(int(self) % int(other))

    def __reduce__(self) -> tuple[type[EpochIndex], tuple[int, int, int, int]]:
        """Pickle all four values: samples travel to worker processes that way."""
        return EpochIndex, (int(self), self.epoch, self.seed, self.origin)
