# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A model with another number of keypoints than its labels is rejected at the start."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from helpers import scrfd_head
from mmface.engine.hooks.keypoint_count_hook import KeypointCountHook


def runner_of(model_count, data_count, val_count=None):
    model = nn.Module()
    model.bbox_head = scrfd_head(num_keypoints=model_count)

    def loader(count):
        return SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(num_keypoints=count)))

    return SimpleNamespace(
        model=model,
        train_dataloader=loader(data_count),
        val_dataloader=loader(data_count if val_count is None else val_count),
        test_dataloader=loader(data_count),
        val_loop=object(),
    )


def test_hook__names_the_option():
    with pytest.raises(ValueError, match=r'predicts 5 keypoints.*have 68') as e:
        KeypointCountHook().before_train(runner_of(5, 68))
    assert 'set model.bbox_head.num_keypoints=68' in str(e.value)
    KeypointCountHook().before_train(runner_of(68, 68))


def test_hook__labels_without_keypoints_do_not_train_keypoints():
    with pytest.raises(ValueError, match=r'have none.*num_keypoints=0'):
        KeypointCountHook().before_train(runner_of(5, 0))


@pytest.mark.parametrize('data_count', [0, 5, 98])
def test_hook__a_model_without_keypoints_fits_all_labels(data_count):
    KeypointCountHook().before_train(runner_of(0, data_count))


def test_hook__labels_without_keypoints_can_validate_and_test_boxes():
    KeypointCountHook().before_train(runner_of(5, 5, val_count=0))
    KeypointCountHook().before_test(runner_of(5, 0))
    with pytest.raises(ValueError, match=r'predicts 5 keypoints.*have 4'):
        KeypointCountHook().before_train(runner_of(5, 5, val_count=4))
