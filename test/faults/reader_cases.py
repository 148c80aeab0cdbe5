# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Small files of the wrong kind, with wrong values, or made to fill memory."""

from __future__ import annotations

import json
import os
import signal
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from case import Case, Outcome

SIZES = {'width': 64, 'height': 48}


def refused(make: Callable[[Path], list[Path]], read: Callable[[Path], object]):
    """Build a case of files, each of which must raise a ValueError that names it."""

    def run(folder: Path) -> Outcome:
        good, message = 0, ''
        for path in make(folder):
            try:
                read(path)
            except ValueError as error:
                good += str(path) in str(error)
                message = str(error).replace(str(folder), 'DIR')
        return Outcome(good, message[:200])

    return run


def _coco(**changes: Any) -> str:
    """Return a small COCO table; a change names list and entry, such as ``images_width``."""
    table: dict[str, list[dict[str, Any]]] = {
        'images': [{'id': 1, 'file_name': '0--A/a.jpg', **SIZES}],
        'annotations': [
            {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [1, 2, 3, 4], 'area': 12}
        ],
        'categories': [{'id': 1, 'name': 'face'}],
    }
    for place, value in changes.items():
        key, _, entry = place.partition('_')
        table[key][0][entry] = value
        if value is ...:
            del table[key][0][entry]
    return json.dumps(table)


def write_all(suffix: str, *contents: str | bytes) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        paths = []
        for number, content in enumerate(contents):
            path = folder / f'{number}{suffix}'
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            paths.append(path)
        return paths

    return make


def read_faces(path: Path) -> object:
    from mmface.datasets.annotations import read_annotations

    return read_annotations(path)


def read_boxes(path: Path) -> object:
    from mmface.datasets.coco_boxes import CocoBoxDataset

    image = path.parent / '0--A' / 'a.jpg'
    image.parent.mkdir(exist_ok=True)
    image.touch()
    where, classes = {'img': str(path.parent)}, {'classes': ('face',)}
    return CocoBoxDataset(
        ann_file=str(path), data_prefix=where, metainfo=classes, pipeline=[], serialize_data=False
    )


def read_part(path: Path) -> object:
    from mmface.utils.image_names import read_part

    return read_part(path)


def scan_zip(path: Path) -> object:
    from mmface.datasets.prepare_sources import scan

    with ExitStack() as stack:
        return [file.read_bytes() for file in scan([path], path.parent / 'out', stack)]


def zips(*damage: Callable[[bytearray], None], content: bytes = b'10 20 30 40\n' * 100):
    """Return a function that writes an archive with changed bytes, one copy per damage."""

    def make(folder: Path) -> list[Path]:
        paths = []
        for number, change in enumerate(damage):
            path = folder / f'{number}.zip'
            with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
                archive.writestr('val/labelv2.txt', content)
            data = bytearray(path.read_bytes())
            change(data)
            path.write_bytes(data)
            paths.append(path)
        return paths

    return make


def _in_directory(offset: int, value: int) -> Callable[[bytearray], None]:
    """Change a byte of the entry in the directory at the end, and of the member's own header."""

    def change(data: bytearray) -> None:
        data[data.index(b'PK\x01\x02') + offset] = value
        data[offset - 2] = value  # the fields are two bytes earlier there

    return change


def _flip_content(data: bytearray) -> None:
    data[60] ^= 0x10


def tars(folder: Path) -> list[Path]:
    """Write an archive that claims a member of 100 GB, a cut one, and one of noise."""
    big, cut, noise = (folder / f'{name}.tar' for name in ('big', 'cut', 'noise'))
    info = tarfile.TarInfo('0--A/a.txt')
    info.size = 100 << 30
    big.write_bytes(info.tobuf() + bytes(10240))
    info.size = 5000
    cut.write_bytes(info.tobuf() + bytes(1000))
    noise.write_bytes(bytes(range(256)) * 20)
    return [big, cut, noise]


def read_detections(path: Path) -> object:
    from mmface.evaluation.wider_txt import read_predictions

    return read_predictions(path)


def mats(folder: Path) -> list[Path]:
    """Write other fields, a table that unpacks to 256 MB, a cut file, and a text."""
    from scipy.io import savemat

    paths = [folder / f'{number}.mat' for number in range(4)]
    savemat(paths[0], {'event_list': {'x': 1}})
    savemat(paths[1], {'event_list': np.zeros(1 << 28, np.uint8)}, do_compression=True)
    savemat(paths[2], {'event_list': np.zeros((9, 9))})
    paths[2].write_bytes(paths[2].read_bytes()[:200])
    paths[3].write_text('not a .mat file ' * 20)
    return paths


def read_mat(path: Path) -> object:
    from mmface.datasets.prepare_labels import read_mat_faces

    return read_mat_faces(path)


def dying_reader(folder: Path) -> Outcome:
    """Kill the reading process, as scipy's faults do; a script replaces Python for this."""
    from mmface.utils.mat_files import read_mat_files

    script = folder / 'python'
    script.write_text(f'#!/bin/sh\nkill -{signal.SIGSEGV.value} $$\n')
    script.chmod(0o755)
    path = folder / 'a.mat'
    path.write_bytes(b'x')
    real, sys.executable = sys.executable, str(script)
    try:
        read_mat_files({path: ('event_list',)})
    except ValueError as error:
        return Outcome(int(str(path) in str(error)), str(error).replace(str(folder), 'DIR'))
    finally:
        sys.executable = real
    return Outcome(0, 'no error')


