# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Export a trained detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmface
from mmface.datasets.class_names import class_names
from mmface.deploy.export.check import (
    HALF_TOLERANCE,
    TOLERANCE,
    Difference,
    check_images,
    compare,
    to_input,
)
from mmface.deploy.export.graph import (
    drop_identities,
    fold_all_batch_norms,
    fold_shapes,
    normalise_inside,
    to_half,
)
from mmface.deploy.export.networks import ExportNetwork, build_network
from mmface.deploy.export.options import ExportOptions
from mmface.deploy.export.spec import check_layout, find_family, find_resize, make_spec, num_classes
from mmface.deploy.export.trace import trace
from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.utils.checkpoint import load_checkpoint_file
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file
from mmface.weights.loading import load_fitting_weights

with optional_imports():
    import onnx

#: Batch, height and width of further inputs with which a dynamic file is checked.
OTHER_SIZES = ((2, 64, 160), (3, 128, 96))


@dataclass
class ExportResult:
    """The result of an export.

    Attributes:
        spec: The specification in the file.
        differences: For each output, its difference from torch; empty if it was not checked.
        notes: Notes for the user.
    """

    spec: ModelSpec
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_detector(cfg: Config, checkpoint: str | Path, trust: bool = False) -> Any:
    """Build the model of a config and load its weights, in evaluation mode on the CPU.

    The names of its classes are in ``dataset_meta`` of the model, as with mmdet's inferencer.

    Args:
        cfg: A complete config.
        checkpoint: A checkpoint of that model.
        trust: See ``load_checkpoint_file``.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        ValueError: The checkpoint cannot be read or does not fit.
    """
    content = load_checkpoint_file(checkpoint, trust)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(cfg.model)
    load_fitting_weights(model, content, str(checkpoint))
    model.dataset_meta = {'classes': class_names(content, cfg, num_classes(model))}
    return model.eval()


def export_onnx(
    cfg: Config,
    model: Any,
    path: str | Path,
    options: ExportOptions,
    images: Sequence[str | Path] | None = None,
) -> ExportResult:
    """Write an ONNX file of SCRFD or CenterFace.

    The file carries its ``ModelSpec`` in the metadata. Batch norms are folded.

    Args:
        cfg: The config that the model is tested with.
        model: The trained detector.
        path: File to write. It is written completely or not at all.
        options: Options of the file.
        images: Image files for the comparison with torch; drawn images if empty; ``None`` skips
            the comparison.

    Returns:
        The specification, the differences and notes.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: The model cannot have this layout, the config defines no size, or the file
            differs from torch. Then nothing is written.
    """
    family = find_family(model)
    if family == 'centernet2':
        raise ValueError('CenterNet2 is exported to two files: use export_two_stage')
    check_layout(model, family, options.layout)
    resize, tested = find_resize(cfg)
    size = options.size or tested
    if tested == (0, 0) != size and resize == 'stretch':
        resize = 'centre'  # stretching to one size would change the aspect ratio
    if size == (0, 0) and not options.dynamic:
        raise ValueError(
            'this config tests each image at its own size: choose a size, or export a dynamic '
            'file for all sizes'
        )
    example = size if size != (0, 0) else (320, 320)
    spec = make_spec(cfg, model, options.layout, size, resize, options.fold_normalize)
    network = build_network(model, spec, None if options.dynamic else example)
    result = ExportResult(spec)
    onnx_model = _make_graph(network, spec, example, options, result.notes)
    if (model.bbox_head.test_cfg.get('nms') or {}).get('type', 'nms') != 'nms':
        result.notes.append(
            f'the config tests with {model.bbox_head.test_cfg["nms"]["type"]}, the runtime uses '
            f'NMS at IoU {spec.nms_iou}'
        )
    if options.layout == 'insightface' and options.fold_normalize:
        result.notes.append(
            'the insightface package normalises images itself: it needs a file without this'
        )
    with whole_file(path) as tmp:
        onnx.save(onnx_model, str(tmp))
        if images is not None:
            result.differences = _check(tmp, network, spec, example, options, images)
            tolerance = HALF_TOLERANCE if options.half else TOLERANCE
            wrong = [item for item in result.differences if item.excess > 1]
            if wrong:
                found = ', '.join(f'{item.name} by up to {item.largest:.3g}' for item in wrong)
                raise ValueError(
                    f'the ONNX file differs from torch by more than {tolerance:g} '
                    f'+ {tolerance:g} x the largest value: {found}; nothing was written'
                )
    return result


def _make_graph(
    network: ExportNetwork,
    spec: ModelSpec,
    size: tuple[int, int],
    options: ExportOptions,
    notes: list[str],
) -> onnx.ModelProto:
    axes = None
    # Two images: with one image, an exporter may treat the batch size as a constant.
    batch = 2 if options.dynamic else options.batch
    if options.dynamic:
        axes = {name: {0: 'batch', **more} for name, more in network.dynamic_axes.items()}
        axes[network.input_name] = {0: 'batch', 2: 'height', 3: 'width'}
        size = (96, 64)  # any size works, and a small one is fast
    image = torch.zeros(batch, 3, *size)
    model = trace(network, [image], [network.input_name], network.output_names, options.opset, axes)
    drop_identities(model)
    fold_shapes(model)
    fold_all_batch_norms(model)
    if options.fold_normalize:
        notes.append('normalisation inside: ' + normalise_inside(model, spec.mean, spec.std))
    if options.half:
        to_half(model)
    model.producer_name, model.producer_version = 'mmface', mmface.__version__
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model


def _check(
    path: Path,
    network: ExportNetwork,
    spec: ModelSpec,
    size: tuple[int, int],
    options: ExportOptions,
    images: Sequence[str | Path],
) -> list[Difference]:
    """Compare the file with torch; a dynamic file at three sizes."""
    shapes = [(options.batch, *size)]
    if options.dynamic:
        shapes += OTHER_SIZES
    batches = []
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
    for count, *sides in shapes:
        raw = to_input(check_images(images, (sides[0], sides[1]), count), spec.rgb)
        normalised = (raw - mean) / std
        for start in range(0, len(raw), count):
            part = slice(start, start + count)
            fed = raw[part] if spec.normalized_inside else normalised[part]
            batches.append((fed, torch.from_numpy(normalised[part])))
    tolerance = HALF_TOLERANCE if options.half else TOLERANCE
    return compare(path, network, batches, tolerance)
