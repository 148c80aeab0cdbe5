# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in image files and write the results. Torch is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tqdm import tqdm

from mmface.apis.detect.base import IMAGE_ERRORS, Detector, batches, describe
from mmface.apis.detect.results import Results
from mmface.structures import Face
from mmface.utils.cli import one_line
from mmface.utils.files import write_text
from mmface.utils.images import Image, Source, read_image, write_image


def do_images(
    sources: Sequence[Source], results: Results, detector: Detector, batch_size: int, bar: tqdm
) -> tuple[int, list[str], list[str]]:
    """Detect faces in images.

    Returns:
        The number of faces, the messages of images without a result, and those of images with
        damaged data inside.
    """
    faces_found = 0
    problems: list[str] = []
    damaged: list[str] = []
    for chunk in batches(sources, batch_size):
        images = {}
        for source in chunk:
            try:
                images[source] = read_image(source.path, damaged.append)
            except IMAGE_ERRORS as error:
                problems.append(one_line(error))
        for source, faces in detect_all(images, detector, problems):
            target, *lines = results.targets(source)
            name = source.name.as_posix()
            for path in lines:
                text = describe(images[source], faces, image=name)
                write_text(path, text, sync=False)
            write_image(target, results.render(images[source], faces, name))
            faces_found += len(faces)
        bar.update(len(chunk))
    return faces_found, problems, damaged


def detect_all(
    images: dict[Source, Image], detector: Detector, problems: list[str]
) -> Iterator[tuple[Source, list[Face]]]:
    """Detect in all images at once, or one by one if this fails for one of them."""
    try:
        found = detector(list(images.values())) if images else []
    except IMAGE_ERRORS as error:
        if len(images) > 1:
            for source, image in images.items():
                yield from detect_all({source: image}, detector, problems)
            return
        problems += [f'{source.path}: {one_line(error)}' for source in images]
    else:
        yield from zip(images, found, strict=True)
