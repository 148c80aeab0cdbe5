# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Detect faces in images with an ONNX file."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.layouts import outputs_of
from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.deploy.runtime.decode import decode
from mmface.deploy.runtime.detections import Detections, to_faces
from mmface.deploy.runtime.foreign import Port, fixed_size, read_spec
from mmface.deploy.runtime.letterbox import (
    CANVASES,
    Placement,
    place,
    size_divisor,
    to_blob,
)
from mmface.deploy.runtime.second_stage import SecondStage, second_file
from mmface.deploy.runtime.session import open_session
from mmface.deploy.runtime.tiles import cut_tiles, join, to_image
from mmface.structures import Face
from mmface.utils.extras import optional_imports
from mmface.utils.images import MAX_INPUT_PIXELS, as_bgr, check_limit, shrinkage
from mmface.utils.pipeline import PixelGate
from mmface.weights.fetch import model_file

with optional_imports():
    from onnxruntime import InferenceSession

#: Sides of the smallest image that a network takes. Nobody looks for faces in one.
_TRACED = (32, 32)
# Maximum batch size if the file does not fix it.
_MAX_BATCH = 16
# Number of input values that are kept for the next call: 79 MB, enough for 16 images of 640x640.
_MAX_KEPT = 16 * 3 * 640 * 640
_INPUT_TYPES = {
    'tensor(float)': np.float32,
    'tensor(float16)': np.float16,
    'tensor(uint8)': np.uint8,
}
#: Other packages whose boxes a detector can reproduce.
COMPATS = ('insightface',)
# Number of images with ``max_pixels`` that pass through such a network at once, in all threads.
_AT_ONCE = 4
# Height and width of tiles where the size of the input is that of the image.
_TILE = (640, 640)
# What the insightface package does after the network, in addition to its letterbox.
_INSIGHTFACE: dict[str, Any] = {'clip': False, 'nms_offset': 1, 'nms_iou': 0.4}


