# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Pascal VOC XML: one file for each image, boxes only.

``xmin ymin xmax ymax`` are taken as they are: corners in pixels from 0, with xmax = xmin + width,
as in the XML files of WIDER FACE and as labelImg, CVAT and others write them. PASCAL's own files
count pixels from 1 and include the last one, so that their boxes are (xmin - 1, ymin - 1, xmax,
ymax); the difference is one pixel. ``difficult`` marks a face to ignore.

The name of an image is ``filename``; ``folder/filename`` if there is such a file among the
images, or if the folder is an event of WIDER FACE (``0--Parade``). A name without suffix is a
``.jpg``. Classes are sorted by name.

A document type (DOCTYPE) is refused, so no entity of a file is ever expanded.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmface.datasets.face_annotation import LabelSet
from mmface.datasets.label_files import FaceCollector, read_small_file
from mmface.structures import KeypointScheme

_MAX_BYTES = 10_000_000
_MAX_SIDE = 10**9
_EVENT = re.compile(r'\d+--')
_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


class _Object(NamedTuple):
    place: str
    name: str
    box: list[float]
    ignore: bool


class _Image(NamedTuple):
    place: str
    head: tuple[str, int, int]
    objects: list[_Object]


def recognise(source: str, text: str) -> bool:
    """Return whether a text is Pascal VOC XML."""
    comments = r'(<!--(?:(?!-->)[\s\S])*-->\s*)*'  # each comment matches in one way only
    start = rf'\s*(<\?xml[^>]*\?>\s*)?{comments}<(annotation\b|!DOCTYPE)'
    return bool(re.match(start, text))


def parse(source: str, text: str) -> LabelSet:
    """Parse the XML of one image.

    Raises:
        ValueError: The text does not fit. Names the file and the object.
    """
    return _collect(source, [_read(source, text, '', None)])


def read_folder(path: Path, files: Sequence[Path], images: Path | None) -> LabelSet:
    """Read a folder of XML files.

    Args:
        path: The folder.
        files: Its XML files.
        images: Folder of the images, or None: ``JPEGImages`` beside ``Annotations``, or ``path``.

    Raises:
        ValueError: A file does not fit. Names the file and the object.
    """
    beside = path.parent / 'JPEGImages'
    root = images or (beside if beside.is_dir() else path)
    found = []
    for file in files:
        folder = file.relative_to(path).parent.as_posix()
        text = read_small_file(file, _MAX_BYTES)
        found.append(_read(str(file), text, '' if folder == '.' else folder, root))
    return _collect(str(path), found)


def _read(source: str, text: str, folder: str, root: Path | None) -> _Image:
    if '<!DOCTYPE' in text or '<!ENTITY' in text:
        raise ValueError(f'{source}: expected XML without a DOCTYPE, found one. Remove it')
    try:
        tree = ET.fromstring(text)
        name = (tree.findtext('filename') or '').strip().replace('\\', '/')
        width, height = (_side(tree.findtext(f'size/{key}')) for key in ('width', 'height'))
        if tree.tag != 'annotation' or not name or '\0' in name:
            raise ValueError('no annotation with a filename')
    except (ET.ParseError, ValueError, OverflowError) as error:
        raise ValueError(
            f'{source}: expected Pascal VOC XML with filename, size and object, found something '
            f'else ({" ".join(str(error).split())[:100]})'
        ) from None
    event = (tree.findtext('folder') or '').strip()
    name = _image_name(name, folder, event, root)
    image = _Image(source, (name, width, height), [])
    for number, thing in enumerate(tree.findall('object')):
        image.objects.append(_object(f'{source}, object {number + 1}', thing))
    return image


def _side(text: str | None) -> int:
    side = float(text or 0)
    if not 0 <= side < _MAX_SIDE or side != int(side):
        raise ValueError(f'a size of {text}')
    return int(side)


def _image_name(name: str, folder: str, event: str, root: Path | None) -> str:
    if '.' not in name.rpartition('/')[2]:
        name += '.jpg'
    if folder and '/' not in name:
        name = f'{folder}/{name}'
    if not event or '/' in name or event in ('.', '..') or '/' in event or '\\' in event:
        return name
    if root is not None and (root / event / name).is_file():
        return f'{event}/{name}'
    there = root is not None and (root / name).is_file()
    return f'{event}/{name}' if _EVENT.match(event) and not there else name


def _object(place: str, thing: ET.Element) -> _Object:
    name = (thing.findtext('name') or '').strip()
    words = [thing.findtext(f'bndbox/{key}') or '' for key in _CORNERS]
    try:
        box = [float(word) for word in words]
        difficult = float(thing.findtext('difficult') or 0)
        if not name or not all(map(math.isfinite, box)) or box[0] > box[2] or box[1] > box[3]:
            raise ValueError
    except ValueError:
        raise ValueError(
            f'{place}: expected a name, and a bndbox with {", ".join(_CORNERS)}, each maximum at '
            f'least the minimum, found {name!r:.60} and {words!r:.120}. Correct or remove it'
        ) from None
    return _Object(place, name, box, difficult == 1)


def _collect(source: str, images: list[_Image]) -> LabelSet:
    classes = tuple(sorted({thing.name for image in images for thing in image.objects}))
    classes = classes or ('face',)
    found = FaceCollector(source)
    for image in images:
        found.image(image.place, image.head)
        for thing in image.objects:
            found.face(thing.place, thing.box, classes.index(thing.name), {}, thing.ignore)
    return found.finish(classes, KeypointScheme(), [])
