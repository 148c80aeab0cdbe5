# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Detect faces with a trained model."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import cv2
import mmengine.device.utils
import numpy as np
import torch
from mmdet.apis.det_inferencer import DetInferencer
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray

from mmface.apis.config import load_config
from mmface.apis.image_pipeline import image_pipeline
from mmface.datasets.class_names import class_names
from mmface.structures import Face
from mmface.utils.checkpoint import load_checkpoint_file
from mmface.utils.device import use_device
from mmface.utils.draw import mark_faces
from mmface.utils.fuse_norms import fuse_norms
from mmface.utils.images import (
    MAX_INPUT_PIXELS,
    Image,
    PathLike,
    as_bgr,
    check_limit,
    write_image,
)
from mmface.utils.memory_format import use_memory_format
from mmface.utils.progress import progress_bar
from mmface.utils.sources import Source, count_reasons, find_sources, read_source, result_path
from mmface.weights.loading import load_fitting_weights

Input = PathLike | NDArray


class FaceInferencer(DetInferencer):
    """Face detector built from a config and its weights: SCRFD, CenterFace or CenterNet2.

    Images pass through the test pipeline and the data preprocessor of the config. The results
    are therefore those of ``tools/test.py``, but for images above ``max_pixels``.

    On a CPU, use ``mmface.deploy.runtime.FaceDetector`` with an exported ONNX file if time matters.
    For one image and one thread, this class takes 1.24 times as long as the network alone in
    onnxruntime with scrfd_2.5g_bnkps, but 3.7 times as long with scrfd_500m_bnkps, whose many
    small layers are slow in torch (tools/benchmark/README.md).

    Args:
        config_or_name: A config file, or the name of a config of mmface, such as
            'scrfd_2.5g_bnkps'.
        weights: Checkpoint of that config. Code in the checkpoint is not run.
        device: 'cpu', 'cuda', 'cuda:1', 'npu' and so on. ``None``: the best available device.
        score_thr: Faces have scores above this value, as in ``FaceDetector``. The threshold of the
            config always applies too. ``None``: only the config's threshold, which is low for
            evaluation (0.02 for SCRFD).
        max_pixels: Networks that take each image in its own size get larger images shrunk to this
            number of pixels, as in ``FaceDetector``. ``None``: no limit.
        show_progress: Whether to show a progress bar when there is more than one image.
        trust_checkpoint: Load any Python object in the checkpoint. Such an object can run code.

    Attributes:
        score_thr: As above. It may be changed between calls.

    Raises:
        FileNotFoundError: The config or the checkpoint does not exist.
        ValueError: The weights do not fit the config, or the device is not available.

    Example:
        >>> detector = FaceInferencer('scrfd_2.5g_bnkps', 'scrfd_2.5g_bnkps.pth', device='cpu')
        >>> faces = detector('group.jpg', out_dir='out')
        >>> faces[0].bbox, faces[0].score, faces[0].keypoints
    """

    def __init__(
        self,
        config_or_name: PathLike,
        weights: PathLike,
        device: str | None = None,
        *,
        score_thr: float | None = 0.5,
        max_pixels: int | None = MAX_INPUT_PIXELS,
        show_progress: bool = True,
        trust_checkpoint: bool = False,
    ) -> None:
        self.score_thr = 0.0 if score_thr is None else score_thr
        check_limit(max_pixels)
        self._max_pixels = max_pixels
        self._trust = trust_checkpoint
        self._names: tuple[str, ...] = ()
        super().__init__(
            model=load_config(os.fspath(config_or_name)),
            weights=os.fspath(weights),
            device=check_device(device),
            show_progress=show_progress,
        )

    @overload
    def __call__(
        self,
        inputs: NDArray,
        batch_size: int = 1,
        out_dir: PathLike | None = None,
    ) -> list[Face]: ...

    @overload
    def __call__(
        self,
        inputs: list[Input] | list[NDArray] | tuple[Input, ...],
        batch_size: int = 1,
        out_dir: PathLike | None = None,
    ) -> list[list[Face]]: ...

    @overload
    def __call__(
        self,
        inputs: PathLike,
        batch_size: int = 1,
        out_dir: PathLike | None = None,
    ) -> list[Face] | list[list[Face]]: ...

    def __call__(
        self,
        inputs: Input | Sequence[Input],
        batch_size: int = 1,
        out_dir: PathLike | None = None,
    ) -> list[Face] | list[list[Face]]:
        """Detect the faces in images.

        Args:
            inputs: A file, a folder (searched recursively), an array (H, W, 3) uint8 BGR, or a
                list of files, folders and arrays.
            batch_size: Maximum number of images in a batch. Only images that are padded to the
                same size share a batch, so it does not change the results.
            out_dir: Folder for the images with the faces drawn. They keep the names of the files.
                The array with index 12 in the list becomes '000012.png'. The images of an input
                folder are written to a subfolder with the name of that folder.

        Returns:
            The faces of the image, highest score first, in pixels of the image. For a list or a
            folder: a list with the faces of each image, in the order of the inputs. The images of
            a folder are sorted by path.

        Raises:
            FileNotFoundError: A path does not exist.
            ValueError: An input is a URL or is not an image, or the batch size is below 1.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size: expected at least 1, found {batch_size}')
        sources = self._inputs_to_list(inputs)
        several = isinstance(inputs, (list, tuple))
        several |= isinstance(inputs, (str, os.PathLike)) and Path(inputs).is_dir()
        targets = [_target(item, i, out_dir) for i, item in enumerate(sources)]
        if out_dir is not None and len(set(targets)) < len(targets):
            raise ValueError(
                'two of the inputs have the same name, so their results would have the same name: '
                'call once for each folder, with a different out_dir'
            )
        found: list[list[Face]] = []
        show = several and self.show_progress
        with progress_bar(total=len(sources), desc='detecting', unit='image', show=show) as bar:
            for images, data in self.preprocess(sources, batch_size):
                for image, sample in zip(images, self.forward(data), strict=True):
                    faces = to_faces(sample, self.score_thr, self._names)
                    target = targets[len(found)]
                    if target is not None:
                        write_image(target, mark_faces(image, faces))
                    found.append(faces)
                bar.update(len(images))
        return found if several else found[0]

    def preprocess(
        self, inputs: Iterable[Source | NDArray], batch_size: int = 1, **kwargs: Any
    ) -> Iterator[tuple[list[Image], dict]]:
        """Read images and batch those that have the same size in the network.

        Args:
            inputs: Files and arrays.
            batch_size: Maximum number of images in a batch.
            kwargs: Not used.

        Yields:
            The images, and the batch built from them.
        """
        for chunk in self._get_chunk_data(map(_load, inputs), batch_size):
            for _, group in itertools.groupby(chunk, lambda item: self._canvas(item[1]['inputs'])):
                images, packed = zip(*group, strict=True)
                yield list(images), self.collate_fn(packed)

    def _canvas(self, image: torch.Tensor) -> tuple[int, ...]:
        """Return the height and width of an image (3, h, w) in the network if it is alone.

        The padding changes the result: GroupNorm includes it, and convolutions reach into it.
        """
        preprocessor = self.model.data_preprocessor
        if getattr(preprocessor, 'pad_size', None) is not None:
            return tuple(preprocessor.pad_size)
        divisor = preprocessor.pad_size_divisor
        return tuple(-(-side // divisor) for side in image.shape[-2:])

    def _inputs_to_list(self, inputs: Input | Sequence[Input]) -> list[Source | NDArray]:
        """List the images: arrays unchanged, and the files that the paths and folders contain."""
        images: list[Source | NDArray] = []
        for item in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
            if isinstance(item, np.ndarray):
                images.append(item)
            elif isinstance(item, (str, os.PathLike)):
                found = find_sources([item])
                if found.skipped and not found.sources:
                    raise ValueError(f'{item} cannot be used: {count_reasons(found.skipped)}')
                if found.skipped:
                    logging.getLogger('mmface').warning(
                        f'{item}: some files are skipped: {count_reasons(found.skipped)}'
                    )
                images += found.sources
            else:
                raise ValueError(
                    'expected a file, a folder, an array (height, width, 3) or a list of these, '
                    f'found {type(item).__name__}'
                )
        return images

    def _init_model(self, cfg: Any, weights: str, device: str = 'cpu') -> torch.nn.Module:
        """Build the model of the config and load weights that fit it."""
        checkpoint = load_checkpoint_file(weights, trust=self._trust)
        model = MODELS.build(cfg.model)
        load_fitting_weights(model, checkpoint, weights)
        head = (cfg.model.get('roi_head') or cfg.model).get('bbox_head', {})
        count = head.get('num_classes', 1)
        model.dataset_meta = {'classes': class_names(checkpoint, cfg, count)}
        if count > 1:
            self._names = model.dataset_meta['classes'] or tuple(map(str, range(count)))
        use_memory_format(model, cfg, torch.device(device).type)
        if cfg.get('default_hooks', {}).get('fuse', {}).get('enabled', True):  # as in tools/test.py
            fuse_norms(model)
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Callable:
        """Build the test pipeline so that it accepts an array."""
        pipeline = image_pipeline(cfg, self._max_pixels)

        def prepare(image: Image) -> dict:
            try:
                return pipeline(dict(img=image))
            except cv2.error as error:  # for example a side beyond 32767 pixels in a warp
                shape = f'{image.shape[1]}x{image.shape[0]} pixels (width x height)'
                raise ValueError(
                    f'an image of {shape} cannot be resized for this model: {error.err}'
                ) from error

        return prepare

    def _init_collate(self, cfg: Config) -> Callable:
        """Keep the parts of a batch in lists, as the data preprocessor expects."""
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """Create no visualizer: faces are drawn with the same code as without torch."""
        return None


def check_device(device: str | None) -> str:
    """Return the name of an available device.

    Raises:
        ValueError: The device is not available.
    """
    if device in (None, 'auto'):
        return mmengine.device.utils.get_device()
    if device.partition(':')[0] != 'cpu':
        use_device(device.partition(':')[0])
    return device


def to_faces(
    sample: DetDataSample, score_thr: float = 0.0, names: Sequence[str] = ()
) -> list[Face]:
    """Return the detections of a sample with scores above ``score_thr``, best first.

    Args:
        sample: It has ``pred_instances``.
        score_thr: Faces have scores above this value.
        names: Names of the classes, none if there is only one class.
    """
    found = sample.pred_instances.cpu().numpy()
    order = np.argsort(-found.scores, kind='stable')
    order = order[found.scores[order] > score_thr]
    points = found.get('keypoints')
    return [
        Face(
            bbox=found.bboxes[i].astype(np.float32),
            score=float(found.scores[i]),
            keypoints=None if points is None else points[i, :, :2].astype(np.float32),
            label=int(found.labels[i]),
            class_name=names[int(found.labels[i])] if names else None,
        )
        for i in order
    ]


def _load(item: Source | NDArray) -> Image:
    return as_bgr(item) if isinstance(item, np.ndarray) else read_source(item)


def _target(item: Source | NDArray, number: int, out_dir: PathLike | None) -> Path | None:
    """Return the path for the image with the faces of ``item`` drawn."""
    if out_dir is None:
        return None
    if isinstance(item, np.ndarray):
        return Path(out_dir, f'{number:06d}.png')
    return result_path(item, out_dir)
