# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The readers of predictions, and small valid files for each."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mutate import mutate_gzip, mutate_json
from reader import Reader
from samples import WIDER_TXT


def _read_wider_txt(folder: Path) -> object:
    from mmface.evaluation.wider_txt import read_predictions

    return read_predictions(folder / 'txt')


def _tar_seeds(_: Path) -> list[bytes]:
    made = []
    for mode in ('w', 'w:gz'):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as archive:
            for number in range(3):
                info = tarfile.TarInfo(f'set/0--A/{number}.txt')
                info.size = len(WIDER_TXT)
                archive.addfile(info, io.BytesIO(WIDER_TXT))
        made.append(out.getvalue())
    return made


def _read_wider_tar(folder: Path) -> object:
    from mmface.evaluation.wider_txt import read_predictions

    return read_predictions(folder / 'a.tar.gz')


def _read_predictions(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from mmface.evaluation.prediction_files import open_predictions

        return [len(chunk.table) for chunk in open_predictions(folder / name)]

    return read


def _results_seeds(_: Path) -> list[bytes]:
    rows = [
        dict(image_id=f'0--A/{n}.jpg', category_id=1, bbox=[1.5, 2, 3, 4], score=0.5)
        for n in range(4)
    ]
    numbered = [{**row, 'image_id': n} for n, row in enumerate(rows)]
    images = [dict(id=n, file_name=f'0--A/{n}.jpg') for n in range(4)]
    return [json.dumps(v).encode() for v in (rows, dict(images=images, annotations=numbered))]


def _dump_seeds(_: Path) -> list[bytes]:
    import torch

    found = dict(bboxes=torch.ones(3, 4), scores=torch.rand(3), labels=torch.zeros(3).long())
    size = np.array([1.0, 2.0])
    sample = dict(img_id=1, img_path='a/0--A/x.jpg', scale_factor=size, pred_instances=found)
    return [pickle.dumps([sample], protocol) for protocol in (2, 4, 5)]


def _parquet_seeds(_: Path) -> list[bytes]:
    import pyarrow
    from pyarrow import parquet

    numbers = {key: [1.0, 2.0, 3.0] for key in ('x1', 'y1', 'x2', 'y2', 'score')}
    table = pyarrow.table({'image': ['0--A/a.jpg', '0--A/a.jpg', '0--A/b.jpg'], **numbers})
    made = []
    for kind in ('NONE', 'SNAPPY'):
        out = io.BytesIO()
        parquet.write_table(table, out, compression=kind)
        made.append(out.getvalue())
    return made


def prediction_readers() -> Iterator[Reader]:
    """Return the readers of predictions."""
    yield Reader('detections txt', 'txt/0--A/a.txt', lambda _: [WIDER_TXT], _read_wider_txt)
    yield Reader('detections tar', 'a.tar.gz', _tar_seeds, _read_wider_tar, mutate_gzip)
    results = _read_predictions('a.json')
    yield Reader('detections json', 'a.json', _results_seeds, results, mutate_json)
    yield Reader('detections pkl', 'a.pkl', _dump_seeds, _read_predictions('a.pkl'))
    yield Reader('detections parquet', 'a.parquet', _parquet_seeds, _read_predictions('a.parquet'))
