# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Keypoint errors of own data, from the files to the report."""

from __future__ import annotations

import json
import pickle
from itertools import groupby

import numpy as np
import pytest
import torch

from mmface.apis.own_truth import read_own_truth
from mmface.evaluation.metrics.keypoint_nme_metric import KeypointNMEMetric
from mmface.evaluation.prediction_files import match_predictions, open_predictions
from mmface.evaluation.slices import all_slices, evaluate_slices
from mmface.evaluation.wider_ap import evaluate_matched
from mmface.evaluation.wider_match import match_image

TOOL = 'tools/evaluation/eval_widerface.py'
FORMATS = ('results.json', 'labels.json', 'found.pkl', 'found.parquet')
NAMES = ('left_eye', 'right_eye', 'nose', 'left_mouth', 'right_mouth')
SHAPE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])


def draw_truth(rng) -> dict[str, dict]:
    """Draw faces; of some, points are missing (one eye, another one, all), some are ignored."""
    images = {}
    for image in range(24):
        count = int(rng.integers(0, 6))
        boxes = np.column_stack([
            200 * np.arange(count), rng.integers(0, 300, count), rng.integers(9, 150, (count, 2)),
        ]).astype(float).reshape(-1, 4)  # fmt: skip
        points = boxes[:, None, :2] + SHAPE * boxes[:, None, 2:]
        weights = np.ones((count, 5))
        weights[rng.random(count) < 0.2, rng.integers(0, 5)] = 0
        weights[rng.random(count) < 0.2] = 0
        points = np.where(weights[..., None] > 0, points, 0)
        ignore = rng.random(count) < 0.15
        images[f'event{image % 2}/img_{image}'] = dict(
            boxes=boxes, points=np.dstack([points, 2 * weights]), ignore=ignore
        )
    return images


def draw_found(truth: dict, rng) -> dict[str, tuple]:
    """Draw rows x, y, w, h, score and keypoints: 0 to 2 near each face, and false finds."""
    found = {}
    for name, image in truth.items():
        near = np.repeat(np.arange(len(image['boxes'])), rng.integers(0, 3, len(image['boxes'])))
        boxes = image['boxes'][near]
        boxes = boxes + rng.normal(0, 0.06, boxes.shape) * boxes[:, [2, 3, 2, 3]]
        boxes = np.concatenate([boxes, [[1500.0, 10, 30, 40]]])
        rows = np.column_stack([boxes, rng.uniform(0.1, 1, len(boxes))])
        points = boxes[:, None, :2] + SHAPE * boxes[:, None, 2:]
        found[name] = rows, points + rng.normal(0, 1, points.shape)
    return found


def write_truth(path, truth: dict) -> None:
    entries = [
        {'id': 1 + 10 * number + face, 'image_id': number, 'category_id': 1,
         'bbox': box.tolist(), 'area': box[2] * box[3], 'iscrowd': int(ignore),
         'keypoints': points.ravel().tolist()}
        for number, image in enumerate(truth.values())
        for face, (box, points, ignore) in enumerate(zip(*image.values(), strict=True))
    ]  # fmt: skip
    content = {
        'images': images_of(truth),
        'annotations': entries,
        'categories': [{'id': 1, 'name': 'face', 'keypoints': NAMES, 'skeleton': []}],
    }
    path.write_text(json.dumps(content))


def images_of(truth: dict) -> list[dict]:
    return [
        {'id': number, 'file_name': f'{name}.jpg', 'width': 2000, 'height': 500}
        for number, name in enumerate(truth)
    ]


def write_found(root, found: dict) -> None:
    results, dump, table = [], [], []
    for number, (name, (rows, points)) in enumerate(found.items()):
        for row, own in zip(rows, points, strict=True):
            places = np.column_stack([own, np.ones(5)]).ravel().tolist()
            results.append({
                'image_id': number, 'category_id': 1, 'bbox': row[:4].tolist(),
                'score': row[4], 'keypoints': places,
            })  # fmt: skip
        corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        scores = rows[:, 4]
        dump.append({
            'img_id': f'{name}.jpg',
            'pred_instances': {
                'bboxes': torch.tensor(corners), 'scores': torch.tensor(scores),
                'labels': torch.zeros(len(rows), dtype=torch.int64),
                'keypoints': torch.tensor(points),
            },
        })  # fmt: skip
        table.append({
            'image': f'data/{name}.jpg', 'bboxes': corners.tolist(), 'scores': scores.tolist(),
            'classes': None, 'keypoints': points.tolist(), 'error': None,
        })  # fmt: skip
    (root / 'results.json').write_text(json.dumps(results))
    labels = {'images': images_of(found), 'annotations': results}
    (root / 'labels.json').write_text(json.dumps(labels))
    (root / 'found.pkl').write_bytes(pickle.dumps(dump))
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(table), root / 'found.parquet')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp('nme')
    rng = np.random.default_rng(5)
    truth = draw_truth(rng)
    found = draw_found(truth, rng)
    write_truth(root / 'truth.json', truth)
    write_found(root, found)
    return root, truth, found


