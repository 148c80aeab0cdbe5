# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The readers of untrusted files, and small valid files for each."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from label_readers import coco_table, label_readers
from mutate import mutate_bytes, mutate_json, mutate_zip
from prediction_readers import prediction_readers
from reader import Reader
from samples import PART


def _read_coco_boxes(folder: Path) -> object:
    from mmface.datasets.coco_boxes import CocoBoxDataset

    for number in (1, 2):
        image = folder / '0--A' / f'{number}.jpg'
        if not image.exists():
            image.parent.mkdir(exist_ok=True)
            image.touch()
    classes = ('face', 'cat')
    return len(
        CocoBoxDataset(
            ann_file=str(folder / 'a.json'),
            data_prefix=dict(img=str(folder)),
            metainfo=dict(classes=classes),
            filter_cfg=dict(filter_empty_gt=True, min_size=8),
            pipeline=[],
            serialize_data=False,  # otherwise it begins with a garbage collection of 0.6 s
        )
    )


def _cells(*items: Any) -> np.ndarray:
    table = np.empty((len(items), 1), object)
    table[:, 0] = items
    return table


def _mat_table() -> dict[str, Any]:
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32)
    flags = np.array([[0], [1]], np.uint8)
    return {
        'event_list': _cells('0--A', '1--B'),
        'file_list': _cells(_cells('a', 'b'), _cells('c')),
        'face_bbx_list': _cells(_cells(boxes, boxes), _cells(boxes)),
        'invalid_label_list': _cells(_cells(flags, flags), _cells(flags)),
        'gt_list': _cells(_cells(flags[1:], flags[:0]), _cells(flags[1:])),
    }


def _mat_seeds(folder: Path) -> list[bytes]:
    from scipy.io import savemat

    for subset in ('easy', 'medium', 'hard'):
        savemat(folder / f'wider_{subset}_val.mat', _mat_table(), do_compression=True)
    made = []
    for compressed in (True, False):
        savemat(folder / 'seed.mat', _mat_table(), do_compression=compressed)
        made.append((folder / 'seed.mat').read_bytes())
    (folder / 'seed.mat').unlink()
    return made


def _read_mat(folder: Path) -> object:
    """Read here as the package does in a child: one child per file would take two hours."""
    from mmface.datasets.prepare_labels import read_mat_faces
    from mmface.evaluation.wider_gt import read_ground_truth
    from mmface.utils import mat_child, mat_files

    def ask_here(paths: Any, files: Any) -> list[dict[str, Any]]:
        answers = []
        for path in paths:
            try:
                fields = mat_child.read_fields(str(path), list(files[path]))
            except Exception as error:
                raise ValueError(f'{path} is not a MATLAB 5 file ({error})') from error
            answers.append(json.loads(json.dumps(fields)))
        return answers

    mat_files._ask_child = ask_here
    number = len(read_mat_faces(folder / 'wider_face_val.mat'))
    return number + len(read_ground_truth(folder).names)


def _read_part(folder: Path) -> object:
    from mmface.utils.image_names import read_part

    return read_part(folder / 'part.txt')


def _checkpoint_seeds(folder: Path) -> list[bytes]:
    import torch
    from mmengine.logging import HistoryBuffer

    weights = {'a.weight': torch.ones(2, 3), 'b': torch.zeros(4, dtype=torch.float16)}
    content = {
        'meta': {'epoch': 3, 'iter': 30, 'cfg': 'x = 1', 'seed': np.int64(3)},
        'state_dict': weights,
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0, 2.0], [1, 1])}},
        'optimizer': {'state': {0: {'momentum_buffer': torch.ones(2)}}, 'param_groups': [{}]},
    }
    made = []
    for value, options in (
        (content, {}),
        (weights, {}),
        (content, {'_use_new_zipfile_serialization': False}),
    ):
        torch.save(value, folder / 'seed.pth', **options)
        made.append((folder / 'seed.pth').read_bytes())
    return made


def _mutate_checkpoint(data: bytes, others: list[bytes], rng: Any) -> bytes:
    return (mutate_zip if data[:2] == b'PK' else mutate_bytes)(data, others, rng)


def _read_checkpoint(folder: Path) -> object:
    from mmface.utils.checkpoint import load_checkpoint_file

    return load_checkpoint_file(folder / 'a.pth')


def _mindspore_seeds(folder: Path) -> list[bytes]:
    from mmface.weights.mindspore_ckpt import write_mindspore_ckpt

    tensors = {'a': np.ones((2, 3), np.float32), 'b': np.array(3), 'c': np.zeros(5, np.float16)}
    write_mindspore_ckpt(folder / 'seed', tensors)
    write_mindspore_ckpt(folder / 'cut', tensors, slice_bytes=8)
    return [(folder / 'seed').read_bytes(), (folder / 'cut').read_bytes()]


