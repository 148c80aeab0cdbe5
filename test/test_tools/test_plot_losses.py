# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import json

import cv2
import pytest

from mmface.apis.run_summary import read_validations


def write_log(folder, start, losses, aps=(), epoch=2):
    """Write a log of epochs of `epoch` iterations, with a validation after each."""
    path = folder / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    rows = []
    aps = list(aps)
    for step, loss in enumerate(losses, start=start):
        rows.append(dict(lr=0.1 / step, loss=loss, loss_cls=loss / 2, step=step))
        if step % epoch == 0 and aps:
            ap = aps.pop(0)
            names = {f'wider_face/{name}': ap for name in ('easy', 'medium', 'hard')}
            rows.append({**names, 'nme': 3.0, 'time': 1.0, 'step': step // epoch})
    path.write_text('\n'.join(map(json.dumps, rows)) + '\n')


def test_plot_losses__joins_a_continued_run_and_writes_an_image(tmp_path, door):
    write_log(tmp_path / '20260101_000000', 1, [4.0, 4.0, 9.0, 9.0], [0.2, 0.3])
    write_log(tmp_path / '20260102_000000', 3, [2.0, 2.0], [0.5])
    done = door('tools/analysis/plot_losses.py', tmp_path, '--entries', 2)
    assert '4 entries, iterations 1 to 4' in done.stdout
    assert done.stdout.splitlines()[2].split() == ['loss', '4.0000', '2.0000']
    assert 'best wider_face/hard 0.5000, iteration 4' in done.stdout
    # Panels for the losses, the learning rate and the validation.
    image = cv2.imread(str(tmp_path / 'losses.png'))
    assert image.shape[1] > 500
    assert image.shape[0] > image.shape[1]
    assert [row['iteration'] for row in read_validations(tmp_path)] == [2, 4]


def test_plot_losses__compares_runs(tmp_path, door):
    for name, ap in (('one', 0.4), ('two', 0.6)):
        write_log(tmp_path / name / '20260101_000000', 1, [4.0, 3.0, 2.0, 1.0], [ap / 2, ap])
    out = tmp_path / 'both.png'
    done = door('tools/analysis/plot_losses.py', tmp_path / 'one', tmp_path / 'two', '--out', out)
    assert 'one: 4 entries' in done.stdout
    assert 'two: 4 entries' in done.stdout
    assert 'best wider_face/easy 0.6000, iteration 4' in done.stdout
    assert out.is_file()


@pytest.mark.parametrize(
    ('metric', 'message'), [('wider_face/hard', None), ('wider_face/all', 'it has wider_face/easy')]
)
def test_plot_losses__metrics_by_name(tmp_path, door, metric, message):
    write_log(tmp_path / '20260101_000000', 1, [4.0, 3.0], [0.5])
    done = door('tools/analysis/plot_losses.py', tmp_path, '--metrics', metric, ok=message is None)
    assert ('wider_face/easy' in done.stdout) is False
    assert message is None or message in done.stderr


def test_plot_losses__not_finite_is_an_error(tmp_path, door):
    write_log(tmp_path / '20260101_000000', 1, [4.0, float('nan')])
    done = door('tools/analysis/plot_losses.py', tmp_path, ok=False)
    assert done.returncode == 2
    assert 'not finite in iteration 2' in done.stderr


def test_plot_losses__no_log(tmp_path, door):
    done = door('tools/analysis/plot_losses.py', tmp_path, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith('error: no training log')
