# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The part of CenterNet2 after its first graph: choose proposals, run the second graph, NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.layouts import LAYOUTS, outputs_of
from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.decode import clip_boxes, to_original
from mmface.deploy.runtime.detections import Detections
from mmface.deploy.runtime.letterbox import Placement
from mmface.deploy.runtime.nms import class_nms, nms
from mmface.deploy.runtime.readers import read_outputs

PARTS = ('proposals', 'rois')


def second_file(path: Path) -> Path:
    """Return the path of CenterNet2's second file, in the folder of the first.

    Raises:
        ValueError: The name of the first file does not have the expected ending.
    """
    first, second = (f'_{part}.onnx' for part in PARTS)
    if not path.name.endswith(first):
        raise ValueError(
            f'{path}: expected a name that ends in {first}, as the exporter writes it, so that the '
            f'file {second} is found beside it'
        )
    return path.with_name(path.name.removesuffix(first) + second)


class SecondStage:
    """The second stage of CenterNet2, and NMS before and after it.

    Args:
        session: The onnxruntime session of the second file.
        spec: Specification of the first file, with the thresholds to use.

    Raises:
        ValueError: The file does not match the specification.
    """

    def __init__(self, session: Any, spec: ModelSpec) -> None:
        self.session = session
        self.spec = spec
        self.outputs = [each.name for each in outputs_of(replace(spec, layout='rois'))]
        self.maps = [each for each in outputs_of(spec) if each.kind == 'feat']
        expected = {*(each.name for each in self.maps), *LAYOUTS['rois'].inputs}
        found = {port.name for port in session.get_inputs()}
        if found != expected:
            raise ValueError(
                f'the second file of the model has the inputs {", ".join(sorted(found))}, expected '
                f'{", ".join(sorted(expected))}: export both files again'
            )

    def detect(
        self, outputs: Sequence[NDArray[Any]], placements: Sequence[Placement]
    ) -> list[Detections]:
        """Detect objects from the outputs of the first file.

        Args:
            outputs: Outputs of a batch, in the order of the file.
            placements: Position of each image in its input.

        Returns:
            The objects of each image, highest score first, in pixels of the original image,
            clipped to it. They have labels if there are several classes.

        Raises:
            ValueError: The outputs do not match the specification.
        """
        images = zip(read_outputs(outputs, self.spec, placements), placements, strict=True)
        return [self._detect(maps, placement) for maps, placement in images]

    def _detect(self, maps: dict[tuple[str, int], NDArray], placement: Placement) -> Detections:
        boxes, scores = self._choose(maps['boxes', 0], maps['scores', 0])
        height, width = placement.content
        limits = np.array([width, height, width, height], np.float32)
        values = dict(zip(LAYOUTS['rois'].inputs, (boxes, scores, limits), strict=True))
        values |= {each.name: maps[each.key][None] for each in self.maps}
        boxes, chances = self.session.run(self.outputs, values)
        found = _suppress_classes(boxes, chances, self.spec)
        found = to_original(found, placement)
        found = found._replace(bboxes=clip_boxes(found.bboxes, placement.original))
        found = found.take((found.bboxes[:, 2:] > found.bboxes[:, :2]).all(axis=1))
        return found if self.spec.num_classes > 1 else found._replace(labels=None)

    def _choose(self, boxes: NDArray, scores: NDArray) -> tuple[NDArray, NDArray]:
        """Choose ``num_proposals`` boxes and their scores. The rest is filled with zeros."""
        (index,) = np.nonzero(scores > self.spec.proposal_thr)
        keep = index[nms(boxes[index], scores[index], self.spec.proposal_iou)]
        keep = keep[: self.spec.num_proposals]
        padding = self.spec.num_proposals - len(keep)
        return np.pad(boxes[keep], [(0, padding), (0, 0)]), np.pad(scores[keep], (0, padding))


def _suppress_classes(boxes: NDArray, scores: NDArray, spec: ModelSpec) -> Detections:
    """Select from boxes (R, 4) and scores (R, classes) with NMS for each class separately."""
    rows, labels = np.nonzero(scores > spec.score_thr)
    found = Detections(boxes[rows], scores[rows, labels], labels=labels)
    keep = class_nms(found.bboxes, found.scores, labels, spec.nms_iou)
    return found.take(keep if spec.max_per_img < 0 else keep[: spec.max_per_img])
