# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The timed readers of labels return the same data."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from mmface_benchmark import imports
from mmface_benchmark.imports import read_by_line, repeat_labels

from mmface.datasets import WiderFaceDataset


def test_labels__readers_are_timed_beside_others(toy, repo):
    labels, images = toy / 'train/labelv2.txt', toy / 'train/images'
    parser = argparse.ArgumentParser()
    imports.add_arguments(parser)
    places = ['--labels', str(labels), '--images', str(images), '--count', '20']
    args = parser.parse_args([str(repo / 'configs/scrfd/scrfd_500m_bnkps.py'), *places])
    args.rounds = 1
    start, table = imports._labels(args)
    assert start.ratios[0].baseline == imports.PORT
    assert table.ratios[0].baseline == imports.JSON
    assert all('20' in comparison.task for comparison in (start, table))


def test_read_by_line__equals_the_data_set(toy, tmp_path):
    labels = tmp_path / 'labelv2.txt'
    images = str(repeat_labels(toy / 'train/labelv2.txt', toy / 'train/images', labels, 20))
    dataset = WiderFaceDataset(ann_file=str(labels), data_prefix=dict(img_path=images))
    items = read_by_line(labels, images)
    assert len(items) == len(dataset) == 20
    names = [Path(item['img_path']).resolve() for item in items]
    assert names[0] == names[12] != names[1]
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
        repeat_labels(tmp_path / 'gt.txt', tmp_path, tmp_path / 'out.txt', 3)


def test_imports__are_compared_with_torch_and_take_less_memory_than_all_of_mmdet():
    found = imports._imports(1)
    assert [ratio.baseline for ratio in found.ratios] == ['mmdet.models', 'torch']
    memory = {name: found.notes[f'memory of {name}, MiB'] for name in imports.IMPORTS}
    assert memory['torch'] < memory['tools/train.py'] < memory['mmdet.models']
