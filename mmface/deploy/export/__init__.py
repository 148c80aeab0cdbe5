# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Trained detectors to ONNX files.

A layout names the input and the outputs of a file. Outputs come in the order given here, with the
batch first; scores and heats are probabilities; strides are 8, 16 and 32 for SCRFD, P priors a cell
and K landmarks; H and W are multiples of 32.

* ``raw``: input ``image``. SCRFD: ``score_8`` (B, P, H / 8, W / 8), ``score_16``, ``score_32``,
  ``bbox_8`` (B, 4P, ...) left, top, right, bottom and ``kps_8`` (B, 2KP, ...) x, y, in units of the
  stride. CenterFace: ``heatmap`` (B, 1, H / 4, W / 4), ``size`` (B, 2, ...), ``offset``
  (B, 2, ...), ``keypoints`` (B, 2K, ...) in the model's own convention.
* ``insightface`` (SCRFD): input ``input.1``; the maps of ``raw`` as rows (B, n, 1 | 4 | 2K), cells
  in reading order and the priors of a cell together, as the package insightface reads them.
* ``centerface`` (CenterFace): input ``image``; ``output1`` to ``output4`` are the maps of ``raw``
  in the convention 'centernet', that of chenjun2hao and of Ascend's recipe, whatever the model's.
* ``starclouds`` (CenterFace of that convention): input ``input.1``; the maps of ``raw`` named
  ``537`` to ``540``, as in the file that Star-Clouds released.
* ``decoded``: input ``image``; ``boxes`` (B, n, 4) xyxy in input pixels, not clipped, ``scores``
  (B, n) and ``keypoints`` (B, n, K, 2), before threshold and suppression. Scores of cells that
  CenterFace's peak test drops are 0.

Models without landmarks lack the outputs for them. CenterNet2 becomes two files, see
``mmface.deploy.export.two_stage``.
"""