class FaceDetector:
    """Face detector for an ONNX file of mmface or of another project whose layout is known.

    It may be called from several threads at once.

    Args:
        path: The file, or a name such as 'centerface' that ``mmface weights list`` shows, which is
            fetched once. For CenterNet2, the file that ends in ``_proposals.onnx``; the other file
            must be in the same folder.
        score_thr: Faces have scores above this value, as in ``FaceInferencer``. ``None``: the
            threshold of the test, which is low for evaluation (0.02 for SCRFD).
        compat: 'insightface' (SCRFD only) returns the boxes of that package: sizes rounded down,
            black padding, one pixel added in the IoU, NMS at IoU 0.4, boxes not clipped.
            Default: as ``tools/test.py`` tests the model, with rounded sizes and padding that is 0
            after normalization. ``configs/scrfd/README.md`` shows how this changes the AP.
        canvas: 'tight' pads SCRFD's images only to multiples of 32 instead of to the whole input.
            It needs a file with dynamic sides. On WIDER FACE the network then has 0.72 of the
            work, and the AP of scrfd_500m_bnkps changes by less than 0.0004 (every other of 610
            images of val). Models with GroupNorm see the padding and need 'full' for their
            published AP.
        size: Height and width of the input. Default: the size that the file fixes, or else the
            size that the model was tested with.
        max_pixels: Networks that take each image in its own size (CenterFace) get larger images
            shrunk to this number of pixels: they need 0.23 kB of memory for a pixel, so that one
            photo of 48 MP would take 11 GB. All threads together pass at most four times this
            number through the network at once. ``None``: no limit.
        tiles: Whether images that are larger than the input also pass through the network in
            overlapping tiles of the input's size (640x640 for networks that take each image in its
            own size), in full resolution and in steps of a quarter. This finds small faces in
            large images and takes correspondingly longer.
        nms_iou: NMS removes the box with the lower score if the IoU is above this value. Default:
            that of the test.
        max_per_img: Maximum number of faces per image, -1 for all. Default: that of the test.
        providers: Providers of onnxruntime. Default: the available ones, the fastest first.
        threads: Number of CPU threads. Default: onnxruntime's choice.
        spec: Specification of the file. Default: the one in the file, or one inferred from its
            names and shapes.

    Attributes:
        spec: The specification in use, including the options above.
        session: The onnxruntime session.
        input_name: Name of its input.
        output_names: Names of its outputs.
        batch_size: Batch size that the file fixes, ``None`` if it is dynamic.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an ONNX file, its layout is unknown, or an option does not fit
            it.

    Example:
        >>> detector = FaceDetector('scrfd_500m_bnkps.onnx')
        >>> for face in detector(cv2.imread('people.jpg')):
        ...     print(face.bbox, face.score, face.keypoints)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        score_thr: float | None = 0.5,
        compat: str | None = None,
        canvas: str = 'full',
        size: Sequence[int] | None = None,
        max_pixels: int | None = MAX_INPUT_PIXELS,
        tiles: bool = False,
        nms_iou: float | None = None,
        max_per_img: int | None = None,
        providers: Sequence[Any] | None = None,
        threads: int | None = None,
        spec: ModelSpec | None = None,
    ) -> None:
        self.path = model_file(path)
        self.session = open_session(self.path, providers, threads)
        if _frees_sides(self.session, size):
            self.session = open_session(self.path, providers, threads, free=True)
        source, *others = self.session.get_inputs()
        ports = [Port(port.name, tuple(port.shape)) for port in self.session.get_outputs()]
        port = Port(source.name, tuple(source.shape))
        if others or source.type not in _INPUT_TYPES:
            found = ', '.join(f'{each.name} {each.type}' for each in (source, *others))
            raise ValueError(
                f'{self.path}: expected one input of type {", ".join(_INPUT_TYPES)}, found {found}'
            )
        try:
            if spec is None:
                metadata = self.session.get_modelmeta().custom_metadata_map
                spec = read_spec(port, ports, metadata)
            spec = replace(spec, size=_choose_size(spec, port, size))
            spec = _apply_options(spec, compat, canvas, fixed_size(port))
        except ValueError as error:
            raise ValueError(f'{self.path}: {error}') from error
        chosen: dict[str, Any] = dict(score_thr=score_thr, nms_iou=nms_iou, max_per_img=max_per_img)
        self.spec = replace(spec, **{k: v for k, v in chosen.items() if v is not None})
        self.letterbox = 'insightface' if compat == 'insightface' else 'exact'
        self.canvas = canvas
        check_limit(max_pixels)
        self.max_pixels = max_pixels
        self._gate: PixelGate | None = None
        if max_pixels is not None and self.spec.size == (0, 0):
            self._gate = PixelGate(_AT_ONCE * max_pixels)
        self.tiles = tiles
        self.input_name = source.name
        self.output_names = [each.name for each in ports]
        # Outputs without a batch axis belong to one image, whatever the input declares.
        one = len(ports[0].shape) == len(outputs_of(spec)[0].axes)
        self.batch_size = 1 if one else port.fixed(0)
        self._dtype = _INPUT_TYPES[source.type]
        self._buffers = threading.local()
        self._second: SecondStage | None = None
        if spec.layout == 'proposals':
            file = second_file(self.path)
            self._second = SecondStage(open_session(file, providers, threads), self.spec)

    @overload
    def __call__(self, image: NDArray[Any]) -> list[Face]: ...

    @overload
    def __call__(self, image: Sequence[NDArray[Any]]) -> list[list[Face]]: ...

    def __call__(
        self, image: NDArray[Any] | Sequence[NDArray[Any]]
    ) -> list[Face] | list[list[Face]]:
        """Detect the faces in an image, or in each image of a list.

        Args:
            image: (H, W, 3) uint8, blue green red as OpenCV reads it; also grey, with alpha, or
                16 bits, see ``as_bgr``. Any size.

        Returns:
            Faces in pixels of the image, highest score first. For a list, one list per image.

        Raises:
            ValueError: An input is not an image.
        """
        name = self.spec.class_name
        if isinstance(image, (list, tuple)) or (isinstance(image, np.ndarray) and image.ndim == 4):
            return [to_faces(found, name) for found in self.detect(list(image))]
        # An input that is not an image raises an error there.
        return to_faces(self.detect([cast(NDArray[Any], image)])[0], name)

    def detect(self, images: Sequence[NDArray[Any]]) -> list[Detections]:
        """Detect the faces in each image, as arrays.

        Images whose inputs have the same size pass through the network together.

        Args:
            images: Images, see ``__call__``.

        Returns:
            Faces of each image.

        Raises:
            ValueError: An input is not an image.
        """
        if self.tiles:
            return [self._detect_tiled(image) for image in images]
        return list(self._detect_all(images))

    def _detect_tiled(self, image: NDArray[Any]) -> Detections:
        """Detect in the whole image, and in its tiles."""
        pixels = as_bgr(image)
        (found,) = self._detect_all([pixels])
        parts = [found]
        size = _TILE if self.spec.size == (0, 0) else self.spec.size
        tiles = cut_tiles(pixels, size, self._scale_of(pixels))
        limit = self.batch_size or _MAX_BATCH
        while chunk := list(itertools.islice(tiles, limit)):
            for tile, faces in zip(
                chunk, self._detect_all([tile.pixels for tile in chunk]), strict=True
            ):
                parts.append(to_image(faces, tile))
        return join(parts, self.spec.nms_iou, self.spec.max_per_img)

    def _scale_of(self, pixels: NDArray[np.uint8]) -> float:
        """Return the scale at which a whole image passes through the network."""
        height, width = pixels.shape[:2]
        if self.spec.size != (0, 0):
            return min(self.spec.size[1] / width, self.spec.size[0] / height)
        return shrinkage(height * width, self.max_pixels)

    def _detect_all(self, images: Sequence[NDArray[Any]]) -> list[Detections]:
        results: list[Detections | None] = [None] * len(images)
        waiting: dict[tuple[int, int], list[tuple[int, NDArray[np.uint8], Placement]]] = {}
        limit = self.batch_size or _MAX_BATCH
        for index, image in enumerate(images):
            pixels, placement = self.place(image)
            group = waiting.setdefault(placement.size, [])
            group.append((index, pixels, placement))
            most = limit
            if self._gate is not None and self.batch_size is None:
                most = max(1, min(limit, self._gate.limit // math.prod(placement.size)))
            if len(group) >= most:
                self._flush(waiting.pop(placement.size), results)
        for group in waiting.values():
            self._flush(group, results)
        return [found for found in results if found is not None]

    def place(self, image: NDArray[Any]) -> tuple[NDArray[np.uint8], Placement]:
        """Resize an image; see ``letterbox.place``."""
        return place(image, self.spec, None, self.letterbox, self.canvas, self.max_pixels)

    def blob(
        self, contents: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]
    ) -> NDArray[Any]:
        """Build the network's input from placed images whose inputs have the same size.

        Returns:
            (B, 3, H, W), where B is the next batch size that the file accepts. The next call in
            this thread reuses the memory.
        """
        count = self.batch_size or len(contents)
        shape = (count, 3, *placements[0].size)
        buffer = self._buffer(math.prod(shape)).reshape(shape)
        to_blob(contents, placements, self.spec, self.letterbox, buffer[: len(contents)])
        if self._dtype == np.float32:
            return buffer
        return (np.rint(buffer) if self._dtype == np.uint8 else buffer).astype(self._dtype)

    def run(self, blob: NDArray[Any]) -> list[NDArray[Any]]:
        """Run the network.

        Raises:
            RuntimeError: onnxruntime fails.
        """
        batch, _, height, width = blob.shape
        gate = self._gate
        try:
            with gate.hold(batch * height * width) if gate is not None else nullcontext():
                return self.session.run(self.output_names, {self.input_name: blob})
        except Exception as error:  # its exceptions have no other base class
            raise RuntimeError(f'{self.path}: {" ".join(str(error).split())}') from error

    def decode(
        self, outputs: Sequence[NDArray[Any]], placements: Sequence[Placement]
    ) -> list[Detections]:
        """Decode the network's outputs; see ``decode.decode``."""
        if self._second is not None:
            return self._second.detect(outputs, placements)
        return decode(outputs, self.spec, placements)

    def _buffer(self, count: int) -> NDArray[np.float32]:
        """Return this thread's memory for ``count`` values. Allocating takes as long as filling."""
        kept = getattr(self._buffers, 'values', None)
        if kept is None or len(kept) < count:
            kept = np.zeros(count, np.float32)
            if count <= _MAX_KEPT:
                self._buffers.values = kept
        return kept[:count]

    def _flush(
        self,
        group: list[tuple[int, NDArray[np.uint8], Placement]],
        results: list[Detections | None],
    ) -> None:
        indices, contents, placements = zip(*group, strict=True)
        found = self.decode(self.run(self.blob(contents, placements)), placements)
        for index, detections in zip(indices, found, strict=True):
            results[index] = detections


