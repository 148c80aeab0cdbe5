# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from mmface.evaluation.attributes import ATTRIBUTES, read_attributes
from mmface.evaluation.slices import all_slices, attribute_slices, evaluate_slices
from mmface.evaluation.wider_ap import count_along_scores, evaluate_rows, match_rows
from mmface.evaluation.wider_gt import SUBSETS, read_ground_truth
from mmface.evaluation.wider_match import match_image


@pytest.fixture(scope='module')
def attributes(drawn_gt) -> dict:
    rng = np.random.default_rng(3)
    return {
        name: rng.integers(0, len(values), len(drawn_gt.boxes))
        for name, values in ATTRIBUTES.items()
    }


@pytest.fixture(scope='module')
def matched(drawn_gt, drawn_rows):
    return match_rows(drawn_gt, drawn_rows)


@pytest.mark.parametrize('subset', SUBSETS)
def test_evaluate_slices__groups_add_up_to_the_whole(matched, attributes, subset):
    gt = matched.gt
    keep = gt.keep[subset]
    proposals, recalled = count_along_scores(matched, keep)
    false_finds = matched.false_finds
    results = evaluate_slices(matched, keep, all_slices(gt, attributes))
    groups = {name: list(own) for name, own in groupby(results, lambda piece: piece.group)}
    assert set(groups) == {*ATTRIBUTES, 'height', 'faces in the image', 'event'}
    for name, own in groups.items():
        assert sum(piece.faces for piece in own) == keep.sum(), name
        np.testing.assert_array_equal(sum(piece.recalled for piece in own), recalled)
        if name in ('faces in the image', 'event'):
            np.testing.assert_array_equal(sum(piece.proposals for piece in own), proposals)
        else:  # every slice of faces has all false finds
            hits = sum(piece.proposals - false_finds for piece in own)
            np.testing.assert_array_equal(hits + false_finds, proposals)


def test_evaluate_slices__recall_equals_a_naive_loop(drawn_gt, drawn_rows, matched, attributes):
    for subset in SUBSETS:
        keep = drawn_gt.keep[subset]
        for result in evaluate_slices(matched, keep, attribute_slices(attributes)):
            value = ATTRIBUTES[result.group].index(result.value)
            faces = found = 0
            for number, name in enumerate(drawn_gt.names):
                hit = set(match_image(drawn_rows[name], drawn_gt.boxes_of(number)).gt_index)
                for place in range(len(drawn_gt.boxes_of(number))):
                    face = drawn_gt.splits[number] + place
                    if keep[face] and attributes[result.group][face] == value:
                        faces += 1
                        found += place in hit
            # Detections of the lowest score reach no threshold of the protocol: none here is a hit.
            assert (result.faces, result.recalled[-1]) == (faces, found)


def test_evaluate_slices__ap_follows_the_rule_of_ignored_faces(
    drawn_gt, drawn_rows, matched, attributes
):
    import dataclasses

    for piece, result in zip(
        attribute_slices(attributes),
        evaluate_slices(matched, drawn_gt.keep['hard'], attribute_slices(attributes)),
        strict=True,
    ):
        keep = dict.fromkeys(SUBSETS, drawn_gt.keep['hard'] & piece.faces)
        gt = dataclasses.replace(drawn_gt, keep=keep)
        np.testing.assert_equal(result.ap, evaluate_rows(gt, drawn_rows).ap['hard'])


@pytest.mark.reference
def test_read_attributes__equal_the_official_text(reference_dir):
    folder = reference_dir / 'data' / 'wider'
    gt = read_ground_truth(folder / 'ground_truth')
    lines = (folder / 'annotations' / 'wider_face_val_bbx_gt.txt').read_text().split('\n')
    expected: dict[str, list] = {}
    place = 0
    while place < len(lines) and lines[place]:
        count = int(lines[place + 1])
        rows = [line.split() for line in lines[place + 2 : place + 2 + count]]
        expected[lines[place].removesuffix('.jpg')] = rows
        place += 2 + count
    columns = ('blur', 'expression', 'illumination', 'invalid', 'occlusion', 'pose')
    for part in (gt, gt.restrict(gt.names[100:900:7])):
        found = read_attributes(folder / 'ground_truth', part)
        rows = np.array([row for name in part.names for row in expected[name]], int)
        np.testing.assert_array_equal(part.boxes, rows[:, :4])
        for number, name in enumerate(columns, 4):
            np.testing.assert_array_equal(found[name], rows[:, number], err_msg=name)


def test_read_attributes__a_ground_truth_without_them(drawn_gt, write_mats, tmp_path):
    assert read_attributes(write_mats(drawn_gt, tmp_path), drawn_gt) == {}
