# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from mmface_benchmark.toy_onnx import write_toy_centerface

from mmface.deploy.ascend.aipp import Aipp, read_aipp
from mmface.deploy.ascend.input_bins import (
    check_folder,
    check_names,
    uint8_padding,
    write_input_bin,
)
from mmface.deploy.ascend.manifest import BinManifest, Output, read_manifest
from mmface.deploy.ascend.om import atc_input_shape, om_spec, open_for_om
from mmface.deploy.ascend.result_bins import check_results, read_results
from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime import place, to_blob

SCRFD = ModelSpec('scrfd', 'insightface', (64, 96), (127.5,) * 3, (128.0,) * 3, rgb=True)
# chenjun2hao's mean and std, multiplied by 255, blue first.
CENTERFACE = ModelSpec(
    *('centerface', 'centerface', (64, 64)),
    (104.0136177, 114.0342201, 119.91659325),
    (73.6027614, 69.89082075, 70.91507925),
    rgb=False,
    resize='centre',
    strides=(4,),
    convention='centernet',
)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)


def manifest_of(images, spec=SCRFD, dtype='float32'):
    outputs = (Output('score', (1, 6, 1)), Output('bbox', (1, 6, 4)))
    return BinManifest('m.onnx', 'ab', spec, dtype, (), outputs, tuple(images))


# ---- AIPP --------------------------------------------------------------------------------


def test_aipp__has_the_numbers_of_the_recipe(tmp_path):
    text = Aipp.from_spec(CENTERFACE).to_text(rgb=False)
    rows = dict(line.strip().split(': ') for line in text.splitlines() if line.startswith('    '))
    assert rows['input_format'] == 'RGB888_U8' and rows['aipp_mode'] == 'static'
    assert (rows['src_image_size_w'], rows['src_image_size_h']) == ('64', '64')
    assert [rows[f'mean_chn_{k}'] for k in range(3)] == ['0'] * 3  # uint8: no fractions
    assert [round(float(rows[f'min_chn_{k}'])) for k in range(3)] == [104, 114, 120]
    published = (0.0135864, 0.0143080, 0.0141014)
    for channel, value in enumerate(published):
        assert float(rows[f'var_reci_chn_{channel}']) == pytest.approx(value, abs=5e-8)
    (tmp_path / 'aipp.config').write_text(text)
    assert read_aipp(tmp_path / 'aipp.config').factor == pytest.approx(published, abs=5e-8)


def test_aipp__apply_is_the_normalisation_as_float16_holds_it(image):
    aipp = Aipp.from_spec(replace(CENTERFACE, size=(50, 40)))
    expected = (image - np.array(CENTERFACE.mean)) / np.array(CENTERFACE.std)
    found = aipp.apply(image[None])
    assert found.dtype == np.float32 and np.array_equal(found, found.astype(np.float16))
    # 11 bits for values up to 2, the mean to 1/32 of a pixel, and the factor.
    assert np.abs(found[0].transpose(1, 2, 0) - expected).max() < 3e-3
    exact = Aipp.from_spec(replace(SCRFD, size=(50, 40))).apply(image[None])
    assert np.array_equal(exact[0].transpose(1, 2, 0), (image - 127.5) / 128)


def test_aipp__of_a_graph_that_normalises_itself_only_casts(image):
    aipp = Aipp.from_spec(replace(SCRFD, normalized_inside=True))
    assert np.array_equal(aipp.apply(image[None])[0].transpose(1, 2, 0), image)


def test_read_aipp__adds_mean_and_minimum_and_swaps_first(tmp_path, image):
    path = tmp_path / 'a.cfg'
    path.write_text(
        'aipp_op { # comment: 3\n aipp_mode : static\ninput_format:RGB888_U8\n'
        'rbuv_swap_switch: true\nsrc_image_size_w : 40\nsrc_image_size_h : 50\n'
        'mean_chn_0: 100\nmin_chn_0: 0.5\nvar_reci_chn_0: 0.25\n}\n'
    )
    aipp = read_aipp(path)
    assert aipp == Aipp((50, 40), (100.5, 0.0, 0.0), (0.25, 1.0, 1.0), swap=True)
    found = aipp.apply(image[None])[0]
    assert np.array_equal(found[0], (image[..., 2] - 100.5) * 0.25)
    assert np.array_equal(found[2], image[..., 0])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('aipp_op { input_format: YUV420SP_U8 }', 'src_image_size_h'),
        (Aipp.from_spec(SCRFD).to_text(True).replace('RGB888_U8', 'YUV420SP_U8'), 'YUV420SP_U8'),
        (Aipp.from_spec(SCRFD).to_text(True).replace('csc_switch: false', 'crop: true'), 'crop'),
        (Aipp.from_spec(SCRFD).to_text(True).replace('127.5', 'x'), "'x'"),
        ('hello', 'not an AIPP file'),
    ],
)
def test_read_aipp__refuses_what_it_does_not_compute(text, message, tmp_path):
    (tmp_path / 'a.cfg').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_aipp(tmp_path / 'a.cfg')


