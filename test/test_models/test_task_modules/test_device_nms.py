# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""NMS on devices without a kernel of mmcv; the simulated NPU tests whole detectors with it.

mmcv never has a kernel for the "meta" device, so its real error message is tested here. Tensors of
this device hold no values, so they cannot be moved to the CPU either.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms as mmcv_batched_nms
from mmengine.logging import MMLogger

from helpers import random_boxes
from mmface.deploy.runtime.nms import nms as runtime_nms
from mmface.models.task_modules import device_nms, suppression
from mmface.models.task_modules.device_nms import batched_nms

NMS = dict(type='nms', iou_threshold=0.45)


@pytest.fixture
def boxes():
    """Build many overlapping boxes of two classes: boxes, scores, classes."""
    generator = torch.Generator().manual_seed(0)
    boxes = random_boxes(200, place=(0, 50), side=(10, 30), generator=generator)
    return boxes, torch.rand(200, generator=generator), torch.arange(200) % 2


@pytest.fixture(autouse=True)
def without_kernel(monkeypatch):
    """Clear the set of device types without a kernel, as at the start of a process."""
    types: set[str] = set()
    monkeypatch.setattr(device_nms, '_WITHOUT_KERNEL', types)
    return types


@pytest.fixture
def warnings():
    """Collect the warnings of mmengine's log."""
    logger = MMLogger.get_current_instance()
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


@pytest.mark.parametrize('cfg', [NMS, dict(type='soft_nms', iou_threshold=0.3), None])
@pytest.mark.parametrize('fallback', [False, True])
def test_nms__on_the_cpu_is_that_of_mmcv(boxes, without_kernel, warnings, cfg, fallback):
    if fallback:
        without_kernel.add('cpu')
    dets, keep = batched_nms(*boxes, cfg)
    expected = mmcv_batched_nms(*boxes, cfg)
    assert torch.equal(dets, expected[0])
    assert torch.equal(keep, expected[1])
    assert not warnings
    if cfg is NMS:
        assert 0 < len(keep) < 200


def test_nms__arguments_reach_mmcv(boxes):
    agnostic = batched_nms(*boxes, NMS, class_agnostic=True)[1]
    assert torch.equal(agnostic, mmcv_batched_nms(*boxes, NMS, class_agnostic=True)[1])
    assert len(agnostic) < len(batched_nms(*boxes, NMS)[1])


def tied(count):
    """Build boxes of two classes in clusters, with three different scores."""
    generator = torch.Generator().manual_seed(1)
    boxes = random_boxes(count, place=(0, 900), side=(10, 30), generator=generator)
    scores = torch.randint(1, 4, (count,), generator=generator) / 4
    return boxes, scores, torch.arange(count) % 2


@pytest.mark.parametrize('count', [600, 12000])
@pytest.mark.parametrize('agnostic', [False, True])
def test_ties__first_box_goes_first_below_and_above_the_split(count, agnostic):
    boxes, scores, labels = tied(count)
    keep = batched_nms(boxes, scores, labels, NMS, agnostic)[1].numpy()
    groups = [torch.arange(count)] if agnostic else [(labels == i).nonzero()[:, 0] for i in (0, 1)]
    expected = np.concatenate(
        [group[runtime_nms(boxes[group].numpy(), scores[group].numpy(), 0.45)] for group in groups]
    )
    # Best first, and of equal scores the first box.
    expected = expected[np.lexsort([expected, -scores[expected].numpy()])]
    np.testing.assert_array_equal(keep, expected)
    if not agnostic:  # the split is the same rule as none
        whole = batched_nms(boxes, scores, labels, dict(NMS, split_thr=10**6))[1]
        np.testing.assert_array_equal(keep, whole.numpy())


def test_class_agnostic__also_above_the_split():
    boxes, _, labels = tied(12000)
    scores = torch.randperm(12000, generator=torch.Generator().manual_seed(2)) / 12000
    keep = batched_nms(boxes, scores, labels, NMS, class_agnostic=True)[1]
    unsplit = dict(NMS, split_thr=10**6)
    assert torch.equal(keep, mmcv_batched_nms(boxes, scores, labels, unsplit, True)[1])
    assert len(keep) < len(mmcv_batched_nms(boxes, scores, labels, NMS, True)[1])


def test_score_threshold_and_max_num__reach_the_scores(boxes):
    for cfg in (dict(NMS, score_threshold=0.5), dict(NMS, max_num=7)):
        dets, keep = batched_nms(*boxes, cfg)
        expected = mmcv_batched_nms(*boxes, cfg)
        assert torch.equal(dets, expected[0])
        assert torch.equal(keep, expected[1])


def test_missing_kernel__goes_to_the_cpu_with_one_warning(boxes, without_kernel, warnings):
    meta = [tensor.to('meta') for tensor in boxes]
    for _ in range(2):
        # The copy to the CPU fails, which shows that the work was moved there.
        with pytest.raises(NotImplementedError, match='Cannot copy out of meta tensor'):
            batched_nms(*meta, NMS)
    assert without_kernel == {'meta'}
    assert len(warnings) == 1
    assert "without its operator 'nms' for meta" in warnings[0]
    assert 'Results are the same' in warnings[0]
    assert 'bash build_mmcv.sh --device meta' in warnings[0]


def test_missing_kernel__does_not_concern_other_devices(boxes, without_kernel):
    without_kernel.add('meta')
    assert torch.equal(batched_nms(*boxes, NMS)[1], mmcv_batched_nms(*boxes, NMS)[1])


@pytest.mark.parametrize(
    ('change', 'error'),
    [
        (lambda b, s, c: (b[:, :3], s, c), AssertionError),
        (lambda b, s, c: (b, s[:5], c), ValueError),
        (lambda b, s, c: (b, s, c[:5]), ValueError),
    ],
)
def test_other_errors__are_passed_on(boxes, without_kernel, warnings, change, error):
    with pytest.raises(error):
        batched_nms(*change(*boxes), NMS)
    assert not without_kernel
    assert not warnings


def test_suppression__uses_it():
    assert suppression.batched_nms is batched_nms


def test_score_threshold__above_all_scores_keeps_nothing(boxes):
    cfg = dict(NMS, score_threshold=2.0)
    found, keep = batched_nms(*boxes, cfg)
    assert found.shape == (0, 5)
    assert len(keep) == 0
