# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The timed readers of labels read the same."""

from __future__ import annotations

import numpy as np
import pytest
from mmface_benchmark.imports import read_by_line, repeat_labels

from mmface.datasets import WiderFaceDataset
from mmface.toys.widerface import make_toy_widerface


def test_read_by_line__equals_the_data_set(tmp_path):
    toy = make_toy_widerface(
        tmp_path / 'toy', num_train=8, num_val=0, image_size=(160, 120), seed=3, edge_cases=False
    )
    labels = tmp_path / 'labelv2.txt'
    repeat_labels(toy / 'train/labelv2.txt', labels, 20)
    images = str(toy / 'train/images')
    dataset = WiderFaceDataset(ann_file=str(labels), data_prefix=dict(img_path=images))
    items = read_by_line(labels, images)
    assert len(items) == len(dataset) == 20
    assert items[0]['img_path'] == items[8]['img_path'] != items[1]['img_path']
    for index, item in enumerate(items):
        ours = dataset.get_data_info(index)
        assert (ours['img_path'], ours['width'], ours['height']) == (
            item['img_path'],
            item['width'],
            item['height'],
        )
        np.testing.assert_array_equal(ours['bboxes'], item['bboxes'])
        np.testing.assert_array_equal(ours['keypoints'], item['keypoints'])


def test_repeat_labels__refuses_other_formats(tmp_path):
    (tmp_path / 'gt.txt').write_text('0--Parade/a.jpg\n1\n1 2 3 4\n')
    with pytest.raises(ValueError, match='labelv2'):
        repeat_labels(tmp_path / 'gt.txt', tmp_path / 'out.txt', 3)
