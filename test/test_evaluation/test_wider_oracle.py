# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Compare the vectorised metric with a loop over images, thresholds, detections and faces.

The loops below are written from a description of the protocols and share no code with the
package. Integers of the official protocol are exact fractions, rounded at each step.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_gt import SUBSETS
from mmface.evaluation.wider_match import match_image, match_images

LIMIT = 2**31


def int32(value) -> int:
    value = Fraction(value)
    whole = int(abs(value) + Fraction(1, 2))  # int() rounds towards zero: halves away from zero
    return max(-LIMIT, min(LIMIT - 1, whole if value >= 0 else -whole))


def slow_iou(box, gt, protocol) -> float:
    x1, y1, w, h = map(float, box)
    x2, y2 = x1 + w, y1 + h
    gx1, gy1, gw, gh = map(float, gt)
    gx2, gy2 = gx1 + gw, gy1 + gh
    area = (x2 - x1 + 1) * (y2 - y1 + 1)
    gt_area = (gx2 - gx1 + 1) * (gy2 - gy1 + 1)
    if protocol == 'official':
        x1, y1, x2, y2 = int32(x1), int32(y1), int32(x2), int32(y2)
    width = min(x2, gx2) - max(x1, gx1) + 1
    height = min(y2, gy2) - max(y1, gy1) + 1
    if width <= 0 or height <= 0:
        return 0
    inter = width * height
    if protocol == 'float':
        return inter / (area + gt_area - inter)
    union = int32(int32(gt_area + area) - inter)
    if union == 0:
        return LIMIT - 1
    return int32(Fraction(inter) / union)


def slow_hit(box, gts, protocol, iou_thr) -> int:
    best, where = -np.inf, -1
    for k, gt in enumerate(gts):
        iou = slow_iou(box, gt, protocol)
        if iou > best:  # strictly greater: the first of equal ones wins
            best, where = iou, k
    return where if best >= iou_thr else -1


def slow_evaluate(images, keeps, rows, protocol, iou_thr) -> float:
    """Return the AP of one subset; images: boxes by name, keeps: masks by name, rows by name."""
    scores = [row[4] for name in images for row in rows.get(name, [])]
    if protocol == 'float':
        low, high = min(scores), max(scores)
    else:
        low, high = np.finfo(np.float32).max, np.finfo(np.float32).tiny
        for score in np.float32(scores):
            low, high = min(low, score), max(high, score)
    proposals, recalled, faces = np.zeros(1000), np.zeros(1000), 0
    for name, gts in images.items():
        faces += sum(keeps[name])
        ordered = sorted(rows.get(name, []), key=lambda row: -row[4])
        if not len(gts) or not len(ordered):
            continue
        state = [0] * len(gts)
        proposal, found, normalised = [], [], []
        for row in ordered:
            counts = 1
            k = slow_hit(row[:4], gts, protocol, iou_thr)
            if k >= 0:
                if not keeps[name][k]:
                    state[k] = -1
                    counts = -1
                elif state[k] == 0:
                    state[k] = 1
            proposal.append(counts)
            found.append(sum(s == 1 for s in state))
            score = row[4] if protocol == 'float' else np.float32(row[4])
            with np.errstate(all='ignore'):
                normalised.append(float((score - low) / (high - low)))
        for t in range(1, 1001):
            reached = [i for i, score in enumerate(normalised) if score >= 1 - t / 1000]
            if reached:
                last = reached[-1]
                proposals[t - 1] += sum(p == 1 for p in proposal[: last + 1])
                recalled[t - 1] += found[last]
    if not faces:
        return float('nan')
    ap, best = 0.0, 0.0
    recalls = [0.0, *(recalled / faces)]
    for t in range(1000, 0, -1):
        best = max(best, recalled[t - 1] / proposals[t - 1] if proposals[t - 1] else 0.0)
        ap += (recalls[t] - recalls[t - 1]) * best
    return ap


