# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Statistics of the labels of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Sizes of faces at which their share is printed, in pixels: sqrt(width * height).
SIZE_STEPS = (8, 16, 32, 64, 128, 256)


class LabelStatistics:
    """Numbers of faces, their sizes, keypoints and classes.

    Args:
        items: The items of a data set (``get_data_info``): with ``bboxes`` (n, 4), ``keypoints``
            (n, K, 3), ``ignore_flags`` (n,) and ``labels`` (n,), or with mmdet's ``instances``.
        metainfo: That of the data set: ``classes``, and ``keypoints``, their names.

    Attributes:
        faces: Faces to learn in each image, (images,).
        ignored: Ignored faces in all images.
        sizes: sqrt(width * height) of each face to learn, in pixels of the image, (n,).
        classes: Faces of each class by its name.
        keypoints: Share of the faces that have each keypoint, by its name or number.
    """

    def __init__(self, items: Iterable[Mapping[str, Any]], metainfo: Mapping[str, Any]) -> None:
        faces, sizes, labels, visible = [], [], [], []
        self.ignored = 0
        for item in items:
            boxes, ignore, label, points = _labels(item)
            learned = ~ignore
            faces.append(int(learned.sum()))
            self.ignored += int(ignore.sum())
            sides = np.clip(boxes[learned, 2:] - boxes[learned, :2], 0, None)
            sizes.append(np.sqrt(sides.prod(axis=1)))
            labels.append(label[learned])
            if points is not None:
                visible.append(points[learned, :, 2] > 0)
        self.faces = np.array(faces, int)
        self.sizes: NDArray[np.float64] = np.concatenate([np.zeros(0), *sizes])
        names = list(metainfo.get('classes', ()))
        counts = np.bincount(np.concatenate([np.zeros(0, int), *labels]), minlength=len(names))
        names += [f'class {i}' for i in range(len(names), len(counts))]
        self.classes = dict(zip(names, counts.tolist(), strict=True))
        shares = np.concatenate(visible).mean(axis=0).tolist() if any(map(len, visible)) else []
        titles: Sequence[Any] = metainfo.get('keypoints') or range(len(shares))
        self.keypoints = dict(zip(map(str, titles), shares, strict=True))

    def describe(self) -> str:
        """Return the numbers as text."""
        count = len(self.sizes)
        lines = [
            f'{len(self.faces)} images, {count} faces to learn, {self.ignored} ignored',
            f'faces per image: {_spread(self.faces)}, {(self.faces == 0).sum()} images without',
            f'size of faces (sqrt of width * height, pixels): {_spread(self.sizes)}',
        ]
        edges = (0, *SIZE_STEPS, np.inf)
        shares = np.histogram(self.sizes, edges)[0] / max(count, 1)
        names = [f'below {SIZE_STEPS[0]}', *(f'from {step}' for step in SIZE_STEPS)]
        lines.append('  ' + ', '.join(f'{n} {s:.0%}' for n, s in zip(names, shares, strict=True)))
        lines.append('classes: ' + ', '.join(f'{n} {c}' for n, c in self.classes.items()))
        if self.keypoints:
            each = ', '.join(f'{name} {share:.0%}' for name, share in self.keypoints.items())
            lines.append(f'faces with keypoint: {each}')
        else:
            lines.append('keypoints: none')
        return '\n'.join(lines)

    def draw(self, plt: Any, seen: NDArray[np.float64] | None = None) -> Any:
        """Return a figure with the distributions.

        Args:
            plt: ``matplotlib.pyplot``.
            seen: Sizes of the faces in training samples, in pixels of the network's input.
        """
        figure, panels = plt.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
        faces, sizes, classes, points = panels.ravel()
        faces.hist(self.faces, bins=min(30, max(int(self.faces.max(initial=1)), 1)))
        faces.set(xlabel='faces to learn in an image', ylabel='images', yscale='log')
        bins = 2.0 ** np.arange(0, 11, 0.5)
        given = [(self.sizes, 'in the images')]
        if seen is not None and len(seen):
            given.append((seen, 'in training samples'))
        for values, label in given:
            weights = np.full(len(values), 1 / max(len(values), 1))
            sizes.hist(np.clip(values, 1, 1000), bins, weights=weights, alpha=0.6, label=label)
        sizes.set(xscale='log', xlabel='size of faces (pixels)', ylabel='share')
        sizes.legend()
        classes.barh(list(self.classes), list(self.classes.values()))
        classes.set(xlabel='faces to learn of each class')
        points.barh(list(self.keypoints), list(self.keypoints.values()))
        points.set(xlabel='share of faces with a keypoint', xlim=(0, 1))
        points.invert_yaxis()
        return figure


def _labels(item: Mapping[str, Any]) -> tuple[NDArray, NDArray, NDArray, NDArray | None]:
    """Return boxes (n, 4), ignore flags (n,), labels (n,) and keypoints (n, K, 3) of an item."""
    if 'bboxes' in item:
        boxes = np.asarray(item['bboxes'], float).reshape(-1, 4)
        ignore = np.asarray(item['ignore_flags'], bool)
        labels = np.asarray(item.get('labels', np.zeros(len(boxes))), int)
        return boxes, ignore, labels, item.get('keypoints')
    rows = item.get('instances', ())
    boxes = np.array([row['bbox'] for row in rows], float).reshape(-1, 4)
    ignore = np.array([bool(row.get('ignore_flag', 0)) for row in rows], bool)
    return boxes, ignore, np.array([row['bbox_label'] for row in rows], int), None


def _spread(values: NDArray) -> str:
    if not len(values):
        return 'none'
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f'median {middle:.0f}, 90 % within {low:.0f} to {high:.0f}, largest {values.max():.0f}'
