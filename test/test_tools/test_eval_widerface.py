# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest

from mmface.evaluation.wider_txt import write_wider_txt
from mmface.toys.ground_truth import ToyImage, write_mat
from mmface.toys.scenes import ToyLabel

TOOL = 'tools/evaluation/eval_widerface.py'
BOXES = [(10, 10, 40, 50), (100, 20, 30, 40), (200, 100, 60, 60)]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Write the ground truth of three images with one face each, a good and a worse prediction."""
    root = tmp_path_factory.mktemp('world')
    images = []
    for number, box in enumerate(BOXES):
        event = f'{number % 2}--E'
        images.append(ToyImage(event, f'p_{number}.jpg', (300, 300), [ToyLabel(box, level=0)]))
        good = np.array([[*box, 0.9 - 0.1 * number], [250, 250, 9, 9, 0.1]])
        write_wider_txt(root / 'good', f'{event}/p_{number}', good)
        worse = good if number else good + np.array([0, 90, 0, 0, 0])
        write_wider_txt(root / 'worse', f'{event}/p_{number}', worse)
    write_mat(root / 'gt', images)
    return root


def test_eval_widerface__ranks_sets_and_writes_numbers_and_curves(world, run_tool, tmp_path):
    with tarfile.open(tmp_path / 'packed.tar.gz', 'w:gz') as tar:
        tar.add(world / 'good', 'packed')
    done = run_tool(
        TOOL, world / 'worse', world / 'good', tmp_path / 'packed.tar.gz', '--gt', world / 'gt',
        '--json', tmp_path / 'ap.json', '--plot', tmp_path / 'pr.png',
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ['easy', 'good', 'packed', 'worse']
    assert lines[1].split()[1:] == ['1.0000', '1.0000', '1.0000', '3', '6', 'float']
    table = json.loads((tmp_path / 'ap.json').read_text())
    assert list(table) == ['good', 'packed', 'worse']
    # 0.9 is a false positive, then two hits: 1/2, 2/3, and one face is missed.
    assert table['worse']['ap']['hard'] == pytest.approx(2 / 3 * 2 / 3)
    assert (tmp_path / 'pr.png').read_bytes()[1:4] == b'PNG'


def test_eval_widerface__evaluates_a_part_in_the_official_protocol(world, run_tool, tmp_path):
    (tmp_path / 'part.txt').write_text('1--E/p_1.jpg\n0--E/p_2\n')
    done = run_tool(
        TOOL, world / 'worse', '--gt', world / 'gt', '--protocol', 'official',
        '--part', tmp_path / 'part.txt',
    )  # fmt: skip
    assert done.stdout.splitlines()[1].split() == [
        'worse', '1.0000', '1.0000', '1.0000', '2', '4', 'official', '(partial)',
    ]  # fmt: skip
    assert done.stderr == ''


def test_eval_widerface__missing_and_extra_files_warn_and_strict_fails(world, door, tmp_path):
    write_wider_txt(tmp_path / 'set', '0--E/p_0', np.array([[*BOXES[0], 0.5]] * 2))
    write_wider_txt(tmp_path / 'set', '9--Z/x', np.empty((0, 5)))
    done = door(TOOL, tmp_path / 'set', '--gt', world / 'gt')
    assert 'warning: set: 2 of 3 images (2 events) have no predictions' in done.stderr
    assert 'warning: set: 1 predicted images are not in the ground truth' in done.stderr
    done = door(TOOL, tmp_path / 'set', '--gt', world / 'gt', '--strict', ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith('error: ')
    assert '2 of 3 images have no file (first: 0--E/p_2.txt)' in done.stderr


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ('1 2 3 4', 'p_0.txt:3: expected x y w h score, found 4 columns'),
        ('1 2 3 4 nan', 'p_0.txt:3: expected five finite numbers'),
    ],
)
def test_eval_widerface__bad_row_is_one_line_with_file_and_line(
    world, door, tmp_path, row, message
):
    folder = tmp_path / '0--E'
    folder.mkdir()
    (folder / 'p_0.txt').write_text(f'p_0\n1\n{row}\n')
    done = door(TOOL, tmp_path, '--gt', world / 'gt', ok=False)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('error: ')
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_eval_widerface__missing_ground_truth_is_one_line(world, run_tool, tmp_path):
    done = run_tool(TOOL, world / 'good', '--gt', tmp_path, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f'error: {tmp_path}/wider_face_val.mat is missing; take the four')
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.reference
def test_eval_widerface__real_set_from_its_archive(door, reference_dir, tmp_path):
    folder = reference_dir / 'data' / 'wider'
    archive = folder / 'predictions' / 'yolov7-face.tar.gz'
    door(TOOL, archive, '--gt', folder / 'ground_truth', '--json', tmp_path / 'ap.json', '--strict')
    got = json.loads((tmp_path / 'ap.json').read_text())['yolov7-face']['ap']
    expected = json.loads((folder / 'expected.json').read_text())['yolov7-face']['float']
    assert got == pytest.approx(expected, abs=1e-9)


def test_eval_widerface__help_ends_with_an_example(run_tool):
    out = run_tool(TOOL, '--help').stdout
    assert out.rstrip().splitlines()[-1].strip().startswith('python tools/evaluation/')


def test_eval_widerface__writes_report_curves_and_tables(world, door, tmp_path):
    done = door(
        TOOL, world / 'good', world / 'worse', '--gt', world / 'gt', '--draws', '20',
        '--report', tmp_path / 'report', '--curves', tmp_path / 'curves.csv',
        '--plot', tmp_path / 'pr.pdf', '--table', 'markdown', '--title', 'Two detectors',
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == '| detector | easy | medium | hard |'
    assert done.stdout.splitlines()[2].startswith('| good | 1.0000 (')
    assert f'report: {tmp_path / "report" / "index.html"}' in done.stderr
    assert 'Two detectors' in (tmp_path / 'report' / 'index.html').read_text()
    assert (tmp_path / 'curves.csv').read_text().count('\n') == 1 + 2 * 3 * 1000
    assert (tmp_path / 'pr.pdf').read_bytes().startswith(b'%PDF')


def test_eval_widerface__reads_coco_results(world, door, tmp_path):
    entries = [
        {'image_id': f'{path.parent.name}/{path.stem}.jpg', 'bbox': row[:4], 'score': row[4]}
        for path in (world / 'good').glob('*/*.txt')
        for row in ([*map(float, line.split())] for line in path.read_text().splitlines()[2:])
    ]
    (tmp_path / 'good.json').write_text(json.dumps(entries))
    done = door(TOOL, tmp_path / 'good.json', world / 'good', '--gt', world / 'gt')
    lines = [line.split()[1:] for line in done.stdout.splitlines()[1:]]
    assert lines[0] == lines[1]


def test_eval_widerface__implausible_predictions_need_force(world, door, tmp_path):
    folder = tmp_path / 'set'
    for number, name in enumerate(('0--E/p_0', '0--E/p_2', '1--E/p_1')):
        rows = np.random.default_rng(number).random((9, 5))
        write_wider_txt(folder, name, rows)
    done = door(TOOL, folder, '--gt', world / 'gt', ok=False)
    assert done.returncode == 2
    assert 'the boxes look like shares of the image size' in done.stderr
    done = door(TOOL, folder, '--gt', world / 'gt', '--force')
    assert 'warning: set: the boxes look like shares of the image size' in done.stderr
    assert done.stdout.splitlines()[1].split()[1:4] == ['0.0000'] * 3