def random_world(rng, whole: bool, smallest: int = 0):
    """Return a few images with crowded faces of few pixels, and detections near and far."""
    images, rows = {}, {}
    for number in range(5):
        name = f'{number % 2}--E/{number}'
        count = int(rng.integers(0 if number == 4 else 1, 7))
        xy = rng.integers(0, 40, (count, 2))
        gts = np.concatenate([xy, rng.integers(smallest, 25, (count, 2))], axis=1)
        if count > 2:
            gts[1] = gts[0]  # a tie
            gts[2, 2] = -2  # as in the official hard set
        keeps = [rng.random(count) < share for share in (0.4, 0.6, 0.9)]
        images[name] = (gts, *keeps)
        near = gts[rng.integers(0, count, 12)] if count else np.empty((0, 4))
        near = near + rng.normal(0, 1.5, near.shape)
        far = np.concatenate([rng.uniform(0, 40, (6, 2)), rng.uniform(-3, 25, (6, 2))], axis=1)
        boxes = np.concatenate([near, far])
        if whole:
            boxes = np.round(boxes)
        scores = np.round(rng.random(len(boxes)), 2)  # ties among scores
        rows[name] = np.column_stack([boxes, scores])[rng.permutation(len(boxes))]
    return images, rows


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('whole', [True, False], ids=['whole-pixels', 'floats'])
@pytest.mark.parametrize(
    ('protocol', 'iou_thr'), [('float', 0.5), ('float', 0.4), ('official', 0.5)]
)
def test_evaluate__equals_literal_loops(make_gt, protocol, iou_thr, whole, seed):
    images, rows = random_world(np.random.default_rng(seed), whole)
    got = evaluate_rows(make_gt(images), rows, protocol, iou_thr)
    boxes = {name: image[0] for name, image in images.items()}
    for k, subset in enumerate(SUBSETS, 1):
        keeps = {name: image[k] for name, image in images.items()}
        expected = slow_evaluate(boxes, keeps, rows, protocol, iou_thr)
        assert got.ap[subset] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert max(got.ap.values()) > 0.02, 'the case tests nothing'


@pytest.mark.parametrize(
    ('protocol', 'iou_thr'), [('float', 0.5), ('float', 0.2), ('float', 0.9), ('official', 0.5)]
)
def test_match_images__skips_no_pair_that_hits(protocol, iou_thr):
    """Check border cases of the selection of candidate pairs by their centres."""
    rng = np.random.default_rng(3)
    rows, gts = [], []
    for _ in range(250):
        gt = np.concatenate([rng.integers(-5, 60, (4, 2)), rng.integers(-1, 30, (4, 2))], axis=1)
        gt[0, 3] = rng.integers(0, 3)
        source = gt[rng.integers(0, 4, 10)].astype(float)
        # Corners moved by up to the size of the face: from nested to shifted, near the limit.
        corners = np.concatenate([source[:, :2], source[:, :2] + source[:, 2:]], axis=1)
        corners += rng.uniform(-1, 1, (10, 4)) * np.tile(source[:, 2:], 2) * rng.choice([0.3, 1, 2])
        box = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        box[0, 3] = rng.uniform(-1, 0)  # height below one pixel
        box[1] = gt[1] + [0.5, -0.5, 0.5, 0.5]
        rows.append(np.column_stack([box, np.linspace(1, 0, 10)]))
        gts.append(gt)
    matches = match_images(rows, gts, iou_thr, protocol)
    expected = [
        [slow_hit(box, gt, protocol, iou_thr) for box in image[:, :4]]
        for image, gt in zip(rows, gts, strict=True)
    ]
    np.testing.assert_array_equal([match.gt_index for match in matches], expected)
    assert (np.array(expected) >= 0).mean() > 0.02, 'the case tests nothing'


def test_match_image__official_finds_face_of_one_row_in_flat_box():
    # Rounded, it is a box of 40 x 1 on a face of 10 x 1. Its own area of 4 is not rounded.
    flat = np.array([[0.0, 10.4, 39.0, -0.9, 1.0]])
    face = np.array([[15, 10, 9, 0]])
    assert slow_hit(flat[0, :4], face, 'official', 0.5) == 0
    assert match_image(flat, face, protocol='official').gt_index.tolist() == [0]


def test_match_image__float_takes_best_face_and_official_the_first():
    faces = np.array([[0, 0, 20, 20], [3, 0, 20, 20]])
    row = np.array([[3, 0, 20, 20, 0.5]])
    assert match_image(row, faces, protocol='float').gt_index.tolist() == [1]
    assert match_image(row, faces, protocol='official').gt_index.tolist() == [0]


def test_match_image__half_overlap_hits_in_both_protocols():
    # 10 of 20 pixels: exactly 0.5.
    face, row = np.array([[0, 0, 19, 0]]), np.array([[0, 0, 9, 0, 1.0]])
    for protocol in ('float', 'official'):
        assert match_image(row, face, protocol=protocol).gt_index.tolist() == [0]
    below = np.array([[0, 0, 8.9, 0, 1.0]])
    assert match_image(below, face, protocol='float').gt_index.tolist() == [-1]


def test_match_images__survives_boxes_far_outside():
    face = np.array([[0, 0, 19, 19]])
    rows = np.array([[1e300, 0, 10, 10, 1.0], [-1e12, 5, 10, 10, 0.9], [0, 0, 19, 19, 0.8]])
    for protocol in ('float', 'official'):
        assert match_image(rows, face, protocol=protocol).gt_index.tolist() == [-1, -1, 0]
