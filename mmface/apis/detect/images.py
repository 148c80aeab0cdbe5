# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in image files and write the results. Torch is not needed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from tqdm import tqdm

from mmface.apis.detect.base import IMAGE_ERRORS, MAX_PIXELS, Detector, batches, count_pixels
from mmface.apis.detect.results import Results
from mmface.structures import Face
from mmface.utils.cli import one_line
from mmface.utils.images import Image
from mmface.utils.pipeline import PixelGate, ordered
from mmface.utils.sources import Source, read_source
from mmface.utils.walk import Skipped

UNDECODABLE = 'cannot be decoded'
NETWORK_FAILS = 'the network fails'


@dataclass
class ImageReport:
    """What became of the images.

    Attributes:
        done: Number of images with a result.
        faces: Number of faces in them.
        skipped: The images without a result.
        damaged: Messages about images with damaged data inside, which have a result.
        uncropped: Number of faces that could not be aligned or cut out.
    """

    done: int = 0
    faces: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    uncropped: int = 0


@dataclass
class _Item:
    """An image on its way through the pipeline. One without pixels is not processed further."""

    source: Source
    image: Image | None = None
    faces: list[Face] = field(default_factory=list)
    skipped: Skipped | None = None
    damaged: list[str] = field(default_factory=list)
    uncropped: int = 0

    def fail(self, reason: str, error: BaseException) -> None:
        text = one_line(error)
        path = str(self.source.path)
        self.image = None
        self.skipped = Skipped(
            self.source.path, reason, text if path in text else f'{path}: {text}'
        )


def do_images(
    sources: Sequence[Source],
    results: Results,
    detector: Detector,
    bar: tqdm,
    batch_size: int = 1,
    workers: int = 0,
    concurrent: bool = False,
) -> ImageReport:
    """Detect faces in images and write the results.

    Reading, the network, drawing and writing overlap. The results are those of a loop over the
    images, in the same order.

    Args:
        sources: The images.
        results: Where and how results are written.
        detector: Finds the faces in a list of images.
        bar: Progress bar, advanced by one per image.
        batch_size: Number of images per call of the detector.
        workers: Number of threads; 0 does everything in the thread of the caller.
        concurrent: Whether several threads may call the detector at once. If they may and
            ``batch_size`` is 1, each thread does all the work on one image at a time. Otherwise
            the detector runs in the thread of the caller, and the threads read and write.

    Returns:
        The report.

    Raises:
        OSError: A result cannot be written.
    """
    report = ImageReport()
    items = _process(sources, results, detector, batch_size, workers, concurrent)
    with closing(items):  # after Ctrl-C, the images that are being written are finished
        for item in items:
            report.damaged += item.damaged
            if item.skipped is None:
                report.done += 1
                report.faces += len(item.faces)
                report.uncropped += item.uncropped
            else:
                report.skipped.append(item.skipped)
            bar.update()
    return report


def _process(
    sources: Sequence[Source],
    results: Results,
    detector: Detector,
    batch_size: int,
    workers: int,
    concurrent: bool,
) -> Generator[_Item, None, None]:
    write = _writer(results)
    if batch_size == 1 and concurrent:
        gate = PixelGate(MAX_PIXELS)

        def whole(source: Source) -> _Item:
            with gate.hold(count_pixels(source.path)):
                item = _read(source)
                _detect([item], detector)
                return write(item)

        return ordered(sources, whole, workers)
    return ordered(
        _detected(ordered(sources, _read, workers), detector, batch_size), write, workers
    )


def _detected(items: Iterator[_Item], detector: Detector, batch_size: int) -> Iterator[_Item]:
    for chunk in batches(items, batch_size):
        _detect(chunk, detector)
        yield from chunk


def _read(source: Source) -> _Item:
    item = _Item(source)
    try:
        item.image = read_source(source, item.damaged.append)
    except IMAGE_ERRORS as error:
        item.fail(UNDECODABLE, error)
    return item


def _detect(items: Sequence[_Item], detector: Detector) -> None:
    """Detect in all images at once, or one by one if this fails for one of them."""
    given = [(item, item.image) for item in items if item.image is not None]
    if not given:
        return
    try:
        found = detector([image for _, image in given])
    except IMAGE_ERRORS as error:
        if len(given) > 1:
            for item, _ in given:
                _detect([item], detector)
        else:
            given[0][0].fail(NETWORK_FAILS, error)
        return
    for (item, _), faces in zip(given, found, strict=True):
        item.faces = faces


def _writer(results: Results) -> Callable[[_Item], _Item]:
    def write(item: _Item) -> _Item:
        if item.image is not None:
            item.uncropped = results.write(item.source, item.image, item.faces)
            item.image = None  # the memory is free while the item waits for its turn
        return item

    return write
