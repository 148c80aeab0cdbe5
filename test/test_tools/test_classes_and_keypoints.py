# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Several classes and other keypoints from the label file to the faces of the runtime."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from mmface.datasets.annotations import read_annotations
from mmface.datasets.coco_json import coco_text
from mmface.datasets.face_annotation import LabelSet
from mmface.deploy.runtime import FaceDetector
from mmface.structures import FIVE_KEYPOINTS, KeypointScheme

pytestmark = pytest.mark.slow

#: Name of a set: number of keypoints, classes and config.
SETS = {
    'two_classes': (5, ('small', 'large'), 'scrfd/scrfd_500m_bnkps_toy.py'),
    'four': (4, ('face',), 'scrfd/scrfd_500m_bnkps_toy.py'),
    'ibug': (68, ('face',), 'scrfd/scrfd_500m_bnkps_toy.py'),
    'wflw': (98, ('face',), 'scrfd/scrfd_500m_bnkps_toy.py'),
    'boxes': (0, ('face',), 'scrfd/scrfd_500m_bnkps_toy.py'),
    'centerface': (7, ('small', 'large'), 'centerface/centerface_toy.py'),
}


def scheme_of(count: int) -> KeypointScheme:
    """Return pairs of left and right points, and one in the middle if the number is odd."""
    if count == len(FIVE_KEYPOINTS):
        return FIVE_KEYPOINTS
    names = [f'{side}_{n}' for n in range(count // 2) for side in ('left', 'right')]
    flip = [k + 1 - 2 * (k % 2) for k in range(len(names))]
    if count % 2:
        names, flip = [*names, 'chin'], [*flip, count - 1]
    return KeypointScheme(tuple(names), tuple(flip))


def write_set(toy, folder, count: int, classes: tuple[str, ...]) -> None:
    """Write the drawn set with other labels: the five points again and again, classes by size."""
    for split in ('train', 'val'):
        images = []
        for image in read_annotations(toy / split / 'labelv2.txt').images:
            name = image.path.rpartition('/')[2]  # not in the folders of WIDER FACE
            target = folder / split / 'images' / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(toy / split / 'images' / image.path)
            points = image.keypoints[:, np.arange(count) % 5]
            labels = image.labels
            if len(classes) > 1:
                labels = (image.bboxes[:, 2] - image.bboxes[:, 0] > 25).astype(np.int64)
            images.append(image._replace(path=name, keypoints=points, labels=labels))
        text = coco_text(LabelSet(images, classes, scheme_of(count)))
        (folder / split / 'labels.json').write_text(text)


@pytest.mark.parametrize('name', SETS)
def test_own_faces__train_test_export_and_run(name, toy, door, tmp_path):
    count, classes, config = SETS[name]
    data, run = tmp_path / 'data', tmp_path / 'run'
    write_set(toy, data, count, classes)
    options = [
        f'num_keypoints={count}', f'num_classes={len(classes)}',
        'train_dataloader.dataset.ann_file=train/labels.json', 'train_dataloader.batch_size=3',
        'val_dataloader.dataset.ann_file=val/labels.json',
        'test_dataloader.dataset.ann_file=val/labels.json',
        *(f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')),
        'model.test_cfg.score_thr=0.001',
    ]  # fmt: skip
    door(
        'tools/train.py', config, '--data-path', data, '--work-dir', run, '--num-epochs', 5,
        '--cfg-options', *options, 'train_cfg.val_interval=5', 'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=5',
    )  # fmt: skip
    rows = [
        json.loads(line)
        for path in run.glob('*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    losses = [row for row in rows if 'loss' in row]
    assert len(losses) == 20
    assert ('loss_kps' in losses[-1]) == (count > 0)
    assert np.isfinite([row['loss'] for row in losses]).all()
    # The metrics are chosen from what is there, and the best checkpoint follows.
    (values,) = [row for row in rows if 'coco/bbox_mAP_50' in row]
    assert ('keypoint/nme' in values) == (count > 0)
    (best,) = run.glob('best_coco_bbox_mAP_epoch_5.pth')
    door('tools/test.py', config, best, '--data-path', data, '--work-dir', tmp_path / 'test',
         '--show-dir', tmp_path / 'show', '--cfg-options', *options)  # fmt: skip
    tested = json.loads((tmp_path / 'test/metrics.json').read_text())
    assert tested['coco']['bbox_mAP'] == values['coco/bbox_mAP']
    assert len([*(tmp_path / 'show').rglob('*.jpg')]) == 6
    # The config in the work dir has the options in it.
    file = tmp_path / 'a.onnx'
    (full,) = run.glob('*.py')
    door('tools/deploy/export_onnx.py', full, best, file, '--check')
    check_runtime(file, sorted((data / 'val/images').iterdir()), count, classes)


def check_runtime(file, images, count: int, classes: tuple[str, ...]) -> None:
    """Find faces of all classes with all keypoints."""
    detector = FaceDetector(file, score_thr=None)
    assert (detector.spec.num_keypoints, detector.spec.num_classes) == (count, len(classes))
    found = [face for path in images for face in detector(cv2.imread(str(path)))]
    assert found
    for face in found:
        assert (face.keypoints is None) == (count == 0)
        assert count == 0 or face.keypoints.shape == (count, 2)
        assert face.class_name == (classes[face.label] if len(classes) > 1 else None)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            'num_keypoints=68',
            'predicts 68 keypoints per face, the labels of WiderFaceDataset have 4',
        ),
        (
            'num_classes=3',
            r'predicts 3 classes, WiderFaceDataset has 1 \(face\): set model.bbox_head',
        ),
    ],
)
def test_mismatch__is_one_error_before_the_first_iteration(
    option, message, toy, run_tool, tmp_path
):
    write_set(toy, tmp_path / 'data', 4, ('face',))
    done = run_tool(
        'tools/train.py', SETS['four'][2], '--data-path', tmp_path / 'data', '--work-dir',
        tmp_path / 'run', '--cfg-options', 'train_dataloader.dataset.ann_file=train/labels.json',
        'val_dataloader.dataset.ann_file=val/labels.json', 'train_dataloader.num_workers=0',
        'num_keypoints=4', option, ok=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert re.search(message, done.stderr)
    assert 'Epoch(train)' not in done.stdout + done.stderr
