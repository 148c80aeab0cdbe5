# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run all steps of Ascend's inference recipe: images, bins, results, txt files, AP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mmface_benchmark.toy_onnx import write_toy_centerface

from mmface.evaluation.wider_txt import read_predictions

PRE, RUN, POST = (
    f'tools/deploy/{name}.py'
    for name in ('ascend_preprocess', 'ort_stand_in', 'ascend_postprocess')
)
BUILD = 'tools/deploy/build_om.sh'


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    pytest.importorskip('onnx')
    return write_toy_centerface(tmp_path_factory.mktemp('model') / 'centerface.onnx')


@pytest.fixture(scope='module')
def bins(model, door, toy, tmp_path_factory):
    """Write float bins of the six images."""
    folder = tmp_path_factory.mktemp('float') / 'bins'
    door(PRE, toy, folder, '--model', model)
    return folder


@pytest.fixture(scope='module')
def results(model, bins, door, tmp_path_factory):
    folder = tmp_path_factory.mktemp('result') / 'dumpout_bs4'
    door(RUN, model, bins, folder, '--batch', 4)
    return folder


def rows_of(folder):
    return read_predictions(folder).rows


def test_recipe__same_faces_as_the_runtime_and_sizes_of_the_recipe(
    model, bins, results, door, toy, tmp_path
):
    assert {path.stat().st_size for path in bins.glob('*.bin')} == {7_680_000}
    stems = {path.stem for path in bins.glob('*.bin')}
    assert len(stems) == 6
    sizes = {path.name: path.stat().st_size for path in results.iterdir()}
    assert sizes == {
        f'{stem}_{index}.bin': 4 * count
        for stem in stems
        for index, count in enumerate((40_000, 80_000, 80_000, 400_000))
    }
    done = door(
        POST, results, bins / 'manifest.json', '--out', tmp_path / 'txt', '--gt', toy / 'val/gt'
    )
    lines = done.stdout.splitlines()
    assert [line.split(':')[0] for line in lines[1:4]] == [
        'Easy   Val AP',
        'Medium Val AP',
        'Hard   Val AP',
    ]
    direct = door(
        'tools/deploy/test_onnx.py', model, '--data-path', toy, '--save-txt', tmp_path / 'direct'
    )
    assert direct.stdout.splitlines() == lines[1:]
    expected = rows_of(tmp_path / 'direct')
    found = rows_of(tmp_path / 'txt')
    assert len(expected) == 6 and sum(map(len, expected.values())) > 600
    for name, rows in expected.items():
        assert np.array_equal(found[name], rows)


def test_recipe__uint8_bins_with_the_aipp_file(model, results, door, toy, tmp_path):
    bins = tmp_path / 'bins'
    done = door(PRE, toy, bins, '--model', model, '--dtype', 'uint8')
    assert '1,920,000 bytes each' in done.stdout and 'aipp.config' in done.stdout
    assert {path.stat().st_size for path in bins.glob('*.bin')} == {1_920_000}
    done = door(RUN, model, bins, tmp_path / 'r', ok=False)
    assert done.returncode == 2
    assert '1,920,000 bytes' in done.stderr and '7,680,000 (float32 without --aipp)' in done.stderr
    door(RUN, model, bins, tmp_path / 'r', '--aipp', bins / 'aipp.config')
    for path in results.iterdir():
        values, expected = (np.fromfile(p, np.float32) for p in (tmp_path / 'r' / path.name, path))
        assert 0 < np.abs(values - expected).max() < 2e-2  # float16 in, no float16 out


def test_stand_in__says_what_it_is_and_names_files_as_ais_bench(bins, results):
    summary = json.loads((results.parent / 'dumpout_bs4_summary.json').read_text())
    assert 'no NPU' in summary['stand_in']
    # Six images in batches of four: the filled part of the second batch leaves no results.
    assert list(summary['filesinfo']) == [str(k) for k in range(6)]
    for entry in summary['filesinfo'].values():
        (source,) = entry['infiles']
        stem = source.rpartition('/')[2].removesuffix('.bin')
        assert entry['outfiles'] == [f'{results}/{stem}_{k}.bin' for k in range(4)]


