# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Every format gives the detections that the text format gives."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from mmface.evaluation.prediction_files import match_predictions, open_predictions
from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_txt import write_wider_txt


@pytest.fixture(scope='module')
def folder(tmp_path_factory, drawn_rows):
    root = tmp_path_factory.mktemp('predictions') / 'set'
    for name, rows in drawn_rows.items():
        write_wider_txt(root, name, rows)
    return root


def entries(rows: dict, ids: dict | None = None) -> list[dict]:
    return [
        {
            'image_id': ids[name] if ids else f'{name}.jpg',
            'category_id': 1,
            'bbox': row[:4].tolist(),
            'score': float(row[4]),
        }
        for name, table in rows.items()
        for row in table
    ]


def write_coco(path, rows, way):
    ids = {name: number for number, name in enumerate(rows, 1)} if way != 'names' else None
    content = entries(rows, ids)
    images = [{'id': ids[name], 'file_name': f'{name}.jpg'} for name in rows] if ids else []
    if way == 'with images':
        content = {'images': images, 'annotations': content}
    path.write_text(json.dumps(content))
    (path.parent / 'ids.json').write_text(json.dumps({'images': images}))


def write_pickle(path, rows, prefix='data/WIDER_val/images/'):
    samples = []
    for number, (name, table) in enumerate(rows.items()):
        boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
        instances = dict(bboxes=torch.tensor(boxes), scores=torch.tensor(table[:, 4]))
        instances['labels'] = torch.zeros(len(table), dtype=torch.int64)
        path_of = f'{prefix}{name}.jpg'
        samples.append(
            dict(img_id=number, img_path=path_of, ori_shape=(1, 2), pred_instances=instances)
        )
    path.write_bytes(pickle.dumps(samples))


def write_parquet(path, rows):
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    columns = {name: [] for name in ('image', 'x1', 'y1', 'x2', 'y2', 'score', 'model')}
    for name, table in rows.items():
        for x, y, w, h, score in table.tolist() or [[None] * 5]:
            corners = (x, y, x + w, y + h) if table.size else (None,) * 4
            values = (f'in/{name}.jpg', *corners, score, 'scrfd')
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    parquet.write_table(pyarrow.table(columns), path)


def rows_of(source, gt) -> dict:
    found = {}
    for names, table, counts in source:
        pieces = np.split(table, np.cumsum(counts)[:-1]) if names else []
        found |= zip(names, pieces, strict=True)
    return found


@pytest.mark.parametrize('form', ['names', 'numbers', 'with images', 'pickle', 'parquet'])
def test_open_predictions__formats_equal_the_text(tmp_path, drawn_gt, drawn_rows, form):
    rows = dict(drawn_rows)
    rows[drawn_gt.names[4]] = np.empty((0, 5))
    path = tmp_path / {'pickle': 'a.pkl', 'parquet': 'a.parquet'}.get(form, 'a.json')
    {'pickle': write_pickle, 'parquet': write_parquet}.get(
        form, lambda path, rows: write_coco(path, rows, form)
    )(path, rows)
    ids = tmp_path / 'ids.json' if form == 'numbers' else None
    source = open_predictions(path, drawn_gt, image_ids=ids)
    found = rows_of(source, drawn_gt)
    assert source.extra == 0
    for name, table in rows.items():
        if name not in found:  # COCO results do not list images without detections
            assert not len(table) and form == 'names'
            continue
        np.testing.assert_allclose(found[name], table, rtol=0, atol=1e-9)


@pytest.mark.parametrize('protocol', ['float', 'official'])
def test_match_predictions__ap_equals_that_of_arrays(folder, drawn_gt, drawn_rows, protocol):
    from mmface.evaluation.wider_ap import evaluate_matched

    matched, _ = match_predictions(open_predictions(folder), drawn_gt, protocol, keep_boxes=True)
    result, expected = evaluate_matched(matched), evaluate_rows(drawn_gt, drawn_rows, protocol)
    assert result.ap == expected.ap
    for number, name in enumerate(drawn_gt.names):
        own = matched.boxes[matched.starts[number] : matched.starts[number + 1]]
        order = np.argsort(-drawn_rows[name][:, 4], kind='stable')
        np.testing.assert_array_equal(own, drawn_rows[name][order, :4])


