# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw predictions during validation and test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.visualization import DetLocalVisualizer

from mmface.utils.draw import TRUTH_COLOUR, draw_faces
from mmface.utils.images import write_image

#: Attributes of ``Visualizer`` that belong to its matplotlib figure.
FIGURE = ('fig_save_canvas', 'fig_save', 'ax_save', 'dpi')


@VISUALIZERS.register_module()
class FaceVisualizer(DetLocalVisualizer):
    """``DetLocalVisualizer`` that draws faces: boxes, classes, scores and keypoints.

    mmdet's own class draws no keypoints. ``DetVisualizationHook`` uses this class (``tools/test.py
    --show-dir``). The matplotlib figure, which only the inherited drawing methods need, is made
    when it is first used.

    Args: see ``DetLocalVisualizer``.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        image: np.ndarray | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self._later_figure = image is None
        self._drawn: np.ndarray | None = None
        super().__init__(name, image, *args, **kwargs)
        if self._later_figure:
            for attribute in FIGURE:
                del self.__dict__[attribute]
            self._later_figure = False

    def _initialize_fig(self, fig_cfg: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Make the canvas, figure and axes; only what the constructor asks for while it runs."""
        if self._later_figure:
            return None, SimpleNamespace(get_dpi=lambda: None), None
        return super()._initialize_fig(fig_cfg)

    def __getattr__(self, name: str) -> Any:
        """Make the figure."""
        if name not in FIGURE:
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        self.fig_save_canvas, self.fig_save, self.ax_save = self._initialize_fig(self.fig_save_cfg)
        self.dpi = self.fig_save.get_dpi()
        return self.__dict__[name]

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: Any = None,
        draw_gt: bool = False,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.3,
        step: int = 0,
    ) -> None:
        """Draw one sample and write, show or store the image.

        Args:
            name: Title of the window and name in the storage backends.
            image: (H, W, 3) uint8 RGB.
            data_sample: A ``DetDataSample`` with boxes in pixels of ``image``.
            draw_gt: Whether to draw its ground truth, in white.
            draw_pred: Whether to draw its predictions.
            show: Whether to open a window.
            wait_time: Seconds until the window closes; 0 waits for a key.
            out_file: File for the image, written whole or not at all.
            pred_score_thr: Predictions with a lower score are skipped.
            step: Step for the storage backends.

        Raises:
            OSError: ``out_file`` cannot be written.
        """
        drawn = image
        if data_sample is not None:
            sample = data_sample.cpu().numpy()
            if draw_gt and 'gt_instances' in sample:
                truth = sample.gt_instances
                drawn = draw_faces(
                    drawn,
                    _boxes(truth),
                    keypoints=truth.get('keypoints'),
                    colour=TRUTH_COLOUR,
                    names=self._names(truth),
                )
            if draw_pred and 'pred_instances' in sample:
                found = sample.pred_instances
                found = found[found.scores >= pred_score_thr]
                drawn = draw_faces(
                    drawn,
                    _boxes(found),
                    found.scores,
                    found.get('keypoints'),
                    labels=found.get('labels'),
                    names=self._names(found),
                )
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            write_image(out_file, drawn[..., ::-1])
        elif not show:
            self.add_image(name, drawn, step)
        self._drawn = drawn

    def _names(self, instances: Any) -> list[str] | None:
        """Return the names of the classes of some faces, if there is more than one class."""
        classes = (self.dataset_meta or {}).get('classes', ())
        if len(classes) < 2 or 'labels' not in instances:
            return None
        return [classes[label] for label in instances.labels.tolist()]

    def set_image(self, image: np.ndarray) -> None:
        """Set the image, (H, W, 3) uint8 RGB, that the inherited methods draw on."""
        self._drawn = None
        super().set_image(image)

    def get_image(self) -> np.ndarray:
        """Return the last image drawn, (H, W, 3) uint8 RGB."""
        return super().get_image() if self._drawn is None else self._drawn


def _boxes(instances: Any) -> np.ndarray:
    """Return the boxes as a plain array (mmdet may wrap them)."""
    boxes = instances.bboxes
    return np.asarray(boxes.numpy() if hasattr(boxes, 'numpy') else boxes).reshape(-1, 4)