# ---- input bins --------------------------------------------------------------------------


@pytest.mark.parametrize('spec', [SCRFD, CENTERFACE, replace(SCRFD, resize='stretch')])
def test_write_input_bin__float32_is_the_blob_of_the_runtime(spec, image, tmp_path):
    entry = write_input_bin(tmp_path, 'ev/a.jpg', image, spec, 'float32')
    pixels, placement = place(image, spec)
    expected = to_blob([pixels], [placement], spec)
    assert (tmp_path / 'a.bin').stat().st_size == 4 * 3 * spec.size[0] * spec.size[1]
    assert np.array_equal(np.fromfile(tmp_path / 'a.bin', np.float32), expected.ravel())
    assert (entry.stem, entry.width, entry.height) == ('a', 40, 50)
    assert (entry.scale, entry.offset, entry.content) == placement[:3]


@pytest.mark.parametrize('spec', [SCRFD, CENTERFACE])
def test_write_input_bin__uint8_with_its_aipp_is_float32_but_for_rounding(spec, image, tmp_path):
    write_input_bin(tmp_path, 'ev/a.jpg', image, spec, 'float32')
    expected = np.fromfile(tmp_path / 'a.bin', np.float32).reshape(3, *spec.size)
    entry = write_input_bin(tmp_path, 'ev/a.jpg', image, spec, 'uint8')
    pixels = np.fromfile(tmp_path / 'a.bin', np.uint8).reshape(*spec.size, 3)
    found = Aipp.from_spec(spec).apply(pixels[None])[0]
    rows, columns = entry.content
    if spec is SCRFD:
        assert np.array_equal(found[:, :rows, :columns], expected[:, :rows, :columns])
        # 127.5 becomes 128.
        assert (rows, columns) == (64, 51) and (pixels[:, columns:] == 128).all()
        assert (found[..., columns:] == 0.5 / 128).all() and not expected[..., columns:].any()
    else:
        assert uint8_padding(spec) == (0, 0, 0) and not pixels[:, 0].any()  # its canvas is black
    assert np.abs(found - expected).max() < 4e-3


def test_check_names__one_name_for_two_results():
    check_names(['0--A/a.jpg', '1--B/b.jpg'])
    with pytest.raises(ValueError, match=r'0--A/a\.jpg and 1--B/a\.png have the same name'):
        check_names(['0--A/a.jpg', '1--B/a.png'])
    with pytest.raises(ValueError, match='before the first dot; rename'):
        check_names(['0--A/a.1.jpg'])


def test_check_folder__inputs_of_other_images(tmp_path):
    check_folder(tmp_path / 'new', ['ev/a.jpg'])
    for name in ('a.bin', 'manifest.json'):
        (tmp_path / name).touch()
    check_folder(tmp_path, ['ev/a.jpg'])
    (tmp_path / 'old.npy').touch()
    with pytest.raises(ValueError, match=r'1 inputs of other images .*old\.npy'):
        check_folder(tmp_path, ['ev/a.jpg'])


# ---- manifest ----------------------------------------------------------------------------


def test_manifest__comes_back(image, tmp_path):
    entry = write_input_bin(tmp_path, 'ev/a.jpg', image, SCRFD, 'uint8')
    manifest = manifest_of([entry], dtype='uint8')
    manifest.write(tmp_path / 'manifest.json')
    assert read_manifest(tmp_path) == read_manifest(tmp_path / 'manifest.json') == manifest
    values = json.loads((tmp_path / 'manifest.json').read_text())
    assert values['bytes'] == 3 * 64 * 96 and values['mmface']['family'] == 'scrfd'


