# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw a small WIDER FACE data set for tests and first steps: no download, no licence to accept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from mmface.toys.ground_truth import ToyImage, write_bbx_gt, write_labelv2, write_mat
from mmface.toys.recipe import describe_recipe
from mmface.toys.scenes import ToyLabel, compose, random_face
from mmface.utils.files import whole_file, write_text
from mmface.utils.progress import progress_bar

EVENTS = ('0--Parade', '12--Group', '13--Interview', '19--Couple', '2--Demonstration')
_HUGE = (1024, 860)  # size of the image with the face of 700 px
_MARK = 'toy.json'
_SPLITS = ('train', 'val')
# Image indices of the edge cases in a split; they do not depend on the number of images.
_NO_FACE, _NO_FACE_ZERO_COUNT, _TINY, _FILLS, _HUGE_FACE = range(1, 6)


def _draw(
    split: str, index: int, events: Sequence[str], size: tuple[int, int], seed: int, edge_case: int
) -> tuple[bytes, ToyImage]:
    """Draw image ``index`` of a split; the result depends only on the arguments."""
    rng = np.random.default_rng([seed, _SPLITS.index(split), index])
    style = index % len(events)
    people = None
    if edge_case in (_NO_FACE, _NO_FACE_ZERO_COUNT):
        people = []
    elif edge_case == _FILLS:
        w, h = size
        height = 1.03 * max(h, w * 1.95 / (2 * 0.82))  # a face is 2 * 0.82 wide and 1.95 high
        face = random_face(rng, (w / 2, h / 2 - 0.06 * height), height, clear=True)
        people = [
            replace(face, yaw=0.0, pitch=0.0, roll=0.0, width=0.82, hair='bald', glasses='none')
        ]
    elif edge_case == _HUGE_FACE:
        size = _HUGE
        face = random_face(rng, (size[0] / 2, 440), 700, clear=True)
        people = [replace(face, roll=0.0, pitch=0.0)]
    image, labels = compose(rng, style, size, people)
    if edge_case == _TINY:
        w, h = size
        labels += [
            ToyLabel((round(0.20 * w) + 0.2, round(0.9 * h) + 0.3, 0.5, 0.6), blur=2),
            ToyLabel((round(0.40 * w), round(0.9 * h), 1, 1), blur=2),
            ToyLabel((round(0.60 * w), round(0.9 * h), 0, 3), blur=2),
            # Like the box of width -2 in the official hard subset, which no detection can match.
            ToyLabel((round(0.80 * w), round(0.8 * h), -2, 23), level=2),
        ]
    done, jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 96))])
    if not done:
        raise RuntimeError('OpenCV cannot write JPEG: install an OpenCV build that can')
    event = events[style]
    number, _, topic = event.partition('--')
    stem = f'{number}_{topic}_{topic}_{number}_{index}' if topic else f'{event}_{index}'
    name = f'{stem}.jpg' if split == 'val' else f'{stem}_train.jpg'
    known = ToyImage(event, name, size, labels, zero_count=edge_case == _NO_FACE_ZERO_COUNT)
    return jpeg.tobytes(), known


def make_toy_widerface(
    root: str | Path,
    num_train: int = 240,
    num_val: int = 60,
    image_size: tuple[int, int] = (480, 360),
    seed: int = 0,
    events: Sequence[str] = EVENTS,
    edge_cases: bool = True,
    progress: bool = False,
) -> Path:
    """Draw a WIDER FACE data set in the canonical layout.

    Writes ``{train,val}/images/<event>/*.jpg``, ``{train,val}/labelv2.txt`` (with
    keypoints), ``{train,val}/wider_face_{train,val}_bbx_gt.txt`` and
    ``val/gt/wider_{face,easy,medium,hard}_val.mat``. Every image has its own seed, so more
    images do not change the first ones. An existing set that was made with the same arguments
    is kept.

    Edge cases, images 1 to 5 of each split: no face (1, count 1 in the official text;
    2, count 0, training only), boxes below one pixel and of negative width (3), a
    face that fills the image (4), a face of 700 px in a larger image (5).

    Args:
        root: Folder to create.
        num_train: Number of training images.
        num_val: Number of validation images.
        image_size: Width and height, at least 64 pixels each.
        seed: A different seed draws a different set.
        events: Folder names; the k-th one shows scene k of
            :data:`mmface.toys.scenes.SCENES` (they repeat).
        edge_cases: Whether to include the edge cases.
        progress: Whether to show a progress bar.

    Returns:
        ``root``.

    Raises:
        ValueError: The sizes cannot be drawn, ``events`` is empty or not a list of different
            folder names, or ``root`` contains data that is not a toy data set.
    """
    root = Path(root)
    if min(image_size) < 64:
        raise ValueError(f'image_size must be at least 64 x 64 pixels, got {image_size}')
    if not events or len(set(events)) < len(events) or any(not e or '/' in e for e in events):
        raise ValueError(f'events must be different folder names, got {list(events)}')
    if min(num_train, num_val) < 0:
        raise ValueError(f'num_train and num_val must be 0 or more, got {num_train}, {num_val}')
    recipe = describe_recipe(
        sorted(Path(__file__).parent.glob('*.py')),
        num_train=num_train,
        num_val=num_val,
        image_size=list(image_size),
        seed=seed,
        events=list(events),
        edge_cases=edge_cases,
    )
    mark = root / _MARK
    if mark.is_file():
        if (
            mark.read_text(encoding='utf-8') == recipe
            and _images_on_disk(root) >= num_train + num_val
        ):
            return root
    elif any((root / split).exists() for split in _SPLITS):
        raise ValueError(
            f'{root} holds data that this program did not make (no {_MARK}): '
            'use another folder or remove it'
        )
    write_text(mark, '{}')  # marks the folder as ours, but unfinished
    counts = dict(zip(_SPLITS, (num_train, num_val), strict=True))
    with progress_bar(total=sum(counts.values()), desc='drawing', show=progress) as bar:
        for split, count in counts.items():
            if not count:
                continue
            images = []
            for index in range(count):
                case = index if edge_cases and index <= _HUGE_FACE else 0
                if split == 'val' and case == _NO_FACE_ZERO_COUNT:
                    case = 0  # no release of the validation labels uses the count 0
                jpeg, image = _draw(split, index, events, image_size, seed, case)
                images.append(image)
                with whole_file(root / split / 'images' / image.event / image.name) as tmp:
                    tmp.write_bytes(jpeg)
                bar.update()
            write_labelv2(root / split / 'labelv2.txt', images, training=split == 'train')
            write_bbx_gt(root / split / f'wider_face_{split}_bbx_gt.txt', images)
            if split == 'val':
                write_mat(root / split / 'gt', images)
    write_text(mark, recipe)
    return root


def _images_on_disk(root: Path) -> int:
    return sum(1 for _ in root.glob('*/images/*/*.jpg'))
