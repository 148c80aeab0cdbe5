# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A specification from a damaged or foreign file raises an error with the name of the field."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, fields, replace

import onnx
import pytest

from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.deploy.runtime import FaceDetector

SCRFD = ModelSpec('scrfd', 'raw', (64, 96), (127.5,) * 3, (128.0,) * 3, True)
CENTERFACE = replace(
    SCRFD, family='centerface', strides=(4,), num_priors=1, convention='star_clouds'
)
CENTERNET2 = replace(
    SCRFD, family='centernet2', layout='proposals', num_candidates=100, num_proposals=20
)
SPECS = (SCRFD, CENTERFACE, CENTERNET2)
JUNK = (
    None, True, -2, 0, 0.5, 10**300, -(10**300), 1e308, math.nan, math.inf, -math.inf, '', 'x',
    [], {}, [1], [1, 2], [1, 2, 3], [[1, 2]], [None] * 3, [math.nan] * 3, ['8'], [8.5], {'a': 1},
    'raw', 'rows', 'scrfd', '\N{GRINNING FACE}', 'x' * 10_000, [8] * 10_000,
)  # fmt: skip


@pytest.mark.parametrize('spec', SPECS, ids=lambda spec: spec.family)
def test_json__gives_back_what_was_written(spec):
    assert ModelSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ('spec', 'field', 'value'),
    [
        (SCRFD, 'family', 'yolo'),
        (SCRFD, 'layout', 'starclouds'),
        (CENTERFACE, 'layout', 'insightface'),
        (CENTERNET2, 'layout', 'raw'),
        (SCRFD, 'size', (640, 0)),
        (SCRFD, 'size', (640,)),
        (SCRFD, 'size', (10**6, 10**6)),
        (SCRFD, 'size', [640, 640]),
        (SCRFD, 'mean', (0.0,) * 4),
        (SCRFD, 'mean', ('0', '0', '0')),
        (SCRFD, 'std', (0.0, 1.0, 1.0)),
        (SCRFD, 'std', (math.nan, 1.0, 1.0)),
        (SCRFD, 'rgb', 1),
        (SCRFD, 'resize', 'fit'),
        (SCRFD, 'strides', ()),
        (SCRFD, 'strides', (8, 0)),
        (CENTERFACE, 'strides', (4, 8)),
        (SCRFD, 'num_priors', 2.0),
        (SCRFD, 'num_keypoints', -1),
        (CENTERFACE, 'convention', ''),
        (SCRFD, 'convention', 'mine'),
        (CENTERFACE, 'keypoint_anchor', 'nose'),
        (CENTERFACE, 'peak', 2),
        (CENTERFACE, 'peak_tolerance', 1.5),
        (CENTERFACE, 'topk', -2),
        (SCRFD, 'score_thr', '0.5'),
        (SCRFD, 'score_thr', math.nan),
        (SCRFD, 'nms_iou', 2),
        (SCRFD, 'nms_offset', 2),
        (SCRFD, 'min_bbox_size', -1.0),
        (CENTERNET2, 'num_proposals', 0),
        (CENTERNET2, 'proposal_iou', True),
    ],
)
def test_values__are_checked(spec, field, value):
    with pytest.raises(ValueError, match=f'^{field}: expected .*, found '):
        replace(spec, **{field: value})
    if not isinstance(value, list):
        text = json.dumps({**asdict(spec), field: value})
        with pytest.raises(ValueError, match=f'{field}: expected'):
            ModelSpec.from_json(text)


@pytest.mark.parametrize(
    'text', ['', '{', '[]', '3', 'null', '"scrfd"', '{}', '[' * 100_000, '{"size": ' * 5000]
)
def test_json__that_is_no_specification_is_refused(text):
    with pytest.raises(ValueError, match=r"'mmface' is not a specification.*export the model"):
        ModelSpec.from_json(text)


def test_json__fuzzed_is_read_or_refused_with_the_field():
    generator = random.Random(0)
    refused = 0
    for _ in range(3000):
        values = json.loads(generator.choice(SPECS).to_json())
        field = generator.choice(fields(ModelSpec)).name
        values[field] = generator.choice(JUNK)
        try:
            spec = ModelSpec.from_json(json.dumps(values))
        except ValueError as error:
            refused += 1
            # The error may also name the family or the layout, if the two do not fit together.
            named = (field, 'layout', 'convention', 'strides', 'num_candidates')
            assert any(f'{name}: expected' in str(error) for name in named)
            assert len(str(error)) < 500
        else:
            assert ModelSpec.from_json(spec.to_json()) == spec
    assert 2000 < refused < 3000


def test_json__with_broken_bytes_is_read_or_refused():
    generator = random.Random(0)
    text = SCRFD.to_json()
    for _ in range(1000):
        place = generator.randrange(len(text))
        broken = text[:place] + chr(generator.randrange(32, 127)) + text[place + 1 :]
        try:
            ModelSpec.from_json(broken[: generator.choice((len(text), place))])
        except ValueError:
            continue


def test_file__is_named_with_the_field(scrfd_file):
    path = scrfd_file(rank=4, spec=SCRFD)
    model = onnx.load(path)
    text = json.dumps({**asdict(SCRFD), 'nms_iou': 'high'})
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"net\.onnx: .*nms_iou: expected .*, found 'high'"):
        FaceDetector(path)
