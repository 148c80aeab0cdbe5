# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""mmdet's own tools with our configs: the rows of the table in configs/README.md."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import mmcv
import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector

from mmface.apis.inferencer import FaceInferencer

TOOLS = Path(mmdet.__file__).parent / '.mim/tools'
pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason=f'this mmdet has no {TOOLS}')
FAMILIES = ('scrfd', 'centerface', 'centernet2')

#: What a user of mmdet writes to train one of our networks on own data.
HEAD = """
_base_ = '{base}'
data_root = '{data}/'
train_steps = _base_.train_steps
test_steps = _base_.test_steps
"""
SIZES = dict(
    scrfd="""
train_steps.crop.update(size=96)
test_steps.resize.update(scale=(96, 96))
model = dict(data_preprocessor=dict(pad_size=(96, 96)), test_cfg=dict(score_thr=0.001))
""",
    centerface="""
train_steps.crop.update(size=96)
test_steps.resize.update(size=96)
""",
    centernet2="""
train_steps.resize.update(scales=[(64, 96)])
test_steps.resize.update(scale=(64, 96))
""",
)
TAIL = """
train_pipeline = list(filter(None, train_steps.values()))
test_pipeline = list(test_steps.values())
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=4, dataset=dict(data_root=data_root, pipeline=train_pipeline), **loader
)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline), **loader)
test_dataloader = val_dataloader
val_evaluator = dict({metric})
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
randomness = dict(seed=1)
"""
BASES = dict(
    scrfd='scrfd/scrfd_500m_bnkps.py',
    centerface='centerface/centerface_small.py',
    centernet2='centernet2/centernet2_toy.py',
)


def user_config(repo, data: Path, family: str, more: str = '') -> str:
    """Return the text of a config that inherits ours."""
    coco = family == 'centernet2'
    ann_file = f"ann_file='{data}/annotations/instances_val2017.json'"
    metric = ann_file if coco else f"gt_dir='{data}/val/gt'"
    length = 'max_iters=3, val_interval=3' if coco else 'max_epochs=1, val_interval=1'
    head = HEAD.format(base=repo / 'configs' / BASES[family], data=data)
    tail = TAIL.format(metric=metric)
    return f'{head}{SIZES[family]}{tail}train_cfg = dict({length})\n{more}'


@pytest.fixture(scope='module')
def image(toy, toy_coco):
    """Return an image for each family."""
    face = next((toy / 'val/images').rglob('*.jpg'))
    return lambda family: str(
        toy_coco / 'val2017/000000000001.jpg' if family == 'centernet2' else face
    )


@pytest.fixture(scope='module')
def tool(door):
    """Run a script of mmdet in this process. The first test runs them as processes."""
    return lambda script, *args, **options: door(str(TOOLS / script), *args, **options)


@pytest.fixture(scope='session')
def process(repo):
    """Run a script of mmdet in a process of its own, as a user does."""

    def run(script, *args, **env):
        path = TOOLS / script
        command = ['bash', str(path)] if path.suffix == '.sh' else [sys.executable, str(path)]
        paths = os.pathsep.join([str(repo), os.environ.get('PYTHONPATH', '')])
        done = subprocess.run(
            [*command, *map(str, args)], capture_output=True, text=True, timeout=300,
            env={**os.environ, 'PYTHONPATH': paths, **env},
        )  # fmt: skip
        assert done.returncode == 0, f'{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
        return done

    return run


@pytest.fixture(scope='session')
def runs(repo, once, toy, toy_coco, process, door):
    """Train each family with mmdet's train.py and test it with mmdet's test.py.

    SCRFD as processes, the others in this process.
    """

    def make(folder):
        for family in FAMILIES:
            work = folder / family
            config = folder / f'{family}.py'
            data = toy_coco if family == 'centernet2' else toy
            config.write_text(user_config(repo, data, family))
            run = process if family == 'scrfd' else lambda name, *a: door(str(TOOLS / name), *a)
            run('train.py', config, '--work-dir', work)
            last = (work / 'last_checkpoint').read_text()
            shutil.copy(last, work / 'last.pth')
            args = [config, work / 'last.pth', '--work-dir', folder / f'{family}_test']
            run('test.py', *args, '--out', work / 'results.pkl', '--show-dir', 'shown')

    return once('mmdet_runs', make)


@pytest.mark.parametrize('family', FAMILIES)
def test_train_and_test__leave_a_checkpoint_results_and_images(family, runs):
    results = pickle.loads((runs / family / 'results.pkl').read_bytes())
    assert len(results) == (4 if family == 'centernet2' else 6)
    assert {'bboxes', 'scores', 'labels'} <= results[0]['pred_instances'].keys()
    assert sum(len(result['pred_instances']['scores']) for result in results)
    assert len(list((runs / f'{family}_test').glob('*/shown/*.jpg'))) == len(results)


