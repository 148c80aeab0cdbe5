# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Every transform of mmcv and mmdet keeps boxes and keypoints together, or is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import RandomFlip
from mmdet.registry import DATASETS, TRANSFORMS

from mmface.datasets import pipeline_check, transforms
from mmface.datasets.pipeline_check import HARMLESS, REPLACEMENTS, WRAPPERS, check_pipeline

LOAD = [dict(type='LoadFaceImage'), dict(type='LoadFaceAnnotations')]
PACK = dict(type='PackFaceInputs')
POINTS = '120 130 1 160 130 1 140 150 1 125 170 1 155 170 1'
#: Rows and columns of a bright rectangle in the images.
BRIGHT = (slice(200, 260), slice(300, 390))
#: Arguments of transforms that have no defaults.
ARGUMENTS = {
    'LoadImageFromNDArray': {},
    'Normalize': dict(mean=[1, 2, 3], std=[2, 2, 2]),
    'Pad': dict(size_divisor=100),
    'CutOut': dict(n_holes=3, cutout_shape=(5, 5)),
    'RandomGrayscale': dict(prob=1.0, keep_channels=True),
}
#: They read the image again, from a file or from a user.
READERS = ('InferencerLoader', 'LoadImageFromNDArray', 'LoadMultiChannelImageFromFiles')


def foreign() -> dict[str, type]:
    """Return all transforms that mmcv and mmdet have registered."""
    import mmdet.datasets.transforms  # noqa: F401

    found, registry = {}, TRANSFORMS
    while registry is not None:
        found |= {k: v for k, v in registry.module_dict.items() if k not in found}
        registry = registry.parent
    return {k: v for k, v in found.items() if v.__module__.split('.')[0] in ('mmcv', 'mmdet')}


@pytest.fixture
def root(tmp_path, mmdet_scope):
    """Write two images of 640x480 with a face each, and a second face that is ignored."""
    lines = []
    for name in 'ab':
        image = np.full((480, 640, 3), (50, 60, 70), np.uint8)
        image[BRIGHT] = (180, 200, 190)
        path = tmp_path / f'images/e/{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        lines += [f'# e/{name}.png 640 480', f'100 100 180 190 {POINTS}', '300 300 330 340 1']
    (tmp_path / 'labelv2.txt').write_text('\n'.join(lines))
    return tmp_path


def make(root, *steps, wrapped=(), **options):
    """Build the data set, inside ``MultiImageMixDataset`` if it has ``wrapped`` steps."""
    inner = dict(
        type='WiderFaceDataset',
        ann_file=str(root / 'labelv2.txt'),
        data_prefix=dict(img_path=str(root / 'images')),
        pipeline=list(steps),
        **options,
    )
    if not wrapped:
        return DATASETS.build(inner)
    return DATASETS.build(dict(type='MultiImageMixDataset', dataset=inner, pipeline=list(wrapped)))


def truth(sample) -> list:
    instances = sample['data_samples'].gt_instances
    ignored = sample['data_samples'].ignored_instances
    parts = (instances, ignored)
    return [np.asarray(part[key]).tolist() for part in parts for key in sorted(part.keys())]


def bare(kind: type) -> BaseTransform:
    """Return a transform without its arguments. Only its class is looked at."""
    return object.__new__(kind)


@pytest.mark.parametrize('name', sorted(foreign()))
def test_every_transform__is_harmless_or_refused(name, root):
    kind = foreign()[name]
    if name in WRAPPERS:
        with pytest.raises(ValueError, match='RandomFlip does not know'):
            check_pipeline(inside(kind, bare(RandomFlip)), training=True, loaded=True)
        flip = TRANSFORMS.build(dict(type='FaceFlip'))
        assert check_pipeline(inside(kind, flip), training=True, loaded=True)
    elif name in HARMLESS:
        assert check_pipeline([bare(kind)], training=True, loaded=True)
    else:
        with pytest.raises(ValueError, match=f'^{kind.__name__} does not know the keypoints'):
            check_pipeline([bare(kind)], training=True, loaded=True)


