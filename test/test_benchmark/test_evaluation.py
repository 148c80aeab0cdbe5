# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The baseline of the evaluation benchmark computes the values of our evaluation."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from mmface_benchmark import evaluation
from mmface_benchmark.baseline_wider_port import evaluate_port, read_port

from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_gt import read_ground_truth
from mmface.evaluation.wider_txt import write_wider_txt
from mmface.toys.widerface import make_toy_widerface


@pytest.fixture(scope='module')
def predictions(tmp_path_factory):
    """Create the ground truth of a small drawn set, and detections near its faces and elsewhere."""
    root = tmp_path_factory.mktemp('benchmark')
    toy = make_toy_widerface(root / 'toy', num_train=0, num_val=8)
    gt = read_ground_truth(toy / 'val/gt')
    rng = np.random.default_rng(0)
    for number, name in enumerate(gt.names):
        boxes = gt.boxes_of(number)
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 3, (2 * len(boxes), 4))
        rows = np.concatenate([near, rng.uniform(5, 90, (6, 4))])
        rows = np.column_stack([rows, np.sort(rng.random(len(rows)))[::-1]])
        write_wider_txt(root / 'txt', name, rows)
    return root / 'txt', toy / 'val/gt'


def test_port__has_the_values_of_our_evaluation(predictions):
    folder, gt_dir = predictions
    gt = read_ground_truth(gt_dir)
    rows = read_port(folder)
    expected = evaluate_rows(gt, rows).ap
    assert 0 < expected['hard'] < 1
    assert evaluate_port(gt, rows) == pytest.approx(expected, abs=1e-12)


def test_run__times_without_and_with_files(predictions):
    folder, gt_dir = predictions
    parser = argparse.ArgumentParser()
    evaluation.add_arguments(parser)
    args = parser.parse_args([str(folder), '--gt', str(gt_dir)])
    args.rounds = 1
    without, with_files = evaluation.run(args)
    assert without.ratios[0].baseline == with_files.ratios[0].baseline == evaluation.PORT
    assert 'files read too' in with_files.task
