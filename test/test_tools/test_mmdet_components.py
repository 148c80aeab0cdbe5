# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Hooks, data set wrappers and metrics of mmdet in our configs, and our parts in its configs."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import mmdet
import pytest
import torch

MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim/configs'
TRAIN = Path(mmdet.__file__).parent / '.mim/tools/train.py'
pytestmark = pytest.mark.skipif(not TRAIN.is_file(), reason=f'this mmdet has no {TRAIN}')

OURS = """
_base_ = '{repo}/configs/scrfd/scrfd_500m_bnkps.py'
data_root = '{data}/'
train_steps = _base_.train_steps
train_steps.crop.update(size=96)
train_pipeline = list(train_steps.values())
test_steps = _base_.test_steps
test_steps.resize.update(scale=(96, 96))
test_pipeline = list(test_steps.values())
model = dict(data_preprocessor=dict(pad_size=(96, 96)), test_cfg=dict(score_thr=0.001))
loader = dict(num_workers=0, persistent_workers=False)
faces = dict(data_root=data_root, pipeline=train_pipeline)
train_dataloader = dict(batch_size=4, dataset=faces, **loader)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline), **loader)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='WiderFaceMetric', gt_dir=data_root + 'val/gt'),
    dict(type='CocoMetric', metric='bbox'),
    dict(type='DumpDetResults', out_file_path='{work}/results.pkl'),
]
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
randomness = dict(seed=1)
"""

HOOKS = """
custom_hooks = [
    dict(type='EMAHook', momentum=0.1),
    dict(type='CheckInvalidLossHook', interval=1),
    dict(type='EarlyStoppingHook', monitor='wider_face/hard', rule='greater', patience=1),
]
"""

WRAPPERS = """
faces.update(
    type='WiderFaceDataset',
    ann_file='train/labelv2.txt',
    data_prefix=dict(img_path='train/images/'),
)
part = dict(faces, indices=4)
train_dataloader['dataset'] = dict(
    _delete_=True,
    type='ConcatDataset',
    datasets=[
        dict(type='RepeatDataset', times=2, dataset=part),
        dict(type='ClassBalancedDataset', oversample_thr=2.0, dataset=part),
    ],
)
train_cfg = dict(max_epochs=1, val_interval=1)
"""

OWN_JSON = """
_base_ = '{repo}/configs/scrfd/scrfd_500m.py'
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
train_pipeline = [
    dict(type='Mosaic', img_scale=(48, 48)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
test_pipeline = [
    load[0],
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    load[1],
    dict(type='PackDetInputs', meta_keys=keys),
]
faces = dict(type='CocoDataset', data_root='{data}/', metainfo=dict(classes=('face',)))
train_faces = dict(
    faces, ann_file='{folder}/train.json', data_prefix=dict(img='train/images/'), pipeline=load
)
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True, type='MultiImageMixDataset', dataset=train_faces, pipeline=train_pipeline
    ),
    **loader,
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        ann_file='{folder}/val.json',
        data_prefix=dict(img='val/images/'),
        test_mode=True,
        pipeline=test_pipeline,
        **faces,
    ),
    **loader,
)
test_dataloader = val_dataloader
metric = dict(type='CocoMetric', ann_file='{folder}/val.json', metric='bbox')
val_evaluator = dict(_delete_=True, **metric)
test_evaluator = val_evaluator
model = dict(data_preprocessor=dict(pad_size=(96, 96)), test_cfg=dict(score_thr=0.0001))
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
default_hooks = dict(
    checkpoint=dict(interval=1, save_best='coco/bbox_mAP'), logger=dict(interval=1)
)
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends)
"""

THEIRS = """
_base_ = '{mmdet}/{base}'
custom_imports = dict(imports=['mmface.registry'], allow_failed_imports=False)
data_root = '{data}/'
train_pipeline = [
    dict(type='LoadFaceImage'),
    dict(type='LoadFaceAnnotations'),
    dict(type='FaceResize', scale=(128, 96), keep_ratio=True),
    dict(type='FaceFlip', prob=0.5),
    dict(type='PackFaceInputs'),
]
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 96), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=keys),
]
faces = dict(_delete_=True, type='WiderFaceDataset', data_root=data_root)
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        ann_file='train/labelv2.txt',
        data_prefix=dict(img_path='train/images/'),
        pipeline=train_pipeline,
        **faces,
    ),
    **loader,
)
val_dataloader = dict(
    dataset=dict(
        ann_file='val/labelv2.txt',
        data_prefix=dict(img_path='val/images/'),
        test_mode=True,
        pipeline=test_pipeline,
        **faces,
    ),
    **loader,
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='WiderFaceMetric', gt_dir=data_root + 'val/gt'),
    dict(type='CocoMetric', metric='bbox'),
]
test_evaluator = val_evaluator
model = dict(
    data_preprocessor=dict(type='FaceDataPreprocessor'),
    backbone=dict(
        depth=18, base_channels=8, stem_channels=8, frozen_stages=-1, norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    # GroupNorm needs two values in each of its 32 groups, where the map is 1x1.
    bbox_head=dict(num_classes=1, in_channels=16, feat_channels=64, stacked_convs=1{head}),
    test_cfg=dict(score_thr=0.0),
{train_cfg})
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.005))
param_scheduler = []
train_cfg = dict(max_epochs=7, val_interval=7)
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=1)
"""
OUR_LOSS = ", loss_cls=dict(_delete_=True, type='DenseQualityFocalLoss', use_sigmoid=True)"
OUR_ASSIGNER = "    train_cfg=dict(assigner=dict(type='BatchedATSSAssigner', topk=9)),\n"