def _apply_options(
    spec: ModelSpec, compat: str | None, canvas: str, fixed: tuple[int, int] | None
) -> ModelSpec:
    """Check options against a file and apply ``compat`` to the specification."""
    for name, value, allowed in (
        ('compat', compat, (None, *COMPATS)),
        ('canvas', canvas, CANVASES),
    ):
        if value not in allowed:
            expected = ', '.join(map(str, allowed))
            raise ValueError(f'{name} {value!r}: expected one of {expected}')
    if canvas == 'tight' and (fixed is not None or spec.resize != 'keep_ratio'):
        reason = 'is fixed' if fixed else f'is filled by the resize {spec.resize!r}'
        raise ValueError(
            f"canvas 'tight' needs dynamic sides of the input, but it {reason}: use 'full', or a "
            'dynamic export of SCRFD'
        )
    if compat is None:
        return spec
    if spec.family != 'scrfd':
        raise ValueError(f'compat {compat!r} is for SCRFD, this is {spec.family}: do not set it')
    return replace(spec, **_INSIGHTFACE)


def _frees_sides(session: InferenceSession, size: Sequence[int] | None) -> bool:
    """Return whether a file of another project is to be made dynamic.

    That is when another size is asked for, or the fixed one is only that of the traced image.
    """
    ports = session.get_inputs()
    fixed = fixed_size(Port(ports[0].name, tuple(ports[0].shape)))
    if fixed is None or METADATA_KEY in session.get_modelmeta().custom_metadata_map:
        return False
    return fixed == _TRACED if size is None else tuple(size) != fixed


