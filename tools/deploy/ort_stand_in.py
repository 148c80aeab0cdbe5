# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Replace ais_bench on machines without NPU: onnxruntime computes the results.

Names, order, batches and padding are those of ais_bench, so that the steps before and after it can
be tested anywhere. This says nothing about ATC, the precision of an OM file or the speed of an NPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mmface.deploy.ascend.aipp import Aipp, read_aipp
from mmface.deploy.ascend.manifest import MANIFEST_NAME, bin_bytes, read_manifest
from mmface.deploy.ascend.om import check_batch, open_for_om
from mmface.utils.cli import main_guard, make_parser
from mmface.utils.files import write_text
from mmface.utils.progress import progress_bar

_NOTICE = (
    'STAND-IN: onnxruntime on the CPU instead of ais_bench. No NPU and no OM file: this says '
    'nothing about the precision or speed of either.'
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(
        __doc__ or '',
        'python tools/deploy/ort_stand_in.py centerface.onnx bins result/dumpout_bs1',
    )
    add = parser.add_argument
    add('model', type=Path, help='the ONNX file, instead of the OM built from it')
    add('bins', type=Path, help='folder of bins (ais_bench --input)')
    add('out', type=Path, help='folder for the results (ais_bench --output and --output_dirname)')
    add('--batch', type=int, default=1, help='batch size of the OM (default 1)')
    add('--aipp', type=Path, metavar='FILE', help='AIPP file that the OM would be built with')
    return parser.parse_args(argv)


def natural_order(path: Path) -> list[int | str]:
    """Return a sort key that orders numbers in names by value, as ais_bench does."""
    return [int(p) if p.isdigit() else p.lower() for p in re.split('([0-9]+)', path.name)]


def list_bins(folder: Path, names: set[str]) -> list[Path]:
    """Return the bins of a folder in the order of ais_bench, which takes all bins.

    Raises:
        FileNotFoundError: One of ``names`` is missing.
        ValueError: There is a bin that is not in ``names``.
    """
    bins = sorted(folder.glob('*.bin'), key=natural_order)
    there = {path.name for path in bins}
    if missing := sorted(names - there):
        raise FileNotFoundError(
            f'{len(missing)} of {len(names)} bins of the manifest are not in {folder} (first: '
            f'{missing[0]}): prepare them again'
        )
    if extra := sorted(there - names):
        raise ValueError(f'{folder / extra[0]} is not in the manifest: remove it')
    return bins


def read_bin(path: Path, size: tuple[int, int], sha256: str, aipp: Aipp | None) -> NDArray:
    """Read a bin as the network's input for one image, (1, 3, h, w).

    Raises:
        ValueError: Its size does not fit the OM's input, or its content differs from the manifest.
    """
    data = path.read_bytes()
    expected = bin_bytes(size, 'float32' if aipp is None else 'uint8')
    if len(data) != expected:
        kind = 'float32 without --aipp' if aipp is None else 'uint8 with --aipp'
        raise ValueError(
            f'{path}: {len(data):,} bytes, and the input of {size[0]}x{size[1]} needs '
            f'{expected:,} ({kind}); ais_bench would reject it too'
        )
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f'{path} is not the file that the manifest lists: prepare the bins again')
    if aipp is None:
        return np.frombuffer(data, np.float32).reshape(1, 3, *size)
    return aipp.apply(np.frombuffer(data, np.uint8).reshape(1, *size, 3))


def main() -> None:
    args = parse_args()
    manifest = read_manifest(args.bins / MANIFEST_NAME)
    size = manifest.spec.size
    detector = open_for_om(args.model, size)
    check_batch(detector, args.batch)
    aipp = None if args.aipp is None else read_aipp(args.aipp)
    if aipp is not None and aipp.size != size:
        raise ValueError(f'{args.aipp} is for {aipp.size}, the bins are for {size} (height, width)')
    sums = {f'{image.stem}.bin': image.sha256 for image in manifest.images}
    bins = list_bins(args.bins, set(sums))
    print(_NOTICE)
    args.out.mkdir(parents=True, exist_ok=True)
    files: dict[int, dict[str, list[str]]] = {}
    with progress_bar(range(0, len(bins), args.batch), unit='batch') as bar:
        for start in bar:
            batch = bins[start : start + args.batch]
            arrays = [read_bin(path, size, sums[path.name], aipp) for path in batch]
            # ais_bench fills the last batch with its first image and drops the results for it.
            arrays += arrays[:1] * (args.batch - len(arrays))
            outputs = detector.run(np.concatenate(arrays))
            parts = [np.split(output, args.batch) for output in outputs]
            for number, path in enumerate(batch):
                entry = files[start + number] = {'infiles': [str(path)], 'outfiles': []}
                for index, part in enumerate(parts):
                    place = args.out / f'{path.stem}_{index}.bin'
                    part[number].tofile(place)
                    entry['outfiles'].append(str(place))
    # Without the times of an NPU, because there are none.
    summary = {'filesinfo': files, 'stand_in': f'onnxruntime {onnxruntime.__version__}, no NPU'}
    write_text(f'{args.out}_summary.json', json.dumps(summary) + '\n')
    print(
        f'{len(bins)} images, {len(detector.output_names)} results each, in {args.out}. {_NOTICE}'
    )


if __name__ == '__main__':
    main_guard(main)