def _read_mindspore(folder: Path) -> object:
    from mmface.weights.mindspore_ckpt import read_mindspore_ckpt

    return read_mindspore_ckpt(folder / 'a.ckpt')


def _pickle_seeds(_: Path) -> list[bytes]:
    arrays = {'a_w': np.ones((2, 3), np.float32), 'b': np.arange(3), 'a_momentum': np.ones(1)}
    model = {'model': arrays, '__author__': 'x', 'matching_heuristics': True}
    return [pickle.dumps(value, p) for value in (arrays, model) for p in (0, 2, 4, 5)]


def _read_pickle(folder: Path) -> object:
    from mmface.weights.detectron2_pickle import read_detectron2_pickle

    return read_detectron2_pickle(folder / 'a.pkl')


def _onnx_seeds(_: Path) -> list[bytes]:
    from onnx import TensorProto, helper, numpy_helper

    tensors = [
        numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), 'w'),
        numpy_helper.from_array(np.ones(2, np.float32), 'b'),
        numpy_helper.from_array(np.ones((2, 2, 2, 2), np.float32), 'd'),
    ]
    scale = helper.make_tensor('s', TensorProto.FLOAT, [1], [2.0])
    nodes = [
        helper.make_node('Constant', [], ['s'], value=scale),
        helper.make_node('Conv', ['x', 'w', 'b'], ['y']),
        helper.make_node('Clip', ['y'], ['z']),
        helper.make_node('Mul', ['z', 's'], ['m']),
        helper.make_node('ConvTranspose', ['m', 'd'], ['out']),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ('x', 'out', 'w')]
    graph = helper.make_graph(nodes, 'g', ports[:1], ports[1:2], tensors)
    # An old exporter's: a weight among the inputs, a norm behind the transposed convolution.
    nodes[-1].output[0] = 't'
    nodes.append(helper.make_node('BatchNormalization', ['t', 'b', 'b', 'b', 'b'], ['u']))
    # A group norm.
    nodes.append(helper.make_node('Reshape', ['u', 's'], ['r']))
    nodes.append(helper.make_node('InstanceNormalization', ['r', 'b', 'z0'], ['i']))
    nodes.append(helper.make_node('Reshape', ['i', 's'], ['j']))
    nodes.append(helper.make_node('Mul', ['j', 'b'], ['k']))
    nodes.append(helper.make_node('Add', ['k', 'b'], ['out']))
    tensors.append(numpy_helper.from_array(np.zeros(2, np.float32), 'z0'))
    old = helper.make_graph(nodes, 'g', [ports[0], ports[2]], ports[1:2], tensors)
    return [helper.make_model(each).SerializeToString() for each in (graph, old)]


def _read_onnx(folder: Path) -> object:
    from mmface.weights.onnx_convs import read_onnx

    return read_onnx(folder / 'a.onnx')


NCNN = b"""7767517
4 5
Input            x     0 1 x
Convolution      conv  1 1 x y 0=2 1=3 5=1 6=54 9=1
GroupNorm        norm  1 1 y z 0=1 1=2 2=1e-05
BinaryOp         scale 1 1 z out 0=2 1=1 2=1.5
"""


def _ncnn_weights(_: Path) -> list[bytes]:
    ones = np.ones(54)
    rest = np.ones(6, np.float32).tobytes()
    halves = (0x01306B47).to_bytes(4, 'little') + ones.astype(np.float16).tobytes() + rest
    return [bytes(4) + ones.astype(np.float32).tobytes() + rest, halves]


def _read_ncnn(folder: Path) -> object:
    from mmface.weights.ncnn import read_ncnn

    for name, content in (('a.param', NCNN), ('a.bin', _ncnn_weights(folder)[0])):
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
    return read_ncnn(folder / 'a.param')


def _spec() -> Any:
    from mmface.deploy.model_spec import ModelSpec

    mean = (127.5,) * 3
    return ModelSpec('scrfd', 'raw', (64, 64), mean, mean, rgb=True, strides=(8, 16))


def _manifest_seeds(folder: Path) -> list[bytes]:
    from mmface.deploy.ascend.manifest import BinImage, BinManifest, Output

    outputs = (Output('score', (1, 8)), Output('bbox', (1, 2, 4)))
    places = ((1.0, 1.0), (0.0, 0.0), (64, 64))
    images = tuple(BinImage(s, f'0--A/{s}.jpg', 64, 64, *places, '0' * 64) for s in 'ab')
    BinManifest('m.onnx', '0' * 64, _spec(), 'uint8', (0, 0, 0), outputs, images).write(
        folder / 'manifest.json'
    )
    results = folder / 'results'
    results.mkdir()
    for stem in 'ab':
        for number in (0, 1):
            (results / f'{stem}_{number}.bin').write_bytes(bytes(32))
    return [(folder / 'manifest.json').read_bytes()]


