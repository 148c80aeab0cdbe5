# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run every command of configs/OWN_FACES.md, on small drawn images."""

from __future__ import annotations

import re
import shlex

import pytest

from helpers import REPO

pytestmark = pytest.mark.slow

PAGE = (REPO / 'configs/OWN_FACES.md').read_text()
#: Config options that make a training quick.
QUICK = ['train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']


def blocks(page):
    """Return the fenced blocks of a page: (language, text)."""
    return re.findall(r'^```(\w*)\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)


def commands(page):
    """Return the blocks of commands, each with the output that the page shows after it."""
    found = []
    for language, text in blocks(page):
        if language == 'bash':
            found.append((text.splitlines(), []))
        elif found and not text.startswith('data/own/train/images/*'):
            found[-1][1].extend(line for line in text.splitlines() if line != '...')
    return found


def pattern(line):
    """Return a pattern for a line of output: numbers differ, and ... is anything."""
    parts = re.split(r'\s+\.\.\.\s+', plain(line))
    return '.*'.join(map(re.escape, parts))


def plain(text):
    """Return a text with the same number everywhere."""
    return re.sub(r'\bnan\b|-?[\d.]*\d(e-\d+)?', '0', text)  # such as 1.34e-07, -1.000, 12


@pytest.fixture
def place(tmp_path, own_faces, checkpoint, door):
    """Return a folder with labelled images and the published network."""
    for name, kind in (('own', 'five'), ('boxes', 'boxes'), ('four', 'four'), ('classes',) * 2):
        own_faces(tmp_path / 'data' / name, kind)
        if name != 'own':  # the page converts it
            for split in ('train', 'val'):
                labels = tmp_path / 'data' / name / split
                door('tools/data/convert_labels.py', labels / 'images', labels / 'labels.json')
    network = tmp_path / 'scrfd_500m_bnkps.onnx'
    door('tools/deploy/export_onnx.py', 'scrfd_500m_bnkps', checkpoint, network)
    return tmp_path


def in_place(words, place):
    """Expand names and patterns of files, which are relative to the working directory."""
    for word in words:
        if re.match(r'(data|out|work_dirs|weights)/|[\w]+\.onnx', word):
            found = sorted(place.glob(word)) if '*' in word else []
            yield from found or [place / word]
        else:
            yield word


def run(command, place, door, trained):
    """Run a command, a training for an epoch of small images. Return its output and log."""
    python, *words = shlex.split(command)
    assert python == 'python'
    words = list(in_place(words, place))
    logs = place / 'none'
    if words[0] == 'tools/train.py':
        logs = words[words.index('--work-dir') + 1]
        epochs = ['--num-epochs', '2' if logs in trained else '1']
        trained.add(logs)
        if '--cfg-options' not in words:
            words.append('--cfg-options')
        options = words.index('--cfg-options')
        words[options:options] = [*epochs, '--image-size', '96']
        words += QUICK
    done = door(*words)
    return done.stdout + done.stderr + ''.join(log.read_text() for log in logs.glob('*/*.log'))


def test_commands__run_and_print_what_the_page_says(place, door):
    steps = commands(PAGE)
    assert sum(len(lines) for lines, _ in steps) >= 16
    trained = set()
    for lines, shown in steps:
        text = ''.join(run(line, place, door, trained) for line in lines)
        text = plain(text.replace(f'{place}/', ''))
        for line in shown:
            assert re.search(pattern(line), text), f'{lines}: no {line!r} in {text[-3000:]}'
    assert (place / 'out/browse/samples_1.jpg').is_file()
    assert (place / 'out/runs.png').is_file()
    assert list((place / 'work_dirs/logged').glob('*/vis_data/events.out.tfevents.*'))