def test_train_and_resume(runs, tool, tmp_path):
    work = shutil.copytree(runs / 'scrfd', tmp_path / 'work')
    saved = (work / 'last_checkpoint').read_text()
    (work / 'last_checkpoint').write_text(str(work / Path(saved).name))
    args = ['--work-dir', work, '--resume', '--cfg-options', 'train_cfg.max_epochs=2']
    tool('train.py', runs / 'scrfd.py', *args)
    log = max(work.glob('*/*.log')).read_text()
    assert 'Epoch(train) [2][3/3]' in log and 'Epoch(train) [1]' not in log


def test_dist_train_and_dist_test(process, runs, toy, tmp_path):
    args = [2, '--work-dir', tmp_path]
    process('dist_train.sh', runs / 'scrfd.py', *args, PORT='29553', OMP_NUM_THREADS='1')
    (log,) = tmp_path.glob('*/*.log')
    assert 'Epoch(train) [1][2/2]' in log.read_text()
    args = [1, '--work-dir', tmp_path / 'test']
    weights = runs / 'scrfd/last.pth'
    process('dist_test.sh', runs / 'scrfd.py', weights, *args, PORT='29554', OMP_NUM_THREADS='1')
    assert 'wider_face/hard' in next(tmp_path.glob('test/*/*.log')).read_text()


@pytest.mark.parametrize('family', FAMILIES)
def test_det_inferencer__finds_what_ours_finds(family, runs, image, tmp_path):
    config, weights = str(runs / f'{family}.py'), str(runs / family / 'last.pth')
    theirs = DetInferencer(config, weights, device='cpu', show_progress=False)
    done = theirs([image(family)] * 2, return_datasamples=True, return_vis=True)
    found = done['predictions'][1].pred_instances
    assert done['visualization'][0].shape == mmcv.imread(image(family)).shape
    assert len(theirs(mmcv.imread(image(family)))['predictions'][0]['scores']) == len(found)
    theirs(image(family), out_dir=str(tmp_path), no_save_pred=False)
    (written,) = tmp_path.glob('preds/*.json')
    assert len(json.loads(written.read_text())['bboxes']) == len(found)
    assert len(list(tmp_path.glob('vis/*.jpg'))) == 1
    ours = FaceInferencer(config, weights, device='cpu', score_thr=None)(image(family))
    scores = np.array([face.score for face in ours])
    assert len(scores)
    np.testing.assert_allclose(found.scores.numpy()[:5], scores[:5], atol=1e-4)
    # Scores of a network that has learned nothing are almost equal, so their order may differ.
    for face in ours[:5]:
        assert np.abs(found.bboxes.numpy() - face.bbox).max(axis=1).min() < 0.05
    assert ('keypoints' in found) == (family != 'centernet2')


@pytest.mark.parametrize('family', FAMILIES)
def test_inference_detector__files_and_arrays(family, runs, image):
    args = [str(runs / f'{family}.py'), str(runs / family / 'last.pth')]
    model = init_detector(*args, device='cpu')
    from_file = inference_detector(model, [image(family)])[0].pred_instances
    from_array = inference_detector(model, mmcv.imread(image(family))).pred_instances
    assert torch.equal(from_file.bboxes, from_array.bboxes) and len(from_file)
    with pytest.raises(KeyError, match='img'):  # the row of the table: mmdet changes model.cfg
        inference_detector(model, image(family))


@pytest.mark.parametrize('family', FAMILIES)
def test_get_flops_print_config_confusion_matrix_eval_metric(family, runs, tool, tmp_path):
    config, results = runs / f'{family}.py', runs / family / 'results.pkl'
    flops = tool('analysis_tools/get_flops.py', config, '--num-images', 1)
    assert 'Input shape: (64, 96)' in flops.stdout or 'Input shape: (96, 96)' in flops.stdout
    tool('misc/print_config.py', config, '--save-path', tmp_path / 'full/config.py')
    assert 'FaceRunner' in (tmp_path / 'full/config.py').read_text()
    tool('analysis_tools/confusion_matrix.py', config, results, tmp_path / 'matrix')
    assert (tmp_path / 'matrix/confusion_matrix.png').is_file()
    done = tool('analysis_tools/eval_metric.py', config, results)
    assert ("'coco/bbox_mAP'" if family == 'centernet2' else "'wider_face/hard'") in done.stdout


@pytest.mark.parametrize(
    ('family', 'options'),
    [
        ('scrfd', ['0.type=LoadImageFromFile', '1.type=LoadAnnotations']),
        ('centerface', ['1.type=LoadImageFromFile', '2.type=LoadAnnotations']),
        ('centernet2', ['1.type=LoadImageFromFile', '2.box_type=hbox']),
    ],
)
def test_analyze_results__with_the_loaders_of_mmdet(family, options, runs, tool, tmp_path):
    args = ['analysis_tools/analyze_results.py', runs / f'{family}.py']
    # Boxes of a network that has learned nothing may be inside out, which mmdet cannot draw.
    args += [runs / family / 'results.pkl', tmp_path, '--topk', 1, '--show-score-thr', 0.9]
    with pytest.raises(AssertionError, match='loading image and annotations'):
        tool(*args)
    options = [f'train_dataloader.dataset.pipeline.{option}' for option in options]
    tool(*args, '--cfg-options', *options)
    assert list((tmp_path / 'good').glob('*.jpg')) and list((tmp_path / 'bad').glob('*.jpg'))


