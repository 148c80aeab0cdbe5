# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""YOLO labels: a folder of texts, one for each image.

A row is ``class cx cy w h``, shares of the width and height of the image. Pose and face labels
add K keypoints, ``x y`` or ``x y v``. ``kpt_shape`` of ``data.yaml`` states K; without it, rows
of 15 and 20 numbers have five keypoints. A keypoint is missing if v is 0 or less, or, without
v, if x or y is negative. A box becomes (cx - w/2, cy - h/2, cx + w/2, cy + h/2) times the size
of the image, which is read from the image file as the image is seen (turned by EXIF).

The image of ``labels/a/1.txt`` is ``images/a/1.*``; without a folder named ``labels``, it is
beside the text. An image without a text, or with an empty one, has no faces. ``data.yaml`` (its
names, kpt_shape, flip_idx, kpt_names) or a list ``classes.txt`` or ``obj.names`` is looked for in
the folder and the two above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmface.datasets.face_annotation import LabelSet
from mmface.datasets.keypoint_names import scheme_of_names, unnamed_scheme
from mmface.datasets.label_files import FaceCollector, Point, read_small_file
from mmface.datasets.text_labels import is_numeric, text_lines
from mmface.structures import KeypointScheme

LISTS = ('classes.txt', 'obj.names')
_YAML_BYTES = 50_000  # a file that names 1,000 classes has 20,000
_MAX_POINTS = 500
_MAX_CLASSES = 10_000
_LAYOUT = (
    'class cx cy w h, optionally 5 x (x y) or 5 x (x y v): 5, 15 or 20 numbers, or as kpt_shape in '
    'data.yaml states'
)
_NUMBERS = {5: (0, 0), 15: (5, 2), 20: (5, 3)}  # numbers of a row: K, numbers of a point


@dataclass(frozen=True)
class _Names:
    """What ``data.yaml`` or a list of classes states.

    Attributes:
        classes: Names of the classes, or empty.
        shape: K and the numbers of a keypoint, or None.
        keypoints: What the keypoints are, or None.
        order: Position of each of them in a row.
        notes: Notes about the names.
    """

    classes: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None
    keypoints: KeypointScheme | None = None
    order: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def is_list(file: Path) -> bool:
    """Return whether a text beside YOLO labels is not the labels of an image."""
    name = file.name.lower()
    return name in (*LISTS, 'train.txt', 'val.txt', 'test.txt') or name.startswith('readme')


def recognise(source: str, text: str) -> bool:
    """Return whether a text is the labels of one image."""
    if not (source.lower().endswith('.txt') and is_numeric(text.lstrip().partition('\n')[0])):
        return False
    return all(is_numeric(line) and len(line.split()) >= 5 for _, line in text_lines(text))


