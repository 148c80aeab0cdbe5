# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Export CenterNet2 as two graphs with fixed shapes. The runtime does the NMS between them.

``<name>_proposals.onnx``: input ``image`` (B, 3, H, W), normalized; outputs ``boxes`` (B, T, 4)
xyxy in input pixels and ``scores`` (B, T), the best ``nms_pre`` of each level without a score
threshold, and the maps ``feat_8`` to ``feat_128``.

``<name>_rois.onnx``: inputs are those maps of one image (1, C, H / s, W / s), ``proposals``
(R, 4), ``proposal_scores`` (R,) and ``limits`` (4,): width, height, width, height of the image in
the input, to which boxes are clipped; outputs ``boxes`` (R, 4) and ``scores`` (R, classes).

Between the graphs, the host drops scores not above ``proposal_thr``, runs NMS, keeps the best R and
fills up with zeros. Afterwards it applies the threshold and NMS per class. The runtime does this
(``FaceDetector`` of the first file). The metadata of both files is a ``ModelSpec``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.ops import ModulatedDeformConv2dPack, roi_align
from mmengine.config import Config
from torch import Tensor, nn

from mmface.deploy.export.check import TOLERANCE, Difference, check_images, to_input
from mmface.deploy.export.graph import drop_identities, fold_all_batch_norms, fold_shapes
from mmface.deploy.export.options import ExportOptions
from mmface.deploy.export.spec import find_resize, make_spec
from mmface.deploy.export.trace import trace
from mmface.deploy.layouts import LAYOUTS, outputs_of
from mmface.deploy.model_spec import METADATA_KEY
from mmface.deploy.runtime.second_stage import PARTS
from mmface.models.roi_heads.centernet2_roi_head import CenterNet2RoIHead
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file

with optional_imports():
    import onnx
    import onnxruntime as ort

#: Since opset 16, RoiAlign measures coordinates from the edges of pixels.
MIN_OPSET = 17


class ProposalNetwork(nn.Module):
    """The first stage: maps normalized images to candidates and feature maps.

    Args:
        model: A CenterNet2.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute boxes (B, T, 4), scores (B, T) and the maps, finest first."""
        feats = self.model.extract_feat(image)
        head = self.model.rpn_head
        _, heat, distances = head(feats)
        boxes, scores = [], []
        for logits, distance, stride in zip(heat, distances, head.strides, strict=True):
            rank = logits.sigmoid().flatten(1)
            count = min(int(head.test_cfg['nms_pre']), int(np.prod(logits.shape[-2:])))
            score, cell = rank.topk(count)
            x1y1x2y2 = _boxes(distance, int(stride)).flatten(2).transpose(1, 2)
            boxes.append(x1y1x2y2.gather(1, torch.stack([cell] * 4, -1)))
            scores.append(score.sqrt())
        return (torch.cat(boxes, 1), torch.cat(scores, 1), *feats)


class RoINetwork(nn.Module):
    """The second stage: maps feature maps and proposals to class scores and refined boxes.

    Args:
        model: A CenterNet2.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.head: CenterNet2RoIHead = model.roi_head
        self.stages = nn.ModuleList(self.head.stages)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute boxes (R, 4) and scores (R, classes) for the inputs in the module docstring."""
        *feats, bboxes, proposal_scores, limits = inputs
        chance = feats[0].new_zeros(())
        stage: Any
        for stage in self.stages:
            logits, deltas = stage(self._pool(feats, bboxes))
            chance = chance + logits.softmax(-1)[:, :-1] / len(self.stages)
            # Clip where the head clips: not below 0, and not beyond the image.
            moved = stage.bbox_coder.decode(bboxes, deltas).clamp(min=0)
            bboxes = torch.minimum(moved, limits)
        return bboxes, (chance * proposal_scores[:, None]).sqrt()

    def _pool(self, feats: Sequence[Tensor], bboxes: Tensor) -> Tensor:
        """Pool each box from the level of its size. In the other levels it is an empty box."""
        extractor = self.head.bbox_roi_extractor
        sides = bboxes[:, 2:] - bboxes[:, :2]
        ratio = (sides[:, :1] * sides[:, 1:]).clamp(min=0).sqrt() / extractor.finest_scale + 1e-6
        # Comparisons instead of a logarithm, which has rounding errors at the powers of two.
        reached = [(ratio >= 2.0**level).float() for level in range(1, len(feats))]
        lowest, none = torch.ones_like(ratio), torch.zeros_like(ratio)
        steps = [lowest, *reached, none]
        pooled = feats[0].new_zeros(())
        for level, (layer, feat) in enumerate(zip(extractor.roi_layers, feats, strict=True)):
            here = steps[level] - steps[level + 1]
            args = (layer.output_size, float(layer.spatial_scale), int(layer.sampling_ratio))
            part = _RoIAlign.apply(feat, bboxes * here, *args)
            pooled = pooled + part * here[:, :, None, None]
        return pooled