def test_benchmark(runs, tool):
    args = ['analysis_tools/benchmark.py', runs / 'scrfd.py', '--max-iter', 2, '--num-warmup', 1]
    if importlib.util.find_spec('psutil') is None:
        with pytest.raises(AttributeError, match="no attribute 'Process'"):
            tool(*args)
        return
    done = tool(*args, '--task', 'dataloader', '--dataset-type', 'train')
    assert 'Overall fps' in done.stdout + done.stderr


def test_analyze_logs(runs, tool, tmp_path):
    log = next((runs / 'scrfd').glob('*/vis_data/scalars.json'))
    done = tool('analysis_tools/analyze_logs.py', 'cal_train_time', log)
    assert 'average iter time' in done.stdout
    args = ['analysis_tools/analyze_logs.py', 'plot_curve', log, '--keys', 'loss_cls']
    args += ['--out', tmp_path / 'loss.png']
    with pytest.raises(OSError, match="'dark' is not a valid package style"):
        tool(*args)
    tool(*args, '--style', 'default')
    assert (tmp_path / 'loss.png').is_file()


def test_publish_model__needs_a_variable_of_torch(runs, process, tool, tmp_path):
    args = ['model_converters/publish_model.py', runs / 'scrfd/last.pth', tmp_path / 'face.pth']
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer'):
        tool(*args)
    process(*args, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    (published,) = tmp_path.glob('face-*.pth')
    FaceInferencer(str(runs / 'scrfd.py'), str(published), device='cpu')


@pytest.mark.parametrize('family', FAMILIES)
def test_tta(family, repo, runs, tool, tmp_path):
    args = [runs / family / 'last.pth', '--work-dir', tmp_path, '--tta']
    config = runs / f'{family}.py'
    if family != 'centernet2':
        with pytest.raises(ValueError, match='or put LoadFaceAnnotations after it'):
            tool('test.py', config, *args)
        small = [dict(type='FaceResize', scale=(side, side), keep_ratio=True) for side in (96, 128)]
        text = f"_base_ = ['{config}', '{repo}/configs/_base_/tta/face_tta.py']\n"
        text += f'tta_views = _base_.tta_views\ntta_views.sizes = {small}\n'
        text += "image = dict(type='LoadFaceImage')\n"
        text += "views = dict(type='TestTimeAug', transforms=list(tta_views.values()))\n"
        text += (
            "tta_pipeline = [image, views]\ntta_model = dict(tta_cfg=dict(nms=dict(type='nms')))\n"
        )
        config = tmp_path / 'own/tta.py'
        config.parent.mkdir()
        config.write_text(text)
    tool('test.py', config, *args)
    if family != 'centernet2':  # mmdet's model merges these views, too, without the keypoints
        tool('test.py', config, *args, '--cfg-options', 'tta_model.type=DetTTAModel',
             'model.data_preprocessor.pad_size=None')  # fmt: skip
    logs = [log.read_text() for log in tmp_path.glob('*/*.log')]
    assert sum('Load checkpoint from' in log and '(test) [' in log for log in logs) == (
        1 if family == 'centernet2' else 2
    )


def test_coco_error_analysis__of_what_coco_metric_writes(runs, tool, process, toy_coco, tmp_path):
    options = ['test_evaluator.type=CocoMetric', 'test_evaluator.metric=bbox']
    options += [f'test_evaluator.outfile_prefix={tmp_path}/found']
    args = [runs / 'centernet2.py', runs / 'centernet2/last.pth', '--work-dir', tmp_path]
    tool('test.py', *args, '--cfg-options', *options)
    labels = toy_coco / 'annotations/instances_val2017.json'
    args = [tmp_path / 'found.bbox.json', tmp_path / 'errors', '--ann', labels]
    process('analysis_tools/coco_error_analysis.py', *args)
    assert len(list((tmp_path / 'errors/bbox').glob('bbox-allclass-*.png'))) == 4


@pytest.mark.parametrize(
    ('script', 'args', 'message'),
    [
        ('analysis_tools/fuse_results.py', ['a.json'], 'models_name'),
        ('analysis_tools/optimize_anchors.py', ['scrfd.py', '--device', 'cpu'], 'anchor_generator'),
        ('misc/get_image_metas.py', ['scrfd.py'], 'img'),
    ],
)
def test_scripts__that_fail_with_all_our_configs(script, args, message, runs, tool):
    args = [runs / arg if arg.endswith('.py') else arg for arg in args]
    with pytest.raises((AttributeError, KeyError), match=message):
        tool(script, *args)


def test_page__names_tests_that_exist(repo):
    page = (repo / 'configs/README.md').read_text().split("## mmdet's own tools")[1].split('## ')[0]
    folder = Path(__file__).parent
    known = ''.join(file.read_text() for file in folder.glob('test_*.py'))
    rows = [line.split('|') for line in page.splitlines() if line.startswith('| `')]
    assert len(rows) > 20
    for row in rows:
        for name in row[-2].replace('`', '').split(','):
            assert f'def test_{name.strip()}' in known, row
