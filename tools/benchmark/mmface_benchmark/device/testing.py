# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""tools/test.py from start to result, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch

from mmface.datasets.annotations import read_annotations
from mmface.utils.config_files import config_path
from mmface.utils.files import write_text
from mmface.weights.convert import build_model
from mmface_benchmark.device.settings import CheckError, Settings

ROOT = Path(__file__).resolve().parents[4]


def run(settings: Settings) -> None:
    """Test few and many images. The difference of the times gives the speed without the start."""
    config = settings.pick('scrfd_10g', 'scrfd_500m_bnkps')
    trained = sorted(settings.work.glob('train_*/epoch_1.pth'))
    weights = trained[0] if trained else write_random_weights(config, settings.work / 'random.pth')
    settings.save('config', config)
    settings.save('weights', 'of the section loading' if trained else 'random')
    names = [image.path for image in read_annotations(settings.data / 'val/labelv2.txt').images]
    few, many = settings.pick((20, 400), (2, 6))
    seconds = {}
    for count in (few, many):
        part = settings.work / f'part_{count}.txt'
        write_text(part, ''.join(f'{name}\n' for name in names[:count]))
        seconds[count] = test(config, weights, part, settings)
        settings.save(f'{count} images', {'seconds': seconds[count]})
    rate = (many - few) / max(seconds[many] - seconds[few], 1e-3)
    settings.save('images_per_second', rate)


def test(config: str, weights: Path, part: Path, settings: Settings) -> float:
    """Run the tool on a list of images. Return its seconds."""
    command = [
        *(sys.executable, str(ROOT / 'tools/test.py'), config, str(weights)),
        *('--data-path', str(settings.data), '--part', str(part), '--device', settings.device),
        *('--work-dir', str(settings.work / 'test'), '--mode', settings.pick('640', '96')),
    ]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise CheckError(f'tools/test.py ended with {done.returncode}: {done.stderr[-3000:]}')
    return seconds


def write_random_weights(config: str, path: Path) -> Path:
    """Write a checkpoint of an untrained detector."""
    model = build_model(config_path(config))
    model.init_weights()  # type: ignore[operator]
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return path