def test_stand_in__batches_do_not_change_results(model, bins, results, door, tmp_path):
    done = door(RUN, model, bins, tmp_path / 'bs1')
    assert done.stdout.count('STAND-IN') == 2
    for path in results.iterdir():
        one = np.fromfile(tmp_path / 'bs1' / path.name, np.float32)
        assert np.allclose(one, np.fromfile(path, np.float32), atol=1e-5)


def test_preprocess__part_folders_and_errors(model, door, toy, tmp_path):
    names = sorted(p.relative_to(toy / 'val/images') for p in (toy / 'val/images').rglob('*.jpg'))
    part = tmp_path / 'part.txt'
    part.write_text(f'{names[4]}\n')
    run = (PRE, toy, tmp_path / 'bins', '--model', model, '--part', part, '--size', 320, 640)
    door(*run)
    manifest = json.loads((tmp_path / 'bins' / 'manifest.json').read_text())
    assert [p['file'] for p in manifest['images']] == [str(names[4])]
    assert manifest['mmface']['size'] == [320, 640] and manifest['bytes'] == 4 * 3 * 320 * 640

    def error(*args):
        done = door(*args, ok=False)
        assert done.returncode == 2, done.stderr
        return done.stderr.splitlines()[-1]

    part.write_text('0--Parade/none.jpg\n')
    assert '1 of 1 images are not in' in error(*run)
    images = tmp_path / 'images' / 'ev'
    images.mkdir(parents=True)
    (images / 'text.jpg').write_text('no image')
    (images / 'read.me').write_text('ignored')
    options = ('--model', model, '--size', 320, 320)
    # The bins of another run are in the folder.
    assert 'inputs of other images' in error(PRE, images, tmp_path / 'bins', *options)
    new = tmp_path / 'new'
    assert 'text.jpg (8 bytes) cannot be read' in error(PRE, images, new, *options)
    # Without a manifest, the later steps do not run.
    assert 'manifest.json does not exist' in error(RUN, model, new, tmp_path / 'r')
    (images / 'text.jpg').unlink()
    assert 'no image (' in error(PRE, images, new, *options)
    assert 'is not a folder' in error(PRE, images / 'none', new, *options)
    assert 'multiples of 32' in error(PRE, toy, new, '--model', model, '--size', 300, 300)


def test_postprocess__bad_results(bins, results, door, tmp_path):
    folder = tmp_path / 'results'
    shutil.copytree(results, folder)
    run = (POST, folder, bins, '--out', tmp_path / 'txt')
    first = sorted(folder.iterdir())[0]
    content = first.read_bytes()
    first.write_bytes(content[:-4])
    done = door(*run, ok=False)
    assert done.returncode == 2
    assert f'{first}: expected 160,000 bytes' in done.stderr and '159,996' in done.stderr
    first.unlink()
    done = door(*run, ok=False)
    assert done.returncode == 2 and '1 of 24 results are not in' in done.stderr
    first.write_bytes(np.full(40_000, np.nan, np.float32).tobytes())
    door(*run)  # nothing found in this one
    manifest = json.loads((bins / 'manifest.json').read_text())
    stem = first.name.removesuffix('_0.bin')
    (file,) = (p['file'] for p in manifest['images'] if p['stem'] == stem)
    text = (tmp_path / 'txt' / file).with_suffix('.txt').read_text()
    assert text.split() == [stem, '0']
    done = door(POST, folder, tmp_path / 'none.json', '--out', tmp_path / 'txt', ok=False)
    assert done.returncode == 2 and 'none.json does not exist' in done.stderr


@pytest.mark.parametrize('name', ['../{stem}.jpg', 'a/../{stem}.jpg'])
def test_postprocess__names_in_the_manifest_stay_inside(name, bins, results, door, tmp_path):
    manifest = json.loads((bins / 'manifest.json').read_text())
    for image in manifest['images']:
        image['file'] = name.format(stem=image['stem'])
    (tmp_path / 'manifest.json').write_text(json.dumps(manifest))
    out = tmp_path / 'watched' / 'out'
    done = door(POST, results, tmp_path / 'manifest.json', '--out', out, ok=False)
    assert done.returncode == 2 and 'manifest.json is not a manifest' in done.stderr
    assert not list(tmp_path.rglob('*.txt'))


