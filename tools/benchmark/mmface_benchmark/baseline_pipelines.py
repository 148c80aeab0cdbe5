# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The training pipelines of the reference projects, as baselines for the time of our pipelines.

They draw the same random numbers in the same order as ours and do the same work. OpenCV decodes the
images. Values become floats at the same step as in the reference. The results are normalized
float32 tensors (3, h, w) with the faces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import mmcv.transforms
import numpy as np
import torch
from mmdet.datasets.transforms import PackDetInputs, PhotoMetricDistortion
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.config import ConfigDict
from numpy.typing import NDArray

from mmface.datasets.transforms import (
    ColourJitter,
    DataAnchorSample,
    FaceAffineCrop,
    FacePhotometric,
    LoadFaceAnnotations,
    RandomSquareCrop,
    SeedSample,
)
from mmface.datasets.transforms.data_anchor_sample import INTERPOLATIONS
from mmface.structures import FLIP_INDICES_5

META_KEYS = ('img_path', 'img_shape')


class FloatSquareCrop(RandomSquareCrop):
    """SCRFD's crop as in its code: the image is copied onto a float canvas with the fill value."""

    def transform(self, results: dict) -> dict:
        """Crop the image."""
        img, boxes = results['img'], results['gt_bboxes']
        height, width = img.shape[:2]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        left, top, side = self.draw(width, height, centres[~results['gt_ignore_flags']])
        patch = np.array((left, top, left + side, top + side))
        mask = ((centres > patch[:2]) & (centres < patch[2:])).all(axis=1)
        boxes, points = boxes[mask].copy(), results['gt_keypoints'][mask].copy()
        if results.get('bbox_clip_border', True):
            boxes[:, 2:] = boxes[:, 2:].clip(max=patch[2:])
            boxes[:, :2] = boxes[:, :2].clip(min=patch[:2])
            points[..., :2] = points[..., :2].clip(patch[:2], patch[2:])
        results['gt_bboxes'] = boxes - np.tile(patch[:2], 2)
        points[..., :2] -= patch[:2]
        results['gt_keypoints'] = points
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = results[key][mask]
        canvas = np.ones((side, side, 3), dtype=img.dtype) * self.fill
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
        canvas[y1 - top : y2 - top, x1 - left : x2 - left] = img[y1:y2, x1:x2]
        results['img'] = canvas
        results['img_shape'] = canvas.shape[:2]
        return results


class DrawnFlip(mmcv.transforms.RandomFlip):
    """mmcv's flip with the random draw of ``FaceFlip``."""

    def _choose_direction(self) -> str | None:
        return 'horizontal' if np.random.rand() < self.prob else None


class DrawnPhotometric(PhotoMetricDistortion):
    """mmdet's distortion with the random draws of ``FacePhotometric``."""

    def _random_flags(self) -> tuple:
        change = FacePhotometric(on_device=False).draw()
        return (
            0,
            change.brightness != 0,
            change.contrast != 1,
            change.saturation != 1,
            change.hue != 0,
            change.channels != (0, 1, 2),
            change.brightness,
            change.contrast,
            change.saturation,
            change.hue,
            list(change.channels),
        )


def stock_scrfd(
    pipeline: list[dict], preprocessor: dict, normalise: bool = True
) -> list[mmcv.transforms.BaseTransform]:
    """Build the pipeline of SCRFD's configs from the parts of mmcv and mmdet.

    Args:
        pipeline: Our pipeline, whose parameters are used.
        preprocessor: Our data preprocessor, whose parameters are used.
        normalise: Whether images are normalized here, as in SCRFD's configs, or not, as in those
            of mmdet 3.
    """
    steps = {step['type']: ConfigDict(step) for step in pipeline}
    crop = steps['RandomSquareCrop']
    size = (crop.size, crop.size) if crop.get('size') else tuple(steps['FaceResize'].scale)
    normalisation = mmcv.transforms.Normalize(
        preprocessor['mean'], preprocessor['std'], preprocessor['bgr_to_rgb']
    )
    return [
        SeedSample(),
        mmcv.transforms.LoadImageFromFile(to_float32=True),
        LoadFaceAnnotations(),
        FloatSquareCrop(crop.crop_choice),
        mmcv.transforms.Resize(scale=size, keep_ratio=False),
        DrawnFlip(prob=float(steps['FaceFlip'].prob)),
        DrawnPhotometric(),
        *([normalisation] if normalise else []),
        PackDetInputs(META_KEYS),
    ]