@pytest.mark.parametrize('layout', ['flat', 'x.jpg.txt', 'flat x.png.txt', 'root', 'events'])
def test_open_predictions__other_layouts_are_found(tmp_path, folder, drawn_gt, drawn_rows, layout):
    new = tmp_path / 'new'
    for path in folder.glob('*/*.txt'):
        event, stem = path.parent.name, path.stem
        place = {
            'flat': f'{stem}.txt',
            'x.jpg.txt': f'{event}/{stem}.jpg.txt',
            'flat x.png.txt': f'{stem}.png.txt',
            'root': f'my/val/images/{event}/{stem}.txt',
            'events': f'{event.replace("--", "_")}/{stem}.txt',
        }[layout]
        (new / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, new / place)
    source = open_predictions(new, drawn_gt)
    found = rows_of(source, drawn_gt)
    assert found.keys() == set(drawn_rows)
    by_name = layout.startswith(('flat', 'events'))
    assert bool(source.notes) == by_name
    if by_name:
        assert 'were assigned to images by the file name alone' in source.notes[0]


def test_open_predictions__names_of_two_events_are_not_guessed(tmp_path, make_gt):
    gt = make_gt({f'{event}/x': ([[1, 2, 30, 40]], [1], [1], [1]) for event in 'ab'})
    write_wider_txt(tmp_path, 'images/x', np.array([[1, 2, 30, 40, 0.5]]))
    message = 'none of its 1 entries .* expected names such as a/x, found .*images/x.txt'
    with pytest.raises(ValueError, match=message):
        rows_of(open_predictions(tmp_path, gt), gt)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.json', '{', 'expected a JSON file'),
        ('a.json', '3', 'found int'),
        ('a.json', '[{"image_id": 3}]', 'entry 0: expected a list of'),
        ('a.json', '[{"image_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]', 'is a number'),
        ('a.json', '[{"image_id": "a/b", "bbox": [1, 2, 3, NaN], "score": 0.5}]', 'finite'),
        ('a.pkl', 'x', 'expected a pickle'),
        ('a.parquet', 'x', 'expected a Parquet file'),
        ('a.txt', 'x', 'expected a folder or a tar archive'),
    ],
)
def test_open_predictions__wrong_files_are_refused(tmp_path, drawn_gt, name, content, message):
    if name == 'a.parquet':
        pytest.importorskip('pyarrow')
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        rows_of(open_predictions(tmp_path / name, drawn_gt), drawn_gt)


def test_open_predictions__pickles_of_something_else_are_refused(tmp_path, drawn_gt):
    for value in ({'model': 1}, [[np.zeros((2, 5))]], [{'pred_instances': {}}]):
        (tmp_path / 'a.pkl').write_bytes(pickle.dumps(value))
        with pytest.raises(ValueError, match='as DumpDetResults'):
            rows_of(open_predictions(tmp_path / 'a.pkl', drawn_gt), drawn_gt)


def test_open_predictions__tables_without_rows_or_columns(tmp_path, drawn_gt):
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    write_parquet(tmp_path / 'a.parquet', {})
    assert rows_of(open_predictions(tmp_path / 'a.parquet', drawn_gt), drawn_gt) == {}
    parquet.write_table(pyarrow.table({'name': ['x']}), tmp_path / 'a.parquet')
    with pytest.raises(ValueError, match=r'expected the columns image, x1, .* found name'):
        rows_of(open_predictions(tmp_path / 'a.parquet', drawn_gt), drawn_gt)


def test_open_predictions__missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='do not exist'):
        open_predictions(tmp_path / 'none.json')
