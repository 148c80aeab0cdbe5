# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Own data of any classes, from the labels to the report."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from mmface.apis.own_truth import read_own_truth
from mmface.evaluation.prediction_files import match_predictions, open_predictions
from mmface.evaluation.wider_ap import evaluate_matched, evaluate_rows

TOOL = 'tools/evaluation/eval_widerface.py'
CLASSES = ('cat', 'dog', 'empty')
NUMBERS = (7, 3, 9)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Write labels of 30 images with two classes, and detections in three formats."""
    root = tmp_path_factory.mktemp('own')
    rng = np.random.default_rng(0)
    images, objects, found, dump, table = [], [], [], [], []
    for image in range(30):
        name = f'deep/part{image % 2}/img_{image}.jpg' if image % 3 else f'img_{image}.jpg'
        images.append({'id': 100 + image, 'file_name': name, 'width': 800, 'height': 600})
        rows = []
        for _ in range(rng.integers(0, 6)):
            kind = int(rng.integers(0, 2))
            box = [*rng.integers(0, 400, 2).tolist(), *rng.integers(8, 200, 2).tolist()]
            crowd = int(rng.random() < 0.1)
            objects.append({
                'id': len(objects) + 1, 'image_id': 100 + image, 'category_id': NUMBERS[kind],
                'bbox': box, 'area': box[2] * box[3], 'iscrowd': crowd,
            })  # fmt: skip
            near = np.array(box) + rng.normal(0, 0.1, 4) * np.array(box)[[2, 3, 2, 3]]
            # Sometimes of the wrong class.
            rows.append((kind if rng.random() < 0.8 else 1 - kind, near, rng.uniform(0.3, 1)))
        for _ in range(2):
            place = np.array([*rng.uniform(0, 400, 2), *rng.uniform(9, 90, 2)])
            rows.append((int(rng.integers(0, 2)), place, rng.uniform(0, 0.6)))
        for kind, box, score in rows:
            entry = {'image_id': 100 + image, 'category_id': NUMBERS[kind]}
            found.append({**entry, 'bbox': box.tolist(), 'score': score})
        corners = np.array([[*box[:2], *(box[:2] + box[2:])] for _, box, _ in rows]).reshape(-1, 4)
        scores, kinds = [row[2] for row in rows], [row[0] for row in rows]
        dump.append({
            'img_id': 100 + image, 'img_path': f'data/own/{name}',
            'pred_instances': {
                'bboxes': torch.tensor(corners), 'scores': torch.tensor(scores).double(),
                'labels': torch.tensor(kinds, dtype=torch.int64),
            },
        })  # fmt: skip
        table.append({
            'image': f'data/own/{name}', 'bboxes': corners.tolist(), 'scores': scores,
            'classes': [CLASSES[kind] for kind in kinds], 'error': None,
        })  # fmt: skip
    kinds = [{'id': n, 'name': name} for n, name in zip(NUMBERS, CLASSES, strict=True)]
    truth = {'images': images, 'annotations': objects, 'categories': kinds}
    (root / 'truth.json').write_text(json.dumps(truth))
    (root / 'found.json').write_text(json.dumps(found))
    (root / 'found.pkl').write_bytes(pickle.dumps(dump))
    return root, truth, found, table


def test_read_own_truth__one_ground_truth_for_each_class_with_boxes(world):
    root, truth, _, _ = world
    found = read_own_truth(root / 'truth.json')
    assert [(own.name, own.number) for own, _ in found] == [('cat', 7), ('dog', 3)]
    for category, gt in found:
        own = [o for o in truth['annotations'] if o['category_id'] == category.number]
        assert len(gt.boxes) == len(own)
        assert gt.subsets == ('small', 'medium', 'large', 'all')
        assert gt.keep['all'].sum() == sum(not o['iscrowd'] for o in own)
        sizes = [gt.keep[size] for size in ('small', 'medium', 'large')]
        np.testing.assert_array_equal(sum(size.astype(int) for size in sizes), gt.keep['all'])
        areas = sorted(o['area'] for o in own if not o['iscrowd'] and o['area'] >= 96**2)
        boxes = gt.boxes[gt.keep['large']]
        np.testing.assert_allclose(sorted(boxes[:, 2] * boxes[:, 3]), areas, rtol=1e-4)


def test_read_own_truth__formats_give_the_rows_of_the_class(world, tmp_path):
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    root, _, results, table = world
    (tmp_path / 'shards').mkdir()
    for number, own in enumerate((table[:10], table[10:])):
        path = tmp_path / 'shards' / f'{number}.parquet'
        parquet.write_table(pyarrow.Table.from_pylist(own), path)
    for category, gt in read_own_truth(root / 'truth.json'):
        rows = {}
        for number, name in enumerate(gt.names):
            own = [
                [*one['bbox'], one['score']]
                for one in results
                if (one['image_id'], one['category_id']) == (100 + number, category.number)
            ]
            rows[name] = np.array(own).reshape(-1, 5)
        expected = evaluate_rows(gt, rows).ap
        for path in (root / 'found.json', root / 'found.pkl', tmp_path / 'shards'):
            source = open_predictions(path, gt, image_ids=root / 'truth.json', category=category)
            matched, _ = match_predictions(source, gt)
            assert (matched.extra, matched.missing) == (0, [])
            assert evaluate_matched(matched).ap == pytest.approx(expected, abs=1e-9)


def test_eval_widerface__own_data_of_several_classes(world, door, tmp_path):
    root, _, _, _ = world
    done = door(
        TOOL, root / 'found.json', root / 'found.pkl', '--gt', root / 'truth.json',
        '--report', tmp_path / 'report', '--draws', '20', '--curves', tmp_path / 'curves.json',
        '--plot', tmp_path / 'pr.png',
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        'small', 'medium', 'large', 'all', 'images', 'detections', 'protocol',
    ]  # fmt: skip
    assert len(lines) == 1 + 2 * 2
    for kind in ('cat', 'dog'):
        own = [line.split()[2:] for line in lines if f', {kind} ' in line]
        assert own[0] == own[1]
        assert f'truth: {kind}' in (tmp_path / 'report' / kind / 'index.html').read_text()
    assert set(json.loads((tmp_path / 'curves.json').read_text())) == {
        f'found.{suffix}, {kind}' for suffix in ('json', 'pkl') for kind in ('cat', 'dog')
    }


def test_eval_widerface__own_data_takes_no_official_protocol_and_no_text(world, door, tmp_path):
    root, _, _, _ = world
    gt = ('--gt', root / 'truth.json')
    done = door(TOOL, root / 'found.json', *gt, '--protocol', 'official', ok=False)
    assert 'own labels take the protocol float' in done.stderr
    (tmp_path / 'img_0.txt').write_text('img_0\n0\n')
    done = door(TOOL, tmp_path, *gt, ok=False)
    assert 'text files have no classes' in done.stderr


def test_read_own_truth__nothing_to_evaluate_is_refused(world, tmp_path):
    _, truth, _, _ = world
    crowds = [{**one, 'iscrowd': 1} for one in truth['annotations']]
    (tmp_path / 'a.json').write_text(json.dumps({**truth, 'annotations': crowds}))
    with pytest.raises(ValueError, match='at least one box that is not ignored'):
        read_own_truth(tmp_path / 'a.json')