def test_read_manifest__missing_or_broken(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'manifest\.json does not exist.*preprocess'):
        read_manifest(tmp_path)
    manifest_of([]).write(tmp_path / 'manifest.json')
    text = (tmp_path / 'manifest.json').read_text()
    for broken in ('{', '[]', '{}', text.replace('bins 1', 'bins 2'), text.replace('"bbox"', '1,')):
        (tmp_path / 'manifest.json').write_text(broken)
        with pytest.raises(ValueError, match='is not a manifest of bins of this version'):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    ('file', 'stem'), [('../a.jpg', 'a'), ('/ev/a.jpg', 'a'), ('ev/a.jpg', '../../a'), ('', '')]
)
def test_read_manifest__refuses_names_that_lead_elsewhere(image, tmp_path, file, stem):
    entry = write_input_bin(tmp_path, 'ev/a.jpg', image, SCRFD, 'uint8')
    manifest_of([replace(entry, file=file, stem=stem)]).write(tmp_path / 'manifest.json')
    with pytest.raises(ValueError, match=r'is not a manifest of bins .*(file|stem): expected'):
        read_manifest(tmp_path)


def test_read_manifest__names_the_field_of_the_specification(tmp_path):
    manifest_of([]).write(tmp_path / 'manifest.json')
    text = (tmp_path / 'manifest.json').read_text()
    (tmp_path / 'manifest.json').write_text(text.replace('"nms_iou": 0.45', '"nms_iou": 7'))
    with pytest.raises(ValueError, match=r'manifest\.json .*nms_iou: expected .*found 7'):
        read_manifest(tmp_path)


# ---- results -----------------------------------------------------------------------------


@pytest.fixture
def results(image, tmp_path):
    """Write a manifest of two images and the results for them."""
    images = [
        write_input_bin(tmp_path, f'ev/{stem}.jpg', image, SCRFD, 'uint8') for stem in ('a', 'a_1')
    ]
    folder = tmp_path / 'results'
    folder.mkdir()
    for index, entry in enumerate(images):
        for number, count in enumerate((6, 24)):
            values = np.arange(count, dtype=np.float32) + 100 * index
            values.tofile(folder / f'{entry.stem}_{number}.bin')
    return manifest_of(images, dtype='uint8'), folder


def test_read_results__by_name(results):
    manifest, folder = results
    check_results(folder, manifest)
    (score, bbox), placement = read_results(folder, manifest.images[1], manifest)
    assert score.shape == (1, 6, 1) and bbox.shape == (1, 6, 4)
    assert score[0, 0, 0] == 100 and bbox[0, 5, 3] == 123
    assert placement.size == SCRFD.size and placement.content == (64, 51)


def test_check_results__missing(results, tmp_path):
    manifest, folder = results
    (folder / 'a_1_1.bin').rename(folder / 'b_1.bin')
    with pytest.raises(FileNotFoundError, match=r'1 of 4 results .*a_1_1\.bin.* 1 others .*b_1'):
        check_results(folder, manifest)
    with pytest.raises(FileNotFoundError, match='run ais_bench first'):
        check_results(tmp_path / 'none', manifest)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='output_dirname'):
        check_results(tmp_path / 'empty', manifest)


def test_check_results__extra(results):
    manifest, folder = results
    (folder / 'a_2.bin').touch()
    with pytest.raises(ValueError, match=r'1 results .* to no image .*a_2\.bin'):
        check_results(folder, manifest)


@pytest.mark.parametrize(
    ('count', 'message'),
    [(24, 'found 24: the OM has another'), (48, 'float16'), (192, 'several images')],
)
def test_check_results__wrong_size(count, message, results):
    manifest, folder = results
    np.zeros(count, np.uint8).tofile(folder / 'a_1.bin')
    with pytest.raises(ValueError, match=rf'a_1\.bin: expected 96 bytes, .*bbox.*{message}'):
        check_results(folder, manifest)


# ---- OM ----------------------------------------------------------------------------------


def test_atc_input_shape__from_the_file(tmp_path):
    pytest.importorskip('onnx')
    free = open_for_om(write_toy_centerface(tmp_path / 'free.onnx'))
    assert atc_input_shape(free, 4) == 'image:4,3,800,800'  # the size that layout is tested with
    fixed = open_for_om(write_toy_centerface(tmp_path / 'one.onnx', batch=1), (320, 640))
    assert atc_input_shape(fixed, 1) == 'image:1,3,320,640'
    with pytest.raises(ValueError, match=r'batch 4: .*one\.onnx takes 1 only'):
        atc_input_shape(fixed, 4)
    (tmp_path / 'aipp.config').write_text(Aipp.from_spec(SCRFD).to_text(True))
    with pytest.raises(ValueError, match='images of 64x96, the model takes 800x800'):
        atc_input_shape(free, 1, tmp_path / 'aipp.config')


def test_om_spec__centerface_is_not_stretched_to_a_fixed_size():
    stretched = replace(CENTERFACE, resize='stretch')
    assert om_spec(stretched).resize == 'centre'
    assert om_spec(stretched, 'stretch').resize == 'stretch'
    assert om_spec(SCRFD).resize == 'keep_ratio'