class _RoIAlign(torch.autograd.Function):
    """mmcv's RoIAlign for one image, exported as ONNX's RoiAlign (since opset 16)."""

    @staticmethod
    def forward(
        ctx: Any, feat: Tensor, bboxes: Tensor, size: tuple[int, int], scale: float, ratio: int
    ) -> Tensor:
        rois = torch.cat([torch.zeros_like(bboxes[:, :1]), bboxes], 1)
        return roi_align(feat, rois, size, scale, ratio, 'avg', True)

    @staticmethod
    def symbolic(
        g: Any, feat: Any, bboxes: Any, size: tuple[int, int], scale: float, ratio: int
    ) -> Any:
        count = bboxes.type().sizes()[0]
        return g.op(
            'RoiAlign',
            feat,
            bboxes,
            g.op('Constant', value_t=torch.zeros(count, dtype=torch.long)),
            coordinate_transformation_mode_s='half_pixel',
            mode_s='avg',
            output_height_i=size[0],
            output_width_i=size[1],
            sampling_ratio_i=ratio,
            spatial_scale_f=scale,
        )


def export_two_stage(
    cfg: Config,
    model: Any,
    path: str | Path,
    options: ExportOptions,
    images: Sequence[str | Path] | None = None,
) -> tuple[list[Path], list[Difference]]:
    """Write the two ONNX files of a CenterNet2.

    Args:
        cfg: The config that the model is tested with.
        model: The trained detector.
        path: Base name of the files: ``a.onnx`` results in ``a_proposals.onnx`` and
            ``a_rois.onnx``. Both are written completely, or none.
        options: Options of the files. They must be static.
        images: See ``export_onnx``.

    Returns:
        The files, and the differences from torch.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: The options do not fit two stages, the model has deformable convolutions, or
            the files differ from torch.
    """
    size = _check_options(model, options)
    resize, _ = find_resize(cfg)
    spec = make_spec(cfg, model, 'proposals', size, resize)
    specs = (spec, replace(spec, layout='rois'))
    networks = (ProposalNetwork(model).eval(), RoINetwork(model).eval())
    image = torch.zeros(options.batch, 3, *size)
    with torch.no_grad():
        _, _, *feats = networks[0](image)
    height, width = map(float, size)
    count = spec.num_proposals
    box = torch.tensor([[0.0, 0.0, width / 2, height / 2]]).repeat(count, 1)
    limits = torch.tensor([width, height, width, height])
    examples = [[image], [*(feat[:1] for feat in feats), box, torch.ones(count), limits]]
    maps = [each.name for each in outputs_of(spec) if each.kind == 'feat']
    inputs = [LAYOUTS['proposals'].inputs, [*maps, *LAYOUTS['rois'].inputs]]
    graphs = []
    for network, example, names, each in zip(networks, examples, inputs, specs, strict=True):
        outputs = [output.name for output in outputs_of(each)]
        graph = trace(network, example, names, outputs, options.opset)
        drop_identities(graph)
        fold_shapes(graph)
        fold_all_batch_norms(graph)
        graph.producer_name = 'mmface'
        onnx.helper.set_model_props(graph, {METADATA_KEY: each.to_json()})
        onnx.checker.check_model(graph, full_check=True)
        graphs.append(graph)
    target = Path(path)
    files = [target.with_name(f'{target.stem}_{part}.onnx') for part in PARTS]
    with whole_file(files[0]) as first, whole_file(files[1]) as second:
        for graph, tmp in zip(graphs, (first, second), strict=True):
            onnx.save(graph, str(tmp))
        differences = []
        if images is not None:
            mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
            raw = to_input(check_images(images, size, options.batch), spec.rgb)
            normalised = torch.from_numpy((raw[: options.batch] - mean) / std)
            differences = _compare((first, second), networks, normalised, count, limits)
            wrong = [item for item in differences if item.excess > 1]
            if wrong:
                found = ', '.join(f'{item.name} by up to {item.largest:.3g}' for item in wrong)
                raise ValueError(f'the ONNX files differ from torch: {found}; nothing was written')
    return files, differences


