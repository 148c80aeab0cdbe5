# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The specification in a file describes how its model is tested."""

from __future__ import annotations

import copy

import pytest

from mmface.deploy.export.spec import find_resize, make_spec
from mmface.deploy.model_spec import ModelSpec


def spec_of(detector, name, layout):
    cfg, model = detector(name)
    resize, size = find_resize(cfg)
    return make_spec(cfg, model, layout, size, resize, False)


def test_scrfd(detector):
    spec = spec_of(detector, 'scrfd/scrfd_500m_bnkps.py', 'insightface')
    assert spec == ModelSpec(
        family='scrfd',
        layout='insightface',
        size=(640, 640),
        mean=(127.5,) * 3,
        std=(128.0,) * 3,
        rgb=True,
        resize='keep_ratio',
        strides=(8, 16, 32),
        num_priors=2,
        num_keypoints=5,
        score_thr=0.02,
        nms_iou=0.45,
    )
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_scrfd_without_keypoints(detector):
    assert spec_of(detector, 'scrfd/scrfd_500m.py', 'raw').num_keypoints == 0


def test_centerface(detector):
    spec = spec_of(detector, 'centerface/centerface.py', 'centerface')
    assert spec == ModelSpec(
        family='centerface',
        layout='centerface',
        size=(800, 800),
        mean=(104.0136177, 114.0342201, 119.91659325),
        std=(73.6027614, 69.89082075, 70.91507925),
        rgb=False,
        resize='centre',
        strides=(4,),
        num_priors=1,
        convention='centernet',
        keypoint_anchor='cell',
        clip=False,
        peak=3,
        topk=200,
        score_thr=0.0,
        nms_iou=0.0,
    )


@pytest.mark.parametrize(
    ('layout', 'convention', 'anchor'),
    [
        ('raw', 'star_clouds', 'cell'),
        ('starclouds', 'star_clouds', 'cell'),
        ('centerface', 'centernet', 'centre'),
        ('decoded', 'centernet', 'centre'),
    ],
)
def test_convention__is_that_of_the_maps_in_the_file(detector, layout, convention, anchor):
    spec = spec_of(detector, 'centerface/centerface_starclouds.py', layout)
    assert (spec.convention, spec.keypoint_anchor) == (convention, anchor)
    assert (spec.resize, spec.size, spec.clip) == ('stretch', (0, 0), True)
    assert (spec.peak, spec.topk, spec.score_thr) == (1, -1, 0.05)
    assert (spec.nms_iou, spec.nms_offset) == (0.3, 1)


def test_peak__is_left_to_the_runtime_unless_the_graph_finds_it(detector):
    name = 'centerface/centerface_mindspore.py'
    raw, decoded = (spec_of(detector, name, layout) for layout in ('raw', 'decoded'))
    assert (raw.convention, raw.peak, raw.peak_tolerance) == ('mindspore', 3, 1e-3)
    assert (decoded.peak, decoded.peak_tolerance, decoded.topk) == (1, 0.0, 200)
    assert raw.nms_iou == 0.5  # instead of soft-NMS, which a file cannot specify


def test_pipeline_without_a_known_resize__is_refused(detector):
    cfg = copy.deepcopy(detector('scrfd/scrfd_500m.py')[0])
    del cfg.test_dataloader.dataset.pipeline[1]
    with pytest.raises(ValueError, match='has 0 of FaceResize, FaceLetterbox, FaceStretch'):
        find_resize(cfg)
