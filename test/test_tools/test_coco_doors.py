# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The tools with COCO data and a schedule in iterations, called as by a user."""

from __future__ import annotations

import json
import sys

import cv2
import pytest
import torch

from mmface.utils.checkpoint import load_checkpoint_file

CONFIG = 'configs/centernet2/centernet2_toy.py'
SMALL = [
    '--cfg-options',
    'train_cfg.max_iters=4',
    'train_cfg.val_interval=4',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'train_dataloader.dataset.pipeline.3.scales=[(64,96)]',
    'val_dataloader.dataset.pipeline.1.scale=(64,96)',
    'test_dataloader.dataset.pipeline.1.scale=(64,96)',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=2',
]


@pytest.fixture(scope='module')
def trained(door, toy_coco, tmp_path_factory):
    """Return a work dir after four iterations, and the printed text."""
    work = tmp_path_factory.mktemp('trained')
    done = door(
        'tools/train.py', CONFIG, '--data-path', toy_coco, '--work-dir', work, '--seed', 5, *SMALL
    )
    return work, done.stdout + done.stderr


@pytest.fixture
def refused(door, tmp_path):
    """Run a tool that must fail, and return its last line."""

    def run(tool, *args):
        done = door(tool, *args, '--work-dir', tmp_path / 'w', ok=False)
        assert done.returncode == 2, done.stderr
        assert 'Traceback' not in done.stderr
        return done.stderr.splitlines()[-1]

    return run


def test_training__validates_and_measures(trained):
    work, text = trained
    assert 'coco/bbox_mAP_50' in text
    assert 'boxes without area' in text
    assert 'images without a box' in text
    assert json.loads((work / 'throughput.json').read_text())['images'] == 8
    assert (work / 'last_checkpoint').read_text().endswith('iter_4.pth')


def test_resume__from_the_middle_equals_the_unbroken_run(door, trained, toy_coco, tmp_path):
    door(
        'tools/train.py', CONFIG, '--data-path', toy_coco, '--work-dir', tmp_path, '--resume',
        trained[0] / 'iter_2.pth', '--no-validate', *SMALL,
    )  # fmt: skip
    a, b = (load_checkpoint_file(d / 'iter_4.pth')['state_dict'] for d in (trained[0], tmp_path))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_test__writes_metrics_and_images(door, trained, toy_coco, tmp_path):
    done = door(
        'tools/test.py', CONFIG, trained[0] / 'iter_4.pth', '--data-path', toy_coco, '--work-dir',
        tmp_path / 'w', '--show-dir', tmp_path / 'show', '--show-thr', 0, *SMALL,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == f'written to {tmp_path / "w"}: metrics.json'
    metrics = json.loads((tmp_path / 'w/metrics.json').read_text())
    assert metrics['images'] == 4
    assert 0 <= metrics['coco']['bbox_mAP'] <= 1
    for image in (toy_coco / 'val2017').iterdir():  # ground truth next to the detections
        height, width, _ = cv2.imread(str(image)).shape
        assert cv2.imread(str(tmp_path / 'show' / image.name)).shape == (height, 2 * width, 3)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--protocol', 'official'], 'protocol: only for configs that test with WiderFaceMetric'),
        (['--save-txt', 'out'], 'save_txt: only for configs that test with WiderFaceMetric'),
        (['--mode', 'vga'], 'mode needs FaceResize or'),
    ],
)
def test_test__refuses_options_of_wider_face(refused, trained, toy_coco, options, message):
    checkpoint = trained[0] / 'iter_4.pth'
    line = refused('tools/test.py', CONFIG, checkpoint, '--data-path', toy_coco, *options)
    assert message in line


def test_other_classes__are_one_line(refused, toy_coco):
    """The tool rejects the 80 classes of COCO on the toy set, and 7 classes for its 5."""
    args = ['tools/train.py', '--data-path', toy_coco, '--no-validate', '--from-scratch']
    line = refused(args[0], 'configs/centernet2/centernet2_r50_1x.py', *args[1:])
    assert 'instances_train2017.json: expected categories for the 80 classes' in line
    assert 'found 5 (ball, ring, star, cross, house' in line
    line = refused(args[0], CONFIG, *args[1:], *SMALL, 'model.roi_head.bbox_head.num_classes=7')
    assert '7 classes, CocoBoxDataset has 5 (ball, ring, star' in line
    assert 'model.roi_head.bbox_head.num_classes=5' in line


def test_missing_data__are_one_line(refused, toy_coco, tmp_path):
    args = ['tools/train.py', CONFIG, '--no-validate', '--data-path']
    assert 'make_toy.py' in refused(*args, tmp_path / 'none')
    assert 'instances_train2017.json does not exist' in refused(*args, tmp_path)
    table = json.loads((toy_coco / 'annotations/instances_train2017.json').read_text())
    table['annotations'][0]['category_id'] = 3
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/instances_train2017.json').write_text(json.dumps(table))
    line = refused(*args, tmp_path)
    assert 'annotations[0] (id 1): expected the category_id of one of the 5 categories' in line
    table['annotations'][0]['category_id'] = 1
    (tmp_path / 'annotations/instances_train2017.json').write_text(json.dumps(table))
    line = refused(*args, tmp_path)
    assert '9 of the 9 images in' in line
    assert "'000000000001.jpg'" in line


@pytest.mark.slow
def test_full_1p__sums_up_the_ap_of_coco(run_tool, repo, toy_coco, tmp_path):
    config = tmp_path / 'tiny_1p_o2.py'
    config.write_text(f"""
_base_ = '{repo}/{CONFIG}'
train_pipeline = _base_.train_pipeline
train_pipeline[3].update(scales=[(64, 96)])
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(pipeline=train_pipeline))
test_dataloader = dict(num_workers=0)
train_cfg = dict(max_iters=2)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
""")
    done = run_tool(
        'test/train_full_1p.sh', f'--data_path={toy_coco}', f'--network={config}',
        f'--output_dir={tmp_path}', '--precision=fp32', VIRTUAL_ENV=sys.prefix,
    )  # fmt: skip
    (work,) = (tmp_path / '0').glob('run_*')
    ap = json.loads((work / 'eval/metrics.json').read_text())['coco']['bbox_mAP']
    summary = (tmp_path / '0/tiny_bs2_1p_acc.log').read_text()
    assert f'TrainAccuracy = {100 * ap:.2f}\n' in summary
    assert 'BatchSize = 2\n' in summary
    assert f'Final Train Accuracy : {100 * ap:.2f}\n' in done.stdout


def test_num_epochs__of_a_config_that_counts_iterations(door, toy_coco, tmp_path):
    options = [option for option in SMALL if 'train_cfg' not in option]
    door(
        'tools/train.py', CONFIG, '--data-path', toy_coco, '--work-dir', tmp_path, '--num-epochs',
        2, '--lr', 0.001, *options,
    )  # fmt: skip
    text = next(tmp_path.glob('*/*.log')).read_text()
    # Eight images have boxes: four batches. The schedule of 300 iterations becomes one of 8.
    assert '2 epochs are 8 iterations' in text
    assert 'Iter(train) [8/8]' in text
    assert 'ends inside its warm-up' not in text
    assert 'Iter(val)' in text
