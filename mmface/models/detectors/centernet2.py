# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The CenterNet2 detector."""

from __future__ import annotations

from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import Tensor


@MODELS.register_module()
class CenterNet2(TwoStageDetector):
    """Probabilistic two-stage detection (arXiv 2103.07461).

    The first stage separates objects from background at the cells of a pyramid. The second stage
    predicts their classes. At test time their probabilities are multiplied. The two heads named
    by the config do this work.

    mmdet's ``TwoStageDetector`` copies the ground truth in every step to set its labels to 0.
    The first stage here reads no labels, so this class skips the copy.
    """

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses of both stages.

        Args:
            batch_inputs: Images (B, 3, H, W).
            batch_data_samples: Samples with ground truth.

        Returns:
            The losses of the first stage, with the prefix ``rpn_``, and those of the second.
        """
        x = self.extract_feat(batch_inputs)
        losses, proposals = self.rpn_head.loss_and_predict(
            x, batch_data_samples, proposal_cfg=self.train_cfg.rpn_proposal
        )
        losses = {f'rpn_{name}': value for name, value in losses.items()}
        return {**losses, **self.roi_head.loss(x, proposals, batch_data_samples)}

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample] | None = None
    ) -> tuple:
        """Return logits and boxes of each cascade stage of the RoI head; samples are optional."""
        if batch_data_samples is None:
            meta = dict(img_shape=tuple(batch_inputs.shape[-2:]))
            batch_data_samples = [DetDataSample(metainfo=meta) for _ in batch_inputs]
        x = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(x, batch_data_samples, rescale=False)
        return self.roi_head(x, proposals, batch_data_samples)
