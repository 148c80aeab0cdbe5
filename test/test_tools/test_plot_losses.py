# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import json

import cv2


def write_log(folder, start, losses):
    path = folder / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    rows = [dict(loss=v, loss_cls=v / 2, step=start + i) for i, v in enumerate(losses)]
    path.write_text('\n'.join(map(json.dumps, rows)) + '\n')


def test_plot_losses__joins_a_continued_run_and_writes_a_image(tmp_path, door):
    write_log(tmp_path / '20260101_000000', 1, [4.0, 4.0, 9.0, 9.0])
    write_log(tmp_path / '20260102_000000', 3, [2.0, 2.0])
    done = door('tools/analysis/plot_losses.py', tmp_path, '--entries', 2)
    assert '4 entries, iterations 1 to 4' in done.stdout
    assert done.stdout.splitlines()[2].split() == ['loss', '4.0000', '2.0000']
    assert cv2.imread(str(tmp_path / 'losses.png')).shape[1] > 500


def test_plot_losses__not_finite_is_an_error(tmp_path, door):
    write_log(tmp_path / '20260101_000000', 1, [4.0, float('nan')])
    done = door('tools/analysis/plot_losses.py', tmp_path, ok=False)
    assert done.returncode == 2
    assert 'not finite in iteration 2' in done.stderr


def test_plot_losses__no_log(tmp_path, door):
    done = door('tools/analysis/plot_losses.py', tmp_path, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith('error: no training log')