def test_build_om__command_and_missing_cann(model, run_tool, tmp_path):
    done = run_tool(BUILD, model, '--soc', 'Ascend310P3', '--batch', 4, '--dry-run')
    assert done.stdout.split() == [
        *('atc', '--framework=5', f'--model={model}', f'--output={model.with_suffix("")}_bs4'),
        *('--input_format=NCHW', '--input_shape=image:4,3,800,800', '--soc_version=Ascend310P3'),
        *('--precision_mode=force_fp16', '--output_type=FP32', '--log=error'),
    ]
    done = run_tool(BUILD, model, '--soc', '310P3', '--dry-run', ok=False)
    assert done.returncode == 2 and '--soc' in done.stderr and 'Ascend310P3' in done.stderr
    if shutil.which('atc'):
        pytest.skip('CANN is here')
    done = run_tool(BUILD, model, '--soc', 'Ascend310P3', ok=False)
    assert done.returncode == 2
    assert 'CANN' in done.stderr and 'set_env.sh' in done.stderr and 'Traceback' not in done.stderr


def test_build_om__takes_the_python_that_has_what_it_needs(model, repo, tmp_path):
    """It skips the active environment if that lacks mmface's packages."""
    other, own = tmp_path / 'other/bin', tmp_path / 'own'
    for folder in (other, own):
        folder.mkdir(parents=True)
    (other / 'python').write_text('#!/bin/sh\nexit 1\n')
    (other / 'python').chmod(0o755)
    own_python = own / 'python3'  # a script, as a link to Python does not lead to its environment
    own_python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    own_python.chmod(0o755)
    for name in ('tools/deploy/build_om.sh', 'tools/setup/_common.sh'):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(repo / name, tmp_path / name)
    (tmp_path / 'mmface').symlink_to(repo / 'mmface')

    script = tmp_path / 'tools/deploy/build_om.sh'

    def build(path):
        return subprocess.run(
            ['bash', script, model, '--soc', 'Ascend310P3', '--dry-run'],
            capture_output=True,
            text=True,
            timeout=120,
            env={'PATH': f'{path}:/usr/bin:/bin', 'VIRTUAL_ENV': str(other.parent)},
        )

    done = build(own)
    assert done.returncode == 0, done.stderr
    assert '--input_shape=image:1,3,800,800' in done.stdout
    own_python.write_text('#!/bin/sh\nexit 1\n')
    done = build(own)
    assert done.returncode == 2
    assert 'found no Python with the packages to read ONNX files' in done.stderr


@pytest.mark.reference
@pytest.mark.parametrize(('dtype', 'close'), [('float32', 0.0), ('uint8', 0.01)])
def test_recipe__published_network_on_real_images(dtype, close, reference_dir, door, tmp_path):
    wider = reference_dir / 'data/wider'
    model = reference_dir / 'data/scrfd/weights/scrfd_500m_bnkps.onnx'
    root = tmp_path / 'WIDERFace' / 'val'
    root.mkdir(parents=True)
    (root / 'images').symlink_to(wider / 'WIDER_val/images')
    (root / 'gt').symlink_to(wider / 'ground_truth')
    part = tmp_path / 'part.txt'
    part.write_text('\n'.join((wider / 'val_part.txt').read_text().splitlines()[:600:100]))
    bins, results, txt = (tmp_path / name for name in ('bins', 'results', 'txt'))
    door(PRE, root.parent, bins, '--model', model, '--part', part, '--dtype', dtype)
    door(RUN, model, bins, results, *(('--aipp', bins / 'aipp.config') if close else ()))
    ap = door(POST, results, bins, '--out', txt, '--gt', root / 'gt', '--part', part).stdout
    direct = door(
        *('tools/deploy/test_onnx.py', model, '--data-path', root.parent, '--part', part),
        *('--save-txt', tmp_path / 'direct'),
    ).stdout
    values, expected = (
        [float(line.split()[-1]) for line in text.splitlines() if 'Val AP' in line]
        for text in (ap, direct)
    )
    assert values == pytest.approx(expected, abs=close) and expected[2] > 0.4
    if not close:
        found = rows_of(txt)
        for name, rows in rows_of(tmp_path / 'direct').items():
            assert np.array_equal(found[name], rows)
