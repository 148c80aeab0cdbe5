# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Notice predictions that were written in another form than they are read.

Boxes as corners, shares of the image size and exchanged columns are read without an error, and
give a very low AP. A sample of images is therefore matched in each of these forms as well. If
another form finds far more faces, it is probably the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.matched import Matched
from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.evaluation.wider_match import match_table

#: Below this AP on every subset, suspicious predictions are refused.
NEAR_ZERO = 0.1
_SAMPLE = 256
_SHARE = 1.5  # boxes in shares of the image may reach a little beyond it
#: Another form must hit this many times the faces, and this part of all faces.
_BETTER, _ENOUGH = 2, 0.05
_FEW_HITS = 20
#: Too few to notice anything.
_FEW_ROWS = 20
#: Enough scores for the comparison of two distributions.
_MANY = 20_000

_Rows = NDArray[np.float64]


def _corners(rows: _Rows) -> _Rows:
    return np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2], rows[:, 4:]], axis=1)


def _centres(rows: _Rows) -> _Rows:
    return np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:]], axis=1)


def _score_first(rows: _Rows) -> _Rows:
    return rows[:, [1, 2, 3, 4, 0]]


def _rows_first(rows: _Rows) -> _Rows:
    return rows[:, [1, 0, 3, 2, 4]]


def _scaled(factor: float) -> Callable[[_Rows], _Rows]:
    return lambda rows: rows * [factor, factor, factor, factor, 1]


#: Forms in which people write boxes by mistake. The images of WIDER FACE are 1,024 wide.
_FORMS: dict[str, Callable[[_Rows], _Rows]] = {
    'corners x1 y1 x2 y2 in place of x y w h': _corners,
    'centres cx cy w h in place of x y w h': _centres,
    'y x h w in place of x y w h': _rows_first,
    'corners y1 x1 y2 x2 in place of x y w h': lambda rows: _corners(_rows_first(rows)),
    'one column too many: score or class before x y w h': _score_first,
    'one column too many, then corners': lambda rows: _corners(_score_first(rows)),
    'boxes of images that were resized to a width of 640': _scaled(1024 / 640),
    'boxes of images that were halved': _scaled(2.0),
    'boxes of images that were resized to a width of 320': _scaled(1024 / 320),
    'boxes of images that were doubled': _scaled(0.5),
}


class Sample:
    """Rows of some images, collected while predictions are read.

    Args:
        gt: The ground truth that is evaluated.
    """

    def __init__(self, gt: WiderGroundTruth) -> None:
        self.gt = gt
        with_faces = np.flatnonzero(np.diff(gt.splits) > 0)
        step = max(1, len(with_faces) // _SAMPLE)
        self._wanted = frozenset(with_faces[::step].tolist())
        self.rows: dict[int, NDArray[np.float64]] = {}

    def add(self, images: Sequence[int], table: NDArray[np.float64], counts: Sequence[int]) -> None:
        """Keep the rows of the wanted images; arguments as of ``MatchCollector.add``."""
        end = 0
        for image, count in zip(images, counts, strict=True):
            end += count
            if image in self._wanted:
                self.rows[image] = table[end - count : end].copy()


def suspicions(matched: Matched, sample: Sample) -> list[str]:
    """Return what is strange about predictions, one sentence each.

    Args:
        matched: All detections.
        sample: Rows of some images of them.
    """
    if not len(matched.scores):
        return ['no detection was read']
    if len(matched.scores) < _FEW_ROWS:
        return []
    found = []
    if matched.scores.min() == matched.scores.max():
        found.append('all scores are equal')
    used = [image for image, rows in sample.rows.items() if len(rows)]
    if not used:
        return found
    rows = np.concatenate([sample.rows[image] for image in used])
    counts = np.array([len(sample.rows[image]) for image in used])
    if np.quantile(np.abs(rows[:, :4]), 0.99) <= _SHARE:
        found.append('the boxes look like shares of the image size (0 to 1); expected pixels')
    else:
        found += _other_form(sample.gt, used, rows, counts)
    if matched.first.sum() < 0.7 * len(matched.hits) or not len(matched.hits):
        found += _doubled(rows, counts)
    return found + _falling(matched)


def check_plausible(matched: Matched, sample: Sample, best_ap: float, name: str) -> list[str]:
    """Return ``suspicions``, or raise if the predictions also find nearly nothing.

    Args:
        matched: All detections.
        sample: Rows of some images of them.
        best_ap: The highest AP of the subsets.
        name: The file or folder, for the message.

    Raises:
        ValueError: There is a suspicion, and ``best_ap`` is below ``NEAR_ZERO``.
    """
    found = suspicions(matched, sample)
    if found and not best_ap >= NEAR_ZERO:
        raise ValueError(
            f'{name}: expected predictions in pixels, x y w h score, found an AP of at most '
            f'{best_ap:.4f}, and: {"; ".join(found)}. Repair the file, or '
            'evaluate it all the same (force)'
        )
    return found


def _other_form(
    gt: WiderGroundTruth, images: Sequence[int], rows: NDArray[np.float64], counts: NDArray
) -> list[str]:
    """Return the form in which far more faces are hit, if there is one."""
    boxes = [gt.boxes_of(image) for image in images]
    faces = np.array([len(own) for own in boxes])
    together = np.concatenate(boxes)
    starts = np.repeat(np.cumsum(faces) - faces, counts)

    def hits(table: NDArray[np.float64]) -> int:
        _, local = match_table(table, counts, together, faces)
        return len(np.unique((local + starts)[local >= 0]))

    as_read = hits(rows)
    if _BETTER * as_read >= len(together):
        return []
    best, form = max((hits(change(rows)), form) for form, change in _FORMS.items())
    if best <= _BETTER * as_read or best < _ENOUGH * len(together):
        return []
    return [
        f'the boxes look like {form} (so they hit {best} of {len(together)} faces in a sample, '
        f'as read {as_read})'
    ]


def _doubled(rows: NDArray[np.float64], counts: NDArray) -> list[str]:
    image = np.repeat(np.arange(len(counts)), counts)
    distinct = len(np.unique(np.column_stack([image, rows]), axis=0))
    if distinct > 0.7 * len(rows):
        return []
    return [f'{len(rows) - distinct} of {len(rows)} rows in a sample are repetitions']


def _falling(matched: Matched) -> list[str]:
    """Return whether hits have lower scores than false finds."""
    hit = matched.scores[matched.first]
    miss = matched.scores[matched.unmatched]
    miss = np.sort(miss[:: 1 + len(miss) // _MANY])
    if len(hit) < _FEW_HITS or len(miss) < _FEW_HITS:
        return []
    below = np.searchsorted(miss, hit).mean() / len(miss)
    above = 1 - np.searchsorted(miss, hit, side='right').mean() / len(miss)
    if above - below < 0.4:
        return []
    return [
        'faces that are found have lower scores than false finds; expected the highest score for '
        'the surest detection'
    ]