def theirs(network, toy, head='', train_cfg=''):
    base = f'{network}/{network}_r50_fpn_1x_coco.py'
    parts = dict(base=base, head=head, train_cfg=train_cfg)
    return THEIRS.format(mmdet=MMDET_CONFIGS, data=toy, **parts)


@pytest.fixture
def train(door, tmp_path):
    """Train with mmdet's script and return the text of the log."""

    numbers = itertools.count()

    def run(text, *args):
        # mmengine makes no log for a second run of a config of the same name in the same second.
        number = next(numbers)
        config, work = tmp_path / f'{tmp_path.name}_{number}.py', tmp_path / f'work_{number}'
        config.write_text(text)
        door(str(TRAIN), config, '--work-dir', work, *args)
        return next(work.glob('*/*.log')).read_text()

    return run


def losses_of(log):
    lines = [line for line in log.splitlines() if 'Epoch(train)' in line]
    return [float(line.split('loss: ')[1].split()[0]) for line in lines]


def test_hooks_and_metrics_of_mmdet__in_our_config(train, repo, toy, tmp_path):
    log = train(OURS.format(repo=repo, data=toy, work=tmp_path) + HOOKS)
    assert 'did not improve in the last 1 records' in log
    assert 'Epoch(val) [2]' in log and 'Epoch(train) [3]' not in log
    assert 'wider_face/hard: ' in log and 'coco/bbox_mAP: ' in log
    assert len(pickle.loads((tmp_path / 'results.pkl').read_bytes())) == 6
    saved = torch.load(tmp_path / 'work_0/epoch_2.pth', weights_only=False)
    raw = saved['ema_state_dict']
    key = next(name for name in saved['state_dict'] if name.endswith('conv.weight'))
    assert not torch.equal(saved['state_dict'][key], raw[f'module.{key}'])


def test_amp_on_a_cpu__is_refused_by_mmengine(door, repo, toy, tmp_path):
    (tmp_path / 'own.py').write_text(OURS.format(repo=repo, data=toy, work=tmp_path))
    with pytest.raises(AssertionError, match='only available training on gpu'):
        door(str(TRAIN), tmp_path / 'own.py', '--work-dir', tmp_path / 'work', '--amp')


def test_wrappers_of_mmdet__in_our_config(train, repo, toy, tmp_path):
    log = train(OURS.format(repo=repo, data=toy, work=tmp_path) + WRAPPERS)
    assert 'Epoch(train) [1][4/4]' in log  # 4 images, twice each, in both wrappers: 16


def test_mosaic_of_mmdet__with_our_network_and_a_data_set_of_mmdet(
    train, repo, toy, tmp_path, door
):
    """Also: the pipelines of mmdet, its visualizer with TensorBoard, its loop, ``save_best``."""
    for split in ('train', 'val'):
        labels = toy / split / 'labelv2.txt'
        door('tools/data/convert_labels.py', labels, tmp_path / f'{split}.json')
    log = train(OWN_JSON.format(repo=repo, data=toy, folder=tmp_path), '--auto-scale-lr')
    assert 'batch size of 32 and the current batch size is 4' in log
    assert 'coco/bbox_mAP: ' in log and all(loss < 100 for loss in losses_of(log))
    work = tmp_path / 'work_0'
    assert list(work.glob('best_coco_bbox_mAP_*.pth'))
    assert list(work.glob('*/vis_data/events.out.tfevents.*'))


def test_data_preprocessor_of_mmdet__is_refused_after_our_pipeline(train, toy):
    text = theirs('gfl', toy).replace("data_preprocessor=dict(type='FaceDataPreprocessor'),", '')
    with pytest.raises(ValueError, match=r'set model=dict\(data_preprocessor='):
        train(text)


def test_mosaic_of_mmdet__needs_a_data_set_of_mmdet(train, repo, toy, tmp_path):
    text = OURS.format(repo=repo, data=toy, work=tmp_path) + WRAPPERS
    start = text.index("train_dataloader['dataset']")
    mixed = text[:start] + (
        "train_dataloader['dataset'] = dict(_delete_=True, type='MultiImageMixDataset', "
        'dataset=dict(faces, pipeline=train_pipeline[:2]), '
        "pipeline=[dict(type='Mosaic', img_scale=(96, 96)), train_pipeline[-1]])\n"
    )
    with pytest.raises(ValueError, match=r"convert_labels.py and use mmdet's CocoDataset"):
        train(mixed)


@pytest.mark.parametrize('network', ['gfl', 'retinanet'])
def test_our_data_and_metric__in_configs_of_mmdet(network, train, toy):
    log = train(theirs(network, toy))
    losses = losses_of(log)
    assert len(losses) == 21 and min(losses[1:]) < losses[0] < 100
    assert 'wider_face/hard: ' in log and 'coco/bbox_mAP: ' in log


def test_our_assigner_and_loss__give_the_losses_of_mmdets_own(train, toy):
    ours = losses_of(train(theirs('gfl', toy, head=OUR_LOSS, train_cfg=OUR_ASSIGNER)))
    own = losses_of(train(theirs('gfl', toy)))
    assert len(ours) == 21
    # Later ones drift apart by rounding.
    assert ours[:3] == pytest.approx(own[:3], rel=1e-3)
    assert min(ours[1:]) < ours[0]