def _choose_size(spec: ModelSpec, port: Port, size: Sequence[int] | None) -> tuple[int, int]:
    fixed = fixed_size(port)
    chosen = (fixed or spec.size) if size is None else _check_size(spec, fixed, size)
    if any(port.fixed(2 + axis) not in (None, chosen[axis]) for axis in (0, 1)):
        raise ValueError(
            f'input {port}: one side is fixed; pass size=(height, width) with that side'
        )
    return chosen


def _check_size(
    spec: ModelSpec, fixed: tuple[int, int] | None, size: Sequence[int]
) -> tuple[int, int]:
    divisor = size_divisor(spec)
    if len(size) != 2 or any(int(side) != side for side in size):
        raise ValueError(f'size {tuple(size)}: expected height and width in pixels')
    chosen = (int(size[0]), int(size[1]))
    if fixed is not None and chosen != fixed:
        raise ValueError(
            f'size {chosen[0]}x{chosen[1]} (height x width): the file is fixed to '
            f'{fixed[0]}x{fixed[1]}; do not set the size, or use a dynamic export'
        )
    if fixed is None and any(side < 1 or side % divisor for side in chosen):
        near = ', '.join(str(math.ceil(max(side, 1) / divisor) * divisor) for side in chosen)
        raise ValueError(
            f'size {chosen[0]}x{chosen[1]} (height x width): sides must be multiples of {divisor}; '
            f'the next ones are {near}'
        )
    return chosen