def _check_options(model: Any, options: ExportOptions) -> tuple[int, int]:
    if options.size is None:
        raise ValueError('CenterNet2 needs a fixed size: set size=(height, width)')
    if options.layout != 'raw' or options.fold_normalize or options.half:
        raise ValueError('CenterNet2 supports only the layout raw, no fold_normalize and no half')
    if options.opset < MIN_OPSET:
        raise ValueError(
            f'opset {options.opset} has no RoiAlign that measures from the edges of pixels: set '
            f'opset={MIN_OPSET}'
        )
    if any(isinstance(module, ModulatedDeformConv2dPack) for module in model.modules()):
        raise ValueError(
            'this model has deformable convolutions, which ONNX has only since opset 19: choose a '
            'config without dcn'
        )
    return options.size


def _boxes(distance: Tensor, stride: int) -> Tensor:
    """Decode distances (B, 4, H, W) as ``best_candidates`` does."""
    height, width = map(int, distance.shape[-2:])
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    cells = torch.stack([x, y]).float() * stride + stride / 2
    corner = cells - distance[:, :2] * stride
    opposite = torch.maximum(cells + distance[:, 2:] * stride, corner + 0.01)
    return torch.cat([corner, opposite], 1)


def _compare(
    files: Sequence[Path],
    networks: Sequence[nn.Module],
    image: Tensor,
    count: int,
    limits: Tensor,
) -> list[Difference]:
    """Run both graphs and both networks. The second stage uses the results of the first network."""
    sessions = [ort.InferenceSession(str(f), providers=['CPUExecutionProvider']) for f in files]
    with torch.no_grad():
        wanted = networks[0](image)
        best = wanted[1][0].topk(min(count, wanted[1].shape[1]))
        boxes, scores = torch.zeros(count, 4), torch.zeros(count)
        boxes[: len(best.indices)] = wanted[0][0][best.indices]
        scores[: len(best.indices)] = best.values
        inputs = [*(feat[:1] for feat in wanted[2:]), boxes, scores, limits]
        truths = [[value.numpy() for value in wanted], [v.numpy() for v in networks[1](*inputs)]]
    fed: list[list[Tensor]] = [[image], inputs]
    result = []
    for part, session, values, truth in zip(PARTS, sessions, fed, truths, strict=True):
        feeds = {p.name: v.numpy() for p, v in zip(session.get_inputs(), values, strict=True)}
        found = session.run(None, feeds)
        if part == 'proposals':
            # Candidates with nearly the same score may be in a different order.
            found[0], truth[0] = _sorted_rows(found[0]), _sorted_rows(truth[0])
        for port, value, same in zip(session.get_outputs(), found, truth, strict=True):
            gap = np.abs(value - same)
            largest = float(np.where(np.isfinite(gap), gap, np.inf).max(initial=0))
            excess = largest / (TOLERANCE * (1 + float(np.nanmax(np.abs(same)))))
            result.append(Difference(f'{part} {port.name}', largest, excess))
    return result


def _sorted_rows(boxes: np.ndarray) -> np.ndarray:
    """Sort each coordinate of boxes (B, T, 4) separately."""
    return np.sort(boxes, axis=1)
