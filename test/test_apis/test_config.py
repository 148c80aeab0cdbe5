# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The options of training and testing change a config as documented."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mmface.apis import config as edit


@pytest.fixture
def cfg(repo):
    path = repo / 'configs/scrfd/scrfd_500m_bnkps.py'
    return Config.fromfile(str(path), import_custom_modules=False)


def _strings(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize('slash', ['', '/'])
def test_set_data_path__replaces_the_root_everywhere(cfg, tmp_path, slash):
    old = cfg.data_root
    before = sum(text.startswith(old) for text in _strings(cfg._cfg_dict))
    assert before >= 5
    edit.set_data_path(cfg, f'{tmp_path}{slash}')
    texts = _strings(cfg._cfg_dict)
    assert not any(text.startswith(old.rstrip('/')) for text in texts)
    assert sum(text.startswith(f'{tmp_path}/') for text in texts) == before
    assert cfg.val_evaluator.gt_dir == f'{tmp_path}/val/gt'


@pytest.mark.parametrize(
    ('mode', 'step', 'pad_size'),
    [
        ('vga', {'type': 'FaceResize', 'scale': (640, 640), 'keep_ratio': True}, (640, 640)),
        ('320', {'type': 'FaceResize', 'scale': (320, 320), 'keep_ratio': True}, (320, 320)),
        ('1650', {'type': 'FaceResize', 'scale': (1100, 1650), 'keep_ratio': True}, None),
        ('origin', {'type': 'Resize', 'scale_factor': 1.0, 'keep_ratio': True}, None),
    ],
)
def test_set_mode(cfg, mode, step, pad_size):
    train = cfg.train_dataloader.to_dict()
    edit.set_mode(cfg, mode)
    assert step in [dict(item) for item in cfg.test_dataloader.dataset.pipeline]
    assert cfg.model.data_preprocessor.pad_size == pad_size
    assert cfg.model.data_preprocessor.pad_size_divisor == 32
    assert cfg.train_dataloader.to_dict() == train


@pytest.mark.parametrize(
    ('mode', 'step', 'pad_size'),
    [
        ('vga', {'type': 'FaceLetterbox', 'size': 640}, (640, 640)),
        ('832', {'type': 'FaceLetterbox', 'size': 832}, (832, 832)),
        ('1650', {'type': 'FaceResize', 'scale': (1100, 1650), 'keep_ratio': True}, None),
        ('origin', {'type': 'Resize', 'scale_factor': 1.0, 'keep_ratio': True}, None),
    ],
)
def test_set_mode__letterbox(cfg, mode, step, pad_size):
    own = {'aligned': False} if step['type'] == 'FaceLetterbox' else {}
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[1] = dict(type='FaceLetterbox', size=800, aligned=False)
    edit.set_mode(cfg, mode)
    assert pipeline[1] == {**step, **own}
    assert cfg.model.data_preprocessor.pad_size == pad_size


@pytest.mark.parametrize(
    ('mode', 'scale'),
    [('vga', (640, 640)), ('960', (960, 960)), ('1650', (1100, 1650)), ('origin', None)],
)
def test_set_mode__stretched(cfg, mode, scale):
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[1] = dict(type='FaceStretch', divisor=32)
    edit.set_mode(cfg, mode)
    assert pipeline[1] == dict(type='FaceStretch', divisor=32, scale=scale)
    assert cfg.model.data_preprocessor.pad_size is None


def test_set_mode__refuses_other_pipelines(cfg):
    cfg.test_dataloader.dataset.pipeline[1] = dict(type='Resize', scale=(1333, 800))
    with pytest.raises(ValueError, match='FaceResize or FaceLetterbox or FaceStretch'):
        edit.set_mode(cfg, 'vga')


@pytest.mark.parametrize('mode', ['0', '100', '-32', 'VGA', ''])
def test_set_mode__refuses_others(cfg, mode):
    with pytest.raises(ValueError, match='mode must be'):
        edit.set_mode(cfg, mode)


def test_set_part__restricts_images_and_ground_truth(cfg, tmp_path):
    part = tmp_path / 'part.txt'
    part.write_text('a/b.jpg\n')
    edit.set_part(cfg, str(part))
    assert cfg.test_dataloader.dataset.part == str(part)
    assert cfg.test_evaluator.part == str(part)


def test_set_metric__refuses_other_metrics(cfg):
    cfg.test_evaluator = [{'type': 'CocoMetric'}]
    edit.set_metric(cfg, protocol=None)
    with pytest.raises(ValueError, match='protocol: only for configs'):
        edit.set_metric(cfg, protocol='official')


def test_set_out_dir__of_metrics_that_write_files(cfg):
    cfg.test_evaluator = [{'type': kind} for kind in ('WiderFaceMetric', 'CocoBoxMetric', 'Other')]
    edit.set_out_dir(cfg, 'out')
    assert [metric.get('out_dir') for metric in cfg.test_evaluator] == ['out', 'out', None]


@pytest.fixture
def coco(repo):
    path = repo / 'configs/centernet2/centernet2_r50_1x.py'
    return Config.fromfile(str(path), import_custom_modules=False)


def test_coco__data_path_reaches_data_and_ground_truth(coco, tmp_path):
    edit.set_data_path(coco, str(tmp_path))
    for loader in (coco.train_dataloader, coco.val_dataloader, coco.test_dataloader):
        assert loader.dataset.data_root == f'{tmp_path}/'
    truth = f'{tmp_path}/annotations/instances_val2017.json'
    assert coco.val_evaluator.ann_file == coco.test_evaluator.ann_file == truth


def test_coco__options_of_wider_face_are_refused(coco, tmp_path):
    with pytest.raises(ValueError, match='protocol: only for configs that test with WiderFace'):
        edit.set_metric(coco, protocol='official')
    with pytest.raises(ValueError, match='mode needs FaceResize or'):
        edit.set_mode(coco, 'vga')
    (tmp_path / 'part.txt').write_text('a/b.jpg')
    with pytest.raises(ValueError, match='part: only for configs that test with WiderFaceMetric'):
        edit.set_part(coco, str(tmp_path / 'part.txt'))
    edit.cut_length(coco, 3, 401)
    assert coco.train_cfg.max_iters == 401


@pytest.mark.parametrize('name', ['fp32', 'amp_o1', 'amp_o2'])
def test_set_precision__keeps_what_is_not_precision(cfg, repo, name):
    path = repo / f'configs/_base_/precision/{name}.py'
    cfg.optim_wrapper.update(clip_grad=dict(max_norm=1), accumulative_counts=2)
    optimizer = dict(cfg.optim_wrapper.optimizer)
    for step in ('amp_o2', 'amp_o1', 'fp32', name):
        edit.set_precision(cfg, path.with_stem(step))
    wanted = {'optimizer': optimizer, 'clip_grad': {'max_norm': 1}, 'accumulative_counts': 2}
    assert cfg.optim_wrapper == {**wanted, **Config.fromfile(path)['precision']}


def test_set_precision__own_options_stay(repo):
    cfg = Config.fromfile(repo / 'configs/scrfd/scrfd_10g_1p_o2.py', import_custom_modules=False)
    cfg.optim_wrapper.loss_scale = 19.0
    edit.set_precision(cfg, repo / 'configs/_base_/precision/amp_o2.py')
    assert cfg.optim_wrapper.loss_scale == 19.0


def test_set_precision__refuses_a_wrapper_it_does_not_know(cfg, repo):
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        edit.set_precision(cfg, repo / 'configs/_base_/precision/amp_o1.py')


def test_cut_length__in_epochs_or_iterations(cfg):
    schedule = cfg.param_scheduler
    edit.cut_length(cfg, 3, 401)
    assert cfg.train_cfg.max_epochs == 3
    assert 'max_iters' not in cfg.train_cfg
    assert cfg.param_scheduler == schedule
    cfg.train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 90000}
    edit.cut_length(cfg, 3, 401)
    assert cfg.train_cfg.max_iters == 401


