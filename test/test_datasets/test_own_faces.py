# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Labels with several classes and other keypoints reach the samples as they are in the file."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from mmface.datasets import WiderFaceDataset

STEPS = [dict(type='LoadFaceImage'), dict(type='LoadFaceAnnotations')]
PACK = dict(type='PackFaceInputs')
FOUR = ['left_eye', 'right_eye', 'chin', 'nose']


def write(root, points: list[list[float]], names: list[str] | None = None) -> None:
    """Write one image with a face and a head, whose keypoints are ``points`` and 100 more."""
    cv2.imwrite(str(root / 'a.png'), np.zeros((300, 400, 3), np.uint8))
    rows = []
    for label in (0, 1):
        values = [v for x, y in points for v in (x + 100 * label, y, 2)]
        box = [20 + 100 * label, 20, 60, 60]
        rows.append(
            dict(
                id=label + 1,
                image_id=7,
                category_id=10 + label,
                bbox=box,
                area=3600,
                **({'keypoints': values} if points else {}),
            )
        )
    categories = [dict(id=10 + n, name=name) for n, name in enumerate(('face', 'head'))]
    for category in categories:
        category |= {} if names is None else {'keypoints': names}
    image = dict(id=7, file_name='a.png', width=400, height=300)
    table = dict(images=[image], annotations=rows, categories=categories)
    (root / 'a.json').write_text(json.dumps(table))


def make(root, *steps, **options) -> WiderFaceDataset:
    return WiderFaceDataset(
        ann_file=str(root / 'a.json'),
        data_prefix=dict(img_path=str(root)),
        pipeline=[*STEPS, *steps],
        **options,
    )


def points_of(count: int) -> list[list[float]]:
    generator = np.random.default_rng(0)
    return generator.integers(25, 75, (count, 2)).astype(float).tolist()


@pytest.mark.parametrize('count', [0, 1, 4, 5, 68, 98])
def test_keypoints__of_any_number(count, tmp_path, mmdet_scope):
    write(tmp_path, points_of(count))
    dataset = make(tmp_path, PACK)
    assert dataset.metainfo['num_keypoints'] == count
    found = dataset[0]['data_samples'].gt_instances
    assert found.keypoints.shape == (2, count, 3)
    assert found.keypoints[0, :, :2].tolist() == points_of(count)
    # The labels name no pairs, so a flip is refused for all numbers that have pairs.
    flip = dict(type='FaceFlip', prob=1.0)
    if count in (0, 1, 5):
        assert make(tmp_path, flip, PACK)[0]['data_samples'].gt_instances.bboxes[0, 0] == 320
    else:
        with pytest.raises(ValueError, match='FaceFlip must swap left and right'):
            make(tmp_path, flip, PACK)


def test_flip__swaps_the_pairs_that_the_file_names(tmp_path, mmdet_scope):
    write(tmp_path, points_of(4), FOUR)
    dataset = make(tmp_path, dict(type='FaceFlip', prob=1.0), PACK)
    assert dataset.metainfo['keypoints'] == tuple(FOUR)
    sample = dataset[0]['data_samples']
    wanted = [[400 - x, y] for x, y in np.array(points_of(4))[[1, 0, 2, 3]]]
    assert sample.gt_instances.keypoints[0, :, :2].tolist() == wanted
    assert sample.flip_indices == (1, 0, 2, 3)


@pytest.mark.parametrize(
    'metainfo', [dict(keypoints=FOUR), dict(flip_indices=[1, 0, 2, 3])], ids=['names', 'indices']
)
def test_flip__swaps_the_pairs_that_the_config_names(metainfo, tmp_path, mmdet_scope):
    write(tmp_path, points_of(4))
    dataset = make(tmp_path, dict(type='FaceFlip', prob=1.0), PACK, metainfo=metainfo)
    found = dataset[0]['data_samples'].gt_instances.keypoints[0, :2, 0]
    assert found.tolist() == [400 - points_of(4)[1][0], 400 - points_of(4)[0][0]]


def test_config__states_another_order_of_the_five_points(tmp_path, mmdet_scope):
    names = ['nose', 'right_eye', 'left_eye', 'mouth_right', 'mouth_left']
    write(tmp_path, points_of(5))
    found = make(tmp_path, PACK, metainfo=dict(keypoints=names))[0]['data_samples'].gt_instances
    wanted = np.array(points_of(5))[[2, 1, 0, 4, 3]]
    assert found.keypoints[0, :, :2].tolist() == wanted.tolist()


@pytest.mark.parametrize('key', ['keypoints', 'flip_indices'])
def test_config__of_another_number_is_refused(key, tmp_path, mmdet_scope):
    write(tmp_path, points_of(4))
    with pytest.raises(ValueError, match=rf'have 4 keypoints, but metainfo .* 2 {key}'):
        make(tmp_path, metainfo={key: ['left_eye', 'right_eye'] if key == 'keypoints' else [1, 0]})


def test_classes__of_the_file_or_the_config(tmp_path, mmdet_scope):
    write(tmp_path, points_of(5))

    def labels(**options):
        dataset = make(tmp_path, PACK, **options)
        found = dataset[0]['data_samples'].gt_instances
        assert dataset.get_cat_ids(0) == found.labels.tolist()
        assert len(dataset.metainfo['palette']) == len(dataset.metainfo['classes'])
        return dataset.metainfo['classes'], found.labels.tolist(), found.bboxes[:, 0].tolist()

    assert labels() == (('face', 'head'), [0, 1], [20, 120])
    assert labels(metainfo=dict(classes=('head', 'face'))) == (('head', 'face'), [1, 0], [20, 120])
    assert labels(metainfo=dict(classes=('head',))) == (('head',), [0], [120])
    with pytest.raises(ValueError, match="no class is named 'mask'"):
        labels(metainfo=dict(classes=('mask',)))


def test_instances__have_the_classes_of_the_faces(tmp_path, mmdet_scope):
    write(tmp_path, points_of(5))
    item = make(tmp_path, test_mode=True)[0]
    assert [(row['bbox'][0], row['bbox_label']) for row in item['instances']] == [(20, 0), (120, 1)]
