# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Files of other projects are recognised by their ports, and other files are not."""

from __future__ import annotations

import pytest

from mmface.deploy.model_spec import METADATA_KEY
from mmface.deploy.runtime.foreign import Port, infer_spec, read_spec

FREE = Port('input.1', (1, 3, '?', '?'))


def scrfd_ports(levels: int, kinds: int, rank: int = 3, points: int = 5) -> list[Port]:
    shapes = [(None, channels)[-2:] for channels in (1, 4, 2 * points)[:kinds]]
    batch = (1,) * (rank - 2)
    return [
        Port(str(400 + 7 * index), (*batch, *shape))
        for index, shape in enumerate(shape for shape in shapes for _ in range(levels))
    ]


def map_ports(names: tuple[str, ...], channels: tuple[int, ...] = (1, 2, 2, 10)) -> list[Port]:
    return [Port(name, ('B', count, 'h', 'w')) for name, count in zip(names, channels, strict=True)]


@pytest.mark.parametrize('rank', [2, 3])
@pytest.mark.parametrize(
    'levels, kinds, strides, num_priors, points',
    [
        (3, 2, (8, 16, 32), 2, 0),
        (3, 3, (8, 16, 32), 2, 5),
        (5, 2, (8, 16, 32, 64, 128), 1, 0),
        (5, 3, (8, 16, 32, 64, 128), 1, 5),
    ],
)
def test_infer_spec__tells_scrfd_by_its_outputs(rank, levels, kinds, strides, num_priors, points):
    spec = infer_spec(FREE, scrfd_ports(levels, kinds, rank))
    assert (spec.family, spec.layout, spec.resize) == ('scrfd', 'insightface', 'keep_ratio')
    assert (spec.strides, spec.num_priors, spec.num_keypoints) == (strides, num_priors, points)
    assert (spec.size, spec.rgb) == ((640, 640), True)


def test_infer_spec__takes_the_fixed_size():
    source = Port('images', (1, 3, 480, 640))
    assert infer_spec(source, scrfd_ports(3, 3)).size == (480, 640)


def test_infer_spec__tells_the_two_centerfaces_by_their_names():
    star_clouds = infer_spec(FREE, map_ports(('537', '538', '539', '540')))
    assert (star_clouds.layout, star_clouds.convention) == ('starclouds', 'star_clouds')
    assert (star_clouds.resize, star_clouds.size) == ('stretch', (0, 0))
    ascend = infer_spec(FREE, map_ports(('output1', 'output2', 'output3', 'output4')))
    assert (ascend.layout, ascend.convention) == ('centerface', 'centernet')
    assert (ascend.resize, ascend.size, ascend.peak) == ('centre', (800, 800), 3)


@pytest.mark.parametrize(
    'ports',
    [
        map_ports(('a', 'b', 'c', 'd')),
        map_ports(('output1', 'output2', 'output3', 'output4'), (2, 2, 1, 10)),
        scrfd_ports(3, 3)[:8],
        scrfd_ports(3, 3)[::-1],
        [Port('boxes', (1, 'n', 4)), Port('scores', (1, 'n', 1))],
        # Boxes between scores, as in exports that list the outputs stride by stride.
        [Port(str(i), (1, None, (1, 4, 10)[i % 3])) for i in range(9)],
        [Port(str(i), (1, None, c)) for i, c in enumerate((1, 1, 1, 4, 4, 4, 10, 10, 9))],
    ],
)
def test_infer_spec__names_what_it_found_and_what_it_knows(ports):
    with pytest.raises(ValueError, match='unknown layout') as error:
        infer_spec(FREE, ports)
    text = str(error.value)
    assert all(str(port) in text for port in ports)
    assert 'input.1 (1, 3, ?, ?)' in text
    for known in ('6 or 9 outputs', '537', 'output1', 'export_onnx.py', 'spec=ModelSpec'):
        assert known in text


def test_infer_spec__refuses_an_input_that_is_no_image():
    with pytest.raises(ValueError, match=r'unknown layout: found input x \(1, 10\)'):
        infer_spec(Port('x', (1, 10)), scrfd_ports(3, 3))


def test_read_spec__believes_the_metadata():
    spec = infer_spec(FREE, scrfd_ports(3, 3))
    assert read_spec(FREE, [], {METADATA_KEY: spec.to_json()}) == spec


def test_read_spec__refuses_metadata_of_another_version():
    with pytest.raises(ValueError, match=r"unknown entries 'colour'.*export the model again"):
        read_spec(FREE, scrfd_ports(3, 3), {METADATA_KEY: '{"family": "scrfd", "colour": 1}'})
