# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""WIDER FACE, and own faces with the same labels, as a data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from mmface.datasets.annotations import read_annotations
from mmface.datasets.bad_images import SkipBadImages
from mmface.datasets.face_annotation import FaceAnnotation, LabelSet
from mmface.datasets.keypoint_names import scheme_of_names
from mmface.datasets.pipeline_check import check_pipeline
from mmface.structures import FLIP_INDICES_5, KeypointScheme
from mmface.utils.draw import class_colours
from mmface.utils.image_names import image_key, read_part
from mmface.utils.images import missing_images

HELP = (
    'Check the data path, or make the data with tools/data/prepare_widerface.py '
    '(--part LIST for a part of the images)'
)


@DATASETS.register_module()
class WiderFaceDataset(SkipBadImages, BaseDetDataset):
    """Images with faces, from any of the label formats in :mod:`mmface.datasets.annotations`.

    An item has ``img_path``, ``img_id`` (``event/name.jpg``), ``width`` and ``height`` (0 if
    the labels do not contain them), ``bboxes`` (n, 4) float32 x1, y1, x2, y2 in pixels,
    ``keypoints`` (n, K, 3) float32 x, y, weight, ``ignore_flags`` (n,) bool and ``labels`` (n,)
    int64, the index of the class of each face. If the K keypoints are not the usual five,
    ``flip_indices`` are the source indices of the keypoints after a flip. In testing,
    ``instances`` are the faces in mmdet's form, for ``CocoMetric``.

    ``metainfo`` has ``classes``, ``palette``, ``num_keypoints``, ``keypoints`` (names, empty if
    unknown) and ``flip_indices`` (``None`` if unknown). They come from the label file.
    ``metainfo=dict(classes=('head',))`` keeps only these classes, in this order.
    If the file does not name its keypoints, ``metainfo=dict(keypoints=('left_eye', ...))`` names
    them, and the names tell the pairs of left and right; or ``flip_indices=(1, 0, 2)`` tells them.

    In training (``test_mode=False``) three things are dropped, and their numbers are logged:
    boxes without area inside the image (or without any area, if the labels do not contain the
    size of the image), images without a face to learn, and images whose short side is below
    ``min_image_side``. In testing everything is kept, in the order of the file.

    Args:
        ann_file: Path of the labels.
        metainfo: See above.
        *args: Further arguments of ``mmengine.dataset.BaseDataset``: ``data_root``,
            ``data_prefix=dict(img_path='train/images/')``, ``indices``, ``pipeline``,
            ``test_mode`` and more.
        ann_format: ``labelv2``, ``bbx_gt``, ``retinaface``, ``coco``, or ``auto`` to detect the
            format from the file.
        part: A text file with ``event/name.jpg`` on each line. Only these images are used,
            and only these must exist. The path is not relative to ``data_root``.
        min_size: In training, faces narrower or lower than this, in pixels of the image, are
            ignored. Default ``None``: no face is ignored for its size.
        min_image_side: In training, images with a short side below this are dropped. It has no
            effect on formats without sizes (``bbx_gt``, ``retinaface``), because sizes are not
            read from the images at the start of the run. 32 as in SCRFD.
        keep_empty: Whether to train also on images without faces, as pure background.
        need_keypoints: Whether to refuse training labels without a single keypoint. Otherwise
            a model with keypoints would silently train everything except the keypoints.
        bbox_clip_border: Whether ``RandomSquareCrop`` clips boxes and keypoints at the border of
            its crop. As it is set here, a model config can change it in one line, wherever the
            crop is in the pipeline.
        max_bad_images: See :class:`.SkipBadImages`.
        **kwargs: See ``*args``.

    Raises:
        FileNotFoundError: The label file, the folder of images or an image is missing.
        ValueError: The labels do not fit their format or ``metainfo``, have no keypoints although
            they are needed, no image is left, or the pipeline would damage the labels (see
            :func:`.check_pipeline`).
    """

    METAINFO = dict(classes=('face',), palette=class_colours(1))

    def __init__(
        self,
        ann_file: str | None = '',
        metainfo: Mapping[str, Any] | None = None,
        *args: Any,
        ann_format: str = 'auto',
        part: str | None = None,
        min_size: float | None = None,
        min_image_side: int = 32,
        keep_empty: bool = False,
        need_keypoints: bool = False,
        bbox_clip_border: bool = True,
        **kwargs: Any,
    ) -> None:
        self.ann_format = ann_format
        self.part = part
        self.min_size = min_size
        self.min_image_side = min_image_side
        self.keep_empty = keep_empty
        self.need_keypoints = need_keypoints
        self.bbox_clip_border = bbox_clip_border
        self._given = dict(metainfo or {})
        self._flip: tuple[int, ...] | None = None
        super().__init__(ann_file, metainfo, *args, **kwargs)

    def full_init(self) -> None:
        """Read the labels and check that the pipeline keeps them together with the image."""
        super().full_init()
        self.labels_loaded = check_pipeline(
            self.pipeline.transforms,
            training=not self.test_mode,
            flip_known=self._metainfo['flip_indices'] is not None,
        )

    def load_data_list(self) -> list[dict]:
        """Read the labels and check that every image exists."""
        folder, classes = self.data_prefix['img_path'], self._given.get('classes')
        found = read_annotations(self.ann_file, self.ann_format, classes, folder)
        for note in found.notes:
            print_log(note, logger='current', level=logging.WARNING)
        images = self._describe(found)
        if self.part is not None:
            images = self._restrict(images)
        if self.need_keypoints and not self.test_mode:
            self._check_keypoints(images)
        self._check_images([image.path for image in images])
        items = [self.parse_data_info(image) for image in images]
        if not self.test_mode:
            dropped = sum(len(p.bboxes) for p in images) - sum(len(i['bboxes']) for i in items)
            self._log(f'{dropped} boxes without area inside their image dropped', dropped)
        return items

    def parse_data_info(self, raw_data_info: FaceAnnotation) -> dict:
        """Convert the labels of an image to an item (see the class)."""
        image = raw_data_info
        if not self.test_mode:
            image = image.where(image.has_area)
        ignore = image.ignore
        if not self.test_mode and self.min_size is not None:
            sides = image.bboxes[:, 2:] - image.bboxes[:, :2]
            ignore = ignore | (sides < self.min_size).any(axis=1)
        item = dict(
            # Not a Path: creating one per image would take a third of the start-up time.
            img_path=os.path.join(self.data_prefix['img_path'], image.path),  # noqa: PTH118
            img_id=image.path,
            width=image.width,
            height=image.height,
            bboxes=image.bboxes,
            keypoints=image.keypoints,
            ignore_flags=ignore,
            labels=image.labels,
            bbox_clip_border=self.bbox_clip_border,
        )
        if self.test_mode:
            # No detection can hit a box without area.
            skipped = (ignore | ~image.has_area).astype(int)
            rows = zip(image.bboxes.tolist(), image.labels.tolist(), skipped.tolist(), strict=True)
            item['instances'] = [
                dict(bbox=box, bbox_label=label, ignore_flag=flag) for box, label, flag in rows
            ]
        return item

    def get_data_info(self, idx: int) -> dict:
        """Return the item of an image."""
        item = super().get_data_info(idx)
        if self._flip is not None:
            item['flip_indices'] = self._flip
        return item

    def filter_data(self) -> list[dict]:
        """Drop images without a face to learn and images that are too small, in training."""
        items = self.data_list
        if not self.test_mode:
            if not self.keep_empty:
                items = [item for item in items if not item['ignore_flags'].all()]
            empty = len(self.data_list) - len(items)
            # 0 means that the labels do not contain the size.
            items = [
                item
                for item in items
                if not 0 < min(item['width'], item['height']) < self.min_image_side
            ]
            small = len(self.data_list) - empty - len(items)
            self._log(f'{empty} images without a face to learn dropped', empty)
            self._log(f'{small} images below {self.min_image_side} px dropped', small)
        if not items:
            raise ValueError(
                f'{self.ann_file}: none of its {len(self.data_list)} images is left to train on; '
                'the log says why. keep_empty=True keeps images without faces'
            )
        return items

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the class of each face of an image."""
        return self.get_data_info(idx)['labels'].tolist()

    def _describe(self, found: LabelSet) -> list[FaceAnnotation]:
        """Put classes and keypoints into ``metainfo``. Return the images with what it adds."""
        scheme, images = found.keypoints, found.images
        names, flip = self._given.get('keypoints'), self._given.get('flip_indices')
        if names is not None:
            _check_count(self.ann_file, 'keypoints', len(names), len(scheme))
            scheme, order, note = scheme_of_names(f'metainfo of {self.ann_file}', names)
            if note:
                print_log(note, logger='current', level=logging.WARNING)
            images = [image._replace(keypoints=image.keypoints[:, order]) for image in images]
        if flip is not None:
            _check_count(self.ann_file, 'flip_indices', len(flip), len(scheme))
            scheme = replace(scheme, flip_indices=tuple(flip))
        # Without pairs, the labels do not say what is left and right.
        known = flip is not None or len(scheme) < 2 or _has_pairs(scheme)
        indices = scheme.flip_indices if known else None
        self._flip = None if indices == FLIP_INDICES_5 else indices
        self._metainfo.update(
            classes=found.classes,
            palette=class_colours(len(found.classes)),
            num_keypoints=len(scheme),
            keypoints=scheme.names,
            flip_indices=indices,
        )
        return images

    def _restrict(self, images: list[FaceAnnotation]) -> list[FaceAnnotation]:
        wanted = {image_key(name): name for name in read_part(str(self.part))}
        chosen = [image for image in images if image_key(image.path) in wanted]
        unknown = sorted(wanted.keys() - {image_key(image.path) for image in chosen})
        if unknown:
            raise ValueError(
                f'{self.part}: {len(unknown)} of its images are not in {self.ann_file}, the '
                f'first is {wanted[unknown[0]]!r}. Expected event/name.jpg on each line'
            )
        return chosen

    def _check_keypoints(self, images: list[FaceAnnotation]) -> None:
        if not any((image.keypoints[..., 2] > 0).any() for image in images):
            raise ValueError(
                f'{self.ann_file}: expected faces with keypoints, found none in '
                f'{len(images)} images. Use labels with keypoints (labelv2.txt, label.txt or '
                'JSON with keypoints), a model without them, or need_keypoints=False here'
            )

    def _check_images(self, paths: list[str]) -> None:
        root = Path(self.data_prefix['img_path'])
        if not root.is_dir():
            raise FileNotFoundError(f'the folder of images {root} does not exist. {HELP}')
        self.check_missing(missing_images(root, paths), len(paths), f'{root}. {HELP}')

    def _log(self, message: str, count: int) -> None:
        if count:
            print_log(f'{self.ann_file}: {message}', logger='current', level=logging.INFO)


def _has_pairs(scheme: KeypointScheme) -> bool:
    return scheme.flip_indices != tuple(range(len(scheme)))


def _check_count(source: str, name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f'{source}: its faces have {expected} keypoints, but metainfo of the data set has '
            f'{found} {name}: expected {expected}'
        )
