# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""WIDER FACE AP during training and testing."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.logging import MMLogger, print_log
from numpy.typing import NDArray

from mmface.evaluation.metrics.image_metric import ImageMetric
from mmface.evaluation.metrics.outputs import Outputs
from mmface.evaluation.metrics.predictions import detection_rows, image_name
from mmface.evaluation.pr_curve import plot_pr_curves
from mmface.evaluation.wider_ap import evaluate
from mmface.evaluation.wider_gt import SUBSETS, read_ground_truth
from mmface.evaluation.wider_match import ImageMatch, check_protocol, match_image
from mmface.evaluation.wider_result import WiderResult, format_table
from mmface.evaluation.wider_txt import write_wider_txt
from mmface.utils.files import write_text
from mmface.utils.image_names import image_key, read_part


@dataclass(frozen=True)
class _ImageRecord:
    """Record of one image, kept until the end of the loop."""

    image: str
    match: ImageMatch
    dropped: int


@METRICS.register_module()
class WiderFaceMetric(ImageMetric):
    """AP on the easy, medium and hard sets of WIDER FACE.

    Images are matched one by one when they arrive. Only a score and a number per detection are
    kept until the end of the loop. No prediction of a detector stops the run. Rows that are not
    finite are dropped. Images that never arrive count as images without detections. Both are
    counted and logged as a warning. An image that arrives twice, because a sampler fills up the
    last batch of a rank, counts once.

    Args:
        gt_dir: Folder of the four ``.mat`` files of the ground truth.
        protocol: ``float`` or ``official``, see ``mmface.evaluation.wider_match``.
        iou_thr: Minimum IoU of a hit; CenterFace's own tables used 0.4.
        part: Evaluate only these images (ground truth and score range): a list of names
            ``event/name.jpg``, or a text file with one per line. The result is marked partial.
        save_txt: Folder to write the detections to, in the text format of WIDER FACE.
        out_dir: Folder for ``metrics.json``. By default it is that of the log file.
        plot: Whether to write ``pr_curve.png`` to the same folder.
        collect_device: Device on which the results of several ranks are collected.
        prefix: Prefix of ``/easy``, ``/medium`` and ``/hard``.
        collect_dir: Folder shared by the ranks, see ``mmengine.evaluator.BaseMetric``.

    Raises:
        FileNotFoundError: The ground truth or the list of the part does not exist.
        ValueError: The ground truth is wrong, an image of the part is unknown, or the protocol or
            the threshold is invalid.
    """

    default_prefix = 'wider_face'

    def __init__(
        self,
        gt_dir: str,
        protocol: str = 'float',
        iou_thr: float = 0.5,
        part: str | Sequence[str] | None = None,
        save_txt: str | None = None,
        out_dir: str | None = None,
        plot: bool = True,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        check_protocol(protocol, iou_thr)
        self.gt = read_ground_truth(gt_dir)
        if part is not None:
            names = read_part(part) if isinstance(part, str | os.PathLike) else part
            self.gt = self.gt.restrict(names)
        self.protocol = protocol
        self.iou_thr = iou_thr
        self.save_txt = Path(save_txt) if save_txt is not None else None
        self.out_dir = Path(out_dir) if out_dir is not None else None
        self.plot = plot
        self.outputs = Outputs()

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Match the detections of a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples or dicts with ``pred_instances`` (``bboxes`` xyxy in
                pixels of the original image, ``scores``) and ``img_id`` event/name.jpg.
        """
        for sample in data_samples:
            rows = detection_rows(sample.get('pred_instances'))
            finite = np.isfinite(rows).all(axis=1)
            dropped = int(len(rows) - finite.sum())
            rows = rows[finite]
            name = image_key(image_name(sample))
            number = self.gt.find(name)
            match = ImageMatch(np.empty(0), np.empty(0, np.int32))
            if number is not None:
                name = self.gt.names[number]
                match = match_image(rows, self.gt.boxes_of(number), self.iou_thr, self.protocol)
            self._save(name, rows)
            self.results.append(_ImageRecord(name, match, dropped))

    def compute_metrics(self, results: list[_ImageRecord]) -> dict[str, float]:
        """Evaluate the collected images, log a table and write the files."""
        records = {record.image: record for record in results}
        result = evaluate(
            self.gt,
            {name: record.match for name, record in records.items()},
            self.protocol,
            self.iou_thr,
        )
        result.dropped_rows = sum(
            record.dropped for name, record in records.items() if name in self.gt.index
        )
        self._report(result)
        return {subset: result.ap[subset] for subset in SUBSETS}

    def _report(self, result: WiderResult) -> None:
        name = '' if self.prefix in (None, self.default_prefix) else self.prefix
        print_log('\n' + format_table({name: result}), logger='current')
        if result.warnings():
            # One log message for all warnings.
            print_log('; '.join(result.warnings()), logger='current', level=logging.WARNING)
        folder = self.out_dir or _log_dir()
        if folder is None:
            return
        text = json.dumps(result.to_dict(), indent=2) + '\n'
        self.outputs.write(folder / 'metrics.json', lambda path: write_text(path, text))
        if self.plot:
            curves = {name: result}
            self.outputs.write(folder / 'pr_curve.png', lambda path: plot_pr_curves(curves, path))

    def _save(self, name: str, rows: NDArray[np.float64]) -> None:
        folder = self.save_txt
        if folder is None:
            return
        path = Path(folder, f'{name}.txt')
        try:
            written = self.outputs.write(
                path, lambda _: write_wider_txt(folder, name, rows), quiet=True
            )
        except ValueError as error:  # only the name of this image is wrong
            self.outputs.refuse(str(error))
            return
        if not written:
            self.save_txt = None  # no more detections are written


def _log_dir() -> Path | None:
    """Return the folder of the running experiment's log file, or None if there is none."""
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename).parent
    return None
