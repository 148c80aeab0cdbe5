# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""No name in a data file leads a writer out of the folder that the user chose."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmface_benchmark.toy_onnx import write_toy_centerface
from scipy.io import savemat

from mmface.evaluation.metrics import WiderFaceMetric
from mmface.evaluation.wider_txt import write_wider_txt
from mmface.utils.files import inside
from mmface.visualization import FaceVisualizer

HOSTILE = (
    '../x', 'a/../../x', '..', '', '.', '/tmp/x', 'a//x', 'a/./x', '\\x', 'a\\..\\..\\x', 'C:/x',
    'C:x', 'a/D:x', 'a\0b', '//host/x', 'a/', '~/../x',
)  # fmt: skip


@pytest.mark.parametrize('name', HOSTILE)
def test_inside__refuses(name, tmp_path):
    with pytest.raises(ValueError, match='comes from a data file and leads out of'):
        inside(tmp_path, name)


@pytest.mark.parametrize(
    'name', ['a/b.txt', '0--Parade/0_Parade_1.jpg', 'a..b/..c', '~/x', '12:30.jpg', '图/一.png']
)
def test_inside__keeps_names_of_files(name, tmp_path):
    assert inside(tmp_path, name) == tmp_path / name


@pytest.fixture
def out(tmp_path):
    """Create a folder for results inside a folder in which nothing else may appear."""
    folder = tmp_path / 'watched' / 'out'
    folder.mkdir(parents=True)
    yield folder
    assert [path.name for path in (tmp_path / 'watched').iterdir()] == ['out']


@pytest.mark.parametrize('name', ['../x', '{abs}/x', '..\\x'])
def test_write_wider_txt__refuses(name, out):
    with pytest.raises(ValueError, match='leads out of'):
        write_wider_txt(out, name.format(abs=out.parent), np.empty((0, 5)))


def _ground_truth(folder, names):
    """Write official ground truth of one event with images of these names, one face each."""

    def cells(values):
        array = np.empty((len(values), 1), object)
        array[:, 0] = values
        return array

    folder.mkdir(parents=True)
    events = cells([np.array(['..'])])
    files = cells([cells([np.array([name]) for name in names])])
    boxes = cells([cells([np.array([[1.0, 2.0, 20.0, 20.0]]) for _ in names])])
    keep = cells([cells([np.array([[1]]) for _ in names])])
    for split in ('face', 'easy', 'medium', 'hard'):
        content = {'event_list': events, 'file_list': files, 'face_bbx_list': boxes}
        savemat(folder / f'wider_{split}_val.mat', {**content, 'gt_list': keep})
    return folder


def test_wider_face_metric__leaves_out_hostile_names(out, tmp_path):
    gt = _ground_truth(tmp_path / 'gt', ['x', 'y'])
    metric = WiderFaceMetric(str(gt), save_txt=str(out), out_dir=str(out), plot=False)
    found = {'bboxes': np.array([[1.0, 2.0, 21.0, 22.0]]), 'scores': np.array([0.9])}
    names = ['../x.jpg', '../y.jpg', f'{out.parent}/z.jpg', 'event/good.jpg']
    metric.process({}, [{'img_id': name, 'pred_instances': found} for name in names])
    assert [p.relative_to(out).as_posix() for p in out.rglob('*.txt')] == ['event/good.txt']


def test_test_onnx__refuses_hostile_ground_truth(out, tmp_path, run_tool):
    root = tmp_path / 'data'
    _ground_truth(root / 'val' / 'gt', ['x'])
    images = root / 'val' / 'images'
    images.mkdir()
    for folder in (images, images.parent):
        cv2.imwrite(str(folder / 'x.jpg'), np.zeros((64, 64, 3), np.uint8))
    model = write_toy_centerface(tmp_path / 'toy.onnx')
    tool = ('tools/deploy/test_onnx.py', model, '--data-path', root, '--size', 64, 64)
    done = run_tool(*tool, '--save-txt', out, ok=False)
    assert done.returncode == 2 and '../x' in done.stderr


def test_show_dir__takes_the_last_part_of_a_name(out):
    """mmdet's hook joins the base name, and our visualizer writes where it is told."""
    FaceVisualizer.get_instance('names are data')  # the hook takes the current one
    hook = DetVisualizationHook(draw=True, test_out_dir=str(out))
    image = out / 'x.jpg'
    cv2.imwrite(str(image), np.zeros((32, 32, 3), np.uint8))
    sample = DetDataSample(metainfo={'img_path': f'{out}/../out/x.jpg'})
    sample.pred_instances = InstanceData(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )

    class Runner:
        iter, work_dir, timestamp = 0, str(out), ''

    hook.after_test_iter(Runner(), 0, {}, [sample])
    assert [path.name for path in out.iterdir()] == ['x.jpg']
