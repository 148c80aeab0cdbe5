# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Everything that the report, the tables and the curves say about some detectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.bootstrap import (
    DRAWS,
    Difference,
    Interval,
    ap_of_draws,
    compare_all,
    draw_weights,
    interval,
)
from mmface.evaluation.errors import ErrorResult, find_errors, find_neighbours
from mmface.evaluation.matched import Matched
from mmface.evaluation.slices import Slice, SliceResult, all_slices, evaluate_slices
from mmface.evaluation.thresholds import Operation, operate
from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.evaluation.wider_result import WiderResult


@dataclass(frozen=True)
class DetectorStudy:
    """One detector; every dict is by subset."""

    matched: Matched
    result: WiderResult
    ap: dict[str, Interval]
    slices: dict[str, list[SliceResult]]
    errors: dict[str, ErrorResult]
    operation: dict[str, Operation]


@dataclass(frozen=True)
class Study:
    """Some detectors on the same images."""

    gt: WiderGroundTruth
    slices: list[Slice]
    detectors: dict[str, DetectorStudy]
    differences: dict[str, dict[tuple[str, str], Difference]]
    """By subset and pair of detectors."""
    draws: int
    """Number of bootstrap draws."""

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets; the last one has the most faces."""
        return self.gt.subsets

    @property
    def main(self) -> str:
        """The subset that examples are chosen for: its other faces are tiny or invalid."""
        return self.subsets[-1]


def study(
    gt: WiderGroundTruth,
    matched: Mapping[str, Matched],
    results: Mapping[str, WiderResult],
    attributes: Mapping[str, NDArray[np.integer]] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Study:
    """Compute everything.

    Args:
        gt: The ground truth.
        matched: Detections with their boxes, by name of the detector.
        results: The evaluations of the same detectors.
        attributes: See ``read_attributes``.
        draws: Number of bootstrap draws.
        seed: Seed of the draws.
    """
    slices = all_slices(gt, attributes)
    weights = draw_weights(len(gt.names), draws, seed)
    drawn = {name: ap_of_draws(own, gt.subsets, weights) for name, own in matched.items()}
    detectors = {}
    for name, own in matched.items():
        near = find_neighbours(own)
        keep = gt.keep
        detectors[name] = DetectorStudy(
            own,
            results[name],
            {s: interval(results[name].ap[s], drawn[name][s]) for s in gt.subsets},
            {s: list(evaluate_slices(own, keep[s], slices)) for s in gt.subsets},
            {s: find_errors(own, keep[s], near) for s in gt.subsets},
            {s: operate(own, keep[s]) for s in gt.subsets},
        )
    differences = {
        s: compare_all(
            {name: results[name].ap[s] for name in matched},
            {name: drawn[name][s] for name in matched},
        )
        for s in gt.subsets
    }
    return Study(gt, slices, detectors, differences, draws)