def inside(kind: type, step: BaseTransform) -> list:
    """Put a transform into a wrapper, where wrappers keep theirs."""
    wrapper = object.__new__(kind)
    wrapper.transforms = (
        [step]
        if kind.__name__ == 'Compose'
        else [TRANSFORMS.build(dict(type='Compose', transforms=[step]))]
    )
    return [wrapper]


@pytest.mark.parametrize('name', sorted(set(HARMLESS) - set(READERS)))
def test_harmless__labels_and_the_place_of_the_pixels_stay(name, root):
    step = dict(type=name, **ARGUMENTS.get(name, {}))
    wanted = truth(make(root, *LOAD, PACK)[0])
    for seed in range(5):
        np.random.seed(seed)
        dataset = make(root, *LOAD, step, PACK)
        sample = dataset[0]
        assert truth(sample) == wanted
        # The rectangle stays where it is, whatever the colours.
        pixels = sample['inputs'].numpy()[:, :480, :640].astype(float)
        other = (pixels != pixels[:, :1, :1]).any(0)
        assert other[BRIGHT].mean() > 0.9
        other[BRIGHT] = False
        assert other.mean() < 0.01


def test_tables__name_transforms_that_exist():
    known = foreign()
    for table in (HARMLESS, WRAPPERS, REPLACEMENTS):
        assert set(table) <= set(known)
    own = {*pipeline_check.OWN_MOVES, *pipeline_check.OWN_OTHERS}
    assert own | {pipeline_check.LOAD, pipeline_check.PACK} == set(transforms.__all__)


@pytest.mark.parametrize(
    ('step', 'remedy'),
    [
        (dict(type='RandomFlip', prob=1.0), 'FaceFlip'),
        (dict(type='Resize', scale=(320, 240)), 'FaceResize'),
        (dict(type='RandomCrop', crop_size=(300, 300)), 'RandomSquareCrop'),
        (dict(type='RandomChoiceResize', scales=[(64, 48)], keep_ratio=True), 'FaceResize'),
        (dict(type='RandAugment', aug_num=1), 'RandomSquareCrop'),
        (dict(type='LoadAnnotations', with_bbox=True), 'LoadFaceAnnotations'),
    ],
)
def test_data_set__names_the_transform_to_use(step, remedy, root):
    with pytest.raises(ValueError, match=f'instead, use .*{remedy}'):
        make(root, *LOAD, step, PACK)


@pytest.mark.parametrize('name', ['Mosaic', 'MixUp', 'CachedMosaic', 'CachedMixUp', 'CopyPaste'])
def test_mix_data_set__is_refused_when_it_is_built(name, root):
    options = {'MixUp': dict(img_scale=(64, 64)), 'Mosaic': dict(img_scale=(64, 64))}
    step = dict(type=name, **options.get(name, {}))
    if name.startswith('Cached'):
        step.update(img_scale=(64, 64))
    with pytest.raises(ValueError, match=f'{name} does not know the keypoints of faces'):
        make(root, *LOAD, wrapped=[step, PACK])


def test_mix_data_set__may_have_our_transforms(root):
    dataset = make(root, *LOAD, wrapped=[dict(type='FaceFlip', prob=1.0), PACK])
    instances = dataset[0]['data_samples'].gt_instances
    assert instances.bboxes.tolist() == [[460, 100, 540, 190]]
    assert instances.keypoints[0, 0].tolist() == [640 - 160, 130, 1]


def test_packing_without_labels__is_refused_in_training_only(root):
    steps = [dict(type='LoadFaceImage'), PACK]
    with pytest.raises(ValueError, match='packs samples without labels'):
        make(root, *steps)
    assert len(make(root, *steps, test_mode=True)[0]['data_samples'].gt_instances) == 0
    with pytest.raises(ValueError, match='instead, use LoadFaceAnnotations'):
        make(root, steps[0], dict(type='LoadAnnotations', with_bbox=True), PACK, test_mode=True)
    with pytest.raises(ValueError, match='instead, use PackFaceInputs'):
        make(root, *LOAD, dict(type='PackDetInputs'), test_mode=True)


