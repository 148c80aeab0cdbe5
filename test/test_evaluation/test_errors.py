# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Kinds of errors and their costs, against a re-evaluation of mended predictions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mmface.evaluation.errors import KINDS, find_errors
from mmface.evaluation.wider_ap import evaluate_rows, match_rows

# An image without faces: its detections count nowhere, but fix the score range while others go.
ENDS = np.array([[0, 0, 9, 9, 1.0], [20, 0, 9, 9, 0.0]])


def iou(a, b) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + 1
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + 1
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] + 1) * (a[3] + 1) + (b[2] + 1) * (b[3] + 1) - inter)


def random_set(make_gt, rng):
    """Draw three images with few places, so that boxes meet in every way."""
    images, rows = {}, {}
    for number in range(3):
        count = rng.integers(1, 5)
        boxes = np.column_stack([rng.integers(0, 60, (count, 2)), rng.integers(10, 30, (count, 2))])
        hard = rng.random(count) < 0.7
        images[f'a/{number}'] = (boxes, hard, hard, hard)
        near = boxes[rng.integers(0, count, 6)] + rng.integers(-9, 10, (6, 4))
        far = np.column_stack([rng.integers(0, 200, (3, 2)), rng.integers(5, 30, (3, 2))])
        scores = rng.integers(1, 12, 9) / 12  # ties
        rows[f'a/{number}'] = np.column_stack([np.concatenate([near, far]), scores])
    images['a/none'] = ([], [], [], [])
    rows['a/none'] = ENDS
    return make_gt(images), rows


def classify(gt, rows):
    """Sort each image and return (image, row, kind, face), and the missed faces, by loops."""
    keep, kinds, missed, ordered = gt.keep['hard'], [], [], {}
    for number, name in enumerate(gt.names):
        own = rows[name][np.argsort(-rows[name][:, 4], kind='stable')]
        ordered[name] = own
        first = int(gt.splits[number])
        boxes = gt.boxes_of(number)
        used, reached = set(), set()
        for place, row in enumerate(own if len(boxes) else []):
            overlaps = [iou(row, box) for box in boxes]
            best = int(np.argmax(overlaps))
            if overlaps[best] >= 0.5:
                reached.add(best)
                if keep[first + best] and best in used:
                    kinds.append((name, place, 'duplicate', best))
                used.add(best)
            elif overlaps[best] >= 0.1:
                kind = 'localisation' if keep[first + best] else 'ignored'
                kinds.append((name, place, kind, best))
                reached.add(best)
            else:
                kinds.append((name, place, 'background', -1))
        missed += [first + j for j in range(len(boxes)) if j not in reached and keep[first + j]]
        kinds += [(name, None, 'hit', face) for face in used]
    return ordered, kinds, missed


def mend(gt, rows, kind):
    """Return ground truth and predictions with all errors of a kind mended."""
    ordered, kinds, missed = classify(gt, rows)
    if kind == 'missed':
        keep = gt.keep['hard'].copy()
        keep[missed] = False
        return dataclasses.replace(gt, keep=dict.fromkeys(gt.keep, keep)), ordered
    found = {(name, face) for name, place, what, face in kinds if what == 'hit'}
    new = {}
    for name, table in ordered.items():
        drop = np.zeros(len(table), bool)
        table = table.copy()
        for image, place, what, face in kinds:
            if image != name or what != kind:
                continue
            if kind == 'localisation' and (name, face) not in found:
                found.add((name, face))
                table[place, :4] = gt.boxes_of(gt.index[name])[face]
            else:
                drop[place] = True
        new[name] = table[~drop]
    return gt, new


def test_find_errors__costs_equal_a_re_evaluation_of_mended_sets(make_gt):
    rng = np.random.default_rng(0)
    seen = dict.fromkeys(KINDS, 0)
    for _ in range(200):
        gt, rows = random_set(make_gt, rng)
        keep = gt.keep['hard']
        if not keep.any():
            continue
        result = find_errors(match_rows(gt, rows), keep)
        _, kinds, missed = classify(gt, rows)
        assert result.ap == evaluate_rows(gt, rows).ap['hard']
        assert np.flatnonzero(result.missed).tolist() == sorted(missed)
        for kind in KINDS:
            count = len(missed) if kind == 'missed' else sum(kind == what[2] for what in kinds)
            assert result.count[kind] == count, kind
            seen[kind] += count
            mended = evaluate_rows(*mend(gt, rows, kind)).ap['hard']
            expected = 0.0 if np.isnan(mended) else mended - result.ap
            assert result.cost[kind] == pytest.approx(expected, abs=1e-12), kind
    assert min(seen.values()) > 50  # every kind was tried


def test_find_errors__kinds_cover_every_detection_that_is_no_find(drawn_gt, drawn_rows):
    matched = match_rows(drawn_gt, drawn_rows)
    for keep in drawn_gt.keep.values():
        result = find_errors(matched, keep)
        counted = np.zeros(len(matched.face), bool)
        counted[matched.hits] = keep[matched.face[matched.hits]]
        finds = matched.first & counted
        ignored = (matched.face >= 0) & ~counted
        no_face = np.isin(matched.image, np.flatnonzero(np.diff(drawn_gt.splits) == 0))
        assert ((result.kind >= 0) ^ (finds | ignored | no_face)).all()
        assert all(cost >= -1e-12 for cost in result.cost.values())


def test_find_errors__needs_boxes(small_gt, small_rows):
    matched = dataclasses.replace(match_rows(small_gt, small_rows), boxes=None)
    with pytest.raises(ValueError, match='keep_boxes'):
        find_errors(matched, small_gt.keep['hard'])