class ReferenceCenterFace(mmcv.transforms.BaseTransform):
    """CenterFace's pipeline, as in the sample code of CenterNet that all its projects share.

    Anchor sampling resizes the whole image, and the flip also processes the whole image. An affine
    warp makes the square. Then colours, lighting and normalization change the floats one by one.

    Args:
        pipeline: Our pipeline, whose parameters are used.
        preprocessor: Our data preprocessor, whose parameters are used.
        enlarge: Whether anchor sampling also enlarges images, as the references do.
    """

    def __init__(self, pipeline: list[dict], preprocessor: dict, enlarge: bool = True) -> None:
        steps: dict[str, Any] = {}
        for step in pipeline:
            options = dict(step)
            steps[options.pop('type')] = options
        self.anchors = DataAnchorSample(**steps['DataAnchorSample'])
        self.crop = FaceAffineCrop(**steps['FaceAffineCrop'])
        self.jitter = ColourJitter(**{**steps['ColourJitter'], 'on_device': False})
        self.flip_prob = steps['FaceFlip']['prob']
        self.mean = np.array(preprocessor['mean'], np.float32) / 255
        self.std = np.array(preprocessor['std'], np.float32) / 255
        self.enlarge = enlarge
        self.pack = PackDetInputs(META_KEYS)

    def transform(self, results: dict) -> dict:
        """Build a sample from an item with ``img`` and faces."""
        img, boxes = results['img'], results['gt_bboxes']
        points = results['gt_keypoints'].copy()
        height, width = img.shape[:2]
        ratio = self.anchors.draw(width, height, boxes[~results['gt_ignore_flags']])
        interpolation = INTERPOLATIONS[np.random.randint(len(INTERPOLATIONS))]
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * ratio**2
        points[area <= self.anchors.min_keypoint_area, :, 2] = 0
        if ratio < 1 or self.enlarge:
            size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
            img = cv2.resize(img, size, interpolation=interpolation)
            boxes, points[..., :2] = boxes * ratio, points[..., :2] * ratio
            height, width = img.shape[:2]

        left, top, side = self.crop.draw(width, height)
        if np.random.rand() < self.flip_prob:
            img = img[:, ::-1, :]
            left = width - left - side
            boxes = boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width, 0, width, 0)
            points = points[:, list(FLIP_INDICES_5)] * (-1, 1, 1) + (width, 0, 0)
        scale = self.crop.size / side
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        img = cv2.warpAffine(img, matrix, (self.crop.size,) * 2, flags=cv2.INTER_LINEAR)
        boxes = (boxes - np.tile((left, top), 2)) * scale
        points[..., :2] = (points[..., :2] - (left, top)) * scale
        seen = boxes.clip(0, self.crop.size)
        kept = (seen[:, 2] > seen[:, 0]) & (seen[:, 3] > seen[:, 1])
        results['gt_bboxes'], results['gt_keypoints'] = boxes[kept], points[kept]
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = results[key][kept]

        img = img.astype(np.float32) / 255.0
        self.change_colours(img)
        results['img'] = (img - self.mean) / self.std
        results['img_shape'] = img.shape[:2]
        return self.pack(results)

    def change_colours(self, img: NDArray[np.float32]) -> None:
        """Change the colours in place, one step after the other."""
        change = self.jitter.draw()
        grey = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)
        others = dict(brightness=None, contrast=grey.mean(), saturation=grey[:, :, None])
        for step in change.order:
            factor, other = getattr(change, step), others[step]
            img *= factor
            if other is not None:
                img += other * (1 - factor)
        img += np.array(change.lighting, np.float32) / 255


def reference_centerface(
    pipeline: list[dict], preprocessor: dict, enlarge: bool = True
) -> list[mmcv.transforms.BaseTransform]:
    """Build the whole pipeline; see :class:`ReferenceCenterFace`."""
    return [
        SeedSample(),
        mmcv.transforms.LoadImageFromFile(),
        LoadFaceAnnotations(),
        ReferenceCenterFace(pipeline, preprocessor, enlarge),
    ]


def stack_batch(samples: list[dict]) -> torch.Tensor:
    """Stack normalized images to a batch, as the data preprocessor of mmdet does."""
    return torch.stack([sample['inputs'] for sample in samples])


def normalised_batch(preprocessor: dict) -> Callable[[list[dict]], torch.Tensor]:
    """Return a function that builds a batch of images that are not normalized, as mmdet does."""
    stock = DetDataPreprocessor(
        preprocessor['mean'], preprocessor['std'], bgr_to_rgb=preprocessor['bgr_to_rgb']
    )

    def finish(samples: list[dict]) -> torch.Tensor:
        data = {key: [sample[key] for sample in samples] for key in samples[0]}
        return stock(data, training=True)['inputs']

    return finish
