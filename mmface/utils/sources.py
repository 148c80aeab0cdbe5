# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find the images and videos that a user named, and account for every other file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmface.utils.file_kinds import Kind, count_pages, kind_of
from mmface.utils.image_decoding import Image, OnDamage, decode_page, warn_damaged
from mmface.utils.images import WRITTEN_SUFFIXES, PathLike, read_image
from mmface.utils.pillow import heif_installed
from mmface.utils.walk import HIDDEN, UNREADABLE, Skipped, walk

NO_IMAGE = 'not an image'
NO_IMAGE_OR_VIDEO = 'not an image or video'
IS_VIDEO = 'a video'
SEVERAL_FRAMES = 'several frames'
NEEDS_HEIF = 'needs the extra heif'
HEIF_REMEDY = 'install it with: pip install "mmface[heif]"'


class Source(NamedTuple):
    """An input.

    Attributes:
        path: Path of the file.
        name: Name of its result, relative to the folder of the results. This is the name of the
            file; for files found in a folder, the path relative to that folder.
        kind: Kind of the content.
        page: Index of the page of a file with several pages, else ``None``.
    """

    path: Path
    name: Path
    kind: Kind = 'image'
    page: int | None = None

    @property
    def is_video(self) -> bool:
        """Return whether the input has frames: a video or an animated image."""
        return self.kind in ('video', 'animation')


class Found(NamedTuple):
    """The inputs of a run.

    Attributes:
        sources: What can be processed. A file with several pages has a source for each.
        skipped: All other files of the folders, with the reason.
    """

    sources: list[Source]
    skipped: list[Skipped]


def find_sources(
    inputs: Sequence[PathLike], videos: bool = False, skip: PathLike | None = None
) -> Found:
    """List the files that ``inputs`` name, by their content.

    Args:
        inputs: Files with any suffix, and folders, which are searched recursively, through links.
            A file that is named here is always a source, even if it does not look like an image.
        videos: Whether to include videos and animated images.
        skip: A folder that is not searched, such as the folder of the results.

    Returns:
        The sources in the given order, those of a folder sorted by path, and the skipped files.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: An input is a URL, a folder has no images, or two files would have results
            of the same name.
    """
    found = Found([], [])
    for given in inputs:
        path = Path(local_path(given))
        if path.is_dir():
            inside = _search(path, videos, None if skip is None else Path(skip).resolve())
        elif path.is_file():
            inside = _classify(path, Path(path.name), kind_of(path) or 'image', videos)
        elif path.exists():
            raise ValueError(f'{given} is a device or pipe: expected a file or a folder')
        else:
            raise FileNotFoundError(f'{given} does not exist: expected a file or a folder')
        found.sources.extend(inside.sources)
        found.skipped.extend(inside.skipped)
    names: dict[Path, Source] = {}
    for source in found.sources:
        other = names.setdefault(source.name, source)
        if other is not source:
            raise ValueError(
                f'{other.path} and {source.path} would have the same result, {source.name}: name '
                'each file once, and run files of the same name one after the other into '
                'different folders'
            )
    return found


def local_path(given: PathLike) -> str:
    """Return ``given`` as text.

    Raises:
        ValueError: It is a URL.
    """
    text = os.fspath(given)
    if re.match(r'[a-z][a-z0-9+.-]*:/', text, re.IGNORECASE):
        raise ValueError(
            f'{text} is a URL: mmface does not download inputs, so that no input can make this '
            'computer contact another; download the file and pass its path'
        )
    return text


def result_path(source: Source, out_dir: PathLike) -> Path:
    """Return the path of the result for ``source``: an image, or an mp4 file for a video.

    Raises:
        ValueError: The path is that of ``source`` itself, which would be overwritten.
    """
    name = source.name
    # OpenCV chooses the format by the suffix.
    if source.is_video:
        suffixes, other = frozenset(['.mp4']), '.mp4'
    else:
        suffixes, other = WRITTEN_SUFFIXES, '.png'
    if name.suffix.lower() not in suffixes:
        name = name.with_name(f'{name.name}{other}')
    path = Path(out_dir) / name
    if path.resolve() == source.path.resolve():
        raise ValueError(f'{path} is an input and would be overwritten: choose another folder')
    return path


def read_source(source: Source, on_damage: OnDamage = warn_damaged) -> Image:
    """Read the image of a source as (H, W, 3) BGR; see ``decode_image``.

    Raises:
        FileNotFoundError: The file does not exist.
        BadImage: The image cannot be read.
    """
    if source.page is None:
        return read_image(source.path, on_damage)
    return decode_page(source.path, source.page)


def count_reasons(skipped: Sequence[Skipped]) -> str:
    """Return for example ``3 not an image, 1 hidden``, the most frequent reason first."""
    counts: dict[str, int] = {}
    for item in skipped:
        counts[item.reason] = counts.get(item.reason, 0) + 1
    order = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return ', '.join(f'{counts[reason]} {reason}' for reason in order)


def _search(folder: Path, videos: bool, skip: Path | None) -> Found:
    root = Path(folder.resolve().name)
    files, skipped = walk(folder, skip)
    found = Found([], skipped)
    for path in files:
        name = path.relative_to(folder)
        if any(part.startswith('.') for part in name.parts):
            skipped.append(Skipped(path, HIDDEN))
            continue
        try:
            kind = kind_of(path)
        except OSError as error:
            skipped.append(Skipped(path, UNREADABLE, str(error.strerror or error)))
            continue
        if kind is None:
            skipped.append(Skipped(path, NO_IMAGE_OR_VIDEO if videos else NO_IMAGE))
            continue
        inside = _classify(path, root / name, kind, videos)
        found.sources.extend(inside.sources)
        skipped.extend(inside.skipped)
    if not found.sources:
        kinds = 'image or video' if videos else 'image'
        others = f': {count_reasons(skipped)}' if skipped else ''
        raise ValueError(f'folder {folder} holds no {kinds} that can be read{others}')
    return found


def _classify(path: Path, name: Path, kind: Kind, videos: bool) -> Found:
    """Return what a file of a known kind contributes."""
    if kind == 'heif' and not heif_installed():
        return Found([], [Skipped(path, NEEDS_HEIF, HEIF_REMEDY)])
    if kind in ('video', 'animation') and not videos:
        return Found([], [Skipped(path, IS_VIDEO if kind == 'video' else SEVERAL_FRAMES)])
    pages = count_pages(path) if kind == 'image' else 1
    if pages == 1:
        return Found([Source(path, name, kind)], [])
    # As many digits as the last number has, so that the results sort like the pages.
    width = len(str(pages))
    names = [f'{name.stem}.page{page + 1:0{width}}{name.suffix}' for page in range(pages)]
    return Found([Source(path, name.with_name(n), kind, i) for i, n in enumerate(names)], [])
