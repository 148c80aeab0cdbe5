# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO boxes as a data set, with the filter rules of the CenterNet2 reference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from mmface.datasets.bad_images import SkipBadImages
from mmface.utils.images import missing_images

#: Boxes with a side up to this, in pixels, are dropped (detectron2 ``filter_empty_instances``).
MIN_SIDE = 1e-5
#: Coordinates, widths and heights must be smaller than this.
MAX_PIXELS = 1e9
HELP = (
    'Check the data path: expected {train,val}2017/*.jpg and annotations/instances_'
    '{train,val}2017.json, as in the archives of cocodataset.org or from '
    'tools/data/make_toy.py coco'
)


class _CheckedCoco(COCO):
    """pycocotools' reader, plus a check: on its own it indexes wrong references silently."""

    def createIndex(self) -> None:
        """Check the table, then index it."""
        images = self._rows('images')
        categories = self._rows('categories')
        annotations = self._rows('annotations')
        image_ids = self._ids('images', images)
        category_ids = self._ids('categories', categories)
        self._ids('annotations', annotations)
        for number, row in enumerate(annotations):
            if not _is_id(row.get('image_id')) or row['image_id'] not in image_ids:
                expected, found = 'the image_id of an image', row.get('image_id')
            elif not _is_id(row.get('category_id')) or row['category_id'] not in category_ids:
                expected = f'the category_id of one of the {len(category_ids)} categories'
                found = row.get('category_id')
            elif not _is_box(row.get('bbox')):
                expected, found = 'bbox with x, y, w, h', row.get('bbox')
            else:
                continue
            raise ValueError(
                f'annotations[{number}] (id {row["id"]}): expected {expected}, found {found!r:.80}'
            )
        super().createIndex()

    def get_cat_ids(
        self,
        cat_names: Sequence[str] = (),
        sup_names: Sequence[str] = (),
        cat_ids: Sequence[int] = (),
    ) -> list[int]:
        """Return the ids of the classes in the order of the file; all classes must exist.

        Labels follow the order of the file and names that of the classes, so both must agree.
        """
        names = [category['name'] for category in self.dataset['categories']]
        missing = [name for name in cat_names if name not in names]
        remedy = 'Set metainfo=dict(classes=(...)) of the data sets to the categories of this file'
        if missing:
            raise ValueError(
                f'expected categories for the {len(cat_names)} classes of the data set, found '
                f'{len(names)} ({", ".join(names[:5])}, ...), without {", ".join(missing[:5])} and '
                f'{len(missing[5:])} more. {remedy}'
            )
        if cat_names and [name for name in names if name in cat_names] != list(cat_names):
            raise ValueError(
                f'expected the categories in the order of the classes, {", ".join(cat_names[:5])}, '
                f'..., found {", ".join(names[:5])}, ... {remedy}'
            )
        return super().get_cat_ids(list(cat_names), list(sup_names), list(cat_ids))

    def _rows(self, key: str) -> list[dict[str, Any]]:
        rows = self.dataset.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(
                'expected COCO JSON with the lists images, annotations and categories, found '
                f'{key}: {rows!r:.60}'
            )
        return rows

    @staticmethod
    def _ids(key: str, rows: list[dict[str, Any]]) -> set[int]:
        checks = {'id': _is_id, **_CHECKS.get(key, {})}
        ids = set()
        for number, row in enumerate(rows):
            wrong = [name for name, check in checks.items() if not check(row.get(name))]
            if wrong:
                raise ValueError(f'{key}[{number}]: expected {", ".join(wrong)}, found {row!r:.80}')
            if row['id'] in ids:
                raise ValueError(f'{key}[{number}]: the id {row["id"]} occurs twice')
            ids.add(row['id'])
        return ids


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < MAX_PIXELS  # False for NaN


