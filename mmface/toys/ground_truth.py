# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Write labels of drawn images in the formats of WIDER FACE.

The ``.mat`` files have the structure of the official ones: cell columns over events, which
contain cell columns over images. Boxes x, y, w, h are int32, attributes uint8, and
``gt_list`` has 1-based indices into the boxes of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from mmface.toys.scenes import ToyLabel
from mmface.utils.files import whole_file, write_text

ATTRIBUTES = ('blur', 'expression', 'illumination', 'invalid', 'occlusion', 'pose')
_SUBSETS = ('easy', 'medium', 'hard')


@dataclass
class ToyImage:
    """An image and its labels.

    Attributes:
        event: Folder, such as ``0--Parade``.
        name: File name with ``.jpg``.
        size: Width and height, pixels.
        labels: One per face.
        zero_count: Form in which the official text states that there is no face. True writes the
            count 0, False the count 1; a row of zeros follows both. Released files have both.
    """

    event: str
    name: str
    size: tuple[int, int]
    labels: list[ToyLabel] = field(default_factory=list)
    zero_count: bool = False


def _whole(label: ToyLabel) -> NDArray[np.int32]:
    return np.array(label.box).astype(np.int32)  # rounds towards zero: half a pixel has width 0


def write_bbx_gt(path: Path, images: Iterable[ToyImage]) -> None:
    """Write the official text: path, count, then one row per face, ``x y w h`` and 6 attributes."""
    lines = []
    for image in images:
        rows = [
            [*_whole(label), *(getattr(label, a) for a in ATTRIBUTES)] for label in image.labels
        ]
        count = len(rows) or int(not image.zero_count)
        lines += [f'{image.event}/{image.name}', str(count)]
        # The format has a blank at the end of each row.
        lines += [''.join(f'{v} ' for v in row) for row in rows or [[0] * 10]]
    write_text(path, '\n'.join(lines) + '\n')


def write_labelv2(path: Path, images: Iterable[ToyImage], training: bool) -> None:
    """Write the text of SCRFD, with keypoints.

    Args:
        path: File to write.
        images: Images to write, in order.
        training: Whether to write the training form: boxes as fractions, and for an invalid face
            a fifth number 1 (ignore) instead of keypoints. False writes boxes as the whole numbers
            of the ground truth, as in the published validation file. That file has no keypoints;
            here they are included, so that the keypoint error can be measured.
    """
    lines = []
    for image in images:
        lines.append(f'# {image.event}/{image.name} {image.size[0]} {image.size[1]}')
        for label in image.labels:
            x, y, w, h = label.box if training else _whole(label)
            if w <= 0 or h <= 0:
                continue  # as in the published files
            number = '.5f' if training else 'd'
            row = ' '.join(f'{v:{number}}' for v in (x, y, x + w, y + h))
            if not label.invalid:
                row += ''.join(f' {v:.5f}' for v in label.keypoints.ravel())
            elif training:
                row += ' 1'
            lines.append(row)
    write_text(path, '\n'.join(lines) + '\n')


def _column(items: Sequence[object]) -> NDArray[np.object_]:
    """Build a MATLAB cell column (n, 1)."""
    column = np.empty((len(items), 1), object)
    for row, item in enumerate(items):
        column[row, 0] = item
    return column


def write_mat(folder: Path, images: Iterable[ToyImage]) -> None:
    """Write ``wider_{face,easy,medium,hard}_val.mat`` to ``folder``.

    An image without a face has one box of zeros that is in no subset, as in the official
    files. Events are sorted by name.
    """
    events: dict[str, list[ToyImage]] = {}
    for image in sorted(images, key=lambda p: p.event):
        events.setdefault(image.event, []).append(image)

    def cells(value: Callable[[ToyImage], object]) -> NDArray[np.object_]:
        return _column([_column([value(p) for p in some]) for some in events.values()])

    def labels(image: ToyImage) -> list[ToyLabel]:
        return image.labels or [ToyLabel((0, 0, 0, 0))]

    def attribute(name: str) -> NDArray[np.object_]:
        return cells(lambda p: np.array([[getattr(x, name)] for x in labels(p)], np.uint8))

    def indices(level: int) -> NDArray[np.object_]:
        def within(p: ToyImage) -> NDArray[np.unsignedinteger]:
            found = [k for k, x in enumerate(p.labels, 1) if x.level <= level]
            # MATLAB stores doubles in as few bytes as possible; readers use them as indices.
            return np.array(found, np.min_scalar_type(len(p.labels))).reshape(-1, 1)

        return cells(within)

    common: dict[str, NDArray[np.object_]] = {
        'event_list': _column(list(events)),
        'file_list': cells(lambda p: Path(p.name).stem),
        'face_bbx_list': cells(lambda p: np.array([_whole(x) for x in labels(p)], np.int32)),
        **{f'{name}_label_list': attribute(name) for name in ATTRIBUTES},
    }
    tables: Mapping[str, dict[str, NDArray[np.object_]]] = {
        'face': common,
        **{name: {**common, 'gt_list': indices(k)} for k, name in enumerate(_SUBSETS)},
    }
    for name, table in tables.items():
        with whole_file(folder / f'wider_{name}_val.mat') as tmp:
            savemat(tmp, table, do_compression=True)
            # scipy writes the time there; a constant text makes files of equal data equal.
            with tmp.open('r+b') as handle:
                handle.write(b'MATLAB 5.0 MAT-file, drawn by mmface'.ljust(116))
