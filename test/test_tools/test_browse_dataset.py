# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""See the training samples of a config, with our tool and with mmdet's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import mmdet
import pytest

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'


def test_browse__sheets_and_statistics(door, toy, tmp_path):
    done = door(
        'tools/data/browse_dataset.py', CONFIG, '--data-path', toy, '--out', tmp_path, '--count',
        5, '--image-size', 96,
    )  # fmt: skip
    assert 'faces per image: median' in done.stdout
    assert 'faces with keypoint: ' in done.stdout
    sheet = cv2.imread(str(tmp_path / 'samples_1.jpg'))
    assert sheet.shape == (2 * 480, 4 * 480, 3)  # four samples in a row
    assert cv2.imread(str(tmp_path / 'statistics.png')).shape[1] > 500


def test_browse__the_same_samples_for_the_same_seed(door, toy, tmp_path):
    args = [CONFIG, '--data-path', toy, '--count', 2]
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        door('tools/data/browse_dataset.py', *args, '--out', tmp_path / name, '--seed', seed)
    a, b, c = ((tmp_path / name / 'samples_1.jpg').read_bytes() for name in 'abc')
    assert a == b != c


def test_browse__validation_data_of_coco(door, toy_coco, tmp_path):
    done = door(
        'tools/data/browse_dataset.py', 'configs/centernet2/centernet2_toy.py', '--data-path',
        toy_coco, '--split', 'val', '--out', tmp_path, '--count', 3,
    )  # fmt: skip
    assert 'classes: ball ' in done.stdout
    assert (tmp_path / 'samples_1.jpg').is_file()


@pytest.mark.parametrize('config', [CONFIG, 'configs/centernet2/centernet2_toy.py'])
def test_mmdet_browse_dataset__works_on_our_configs(repo, toy, toy_coco, tmp_path, config):
    script = Path(mmdet.__file__).parent / '.mim/tools/analysis_tools/browse_dataset.py'
    if not script.is_file():
        pytest.skip(f'{script} is not part of this mmdet')
    data = toy_coco if 'centernet2' in config else toy
    subprocess.run(
        [
            sys.executable, str(script), str(repo / config), '--not-show', '--output-dir',
            str(tmp_path), '--cfg-options', f'train_dataloader.dataset.data_root={data}',
            'train_dataloader.dataset.indices=3',
        ],
        check=True, cwd=repo, timeout=300,
    )  # fmt: skip
    assert len(list(tmp_path.glob('*.jpg'))) == 3