def _is_side(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and '\0' not in value


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_CHECKS: dict[str, dict[str, Callable[[Any], bool]]] = {
    'images': {'file_name': _is_name, 'width': _is_side, 'height': _is_side},
    'categories': {'name': _is_name},
}


@DATASETS.register_module()
class CocoBoxDataset(SkipBadImages, CocoDataset):
    """Images with boxes of several classes, from COCO JSON.

    mmdet's ``CocoDataset`` drops boxes narrower or lower than one pixel, but the reference
    (xingyizhou/CenterNet2, detectron2) trains on them. It also keeps images that contain only
    crowds. In this class, for training and testing, boxes are clipped at the image border, then
    dropped if a side is at most 1e-5 pixels. Crowds are marked as ignored, so they are never
    ground truth. In training, ``filter_cfg=dict(filter_empty_gt=True)`` skips images without
    any other box, and ``min_size`` skips images with a shorter side. The log says how many
    boxes and images were dropped. Masks are not kept.

    Args: see ``CocoDataset`` and :class:`.SkipBadImages`.

    Raises:
        FileNotFoundError: The JSON file, the folder of images or an image is missing.
        ValueError: The file is not COCO JSON, refers to images or categories that it does not
            contain, its categories are not the classes of the data set, or no image is left.
    """

    COCOAPI = _CheckedCoco

    def load_data_list(self) -> list[dict]:
        """Read the labels and check that every image exists."""
        if not Path(self.ann_file).is_file():
            raise FileNotFoundError(f'the label file {self.ann_file} does not exist. {HELP}')
        self._without_area = 0
        try:
            items = super().load_data_list()
        except AssertionError as error:  # pycocotools raises it if the JSON is not an object
            raise ValueError(f'{self.ann_file}: expected COCO JSON: {error}') from None
        except ValueError as error:
            raise ValueError(f'{self.ann_file}: {error}') from None
        self._log(f'{self._without_area} boxes without area inside their image dropped')
        names = [item.pop('file_name') for item in items]
        folder = self.data_prefix['img']
        self.check_missing(missing_images(folder, names), len(names), f'{folder}. {HELP}')
        return items

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Convert the labels of an image to an item (see the class)."""
        image = raw_data_info['raw_img_info']
        instances = []
        for row in raw_data_info['raw_ann_info']:
            label = self.cat2label.get(row['category_id'])
            if label is None:  # the data set uses only some of the categories
                continue
            x, y, width, height = row['bbox']
            box = [
                max(x, 0),
                max(y, 0),
                min(x + width, image['width']),
                min(y + height, image['height']),
            ]
            if min(box[2] - box[0], box[3] - box[1]) <= MIN_SIDE:
                self._without_area += 1
                continue
            ignored = bool(row.get('iscrowd') or row.get('ignore'))
            instances.append(dict(bbox=box, bbox_label=label, ignore_flag=int(ignored)))
        return dict(
            img_path=str(Path(self.data_prefix['img']) / image['file_name']),
            img_id=image['img_id'],
            file_name=image['file_name'],
            width=image['width'],
            height=image['height'],
            instances=instances,
        )

    def filter_data(self) -> list[dict]:
        """Drop images in training according to ``filter_cfg``."""
        items = self.data_list
        if self.test_mode:
            return items
        rules = self.filter_cfg or {}
        if rules.get('filter_empty_gt', False):
            items = [
                item for item in items if any(not box['ignore_flag'] for box in item['instances'])
            ]
        empty = len(self.data_list) - len(items)
        least = rules.get('min_size', 0)
        items = [item for item in items if min(item['width'], item['height']) >= least]
        self._log(f'{empty} images without a box for training dropped')
        self._log(f'{len(self.data_list) - empty - len(items)} images below {least} px dropped')
        if not items:
            raise ValueError(
                f'{self.ann_file}: none of its {len(self.data_list)} images is left to train on; '
                'the log says why. filter_cfg=None keeps all'
            )
        return items

    def _log(self, message: str) -> None:
        if not self.test_mode and not message.startswith('0 '):
            print_log(f'{self.ann_file}: {message}', logger='current', level=logging.INFO)
