# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Statistics of labels."""

from __future__ import annotations

import numpy as np

from mmface.datasets.statistics import LabelStatistics

METAINFO = {'classes': ('face', 'mask'), 'keypoints': ('eye', 'nose')}


def item(boxes, ignore, labels, visible):
    keypoints = np.zeros((len(boxes), 2, 3))
    keypoints[..., 2] = visible
    return {
        'bboxes': np.array(boxes, float),
        'ignore_flags': np.array(ignore, bool),
        'labels': np.array(labels),
        'keypoints': keypoints,
    }


def test_statistics__counts_faces_to_learn():
    items = [
        item([[0, 0, 10, 10], [0, 0, 40, 10]], [0, 0], [0, 1], [[1, 1], [1, 0]]),
        item([[0, 0, 99, 99], [0, 0, 20, 20]], [1, 0], [0, 1], [[1, 1], [0, 0]]),
        item(np.zeros((0, 4)), [], [], np.zeros((0, 2))),
    ]
    found = LabelStatistics(items, METAINFO)
    assert found.faces.tolist() == [2, 1, 0]
    assert found.ignored == 1
    assert found.sizes.tolist() == [10, 20, 20]
    assert found.classes == {'face': 1, 'mask': 2}
    assert found.keypoints == {'eye': 2 / 3, 'nose': 1 / 3}
    text = found.describe()
    assert '3 images, 3 faces to learn, 1 ignored' in text
    assert '1 images without' in text
    assert 'from 8 33%, from 16 67%' in text
    assert 'eye 67%, nose 33%' in text


def test_statistics__of_instances_as_in_mmdet_and_of_nothing():
    rows = [{'bbox': [0, 0, 8, 8], 'bbox_label': 1, 'ignore_flag': 0}]
    found = LabelStatistics([{'instances': rows}, {'instances': []}], {'classes': ('a', 'b')})
    assert found.classes == {'a': 0, 'b': 1}
    assert 'keypoints: none' in found.describe()
    assert '0 images, 0 faces' in LabelStatistics([], {}).describe()