def test_pipelines_of_mmdet__load_boxes_in_testing_only(root):
    image, resize = dict(type='LoadImageFromFile'), dict(type='Resize', scale=(320, 240))
    load, pack = dict(type='LoadAnnotations'), dict(type='PackDetInputs')
    with pytest.raises(ValueError, match=r'use .*JSON|use LoadFaceAnnotations'):
        make(root, image, load, resize, pack)
    for steps, box in (
        ([resize, load], [100, 100, 180, 190]),  # as mmdet's test pipelines
        ([load, resize], [50, 50, 90, 95]),
    ):
        instances = make(root, image, *steps, pack, test_mode=True)[0]['data_samples']
        assert instances.gt_instances.bboxes.tensor.tolist() == [box]
        assert len(instances.ignored_instances) == 1
    fitted = dict(type='FaceLetterbox', size=320)
    for steps in ([fitted, load, pack], [fitted, resize, load, pack], [load, fitted, pack]):
        with pytest.raises(ValueError, match='LoadAnnotations does not know the keypoints'):
            make(root, image, *steps, test_mode=True)


def test_transform_after_the_labels__may_come_before_them_in_testing(root):
    flip = dict(type='RandomFlip', prob=1.0)
    with pytest.raises(ValueError, match='FaceFlip, or put LoadFaceAnnotations after it'):
        make(root, *LOAD, flip, PACK, test_mode=True)


@pytest.mark.parametrize(
    'step', [dict(type='FaceResize', scale=(320, 240)), dict(type='Resize', scale=(320, 240))]
)
def test_labels_after_a_resize__fit_in_testing_only(step, root):
    steps = [dict(type='LoadFaceImage'), step, dict(type='LoadFaceAnnotations'), PACK]
    with pytest.raises(ValueError, match=r'comes after FaceResize|Resize does not know'):
        make(root, *steps)
    sample = make(root, *steps, test_mode=True)[0]['data_samples']
    assert sample.gt_instances.bboxes.tolist() == [[100, 100, 180, 190]]


def test_own_transforms__are_the_users_responsibility(root):
    class Mine(BaseTransform):
        def transform(self, results):
            return results

    class MyFlip(RandomFlip):
        pass

    assert check_pipeline([Mine()], training=True, loaded=True)
    with pytest.raises(ValueError, match='RandomFlip does not know'):
        check_pipeline([MyFlip(prob=0.5)], training=True, loaded=True)


def test_flip__needs_the_pairs_of_the_labels_or_its_own():
    build = TRANSFORMS.build
    with pytest.raises(ValueError, match=r'metainfo=dict\(flip_indices='):
        check_pipeline([build(dict(type='FaceFlip'))], True, flip_known=False, loaded=True)
    for options in (dict(flip_indices=(1, 0)), dict(prob=0)):
        told = build(dict(type='FaceFlip', **options))
        assert check_pipeline([told], True, flip_known=False, loaded=True)


def test_other_data_sets__may_be_mixed(tmp_path, mmdet_scope):
    """The check concerns faces with keypoints only."""
    import json

    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((48, 64, 3), np.uint8))
    box = dict(id=1, image_id=1, category_id=1, bbox=[5, 5, 20, 20], area=400, iscrowd=0)
    table = dict(
        images=[dict(id=1, file_name='a.png', width=64, height=48)],
        annotations=[box],
        categories=[dict(id=1, name='ball')],
    )
    (tmp_path / 'a.json').write_text(json.dumps(table))
    inner = dict(
        type='CocoBoxDataset',
        ann_file=str(tmp_path / 'a.json'),
        data_prefix=dict(img=str(tmp_path)),
        metainfo=dict(classes=('ball',)),
        pipeline=[dict(type='LoadFaceImage'), dict(type='LoadAnnotations', with_bbox=True)],
    )
    mosaic = [dict(type='Mosaic', img_scale=(64, 64))]
    mixed = DATASETS.build(dict(type='MultiImageMixDataset', dataset=inner, pipeline=mosaic))
    assert mixed[0]['img'].shape == (128, 128, 3)