def match(root, name='found.pkl', gt=None):
    if gt is None:
        ((_, gt),) = read_own_truth(root / 'truth.json')
    source = open_predictions(root / name, gt, image_ids=root / 'truth.json')
    return match_predictions(source, gt)[0], source


def naive_errors(truth: dict, found: dict) -> dict[str, np.ndarray]:
    """Return the error of each face of each image, NaN where it cannot be measured."""
    errors = {}
    for name, image in truth.items():
        rows, points = found[name]
        order = np.argsort(-rows[:, 4])
        hits = match_image(rows[order], image['boxes']).gt_index.tolist()
        own = np.full(len(image['boxes']), np.nan)
        for face, labelled in enumerate(image['points']):
            if face not in hits or not labelled[0, 2] or not labelled[1, 2]:
                continue
            best = points[order[hits.index(face)]]
            distances = [np.hypot(*(best[k] - labelled[k, :2])) for k in range(5) if labelled[k, 2]]
            eyes = np.hypot(*(labelled[0, :2] - labelled[1, :2]))
            own[face] = np.mean(distances) / eyes
        errors[name] = own
    return errors


@pytest.mark.parametrize('name', FORMATS)
def test_match_predictions__every_format_gives_the_errors_of_a_naive_loop(world, name):
    root, truth, found = world
    matched, source = match(root, name)
    expected = naive_errors(truth, found)
    together = np.concatenate([expected[own] for own in matched.gt.names])
    assert 10 < np.isfinite(together).sum() < len(together) - 10
    np.testing.assert_allclose(matched.point_errors, together, rtol=1e-4)  # labels are float32
    assert not source.notes


def test_evaluate_matched__nme_is_that_of_the_metric(world):
    root, truth, found = world
    metric = KeypointNMEMetric()
    for name, image in truth.items():
        rows, points = found[name]
        boxes, rows = image['boxes'].copy(), rows.copy()
        for table in (boxes, rows):
            table[:, 2:4] += table[:, :2]
        metric.process(None, [{
            'img_path': f'{name}.jpg',
            'gt_instances': {
                'bboxes': torch.tensor(boxes)[~image['ignore']],
                'keypoints': torch.tensor(image['points'])[~image['ignore']],
            },
            'pred_instances': {
                'bboxes': torch.tensor(rows[:, :4]), 'scores': torch.tensor(rows[:, 4]),
                'keypoints': torch.tensor(points),
            },
        }])  # fmt: skip
    expected = metric.compute_metrics(metric.results)
    nme, faces = evaluate_matched(match(root)[0]).nme['all']
    assert nme == pytest.approx(expected['nme'], rel=1e-4)
    assert faces > 10


def test_evaluate_slices__errors_of_a_group_recombine_to_the_whole(world):
    matched, _ = match(world[0])
    whole = evaluate_matched(matched).nme
    assert whole['all'][1] == sum(whole[size][1] for size in ('small', 'medium', 'large'))
    for subset, keep in matched.gt.keep.items():
        results = evaluate_slices(matched, keep, all_slices(matched.gt))
        for group, own in groupby(results, lambda piece: piece.group):
            pieces = [piece for piece in own if piece.measured]
            assert sum(piece.measured for piece in pieces) == whole[subset][1], group
            if pieces:
                total = sum(piece.nme * piece.measured for piece in pieces)
                assert total / whole[subset][1] == pytest.approx(whole[subset][0])


def test_evaluate_slices__error_of_an_event_is_that_of_its_images(world):
    root, truth, found = world
    matched, _ = match(root)
    errors = naive_errors(truth, found)
    pieces = evaluate_slices(matched, matched.gt.keep['all'], all_slices(matched.gt))
    events = {piece.value: piece for piece in pieces if piece.group == 'event'}
    assert set(events) == {'event0', 'event1'}
    for event, piece in events.items():
        own = [errors[n][~truth[n]['ignore']] for n in truth if n.startswith(event)]
        assert piece.nme == pytest.approx(np.nanmean(np.concatenate(own)), rel=1e-4)


def test_restrict__keeps_the_keypoints_of_its_images(world):
    root, truth, found = world
    ((_, gt),) = read_own_truth(root / 'truth.json')
    part = gt.restrict(gt.names[3:9])
    matched, _ = match(root, gt=part)
    expected = np.concatenate([naive_errors(truth, found)[name] for name in part.names])
    np.testing.assert_allclose(matched.point_errors, expected, rtol=1e-4)