def _read_manifest(folder: Path) -> object:
    from mmface.deploy.ascend.manifest import read_manifest
    from mmface.deploy.ascend.result_bins import check_results, read_results

    manifest = read_manifest(folder)
    try:
        check_results(folder / 'results', manifest)
    except ValueError as error:
        raise ValueError(f'manifest.json and its results: {error}') from error
    return [read_results(folder / 'results', image, manifest) for image in manifest.images]


def _read_spec(folder: Path) -> object:
    from mmface.deploy.model_spec import ModelSpec

    text = (folder / 'spec.json').read_bytes().decode('utf-8', 'replace')
    return ModelSpec.from_json(text).to_json()


def _image_seeds(_: Path) -> list[bytes]:
    from PIL import Image

    pixels = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = 6
    made = []
    for fmt, options in (
        ('jpeg', {'exif': exif}), ('jpeg', {'progressive': True}), ('png', {}), ('bmp', {}),
        ('webp', {}), ('tiff', {'compression': 'tiff_lzw'}), ('gif', {}),
    ):  # fmt: skip
        out = io.BytesIO()
        image.save(out, fmt, **options)
        made.append(out.getvalue())
    return made


def _zip_seeds(folder: Path) -> list[bytes]:
    jpeg = _image_seeds(folder)[0]
    labels = b'# 0--A/a.jpg 40 30\n1 2 3 4\n# 0--A/b.jpg 40 30\n'
    made = []
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, 'w', kind) as archive:
            archive.writestr('WIDER_val/images/0--A/a.jpg', jpeg)
            archive.writestr('WIDER_val/images/0--A/b.jpg', jpeg)
            archive.writestr('val/labelv2.txt', labels)
        made.append(out.getvalue())
    return made


def _read_zip(folder: Path) -> object:
    from mmface.datasets.prepare_sources import scan

    with ExitStack() as stack:
        files = scan([folder / 'a.zip'], folder / 'out', stack)
        return [len(file.read_bytes()) for file in files]


def _prepare_zip(folder: Path) -> object:
    from mmface.datasets.prepare import Preparation

    with Preparation([folder / 'a.zip'], folder / 'out') as preparation:
        return preparation.problems


def _image_size(folder: Path) -> object:
    from mmface.utils.images import image_size

    return image_size(folder / 'a.jpg')


def _image(folder: Path) -> object:
    from mmface.utils.images import read_image

    return read_image(folder / 'a.jpg').shape


def readers() -> Iterator[Reader]:
    """Return all readers."""
    yield from label_readers()
    boxes = coco_table(['face', 'cat'])
    yield Reader('coco boxes', 'a.json', lambda _: [boxes], _read_coco_boxes, mutate_json)
    yield from prediction_readers()
    yield Reader('ground truth mat', 'wider_face_val.mat', _mat_seeds, _read_mat, guarded=True)
    yield Reader('part list', 'part.txt', lambda _: [PART], _read_part)
    yield Reader('checkpoint', 'a.pth', _checkpoint_seeds, _read_checkpoint, _mutate_checkpoint)
    yield Reader('mindspore ckpt', 'a.ckpt', _mindspore_seeds, _read_mindspore)
    yield Reader('detectron2 pkl', 'a.pkl', _pickle_seeds, _read_pickle)
    yield Reader('onnx weights', 'a.onnx', _onnx_seeds, _read_onnx)
    yield Reader('ncnn layers', 'a.param', lambda _: [NCNN], _read_ncnn)
    yield Reader('ncnn weights', 'a.bin', _ncnn_weights, _read_ncnn)
    yield Reader('ascend manifest', 'manifest.json', _manifest_seeds, _read_manifest, mutate_json)
    specs = [_spec().to_json().encode()]
    yield Reader('model spec', 'spec.json', lambda _: specs, _read_spec, mutate_json, named=False)
    yield Reader('zip archive', 'a.zip', _zip_seeds, _read_zip, mutate_zip)
    yield Reader('zip data set', 'a.zip', _zip_seeds, _prepare_zip, mutate_zip)
    yield Reader('image size', 'a.jpg', _image_seeds, _image_size, named=False)
    yield Reader('image pixels', 'a.jpg', _image_seeds, _image)
