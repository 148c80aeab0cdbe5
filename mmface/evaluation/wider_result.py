# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Results of a WIDER FACE evaluation, for tables and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.wider_gt import SUBSETS


@dataclass
class WiderResult:
    """Average precision on easy, medium and hard, with the curves behind it."""

    ap: dict[str, float]
    """AP by subset, from 0 to 1; NaN for a subset without a face."""
    precision: dict[str, NDArray[np.float64]]
    """By subset, shape (1000,), from the highest threshold to 0; NaN where there is no proposal."""
    recall: dict[str, NDArray[np.float64]]
    """By subset, shape (1000,)."""
    faces: dict[str, int]
    """Number of faces of each subset."""
    protocol: str
    """``float`` or ``official``."""
    iou_thr: float
    """Minimum IoU of a hit."""
    partial: bool
    """Whether only a part of the images was selected for the evaluation."""
    images: int
    """Number of ground-truth images that were evaluated, with or without detections."""
    detections: int
    """Number of detections on these images."""
    missing: list[str] = field(default_factory=list)
    """Ground-truth images without a prediction entry; they count as without detections."""
    extra: int = 0
    """Number of predicted images that are not in the ground truth; they are ignored."""
    dropped_rows: int = 0
    """Number of detections dropped because of a NaN or infinite value."""
    nme: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By subset, mean keypoint error of the faces that are found and can be measured, and their
    number; empty without keypoints."""
    notes: list[str] = field(default_factory=list)
    """Further warnings, one sentence each."""

    def warnings(self) -> list[str]:
        """Return the warnings about the numbers, one sentence each."""
        texts = list(self.notes)
        if self.missing:
            events = len({name.split('/')[0] for name in self.missing})
            texts.append(
                f'{len(self.missing)} of {self.images} images ({events} events) have no '
                f'predictions, their faces count as missed (first: {self.missing[0]})'
            )
        if self.extra:
            texts.append(f'{self.extra} predicted images are not in the ground truth: ignored')
        if self.dropped_rows:
            texts.append(f'{self.dropped_rows} detections with NaN or infinite numbers: dropped')
        return texts

    def nme_line(self) -> str | None:
        """Return the keypoint errors in words, None without a measured face."""
        known = [f'{s} {nme:.4f} ({n} faces)' for s, (nme, n) in self.nme.items() if n]
        return f'NME of keypoints: {", ".join(known)}' if known else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the curves as JSON-ready values, NaN as None."""
        return {
            'ap': {name: None if math.isnan(ap) else ap for name, ap in self.ap.items()},
            'protocol': self.protocol,
            'iou_thr': self.iou_thr,
            'partial': self.partial,
            'images': self.images,
            'faces': self.faces,
            'detections': self.detections,
            'missing_images': len(self.missing),
            'extra_images': self.extra,
            'dropped_rows': self.dropped_rows,
            'warnings': self.warnings(),
        } | ({'nme': self._nme_dict()} if self.nme else {})

    def _nme_dict(self) -> dict[str, Any]:
        return {s: {'mean': nme if n else None, 'faces': n} for s, (nme, n) in self.nme.items()}


def format_table(results: Mapping[str, WiderResult]) -> str:
    """Format several results as a text table, in the given order.

    Args:
        results: Results by the name shown in the first column.
    """
    subsets = next(iter(results.values())).ap if results else SUBSETS
    header = ['', *subsets, 'images', 'detections', 'protocol']
    lines = [header]
    for name, result in results.items():
        protocol = result.protocol
        if result.iou_thr != 0.5:
            protocol += f' IoU {result.iou_thr:g}'
        if result.partial:
            protocol += ' (partial)'
        aps = [f'{result.ap[subset]:.4f}' for subset in subsets]
        lines.append([name, *aps, str(result.images), str(result.detections), protocol])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join(
        '  '.join(
            # The name and the protocol are text, the columns between them are numbers.
            cell.ljust(width) if column in (0, len(header) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def format_val_ap(result: WiderResult) -> str:
    """Return the result in the usual output format of WIDER FACE evaluations."""
    lines = [f'{name.title():6} Val AP: {ap:.6f}' for name, ap in result.ap.items()]
    part = ' (a part of WIDER FACE val)' if result.partial else ''
    lines.append(
        f'{result.images} images{part}, {result.detections} faces found, protocol '
        f'{result.protocol}, IoU {result.iou_thr:g}'
    )
    return '\n'.join(lines)
