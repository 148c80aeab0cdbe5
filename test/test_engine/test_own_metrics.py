# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Own faces are evaluated by the metrics that their labels allow."""

from __future__ import annotations

import copy

import pytest

from helpers import load_config
from mmface.engine.own_metrics import choose_metrics


def settings_of(name: str, root, **extra) -> dict:
    cfg = load_config(name)
    cfg.val_evaluator = dict(type='WiderFaceMetric', gt_dir=str(root / 'val/gt'), **extra)
    cfg.test_evaluator = copy.deepcopy(cfg.val_evaluator)
    keys = ('model', 'val_evaluator', 'test_evaluator', 'default_hooks', 'custom_hooks')
    return {key: cfg.get(key) for key in keys} | {'cfg': cfg}


def types(evaluator) -> list[str]:
    return [metric['type'] for metric in evaluator]


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('scrfd_500m_bnkps', ['CocoBoxMetric', 'KeypointNMEMetric']),
        ('centerface', ['CocoBoxMetric', 'KeypointNMEMetric']),
        ('scrfd_500m', ['CocoBoxMetric']),
    ],
)
def test_own_data__get_coco_ap_and_the_error_of_keypoints(name, expected, tmp_path):
    settings = settings_of(name, tmp_path, out_dir='out', part='list.txt')
    notes = choose_metrics(settings)
    assert types(settings['val_evaluator']) == types(settings['test_evaluator']) == expected
    assert settings['val_evaluator'][0] == dict(type='CocoBoxMetric', out_dir='out')
    assert len(notes) == 2
    assert 'has no ground truth of WIDER FACE' in notes[0]
    assert ' and '.join(expected) in notes[0]
    # The best checkpoint follows, in this run and in the config of the log folder.
    assert settings['default_hooks']['checkpoint']['save_best'] == 'coco/bbox_mAP'
    assert types(settings['cfg'].val_evaluator) == expected


def test_own_data__keeps_other_metrics_and_hooks(tmp_path):
    settings = settings_of('scrfd_500m_bnkps', tmp_path)
    nme = dict(type='KeypointNMEMetric', normalizer='box')
    settings['val_evaluator'] = [settings['val_evaluator'], nme]
    settings['test_evaluator'] = None
    settings['custom_hooks'] = [
        dict(type='EarlyStoppingHook', monitor='wider_face/easy'),
        dict(type='EarlyStoppingHook', monitor='keypoint/nme'),
    ]
    choose_metrics(settings)
    assert settings['val_evaluator'] == [dict(type='CocoBoxMetric'), nme]
    assert settings['test_evaluator'] is None
    monitors = [hook['monitor'] for hook in settings['custom_hooks']]
    assert monitors == ['coco/bbox_mAP', 'keypoint/nme']


def test_wider_face__keeps_its_metric(tmp_path):
    folder = tmp_path / 'val/gt'
    folder.mkdir(parents=True)
    (folder / 'wider_face_val.mat').touch()
    settings = settings_of('scrfd_500m_bnkps', tmp_path)
    before = copy.deepcopy({**settings, 'cfg': None})
    assert choose_metrics(settings) == []
    assert {**settings, 'cfg': None} == before


def test_images_of_wider_face__need_its_ground_truth(tmp_path):
    settings = settings_of('scrfd_500m_bnkps', tmp_path)
    dataset = dict(data_root=str(tmp_path), data_prefix=dict(img_path='val/images'))
    settings['test_dataloader'] = dict(dataset=dict(type='RepeatDataset', dataset=dataset))
    (tmp_path / 'val/images/0--Parade').mkdir(parents=True)
    choose_metrics(settings)
    assert settings['test_evaluator']['type'] == 'WiderFaceMetric'
    assert types(settings['val_evaluator']) == ['CocoBoxMetric', 'KeypointNMEMetric']


@pytest.mark.parametrize('option', [dict(protocol='official'), dict(save_txt='txt')])
def test_options_of_wider_face__still_ask_for_its_ground_truth(option, tmp_path):
    """The metric itself says that the ground truth is missing."""
    settings = settings_of('scrfd_500m_bnkps', tmp_path, **option)
    assert choose_metrics(settings) == []
    assert settings['val_evaluator']['type'] == 'WiderFaceMetric'


def test_other_evaluators__stay(tmp_path):
    settings = settings_of('scrfd_500m_bnkps', tmp_path)
    for evaluator in (None, object(), [dict(type='CocoMetric', ann_file='a.json')]):
        settings.update(val_evaluator=evaluator, test_evaluator=evaluator)
        assert choose_metrics(settings) == []
        assert settings['val_evaluator'] is evaluator


@pytest.mark.parametrize('kind', ['CocoMetric', 'CocoBoxMetric'])
def test_coco_metrics__take_the_labels_of_the_samples(kind, tmp_path):
    """The ids of images in the file are not those of the samples."""
    settings = settings_of('scrfd_500m_bnkps', tmp_path)
    dataset = dict(type='WiderFaceDataset', data_root=str(tmp_path), ann_file='val/labels.json')
    settings['val_dataloader'] = dict(dataset=dataset)
    metric = dict(type=kind, ann_file=str(tmp_path / 'val/../val/labels.json'), prefix='own')
    settings['val_evaluator'] = metric
    notes = choose_metrics(settings)
    assert settings['val_evaluator'] == [dict(type=kind, prefix='own')]
    assert kind in notes[0]
    assert settings['default_hooks']['checkpoint']['save_best'] == 'coco/bbox_mAP'

    settings['val_evaluator'] = {**metric, 'ann_file': 'other.json'}
    with pytest.raises(ValueError, match=r'has the labels other\.json.*Remove ann_file'):
        choose_metrics(settings)
    # Images of CocoBoxDataset have the ids of its file.
    dataset['type'] = 'CocoBoxDataset'
    choose_metrics(settings)
    assert settings['val_evaluator']['ann_file'] == 'other.json'