def parse(source: str, text: str) -> LabelSet:
    """Refuse a single file: it does not say which image it belongs to.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f'{source} has the YOLO labels of one image: name its folder, which is read as a whole'
    )


def read_folder(path: Path, files: Sequence[Path], images: Path | None) -> LabelSet:
    """Read a folder; see the module.

    Args:
        path: The folder.
        files: Its texts.
        images: Folder of the images, or None.

    Raises:
        FileNotFoundError: A text has no image.
        ValueError: A row does not fit. Names file and line.
    """
    from mmface.utils.file_kinds import IMAGE_SUFFIXES
    from mmface.utils.images import image_size  # needs OpenCV and Pillow

    labels, root = _folders(path, images)
    names = _read_names(labels)
    found = FaceCollector(str(path))
    there: dict[str, Path] = {}
    for image in sorted(root.rglob('*')):
        if image.suffix.lower() in IMAGE_SUFFIXES:
            there.setdefault(image.relative_to(root).with_suffix('').as_posix(), image)
    own = [file for file in files if file.is_relative_to(labels)]  # other texts are beside labels/
    texts = {file.relative_to(labels).with_suffix('').as_posix(): file for file in own}
    lost = [file for name, file in texts.items() if name not in there]
    if lost:
        raise FileNotFoundError(
            f'{lost[0]}: no image of this name in {root} ({len(lost)} of {len(texts)} texts): '
            'YOLO labels are shares of the image and need it'
        )
    rows = _Rows(names)
    for name, image in there.items():
        try:
            width, height = image_size(image)
        except (OSError, ValueError) as error:
            raise ValueError(f'the image {image} cannot be read ({error})') from None
        place = str(texts.get(name, image))
        found.image(place, (image.relative_to(root).as_posix(), width, height))
        if name in texts:
            for number, line in text_lines(read_small_file(texts[name])):
                rows.add(found, f'{place}, line {number}', line, (width, height))
    return rows.finish(found, str(path))


def _folders(path: Path, images: Path | None) -> tuple[Path, Path]:
    """Return the folders of the texts and of the images."""
    if (path / 'labels').is_dir():
        path = path / 'labels'
    if images is not None:
        return path, images
    parts = path.absolute().parts
    if 'labels' not in parts:
        return path, path
    at = len(parts) - 1 - parts[::-1].index('labels')
    return path, Path(*parts[:at], 'images', *parts[at + 1 :])


def _read_names(labels: Path) -> _Names:
    for folder in (labels, *labels.absolute().parents[:2]):
        for file in sorted(folder.glob('*.y*ml')):
            if file.name in ('data.yaml', 'data.yml', 'dataset.yaml'):
                return _read_yaml(file)
        for name in LISTS:
            if (folder / name).is_file():
                lines = text_lines(read_small_file(folder / name, _YAML_BYTES))
                return _Names(classes=tuple(line for _, line in lines))
    return _Names()


def _read_yaml(file: Path) -> _Names:
    text = read_small_file(file, _YAML_BYTES)
    try:
        import yaml
    except ModuleNotFoundError:
        raise ValueError(f'{file}: to read it, pip install pyyaml') from None
    try:
        # Strings, lists and maps only: SafeLoader makes True of a class named "yes".
        table = yaml.load(text, Loader=yaml.BaseLoader)
        classes = _list(table.get('names'))
        shape = table.get('kpt_shape')
        points = _list(table.get('kpt_names'), nested=True)
        flip = tuple(map(int, table.get('flip_idx') or ()))
        if shape is None:
            return _Names(classes)
        count, size = map(int, shape)
        if not (0 <= count <= _MAX_POINTS and size in (2, 3)) or len(points) not in (0, count):
            raise ValueError(f'kpt_shape {shape} with {len(points)} kpt_names')
        if points:
            scheme, order, note = scheme_of_names(str(file), points)
            return _Names(classes, (count, size), scheme, tuple(order), (note,) if note else ())
        scheme, note = unnamed_scheme(str(file), count)
        if flip and scheme.flip_indices != flip:
            scheme, note = KeypointScheme((), flip), ''
        if len(scheme) != count:
            raise ValueError(f'{count} keypoints, but flip_idx has {len(scheme)}')
        order = list(range(count))
        return _Names(classes, (count, size), scheme, tuple(order), (note,) if note else ())
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as e:
        reason = ' '.join(str(e).split())[:200] or type(e).__name__
        raise ValueError(
            f'{file}: expected names, and for keypoints kpt_shape: [K, 2 or 3], found something '
            f'else ({reason})'
        ) from None


def _list(value: Any, nested: bool = False) -> tuple[str, ...]:
    """Return names that are given as a list or as a map from 0, 1, ...; ``nested``: per class."""
    if isinstance(value, dict):
        value = [value[str(key)] for key in range(len(value))]
    if nested and value and isinstance(value[0], list):
        value = value[0]
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError('names are no list')
    return tuple(value)


class _Rows:
    """Read rows. The first row that has keypoints decides how many all rows have."""

    def __init__(self, names: _Names) -> None:
        self.names = names
        self.shape = names.shape
        self.highest = 0
        self.first = ''

    def add(self, found: FaceCollector, place: str, line: str, size: tuple[int, int]) -> None:
        """Add the face of a row."""
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            raise _error(place, repr(line[:80])) from None
        if not np.isfinite(row).all():
            raise _error(place, repr(line[:80]))
        count, size_of_point = self._layout(place, len(row), line)
        label, known = int(row[0]), len(self.names.classes)
        if label != row[0] or not 0 <= label < (known or _MAX_CLASSES):
            raise _error(place, f'{row[0]:g}', f'a class from 0 to {(known or _MAX_CLASSES) - 1}')
        cx, cy, w, h = row[1:5]
        if max(abs(v) for v in row[1:5]) > 2:
            raise _error(place, f'{row[1:5]}, which are pixels', 'shares of the image')
        self.highest = max(self.highest, label)
        box = [(cx - w / 2), (cy - h / 2), (cx + w / 2), (cy + h / 2)]
        points: dict[int, Point] = {}
        order = (self.names.order or range(count)) if count else ()
        for k, at in enumerate(order):
            x, y, *v = row[5 + at * size_of_point :][:size_of_point]
            if v[0] > 0 if v else x >= 0 and y >= 0:
                points[k] = (x * size[0], y * size[1], 1.0)
        pixels = [value * side for value, side in zip(box, (*size, *size), strict=True)]
        found.face(place, pixels, label, points)

    def _layout(self, place: str, length: int, line: str) -> tuple[int, int]:
        if length == 5:
            return 0, 0
        shape = _NUMBERS.get(length) if self.names.shape is None else self.names.shape
        if shape is None or length != 5 + shape[0] * shape[1]:
            hint = 'Polygons and turned boxes are not read'
            if length == 6:
                hint = 'With a sixth number, a score, these are detections'
            raise _error(place, f'{length} numbers: {line[:80]!r}. {hint}')
        if self.shape not in (None, shape):
            raise _error(place, f'{length} numbers, but other keypoints in {self.first}')
        self.shape, self.first = shape, self.first or place
        return shape

    def finish(self, found: FaceCollector, source: str) -> LabelSet:
        """Return the labels with the names of classes and keypoints."""
        notes, scheme = list(self.names.notes), self.names.keypoints
        if scheme is None:
            scheme, note = unnamed_scheme(source, self.shape[0] if self.shape else 0)
            notes += [note] if note else []
        classes = self.names.classes
        if not classes and self.highest:
            raise ValueError(
                f'{source}: expected a data.yaml with names, or a classes.txt, because the labels '
                f'have the classes 0 to {self.highest}'
            )
        return found.finish(classes or ('face',), scheme, notes)


def _error(place: str, found: str, expected: str = _LAYOUT) -> ValueError:
    return ValueError(f'{place}: expected {expected}, found {found}')
