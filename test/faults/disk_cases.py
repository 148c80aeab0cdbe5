# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Full disks: file systems of a few kilobytes in memory, so every error comes from the kernel.

Mounting one needs root, as in a container. Without it, the cases fail with that reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from case import Case, Outcome

from mmface.toys.widerface import make_toy_widerface
from mmface.utils.checkpoint_health import check_checkpoint_file

REPO = Path(__file__).resolve().parents[2]
CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'
SIDE = 96
SMALL = (
    '--cfg-options',
    f'test_dataloader.dataset.pipeline.1.scale=({SIDE},{SIDE})',
    f'model.data_preprocessor.pad_size=({SIDE},{SIDE})',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
)


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a file system of ``kilobytes`` KB."""
    place.mkdir()
    subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={kilobytes}k', 'tmpfs', str(place)], check=True
    )
    try:
        yield place
    finally:
        subprocess.run(['umount', '-l', str(place)], check=True)


def run(*command: object) -> subprocess.CompletedProcess[str]:
    env = os.environ | {'PYTHONPATH': str(REPO), 'OMP_NUM_THREADS': '1'}
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, cwd=REPO, env=env, capture_output=True, text=True, check=False)


def judge(
    done: subprocess.CompletedProcess[str], name: str, disk: Path, kept: Sequence[str] = ()
) -> Outcome:
    """Require a one-line error that names the file, and no incomplete file on the disk."""
    last = (done.stderr.strip().splitlines() or [''])[-1]
    left = [path.name for path in disk.rglob('*') if path.is_file() and path.name not in kept]
    good = (
        done.returncode not in (0, -9)
        and last.startswith('error: ')
        and name in last
        and ('No space left' in last or 'could be written' in last)
        and not any('mmface-tmp' in word or word == name for word in left)
        and 'Traceback' not in done.stderr
    )
    message = last.replace(str(disk), 'DISK')
    if not good:
        message += f' [status {done.returncode}; left: {left[:3]}; {done.stderr[-300:]!r}]'
    return Outcome(int(good), f'{message}; status {done.returncode}')


def data_set(folder: Path) -> Path:
    return make_toy_widerface(
        folder / 'data', num_train=4, num_val=6, image_size=(160, 120), edge_cases=False
    )


def weights(folder: Path) -> Path:
    """Save an untrained model."""
    from mmface.utils.quiet import import_mmdet_quietly

    import_mmdet_quietly()
    from mmface.weights.convert import build_model

    torch.manual_seed(0)
    path = folder / 'model.pth'
    torch.save({'state_dict': build_model(REPO / CONFIG).state_dict()}, path)
    return path


def onnx_file(folder: Path) -> Path:
    path = folder / 'model.onnx'
    done = run('tools/deploy/export_onnx.py', REPO / CONFIG, weights(folder), path)
    assert path.is_file(), done.stderr
    return path


def train_checkpoint(folder: Path) -> Outcome:
    """Fill the disk at the second checkpoint: the first is kept, and the run resumes from it."""
    data = data_set(folder)
    options = (
        'default_hooks.checkpoint.interval=1',
        'train_cfg.max_epochs=2', 'train_dataloader.num_workers=0',
        'train_dataloader.batch_size=2', f'train_dataloader.dataset.pipeline.2.size={SIDE}',
        f'model.data_preprocessor.pad_size=({SIDE},{SIDE})',
    )  # fmt: skip
    command = ['tools/train.py', CONFIG, '--data-path', data, '--no-validate', '--resume']
    with small_disk(folder / 'disk', 7_500) as disk:
        work = disk / 'work'
        done = run(*command, '--work-dir', work, '--cfg-options', *options)
        outcome = judge(done, 'epoch_2.pth', disk, kept=['epoch_1.pth'])
        if not outcome.survived:
            return outcome
        check_checkpoint_file(work / 'epoch_1.pth')
        roomy = folder / 'roomy'
        subprocess.run(['cp', '-r', str(work), str(roomy)], check=True)
    done = run(*command, '--work-dir', roomy, '--cfg-options', *options)
    resumed = 'resumed epoch: 1' in done.stdout + done.stderr and done.returncode == 0
    return Outcome(int(resumed), f'{outcome.message}; with free space resumed from epoch 1')


def _test(folder: Path, name: str, kilobytes: int, *options: str) -> Outcome:
    """Run tools/test.py with its log on a disk that has space."""
    data, checkpoint = data_set(folder), weights(folder)
    with small_disk(folder / 'disk', kilobytes) as disk:
        words = [word.replace('DISK', str(disk)) for word in options]
        done = run('tools/test.py', CONFIG, checkpoint, '--data-path', data, *words, *SMALL)
        outcome = judge(done, name, disk)
        if f'{name}' in done.stdout.rpartition('written to')[2]:
            return Outcome(0, f'says that it wrote {name}')
        return outcome


def test_txt(folder: Path) -> Outcome:
    """Use a disk for three of six files."""
    return _test(folder, '.txt', 24, '--work-dir', str(folder / 'work'), '--save-txt', 'DISK/txt')


def test_show(folder: Path) -> Outcome:
    return _test(folder, '.jpg', 8, '--work-dir', str(folder / 'work'), '--show-dir', 'DISK/show')


def convert(folder: Path) -> Outcome:
    source = weights(folder)
    with small_disk(folder / 'disk', 500) as disk:
        done = run('tools/weights/convert.py', source, disk / 'out.pth', '--config', CONFIG)
        return judge(done, 'out.pth', disk)


def export(folder: Path) -> Outcome:
    source = weights(folder)
    with small_disk(folder / 'disk', 500) as disk:
        done = run('tools/deploy/export_onnx.py', REPO / CONFIG, source, disk / 'out.onnx')
        return judge(done, 'out.onnx', disk)


def detect(folder: Path, *options: str, kilobytes: int = 24, name: str = '.jpg') -> Outcome:
    model, data = onnx_file(folder), data_set(folder)
    with small_disk(folder / 'disk', kilobytes) as disk:
        done = run(
            'tools/detect.py', data / 'val' / 'images', '--model', model, '--out', disk / 'out',
            *options,
        )  # fmt: skip
        return judge(done, name, disk)


def prepare(folder: Path) -> Outcome:
    data = data_set(folder)
    with small_disk(folder / 'disk', 24) as disk:
        done = run('tools/data/prepare_widerface.py', data, '--out', disk / 'out', '--copy')
        return judge(done, '.jpg', disk)


def labels(folder: Path) -> Outcome:
    source = folder / 'labelv2.txt'
    source.write_text('# 0--A/a.jpg 640 480\n' + '10 20 30 40\n' * 1000)
    with small_disk(folder / 'disk', 16) as disk:
        done = run('tools/data/convert_labels.py', source, disk / 'out.json')
        return judge(done, 'out.json', disk)


CASES = [
    Case('disk full at the second checkpoint of a training', 1, train_checkpoint),
    Case('disk full at --save-txt of test.py, after some files', 1, test_txt),
    Case('disk full at --show-dir of test.py', 1, test_show),
    Case('disk full at the result of convert.py', 1, convert),
    Case('disk full at the ONNX file of export_onnx.py', 1, export),
    Case('disk full at images of detect.py', 1, detect),
    Case('disk full at --json of detect.py', 1, lambda folder: detect(
        folder, '--json', kilobytes=8, name='.json')),
    Case('disk full at prepare_widerface.py --copy', 1, prepare),
    Case('disk full at convert_labels.py', 1, labels),
]  # fmt: skip
