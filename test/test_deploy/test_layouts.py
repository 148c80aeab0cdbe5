# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Exporter, specification and runtime know the layouts only from the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from mmface.deploy.export.export import export_onnx
from mmface.deploy.export.networks import SCRFDNetwork
from mmface.deploy.export.options import ExportOptions
from mmface.deploy.layouts import (
    FAMILIES,
    LAYOUTS,
    Axis,
    Layout,
    channels,
    layout_names,
    map_output,
    outputs_of,
    row_output,
)
from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime import FaceDetector
from mmface.deploy.runtime.readers import READERS

SCRFD = 'scrfd/scrfd_500m_bnkps.py'
SPECS = {
    'scrfd': ModelSpec('scrfd', 'raw', (64, 96), (0.0,) * 3, (1.0,) * 3, True),
    'centerface': ModelSpec(
        'centerface', 'raw', (64, 96), (0.0,) * 3, (1.0,) * 3, True,
        strides=(4,), num_priors=1, convention='centernet',
    ),
    'centernet2': ModelSpec(
        'centernet2', 'proposals', (64, 96), (0.0,) * 3, (1.0,) * 3, True,
        strides=(8, 16), num_priors=1, num_candidates=50, num_proposals=10,
    ),
}  # fmt: skip


def faces_of(path, make_image):
    detector = FaceDetector(path, score_thr=None, nms_iou=0, size=(96, 160))
    return detector.detect([make_image(70, 130)])[0]


def assert_same(found, expected):
    """Compare faces in any order, because many scores are nearly equal."""
    ours, theirs = (
        np.concatenate([each.bboxes, each.keypoints.reshape(-1, 10), each.scores[:, None]], 1)
        for each in (found, expected)
    )
    assert len(ours) == len(theirs) > 100
    nearest = np.abs(ours[:, None] - theirs).max(axis=2).argmin(axis=0)
    np.testing.assert_allclose(ours[nearest], theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('name', LAYOUTS)
def test_table__names_and_keys_occur_once(name):
    layout = LAYOUTS[name]
    assert layout.name == name
    assert set(layout.families) <= set(FAMILIES)
    for family in layout.families:
        for points in (0, 5):
            outputs = outputs_of(replace(SPECS[family], layout=name, num_keypoints=points))
            assert len({each.name for each in outputs}) == len(outputs)
            assert len({each.key for each in outputs}) == len(outputs)
            if layout.about:
                assert (family, layout.form) in READERS


def test_shapes__follow_the_input():
    by_name = {each.name: each for each in outputs_of(SPECS['scrfd'])}
    assert by_name['kps_8'].shape((64, 96)) == (20, 8, 12)
    assert by_name['kps_8'].dynamic_axes == {2: 'height_8', 3: 'width_8'}
    rows = outputs_of(replace(SPECS['scrfd'], layout='insightface'))
    assert [each.shape((64, 96))[0] for each in rows[:3]] == [192, 48, 12]
    boxes = outputs_of(replace(SPECS['scrfd'], layout='decoded'))
    assert [each.shape((64, 96)) for each in boxes] == [(252, 4), (252,), (252, 5, 2)]
    # At most 50 candidates from each level.
    proposals = outputs_of(SPECS['centernet2'])
    assert [each.shape((64, 96)) for each in proposals] == [
        (50 + 24, 4), (50 + 24,), (None, 8, 12), (None, 4, 6),
    ]  # fmt: skip
    coarse = outputs_of(replace(SPECS['centernet2'], strides=(32, 128)))
    assert [each.shape((128, 160))[-1] for each in coarse[1:]] == [20 + 2, 5, 2]
    assert outputs_of(replace(SPECS['centernet2'], layout='rois'))[1].shape((64, 96)) == (1,)


def test_layout_names__are_those_that_users_choose():
    assert layout_names() == ('raw', 'insightface', 'centerface', 'starclouds', 'decoded')
    assert layout_names('scrfd') == ('raw', 'insightface', 'decoded')
    assert layout_names('centernet2') == ()


@pytest.mark.parametrize('dynamic', [False, True])
def test_toy_layout__is_one_entry_of_the_table(
    detector, tmp_path, make_image, monkeypatch, dynamic
):
    """Rows stride by stride, boxes before scores, with different names."""

    def outputs(spec):
        return tuple(
            row_output(f'toy.{stride}.{kind}', kind, stride, count, spec.num_priors)
            for stride in spec.strides[::-1]
            for kind, count in sorted(channels(spec).items())
        )

    toy = Layout('toy', ('scrfd',), ('pixels',), outputs, form='rows', about='a toy')
    monkeypatch.setitem(LAYOUTS, 'toy', toy)
    assert 'toy' in layout_names()
    size = None if dynamic else (96, 160)
    for layout in ('raw', 'toy'):
        options = ExportOptions(layout, size=size, dynamic=dynamic)
        result = export_onnx(*detector(SCRFD), tmp_path / f'{layout}.onnx', options, ())
        assert max(item.excess for item in result.differences) < 1
    graph = onnx.load(tmp_path / 'toy.onnx').graph
    assert [port.name for port in graph.input] == ['pixels']
    assert [port.name for port in graph.output][:4] == [
        'toy.32.bbox', 'toy.32.kps', 'toy.32.score', 'toy.16.bbox',
    ]  # fmt: skip
    assert_same(*(faces_of(tmp_path / f'{name}.onnx', make_image) for name in ('toy', 'raw')))


def test_toy_layout__whose_maps_are_new_needs_a_form_and_a_reader(
    detector, tmp_path, make_image, monkeypatch
):
    """Logits instead of probabilities."""

    def outputs(spec):
        return tuple(replace_kind(each) for each in LAYOUTS['raw'].outputs(spec))

    def replace_kind(each):
        return each._replace(kind='logit') if each.kind == 'score' else each

    def logits(network, feats):
        maps = network.maps(feats)
        return {
            ('logit' if kind == 'score' else kind, stride): (
                values.logit() if kind == 'score' else values
            )
            for (kind, stride), values in maps.items()
        }

    def read(maps, spec, size):
        maps = {
            ('score', stride) if kind == 'logit' else (kind, stride): (
                1 / (1 + np.exp(-values)) if kind == 'logit' else values
            )
            for (kind, stride), values in maps.items()
        }
        return READERS['scrfd', 'maps'](maps, spec, size)

    toy = Layout('toy', ('scrfd',), ('image',), outputs, form='logits', about='a toy')
    monkeypatch.setitem(LAYOUTS, 'toy', toy)
    monkeypatch.setitem(SCRFDNetwork.forms, 'logits', logits)
    monkeypatch.setitem(READERS, ('scrfd', 'logits'), read)
    for layout in ('raw', 'toy'):
        options = ExportOptions(layout, size=(96, 160))
        export_onnx(*detector(SCRFD), tmp_path / f'{layout}.onnx', options)
    assert_same(*(faces_of(tmp_path / f'{name}.onnx', make_image) for name in ('toy', 'raw')))


def test_outputs__of_any_length_have_no_name():
    output = map_output('feat_8', 'feat', 8, None)
    assert [isinstance(axis, Axis) for axis in output.axes] == [False, True, True]
    assert output.dynamic_axes == {2: 'height_8', 3: 'width_8'}