def manifests(folder: Path) -> list[Path]:
    """Write manifests with a wrong type in each entry, and one that leads to another folder."""
    from mmface.deploy.ascend.manifest import BinImage, BinManifest, Output
    from mmface.deploy.model_spec import ModelSpec

    mean = (127.5,) * 3
    spec = ModelSpec('scrfd', 'raw', (64, 64), mean, mean, rgb=True)
    image = BinImage('a', '0--A/a.jpg', 64, 64, (1.0, 1.0), (0.0, 0.0), (64, 64), '0')
    good = folder / 'manifest.json'
    outputs = (Output('score', (1, 8)),)
    BinManifest('m.onnx', '0', spec, 'uint8', (0, 0, 0), outputs, (image,)).write(good)
    table = json.loads(good.read_text())
    changes = [
        {'dtype': 'float64'}, {'outputs': 3}, {'outputs': [{'name': 'x', 'shape': [1e9]}]},
        {'padding': ['x', 0, 0]}, {'mmface': []}, {'images': [{}]},
        *(
            {'images': [{**table['images'][0], **change}]}
            for change in (
                {'stem': '../a'}, {'file': 7}, {'width': -1}, {'height': 1.5}, {'scale': [0, 0]},
                {'scale': [float('nan'), 1]}, {'offset': None}, {'content': [64]},
            )
        ),
    ]  # fmt: skip
    return write_all('.json', *(json.dumps({**table, **change}) for change in changes))(folder)


def read_manifest(path: Path) -> object:
    from mmface.deploy.ascend.manifest import read_manifest

    return read_manifest(path)


def onnx_files(folder: Path) -> list[Path]:
    """Write graphs with a tensor of wrong size, one without type, a constant without value."""
    from onnx import TensorProto, helper

    tensors = [
        TensorProto(name='w', dims=[2, 3], data_type=TensorProto.FLOAT, raw_data=b'1234'),
        TensorProto(name='w', dims=[1], data_type=TensorProto.UNDEFINED, raw_data=b'1234'),
    ]
    nodes = [helper.make_node('Constant', [], ['c'])]
    graphs = [helper.make_graph([], 'g', [], [], [tensor]) for tensor in tensors]
    graphs.append(helper.make_graph(nodes, 'g', [], []))
    contents = [helper.make_model(graph).SerializeToString() for graph in graphs]
    return write_all('.onnx', *contents)(folder)


def read_onnx(path: Path) -> object:
    from mmface.weights.onnx_convs import read_onnx

    return read_onnx(path)


def label_bomb(folder: Path) -> Outcome:
    """Check that a zip of 200 KB with a label file of 200 MB is refused before it is unpacked."""
    import resource

    path = folder / 'a.zip'
    with (
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open('val/labelv2.txt', 'w') as member,
    ):
        for _ in range(200):
            member.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        scan_zip(path)
    except ValueError as error:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        return Outcome(int(used < 50_000), str(error).replace(str(folder), 'DIR'))
    return Outcome(0, f'{os.path.getsize(path)} bytes were unpacked')  # noqa: PTH202


INFINITE = (float('inf'), float('-inf'), float('nan'), 1e300, 'wide', [64])
CASES = [
    Case(
        'COCO faces: width infinite, not a number, too large',
        6,
        refused(write_all('.json', *(_coco(images_width=w) for w in INFINITE)), read_faces),
        quick=True,
    ),
    Case(
        'COCO boxes: width infinite, not a number, too large',
        6,
        refused(write_all('.json', *(_coco(images_width=w) for w in INFINITE)), read_boxes),
        quick=True,
    ),
    Case(
        'COCO boxes: category_id missing, unknown, not a number',
        4,
        refused(
            write_all('.json', *(_coco(annotations_category_id=c) for c in (..., 7, None, [1]))),
            read_boxes,
        ),
        quick=True,
    ),
    Case(
        'part list in UTF-16, Latin-1, and with null characters',
        3,
        refused(
            write_all('.txt', '0--A/a.jpg'.encode('utf-16'), b'0--A/\xe4.jpg', b'0--A/\0.jpg'),
            read_part,
        ),
        quick=True,
    ),
    Case(
        'zip with password, unknown compression, wrong checksum, cut',
        4,
        refused(
            zips(
                _in_directory(8, 1),
                _in_directory(10, 77),
                _flip_content,
                lambda data: data.__delitem__(slice(-30, None)),
            ),
            scan_zip,
        ),
        quick=True,
    ),
    Case('zip with a label file of 200 MB in 200 KB', 1, label_bomb, quick=True),
    Case('tar with a member of 100 GB, cut, and noise', 3, refused(tars, read_detections), True),
    Case('.mat with other fields, of 256 MB, cut, no MATLAB', 4, refused(mats, read_mat), True),
    Case('.mat whose reader ends', 1, dying_reader, quick=True),
    Case('Ascend manifest with 14 wrong entries', 14, refused(manifests, read_manifest), True),
    Case(
        'ONNX weights of wrong size, type, without value', 3, refused(onnx_files, read_onnx), True
    ),
]
