# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read labels of faces in any format that mmface knows.

Files:

* ``labelv2``, ``bbx_gt``, ``retinaface``: the texts of WIDER FACE, see
  :mod:`mmface.datasets.text_labels`.
* ``coco``: COCO-style JSON with boxes, or with any keypoints, see
  :mod:`mmface.datasets.coco_json`.

Folders with one file for each image (``labelme`` and ``voc`` also read a single file):

* ``yolo``: YOLO detection and pose texts, see :mod:`mmface.datasets.yolo_labels`.
* ``labelme``: JSON of labelme, see :mod:`mmface.datasets.labelme_labels`.
* ``voc``: Pascal VOC XML, see :mod:`mmface.datasets.voc_labels`.

Boxes become x1, y1, x2, y2 in pixels, where x2 = x1 + width. All formats pass the checks of
:mod:`mmface.datasets.label_checks`. This module needs neither torch nor the mm packages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mmface.datasets import labelme_labels, voc_labels, yolo_labels
from mmface.datasets.coco_json import parse_coco
from mmface.datasets.face_annotation import LabelSet, choose_classes
from mmface.datasets.text_labels import (
    header_size,
    iter_lines,
    parse_bbx_gt,
    parse_labelv2,
    parse_retinaface,
)
from mmface.datasets.unread_formats import name_unread


def read_annotations(
    path: str | os.PathLike[str],
    fmt: str = 'auto',
    classes: Sequence[str] | None = None,
    images: str | os.PathLike[str] | None = None,
) -> LabelSet:
    """Read a label file, or a folder of label files.

    Args:
        path: Path of the file or folder.
        fmt: ``labelv2``, ``bbx_gt``, ``retinaface``, ``coco``, ``yolo``, ``labelme``, ``voc`` or
            ``auto``. With ``auto``, the suffixes of its files decide about a folder. A file named
            ``*.json``, or one that begins with a brace or bracket, is ``labelme`` if it has
            shapes, else ``coco``. For texts the headers decide: without ``#`` the format is
            ``bbx_gt``, with sizes (or with ``labelv2`` in the file name) ``labelv2``, without
            sizes ``retinaface``.
        classes: Names of the classes to keep, in this order; a face of class ``i`` has the
            label ``i``. Faces of other classes are left out and counted in the notes. Default:
            all classes, in the order of the file. A file without classes has one, which may be
            given any name.
        images: Folder of the images. Only ``yolo``, whose labels are shares of the image, and
            ``voc`` look there. Default: found by the rules of these formats.

    Returns:
        One entry for each image, in the order of the file, with the names of the classes and of
        the keypoints.

    Raises:
        FileNotFoundError: The file or folder, or an image that ``yolo`` needs, does not exist.
        ValueError: A line or an entry does not fit the format, or a check fails. The message
            names file and line.
    """
    if fmt not in ('auto', *FORMATS):
        raise ValueError(f'format {fmt!r} of {path}: expected auto, {", ".join(FORMATS)}')
    source = str(path)
    if Path(path).is_dir():
        found = _read_folder(Path(path), fmt, None if images is None else Path(images))
    else:
        text = _read_text(path)
        if fmt == 'auto':
            fmt = next(name for name, kind in FORMATS.items() if kind.recognise(source, text))
            if fmt in _GENERAL:
                name_unread(source, text)
        found = FORMATS[fmt].parse(source, text)
    return found if classes is None else choose_classes(found, source, classes)


def _read_folder(path: Path, fmt: str, images: Path | None) -> LabelSet:
    folders = {name: kind for name, kind in FORMATS.items() if kind.suffix}
    if fmt != 'auto' and fmt not in folders:
        raise ValueError(f'{path} is a folder, but {fmt} is one file: name the file')
    files = {
        name: sorted(f for f in path.rglob(f'*{kind.suffix}') if f.name[0] != '.' and f.is_file())
        for name, kind in folders.items()
        if fmt in ('auto', name)
    }
    files['yolo'] = [f for f in files.get('yolo', []) if not yolo_labels.is_list(f)]
    there = [name for name, found in files.items() if found]
    if len(there) != 1:
        suffixes = ', '.join(f'*{kind.suffix} ({name})' for name, kind in folders.items())
        kinds = f'files of {" and ".join(there)}: choose a format' if there else 'none of them'
        raise ValueError(f'{path}: expected a folder with {suffixes}, found {kinds}')
    (name,) = there
    read = folders[name].read_folder
    assert read is not None  # every entry with a suffix has it
    return read(path, files[name], images)


def _read_text(path: str | os.PathLike[str]) -> str:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{path} does not exist or is not a file. Check the data path; '
            'tools/data/prepare_widerface.py creates the folders from the official archives'
        )
    # File names may not be UTF-8. Surrogates become the same bytes when the image is opened.
    text = Path(path).read_text(encoding='utf-8-sig', errors='surrogateescape')
    if not text.strip():
        raise ValueError(f'{path} is empty: expected image names and faces')
    return text


def _is_json(source: str, text: str) -> bool:
    return source.lower().endswith('.json') or text.lstrip()[:1] in ('{', '[')


def _is_labelv2(source: str, text: str) -> bool:
    # If one size is missing in a labelv2 file, the file must not be read as retinaface: its boxes
    # have another meaning. One size is enough; the reader then names the bad line.
    named = 'labelv2' in Path(source).name
    return named or any(header_size(line) for _, line in iter_lines(text) if line[0] == '#')


def _is_bbx_gt(source: str, text: str) -> bool:
    return all(line[0] != '#' for _, line in iter_lines(text))


#: Formats that are assumed of any file without the marks of another format.
_GENERAL = ('coco', 'bbx_gt', 'retinaface')
FolderReader = Callable[[Path, Sequence[Path], Path | None], LabelSet]


class LabelFormat(NamedTuple):
    """How to recognise and read a label format.

    Attributes:
        recognise: Returns whether a file, given its name and text, has this format.
        parse: Reads the labels from the name, for messages, and the text.
        suffix: Suffix of the files of a folder with one file for each image, if there is such.
        read_folder: Reads the labels from a folder, its files, and the folder of the images.
    """

    recognise: Callable[[str, str], bool]
    parse: Callable[[str, str], LabelSet]
    suffix: str = ''
    read_folder: FolderReader | None = None


#: All formats by the name that users give, in the order in which they are recognised. A new format
#: is a new entry here; data sets, the tools and their options follow.
FORMATS: dict[str, LabelFormat] = {
    'labelme': LabelFormat(
        labelme_labels.recognise, labelme_labels.parse, '.json', labelme_labels.read_folder
    ),
    'voc': LabelFormat(voc_labels.recognise, voc_labels.parse, '.xml', voc_labels.read_folder),
    'yolo': LabelFormat(yolo_labels.recognise, yolo_labels.parse, '.txt', yolo_labels.read_folder),
    'coco': LabelFormat(_is_json, parse_coco),
    'labelv2': LabelFormat(_is_labelv2, parse_labelv2),
    'bbx_gt': LabelFormat(_is_bbx_gt, parse_bbx_gt),
    'retinaface': LabelFormat(lambda source, text: True, parse_retinaface),
}
