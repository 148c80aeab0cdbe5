# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Colours changed on the device, for a batch, compared with those changed by the workers."""

from __future__ import annotations

import mmengine.device.utils
import numpy as np
import pytest
import torch
from mmface_benchmark.step_trace import trace_steps

from mmface.datasets.transforms import ColourJitter, FacePhotometric, PackFaceInputs
from mmface.models import FaceDataPreprocessor
from mmface.models.data_preprocessors.batch_colours import change_colours
from mmface.utils.colour_map import ColourMap

RNG = np.random.default_rng(0)
# Noise, a ramp of all greys, saturated colours, and dark ones that brightness moves below 0.
IMAGES = [
    RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8),
    np.repeat(np.arange(48 * 64, dtype=np.uint8).reshape(48, 64, 1), 3, axis=2),
    RNG.choice(np.array([0, 255], np.uint8), (48, 64, 3)),
    RNG.integers(0, 40, (48, 64, 3), dtype=np.uint8),
]


def to_batch(images) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


@pytest.mark.parametrize('transform', [FacePhotometric, ColourJitter])
def test_change_colours__equals_the_worker(transform):
    np.random.seed(0)
    # More images than one chunk, so that two chunks are used.
    changes = [transform(on_device=False).draw() for _ in range(40)]
    images = [IMAGES[i % len(IMAGES)] for i in range(len(changes))]
    want = to_batch([transform.apply(p, c) for p, c in zip(images, changes, strict=True)])
    got = change_colours(to_batch(images), [change.to_map() for change in changes])
    assert got.dtype == torch.float32
    assert (got == got.round()).all()
    difference = (got - want.float()).abs()
    assert difference.max() <= 1
    # In the jitter, OpenCV's weights are fixed-point numbers.
    assert (difference > 0).float().mean() < (0.002 if transform is FacePhotometric else 0.25)


def test_change_colours__every_image_has_its_own_and_none_changes_nothing():
    maps = [ColourMap(), ColourMap(shift=(10.0, 10.0, 10.0)), ColourMap(channels=(2, 0, 1))]
    batch = to_batch([IMAGES[0]] * 3)
    got = change_colours(batch, maps)
    assert torch.equal(got[0], batch[0].float())
    assert torch.equal(got[1], (batch[1].float() + 10).clamp(max=255))
    assert torch.equal(got[2], batch[2, [2, 0, 1]].float())


def test_change_colours__a_batch_of_both_kinds():
    np.random.seed(0)
    changes = [FacePhotometric(on_device=False).draw(), ColourJitter(on_device=False).draw()]
    maps = [change.to_map() for change in changes]
    batch = to_batch(IMAGES[:2])
    got = change_colours(batch, maps)
    for index in range(2):
        alone = change_colours(batch[index : index + 1], maps[index : index + 1])[0]
        assert (got[index] - alone).abs().max() <= 1


def sample(transform, size: int = 64) -> dict:
    img = np.ascontiguousarray(np.resize(IMAGES[0], (size, 64, 3)))
    results = dict(img=img, img_shape=(size, 64), img_id='a', img_path='a', ori_shape=(size, 64))
    return PackFaceInputs()(transform(results))


@pytest.mark.parametrize('transform', [FacePhotometric, ColourJitter])
@pytest.mark.parametrize('sizes', [(64, 64, 64), (64, 32, 64)], ids=['one size', 'padded'])
def test_pipeline__the_same_sample_wherever_the_colours_are_made(transform, sizes):
    """Check also that the generator has the same state, so that later draws are the same."""
    batches, states = [], []
    for on_device in (False, True):
        np.random.seed(7)
        samples = [sample(transform(on_device=on_device), size) for size in sizes]
        states.append(np.random.rand())
        assert all(('colour_map' in s['data_samples'].metainfo) == on_device for s in samples)
        prepare = FaceDataPreprocessor(mean=[127.5] * 3, std=[128.0] * 3)
        data = {key: [s[key] for s in samples] for key in ('inputs', 'data_samples')}
        batches.append(prepare(data, training=True)['inputs'])
    assert states[0] == states[1]
    assert (batches[0] - batches[1]).abs().max() <= 1.001 / 128
    assert (batches[0] - batches[0][:1]).abs().max() > 0.1


@pytest.mark.parametrize('transform', [FacePhotometric, ColourJitter])
def test_change_colours__fixed_shapes_and_no_value_is_read(transform):
    def draw(seed: int) -> tuple:
        np.random.seed(seed)
        # Enough images that each part of the change is drawn for some of them.
        changes = [transform(on_device=False).draw() for _ in range(20)]
        return to_batch([IMAGES[seed]] * 20), [change.to_map() for change in changes]

    trace = trace_steps(lambda batch: change_colours(*batch), [draw(0), draw(1), draw(2)])
    assert not trace.faults, str(trace)
    assert trace.num_operators > 10


@pytest.mark.parametrize('transform', [FacePhotometric, ColourJitter])
def test_on_device__default_goes_by_the_device(transform, monkeypatch):
    for device, expected in (('cpu', False), ('cuda', True), ('npu', True)):
        monkeypatch.setattr(mmengine.device.utils, 'DEVICE', device)
        assert transform().on_device is expected
        assert transform(on_device=not expected).on_device is not expected


def test_on_device__a_second_change_is_refused():
    waiting = FacePhotometric(on_device=True)(dict(img=IMAGES[0]))
    with pytest.raises(ValueError, match='at most one with on_device=True'):
        ColourJitter(on_device=True)(waiting)