def test_match_predictions__keypoints_are_only_read_if_labelled(world, tmp_path):
    root, truth, _ = world
    bare = {name: image | {'points': image['points'] * 0} for name, image in truth.items()}
    write_truth(tmp_path / 'truth.json', bare)
    ((_, gt),) = read_own_truth(tmp_path / 'truth.json')
    for name in FORMATS:
        source = open_predictions(root / name, gt, image_ids=root / 'truth.json')
        assert {table.shape[1] for _, table, _ in source} == {5}
        matched, _ = match(root, name, gt)
        assert matched.points is None
        result = evaluate_matched(matched)
        assert (result.nme, result.nme_line()) == ({}, None)
        assert 'nme' not in result.to_dict()
        assert result.ap == evaluate_matched(match(root, name)[0]).ap


def test_match_predictions__other_numbers_of_keypoints_are_a_counted_warning(world, tmp_path):
    root, _, found = world
    three = {name: (rows, points[:, :3]) for name, (rows, points) in found.items()}
    samples = pickle.loads((root / 'found.pkl').read_bytes())
    for sample, (_, points) in zip(samples, three.values(), strict=True):
        sample['pred_instances']['keypoints'] = torch.tensor(points)
    (tmp_path / 'three.pkl').write_bytes(pickle.dumps(samples))
    ((_, gt),) = read_own_truth(root / 'truth.json')
    matched, source = match(tmp_path, 'three.pkl', gt)
    count = sum(len(rows) for rows, _ in found.values())
    assert source.notes == [
        f'the keypoints of {count} detections are not evaluated: expected 5 as in the labels, '
        'found 3'
    ]
    assert evaluate_matched(matched).nme['all'][1] == 0
    assert evaluate_matched(matched).nme_line() is None


def test_match_predictions__a_missing_point_of_coco_is_not_measured(world, tmp_path):
    """As ``mmface detect --coco`` writes a point outside of the image; or no points at all."""
    root, _, _ = world
    results = json.loads((root / 'results.json').read_text())
    for entry in results[::2]:
        entry['keypoints'][6:9] = [0, 0, 0]
    for entry in results[1::2]:
        del entry['keypoints']
    (tmp_path / 'results.json').write_text(json.dumps(results))
    ((_, gt),) = read_own_truth(root / 'truth.json')
    source = open_predictions(tmp_path / 'results.json', gt, image_ids=root / 'truth.json')
    matched, _ = match_predictions(source, gt)
    # Only faces whose third point is not labelled can be measured.
    found = np.isfinite(matched.points[:, 0, 0])
    assert found.any()
    assert np.isnan(matched.points[found, 2]).all()
    measured = np.isfinite(matched.point_errors)
    assert not (gt.keypoints[measured, 2, 2] > 0).any()


@pytest.mark.parametrize('name', ['results.json', 'found.pkl'])
def test_match_predictions__damaged_keypoints_are_an_error(world, tmp_path, name):
    root, _, _ = world
    if name.endswith('.json'):
        content = json.loads((root / name).read_text())
        content[4]['keypoints'] = [1, 2, 3, 4]
        (tmp_path / name).write_text(json.dumps(content))
    else:
        content = pickle.loads((root / name).read_bytes())
        content[4]['pred_instances']['keypoints'] = torch.zeros(1, 10)
        (tmp_path / name).write_bytes(pickle.dumps(content))
    ((_, gt),) = read_own_truth(root / 'truth.json')
    source = open_predictions(tmp_path / name, gt, image_ids=root / 'truth.json')
    with pytest.raises(ValueError, match=rf'{name}: .*expected .*keypoints'):
        match_predictions(source, gt)


def test_eval_widerface__prints_and_reports_the_errors(world, tmp_path, run_tool):
    root, _, _ = world
    truth = root / 'truth.json'
    out = run_tool(
        TOOL, root / 'found.pkl', root / 'results.json', '--gt', truth, '--report',
        tmp_path / 'report', '--json', tmp_path / 'out.json', '--draws', 10,
    ).stdout  # fmt: skip
    matched, _ = match(root)
    nme, faces = evaluate_matched(matched).nme['all']
    for name in ('found.pkl', 'results.json'):
        (line,) = [line for line in out.splitlines() if line.startswith(f'{name}: NME')]
        assert line.endswith(f'all {nme:.4f} ({faces} faces)')
        own = json.loads((tmp_path / 'out.json').read_text())[name]['nme']['all']
        assert own == {'mean': pytest.approx(nme), 'faces': faces}
    text = (tmp_path / 'report/data.js').read_text()
    data = json.loads(text.removeprefix('window.REPORT=').removesuffix(';\n'))
    slices = data['detectors'][0]['slices']['all']
    shown = {(group, value): own for group, value, _, _, *own in slices}
    for piece in evaluate_slices(matched, matched.gt.keep['all'], all_slices(matched.gt)):
        error, count = shown[piece.group, piece.value]
        assert count == piece.measured
        assert (error is None) == (count == 0)
        assert error is None or error == pytest.approx(piece.nme, rel=1e-5)
