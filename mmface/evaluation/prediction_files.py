# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read and match predictions in any of the formats that detectors write."""

from __future__ import annotations

from pathlib import Path

from mmface.evaluation.coco_results import CocoResultsSource
from mmface.evaluation.dumped_results import DumpedResultsSource
from mmface.evaluation.matched import MatchCollector, Matched
from mmface.evaluation.parquet_rows import ParquetSource
from mmface.evaluation.plausibility import Sample
from mmface.evaluation.prediction_source import Category, PredictionSource
from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.evaluation.wider_match import check_protocol
from mmface.evaluation.wider_txt import WiderTxtSource

#: What ``open_predictions`` reads, for help texts.
FORMATS = (
    'folder or .tar.gz of <event>/<image>.txt, COCO results (.json), DumpDetResults of mmdet '
    '(.pkl) or a table of mmface detect (.parquet)'
)


def open_predictions(
    path: Path,
    gt: WiderGroundTruth | None = None,
    show: bool = False,
    image_ids: Path | None = None,
    category: Category | None = None,
) -> PredictionSource:
    """Return the reader of a file or folder, chosen by its suffix.

    Args:
        path: See ``FORMATS``.
        gt: Read only the images of this ground truth; None reads all.
        show: Whether to show a progress bar on a terminal.
        image_ids: COCO file that names the image of each number in a ``.json`` file.
        category: Take only the detections of this class; text files have no classes.

    Raises:
        FileNotFoundError: The file or folder does not exist.
        ValueError: A class is wanted of a format without classes.
    """
    if not path.exists():
        raise FileNotFoundError(f'predictions {path} do not exist; expected a {FORMATS}')
    suffix = '' if path.is_dir() else path.suffix.lower()
    if suffix == '.json':
        return CocoResultsSource(path, gt, show, category, image_ids)
    if suffix in ('.pkl', '.pickle'):
        return DumpedResultsSource(path, gt, show, category)
    if suffix == '.parquet' or (path.is_dir() and any(path.glob('*.parquet'))):
        return ParquetSource(path, gt, show, category)
    if category is not None:
        raise ValueError(f'{path}: text files have no classes; expected a .json, .pkl or .parquet')
    return WiderTxtSource(path, gt, show)


def match_predictions(
    source: PredictionSource,
    gt: WiderGroundTruth,
    protocol: str = 'float',
    iou_thr: float = 0.5,
    keep_boxes: bool = False,
) -> tuple[Matched, Sample]:
    """Read and match predictions, image by image.

    Args:
        source: The reader, for the images of ``gt``.
        gt: The ground truth.
        protocol: ``float`` or ``official``.
        iou_thr: Minimum IoU of a hit.
        keep_boxes: Whether to keep the boxes, which take 32 bytes each.

    Returns:
        The matched detections, and a sample of rows to check them, see
        ``mmface.evaluation.plausibility``.

    Raises:
        FileNotFoundError: There are no predictions.
        ValueError: An entry cannot be read, or the protocol or the threshold is invalid.
    """
    check_protocol(protocol, iou_thr)
    collector = MatchCollector(gt, protocol, iou_thr, keep_boxes)
    sample = Sample(gt)
    for names, table, counts in source:
        images = [gt.index[name] for name in names]
        sample.add(images, table[:, :5], counts)
        collector.add(images, table, counts)
    return collector.finish(source.extra), sample