def test_set_length__scales_the_schedule(cfg):
    assert cfg.param_scheduler[0].end == 1501
    assert cfg.param_scheduler[1].milestones == [440, 544]
    edit.set_length(cfg, 64)
    assert cfg.train_cfg == {
        'type': 'ResumableEpochTrainLoop',
        'max_epochs': 64,
        'val_interval': 8,
    }
    warmup, drops = cfg.param_scheduler
    assert (warmup['begin'], warmup['end']) == (0, 150)
    assert (drops['milestones'], drops['end']) == ([44, 54], 64)


@pytest.mark.parametrize('epochs', [1, 2, 640, 10_000])
def test_set_length__any(cfg, epochs):
    edit.set_length(cfg, epochs)
    warmup, drops = cfg.param_scheduler
    assert warmup['end'] >= 2  # a warm-up of one step would stay at its first value
    assert drops['end'] == cfg.train_cfg.max_epochs == epochs
    assert 1 <= drops['milestones'][0] <= drops['milestones'][1] <= epochs
    assert 1 <= cfg.train_cfg.val_interval <= epochs


def test_set_length__of_a_loop_that_counts_iterations(coco):
    edit.set_length(coco, 12)
    assert coco.train_cfg.num_epochs == 12
    coco.train_cfg.type = 'IterBasedTrainLoop'
    with pytest.raises(ValueError, match=r'train_cfg\.max_iters'):
        edit.set_length(coco, 3)


def test_set_lr__keeps_the_ratios(cfg):
    cfg.param_scheduler.append(dict(type='CosineAnnealingLR', eta_min=0.001))
    edit.set_lr(cfg, 0.1)
    assert cfg.optim_wrapper.optimizer.lr == 0.1
    assert cfg.param_scheduler[2]['eta_min'] == pytest.approx(0.01)
    assert cfg.reset_lr
    del cfg.optim_wrapper['optimizer']
    with pytest.raises(ValueError, match=r'optim_wrapper\.optimizer\.lr'):
        edit.set_lr(cfg, 0.1)


@pytest.mark.parametrize(
    ('name', 'scale'), [('centerface_8p_o1', 19.0), ('centerface_8p_o2', 19.0)]
)
def test_set_precision__the_scale_belongs_to_the_network(repo, name, scale):
    for step in ('amp_o1', 'amp_o2'):
        cfg = Config.fromfile(repo / f'configs/centerface/{name}.py')
        edit.set_precision(cfg, repo / f'configs/_base_/precision/{step}.py')
        assert cfg.optim_wrapper.loss_scale == 19.0


def test_set_milestones__changes_the_steps(repo):
    cfg = Config.fromfile(repo / 'configs/centerface/centerface_8p_o1.py')
    edit.set_milestones(cfg, [1, 3])
    assert cfg.param_scheduler[-1].milestones == [1, 3]
    cfg.param_scheduler = [dict(type='CosineAnnealingLR')]
    with pytest.raises(ValueError, match='this one has CosineAnnealingLR'):
        edit.set_milestones(cfg, [1])
