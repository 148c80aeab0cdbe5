# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw a small COCO data set for tests and first steps: no download, no licence to accept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.toys.backgrounds import Rng, draw_background, random_colour
from mmface.toys.recipe import describe_recipe
from mmface.utils.files import whole_file, write_text
from mmface.utils.progress import progress_bar

Art = NDArray[np.uint8]
_MARK = 'toy_coco.json'
_SPLITS = ('train', 'val')
_FINE = 4  # objects are drawn this many times larger
_LINE = (25, 25, 30)
_TRIES = 20  # number of positions tried for an object
# Image indices of the edge cases in a split; they do not depend on the number of images.
_NO_OBJECT, _ONLY_CROWD, _TINY, _FILLS, _ZERO_SIZE = range(1, 6)


def _polygon(art: Art, points: Any, colour: tuple[int, int, int], line: int) -> None:
    corners = np.round(np.asarray(points) * 16).astype(np.int32)
    cv2.fillPoly(art, [corners], (*colour, 255), cv2.LINE_AA, shift=4)
    if line:
        cv2.polylines(art, [corners], True, (*_LINE, 255), line, cv2.LINE_AA, shift=4)


def _ball(rng: Rng, art: Art, r: float, line: int) -> None:
    """Draw a beach ball: sectors of two colours."""
    center, radius = (art.shape[1] // 2, art.shape[0] // 2), round(r)
    colours = random_colour(rng, 130, 256), random_colour(rng, 0, 110)
    turn = float(rng.uniform(0, 60))
    for sector in range(6):
        begin, end = turn + 60 * sector, turn + 60 * (sector + 1)
        axes, colour = (radius, radius), (*colours[sector % 2], 255)
        cv2.ellipse(art, center, axes, 0, begin, end, colour, -1, cv2.LINE_AA)
    cv2.circle(art, center, radius, (*_LINE, 255), line, cv2.LINE_AA)


def _ring(rng: Rng, art: Art, r: float, line: int) -> None:
    """Draw a tyre: the area inside of it belongs to the background."""
    center = (art.shape[1] // 2, art.shape[0] // 2)
    width = max(2, round(0.38 * r))
    cv2.circle(art, center, round(r - width / 2), (*random_colour(rng), 255), width, cv2.LINE_AA)
    for radius in (r, r - width):
        cv2.circle(art, center, round(radius), (*_LINE, 255), line, cv2.LINE_AA)


def _star(rng: Rng, art: Art, r: float, line: int) -> None:
    """Draw a star with five points."""
    angle = rng.uniform(-0.3, 0.3) + np.arange(10) * math.pi / 5
    reach = np.where(np.arange(10) % 2, 0.45, 1.0) * r
    points = np.stack([reach * np.sin(angle), -reach * np.cos(angle)], 1)
    _polygon(art, points + np.array(art.shape[1::-1]) / 2, random_colour(rng, 90, 256), line)


def _cross(rng: Rng, art: Art, r: float, line: int) -> None:
    """Draw a plus sign, slightly rotated."""
    arm = rng.uniform(0.26, 0.36)
    shape = [(arm, arm), (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm)]
    points = np.array([*shape, *(-np.array(shape))]) * r
    turn = rng.uniform(-0.25, 0.25)
    points = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    _polygon(art, points + np.array(art.shape[1::-1]) / 2, random_colour(rng), line)


def _house(rng: Rng, art: Art, r: float, line: int) -> None:
    """Draw a wall with a door and a window under a roof; height and width vary independently."""
    center = np.array(art.shape[1::-1]) / 2
    wide, high = r * rng.uniform(0.6, 1.0), r * rng.uniform(0.75, 1.0)
    wall = np.array([(-0.85, -0.1), (0.85, -0.1), (0.85, 1), (-0.85, 1)])
    roof = np.array([(-1, -0.1), (0, -1), (1, -0.1)])
    door = np.array([(-0.5, 0.3), (-0.1, 0.3), (-0.1, 1), (-0.5, 1)])
    window = np.array([(0.2, 0.2), (0.6, 0.2), (0.6, 0.6), (0.2, 0.6)])
    size = np.array([wide, high])
    _polygon(art, wall * size + center, random_colour(rng, 120, 240), line)
    _polygon(art, roof * size + center, random_colour(rng, 30, 150), line)
    _polygon(art, door * size + center, random_colour(rng, 10, 90), 0)
    _polygon(art, window * size + center, (230, 220, 190), 0)


#: Name and drawing function by category id. The ids have gaps, as in COCO.
CATEGORIES: dict[int, tuple[str, Callable[[Rng, Art, float, int], None]]] = {
    1: ('ball', _ball),
    2: ('ring', _ring),
    4: ('star', _star),
    5: ('cross', _cross),
    9: ('house', _house),
}
CLASSES = tuple(name for name, _ in CATEGORIES.values())


@dataclass
class _Label:
    """A row of the annotations; ``box`` is x, y, width, height in pixels."""

    category: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False


def _place(
    rng: Rng,
    image: NDArray[np.float32],
    labels: list[_Label],
    category: int,
    radius: float,
    center: tuple[float, float] | None = None,
    overlap: float = 0.15,
) -> None:
    """Draw an object that covers at most a fraction ``overlap`` of any other, if there is room.

    Its label box is the extent of its visible pixels.
    """
    height, width = image.shape[:2]
    side = 2 * math.ceil(radius + 1)
    for _ in range(_TRIES):
        x, y = center or (rng.uniform(0, width), rng.uniform(0, height))
        new = (x - radius, y - radius, x + radius, y + radius)
        inside = _intersection(new, (0, 0, width, height)) / (4 * radius**2)
        if inside > 0.6 and all(
            _intersection(new, (bx, by, bx + bw, by + bh)) <= overlap * min(bw * bh, 4 * radius**2)
            for bx, by, bw, bh in (label.box for label in labels)
        ):
            break
        if center is not None:
            return
    else:
        return
    art: Art = np.zeros((side * _FINE, side * _FINE, 4), np.uint8)
    line = max(1, round(0.07 * radius * _FINE))
    CATEGORIES[category][1](rng, art, radius * _FINE - line / 2, line)
    patch = cv2.resize(art, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    patch[..., :3] *= rng.uniform(0.7, 1.1)
    left, top = round(x - side / 2), round(y - side / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    part = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    view = image[y0:y1, x0:x1]
    view *= 1 - part[..., 3:] / 255
    view += np.minimum(part[..., :3], part[..., 3:])
    rows, columns = np.nonzero(part[..., 3] > 127)
    if len(rows):
        box = (
            float(x0 + columns.min()),
            float(y0 + rows.min()),
            float(np.ptp(columns) + 1),
            float(np.ptp(rows) + 1),
        )
        labels.append(_Label(category, box, float(len(rows))))


def _intersection(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(high, 0.0)


def _crowd(rng: Rng, image: NDArray[np.float32], category: int) -> _Label:
    """Draw many objects of one kind over each other, with one box as label."""
    height, width = image.shape[:2]
    extent = np.array((width, height)) * rng.uniform(0.25, 0.4, 2)
    corner = rng.uniform((0, 0), np.array((width, height)) - extent)
    members: list[_Label] = []
    for _ in range(14):
        radius = rng.uniform(0.02, 0.04) * min(width, height) + 2
        x, y = corner + extent * rng.uniform(0.1, 0.9, 2)
        _place(rng, image, members, category, radius, (x, y), overlap=1.0)
    boxes = np.array([member.box for member in members])
    low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
    x, y, wide, tall = np.concatenate([low, high - low]).tolist()
    return _Label(category, (x, y, wide, tall), sum(m.area for m in members), crowd=True)


def _draw(
    rng: Rng, size: tuple[int, int], edge_case: int
) -> tuple[NDArray[np.float32], list[_Label]]:
    """Draw an image of (width, height) ``size``."""
    image = draw_background(rng, size)
    short = min(size)
    labels: list[_Label] = []

    def kind() -> int:
        return int(rng.choice(list(CATEGORIES)))

    if edge_case == _NO_OBJECT:
        return image, labels
    if edge_case == _ONLY_CROWD:
        return image, [_crowd(rng, image, kind())]
    if edge_case == _FILLS:
        middle = (size[0] / 2, size[1] / 2)
        _place(rng, image, labels, kind(), 0.49 * short, middle)
        return image, labels
    if edge_case == _TINY:
        for _ in range(12):
            _place(rng, image, labels, kind(), rng.uniform(1.0, 4.0))
        labels.append(_Label(kind(), (size[0] - 3.25, 1.5, 0.5, 0.75), 0.375))
        return image, labels
    if rng.random() < 0.12:
        labels.append(_crowd(rng, image, kind()))
    for _ in range(int(rng.integers(2, 8))):
        radius = math.exp(rng.uniform(math.log(0.045), math.log(0.3))) * short
        _place(rng, image, labels, kind(), radius)
    if rng.random() < 0.3:
        _place(rng, image, labels, kind(), rng.uniform(2.0, 5.0))
    if edge_case == _ZERO_SIZE:
        x, y = size[0] / 2, size[1] / 2
        labels += [_Label(kind(), (x, y, 0, 12), 0), _Label(kind(), (x, y, 9, 0), 0)]
        labels.append(_Label(kind(), (size[0] + 5.0, y, 20, 20), 400))  # outside
    return image, labels


def make_toy_coco(
    root: str | Path,
    num_train: int = 240,
    num_val: int = 60,
    image_size: tuple[int, int] = (320, 240),
    seed: int = 0,
    edge_cases: bool = True,
    progress: bool = False,
) -> Path:
    """Draw a COCO data set with five classes: ball, ring, star, cross and house.

    Writes ``{train,val}2017/<id, 12 digits>.jpg`` and ``annotations/instances_{train,val}2017
    .json`` (boxes, no masks). Every third image is in portrait format; some have a crowd. Every
    image has its own seed, so more images do not change the first ones. An existing set that was
    made with the same arguments is kept.

    Edge cases, images 1 to 5 of each split: no object (1), nothing but a crowd (2), objects
    of 1 to 8 px and one box below a pixel (3), an object that fills the image (4), boxes
    without area and outside the image (5, training only).

    Args:
        root: Folder to create.
        num_train: Number of training images.
        num_val: Number of validation images.
        image_size: Width and height of the landscape images, at least 64 pixels each; portrait
            images swap them.
        seed: A different seed draws a different set.
        edge_cases: Whether to include the edge cases.
        progress: Whether to show a progress bar.

    Returns:
        ``root``.

    Raises:
        ValueError: The sizes cannot be drawn, or ``root`` contains data that is not a toy data
            set.
    """
    root = Path(root)
    if min(image_size) < 64:
        raise ValueError(f'image_size must be at least 64 x 64 pixels, got {image_size}')
    if min(num_train, num_val) < 0:
        raise ValueError(f'num_train and num_val must be 0 or more, got {num_train}, {num_val}')
    recipe = describe_recipe(
        [Path(__file__).with_name(name) for name in ('backgrounds.py', 'coco.py')],
        num_train=num_train,
        num_val=num_val,
        image_size=list(image_size),
        seed=seed,
        edge_cases=edge_cases,
    )
    mark = root / _MARK
    if mark.is_file():
        there = sum(1 for _ in root.glob('*2017/*.jpg'))
        if mark.read_text(encoding='utf-8') == recipe and there >= num_train + num_val:
            return root
    elif any((root / name).exists() for name in ('annotations', 'train2017', 'val2017')):
        raise ValueError(
            f'{root} holds data that this program did not make (no {_MARK}): '
            'use another folder or remove it'
        )
    write_text(mark, '{}')  # marks the folder as ours, but unfinished
    counts = dict(zip(_SPLITS, (num_train, num_val), strict=True))
    with progress_bar(total=sum(counts.values()), desc='drawing', show=progress) as bar:
        for split, count in counts.items():
            images: list[dict[str, Any]] = []
            rows: list[dict[str, Any]] = []
            for index in range(count):
                rng = np.random.default_rng([seed, _SPLITS.index(split), index])
                case = index if edge_cases and index <= _ZERO_SIZE else 0
                if split == 'val' and case == _ZERO_SIZE:
                    case = 0
                size = image_size[::-1] if index % 3 == 2 else image_size
                image, labels = _draw(rng, (size[0], size[1]), case)
                _write_image(root / f'{split}2017' / f'{index + 1:012d}.jpg', image, rng)
                images.append(
                    dict(
                        id=index + 1,
                        file_name=f'{index + 1:012d}.jpg',
                        width=size[0],
                        height=size[1],
                    )
                )
                rows += [
                    dict(
                        id=len(rows) + number,
                        image_id=index + 1,
                        category_id=label.category,
                        bbox=list(label.box),
                        area=label.area,
                        iscrowd=int(label.crowd),
                    )
                    for number, label in enumerate(labels, 1)
                ]
                bar.update()
            table = dict(
                info=dict(description='drawn by mmface, tools/data/make_toy.py'),
                licenses=[],
                images=images,
                annotations=rows,
                categories=[
                    dict(id=number, name=name, supercategory='toy')
                    for number, (name, _) in CATEGORIES.items()
                ],
            )
            write_text(root / 'annotations' / f'instances_{split}2017.json', json.dumps(table))
    write_text(mark, recipe)
    return root


def _write_image(path: Path, image: NDArray[np.float32], rng: Rng) -> None:
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))]
    done, jpeg = cv2.imencode('.jpg', pixels, quality)
    if not done:
        raise RuntimeError('OpenCV cannot write JPEG: install an OpenCV build that can')
    with whole_file(path, sync=False) as tmp:
        tmp.write_bytes(jpeg.tobytes())
