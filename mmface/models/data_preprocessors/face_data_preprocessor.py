# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Turn uint8 images into a normalised batch on the device."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import BaseBoxes
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmface.models.data_preprocessors.batch_colours import change_colours
from mmface.models.task_modules.padded_ground_truth import CROWD
from mmface.utils.colour_map import ColourMap


@MODELS.register_module()
class FaceDataPreprocessor(BaseDataPreprocessor):
    """Normalise and pad a batch on the device, after the colour change that each sample requests.

    Images travel as uint8. They are padded *after* normalisation, with 0 (the mean colour), at
    the right and bottom. The published SCRFD accuracies were measured this way; padding before
    normalisation would give -0.996. Ground truth stays on the host; heads pack it into one tensor
    and send that (see ``pack_ground_truth``). If the metainfo of a sample has a ``colour_map``
    (BGR images), the workers did not change its colours and this class does.

    Args:
        mean: Value subtracted from each channel, in the channel order of the network (RGB if
            ``bgr_to_rgb``).
        std: Value each channel is divided by.
        bgr_to_rgb: Whether to swap the channels of the BGR images read by OpenCV.
        pad_size: Height and width every batch is padded to, or ``None`` for the size of
            the largest image. GroupNorm sees the padding, so the published "VGA" numbers
            need exactly (640, 640).
        pad_size_divisor: The padded size is rounded up to a multiple of this.
        non_blocking: Whether the host may continue while images are copied to the device.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        bgr_to_rgb: bool = True,
        pad_size: Sequence[int] | None = None,
        pad_size_divisor: int = 32,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.bgr_to_rgb = bgr_to_rgb
        self.pad_size = None if pad_size is None else (int(pad_size[0]), int(pad_size[1]))
        self.pad_size_divisor = pad_size_divisor
        self._crowds: set[str] = set()

    def forward(self, data: dict, training: bool = False) -> dict:
        """Build the input batch.

        Args:
            data: ``inputs``, a list of uint8 images (3, h, w) or a tensor (B, 3, h, w), and
                ``data_samples``, a list of samples or ``None``.
            training: Whether to warn about images with more than ``CROWD`` faces, once per
                image. The batch is the same in training and testing.

        Returns:
            ``inputs`` float32 (B, 3, H, W) on the device, and ``data_samples`` with the meta
            entries ``batch_input_shape`` and ``pad_shape``, both (H, W).

        Raises:
            ValueError: An image is larger than ``pad_size``.
        """
        # Copy before stacking: the loader pinned each image, but a stack would not be pinned.
        images = [
            image.to(self.mean.device, non_blocking=self._non_blocking) for image in data['inputs']
        ]
        data_samples = data.get('data_samples')
        sizes = {tuple(image.shape[-2:]) for image in images}
        height, width = self._canvas_size(sizes)
        maps = [sample.metainfo.get('colour_map') for sample in data_samples or ()]
        batch = self.mean.new_empty((len(images), 3, height, width))
        whole = sizes == {(height, width)}
        if whole and batch.device.type != 'cpu':
            # The usual case in training: the whole batch at once.
            self._normalise(torch.stack(images), maps, batch)
        else:
            # On a CPU, one image at a time stays in the cache.
            for index, image in enumerate(images):
                own = batch[index : index + 1]
                rows, columns = image.shape[-2:]
                self._normalise(image[None], maps[index : index + 1], own[..., :rows, :columns])
                own[..., rows:, :] = 0
                own[..., :rows, columns:] = 0
        for sample in data_samples or ():
            if training:
                self._warn_of_crowd(sample)
            _make_tensors(sample)
            sample.set_metainfo(dict(batch_input_shape=(height, width), pad_shape=(height, width)))
        return dict(inputs=batch, data_samples=data_samples)

    def _warn_of_crowd(self, sample: DetDataSample) -> None:
        faces = len(sample.get('gt_instances', ()))
        name = str(sample.metainfo.get('img_path', 'an image without a name'))
        if faces <= CROWD or name in self._crowds:
            return
        self._crowds.add(name)
        print_log(
            f'{name} has {faces} labelled faces, more than {CROWD}. Its batches need more time and '
            'memory, because all their images are padded to this number. Check its label.',
            logger='current',
            level=logging.WARNING,
        )

    def _canvas_size(self, sizes: set[tuple[int, ...]]) -> tuple[int, int]:
        height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
        if self.pad_size is not None:
            if height > self.pad_size[0] or width > self.pad_size[1]:
                raise ValueError(
                    f'an image of {height}x{width} (height x width) does not fit the padded '
                    f'size {self.pad_size}: resize it first, or set pad_size=None'
                )
            height, width = self.pad_size
        divisor = self.pad_size_divisor
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor

    def _normalise(self, images: Tensor, maps: Sequence[ColourMap | None], out: Tensor) -> None:
        """Fill ``out`` from uint8 images, both (b, 3, h, w)."""
        if any(maps):
            images = change_colours(images, [each or ColourMap() for each in maps])
        out.copy_(images.flip(1) if self.bgr_to_rgb else images)
        out.sub_(self.mean).div_(self.std)


def _make_tensors(sample: DetDataSample) -> None:
    """Convert the labels of a sample to tensors: arrays of ``PackFaceInputs``, boxes of mmdet."""
    for instances in (sample.get('gt_instances'), sample.get('ignored_instances')):
        for name, value in instances.items() if instances is not None else ():
            if isinstance(value, np.ndarray):
                instances.set_field(torch.from_numpy(value), name)
            elif isinstance(value, BaseBoxes):
                instances.set_field(value.tensor, name)
