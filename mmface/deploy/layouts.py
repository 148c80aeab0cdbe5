# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The output layouts of deployed networks, in one table for exporter, specification and runtime.

A layout defines the names, order and shapes of the inputs and outputs of a file. The batch is the
first axis. Scores and heatmap values are probabilities. H and W are multiples of 32. P is the
number of priors per cell, N the number of classes and K the number of keypoints. Models without
keypoints lack the outputs for them.

A new layout is one entry of ``LAYOUTS``. It needs code only if its form is new: what the graph
computes (``mmface.deploy.export.networks``) and how the runtime reads it
(``mmface.deploy.runtime.readers``). The forms are:

* ``maps``: the maps of the network, (B, C, H / stride, W / stride). SCRFD: ``score`` (NP channels),
  ``bbox`` (4P: left, top, right, bottom) and ``kps`` (2KP: x, y) in units of the stride.
  CenterFace: ``heatmap`` (N), ``size`` (2), ``offset`` (2) and ``keypoints`` (2K) in the
  convention of ``ModelSpec.convention``.
* ``rows``: SCRFD's maps as rows (B, n, N | 4 | 2K). Cells are in row-major order, and the priors of
  a cell are adjacent.
* ``boxes``: ``boxes`` (B, n, 4) xyxy in input pixels, not clipped, ``scores`` (B, n), with
  several classes (B, n, N), and ``keypoints`` (B, n, K, 2), before score threshold and NMS.
  CenterFace: cells that are not a local peak have score 0.
* ``proposals`` and ``rois``: the two files of CenterNet2, see ``mmface.deploy.export.two_stage``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmface.deploy.model_spec import ModelSpec

FAMILIES = ('scrfd', 'centerface', 'centernet2')


class Axis(NamedTuple):
    """An axis whose length depends on the size of the input.

    Attributes:
        name: Name of the axis in files whose input size is not fixed.
        length: Function that computes the length from height and width of the input.
    """

    name: str
    length: Callable[[int, int], int]


class Output(NamedTuple):
    """An output of a layout.

    Attributes:
        name: Its name in the file.
        kind: What it holds, a name defined by the form. ``kind`` and ``stride`` are the key for
            exporter and reader.
        stride: Input pixels per cell, 0 if the output holds all levels.
        axes: Axes without the batch axis: a length, an ``Axis``, or ``None`` for any length.
    """

    name: str
    kind: str
    stride: int
    axes: tuple[int | Axis | None, ...]

    @property
    def key(self) -> tuple[str, int]:
        """Return the kind and the stride."""
        return self.kind, self.stride

    def shape(self, size: tuple[int, int]) -> tuple[int | None, ...]:
        """Compute the shape for one image and an input of ``size``, height and width."""
        return tuple(axis.length(*size) if isinstance(axis, Axis) else axis for axis in self.axes)

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """Return index (counting the batch axis) and name of each axis that follows the input."""
        return {
            index: axis.name for index, axis in enumerate(self.axes, 1) if isinstance(axis, Axis)
        }


@dataclass(frozen=True)
class Layout:
    """An entry of the table.

    Attributes:
        name: Name that users write.
        families: Detectors that have this layout, a subset of ``FAMILIES``.
        inputs: Names of the inputs. The first one is the image (B, 3, H, W).
        outputs: Function that builds the outputs of a specification, in the order of the file. It
            uses ``strides``, ``num_priors``, ``num_classes`` and ``num_keypoints``.
        form: What the outputs hold, see the module docstring.
        convention: CenterFace's convention of the maps; '' for the model's convention. The exporter
            converts to 'centernet'. For any other value the model must have that convention.
        about: A few words for the help of the exporter; '' if users cannot choose the layout.
    """

    name: str
    families: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: Callable[[ModelSpec], tuple[Output, ...]]
    form: str = 'maps'
    convention: str = ''
    about: str = ''


def outputs_of(spec: ModelSpec) -> tuple[Output, ...]:
    """Return the outputs of a specification, in the order of its file."""
    return LAYOUTS[spec.layout].outputs(spec)


def channels(spec: ModelSpec) -> dict[str, int]:
    """Return the kinds of maps of a family and the channels of each (per prior for SCRFD)."""
    points = 2 * spec.num_keypoints
    if spec.family == 'centerface':
        kinds = {'heatmap': spec.num_classes, 'size': 2, 'offset': 2, 'keypoints': points}
    else:
        kinds = {'score': spec.num_classes, 'bbox': 4, 'kps': points}
    return {kind: count for kind, count in kinds.items() if count}


def cells(side: int, stride: int) -> int:
    """Return the number of cells along a side. Strided convolutions keep a partial cell."""
    return -(-side // stride)


def map_output(name: str, kind: str, stride: int, count: int | None) -> Output:
    """Build the output of a map (B, count, H / stride, W / stride); ``None``: any count."""
    height = Axis(f'height_{stride}', lambda h, w: cells(h, stride))
    width = Axis(f'width_{stride}', lambda h, w: cells(w, stride))
    return Output(name, kind, stride, (count, height, width))


def row_output(name: str, kind: str, stride: int, count: int, num_priors: int) -> Output:
    """Build the output of rows (B, n, count), with ``num_priors`` rows per cell."""
    rows = Axis(f'priors_{stride}', lambda h, w: num_priors * cells(h, stride) * cells(w, stride))
    return Output(name, kind, stride, (rows, count))


def _maps(spec: ModelSpec) -> tuple[Output, ...]:
    if spec.family == 'centerface':
        return _named_maps('heatmap', 'size', 'offset', 'keypoints')(spec)
    return tuple(
        map_output(f'{kind}_{stride}', kind, stride, spec.num_priors * count)
        for kind, count in channels(spec).items()
        for stride in spec.strides
    )


def _named_maps(*names: str) -> Callable[[ModelSpec], tuple[Output, ...]]:
    """Name the maps of CenterFace, whose order is the same in all files."""

    def outputs(spec: ModelSpec) -> tuple[Output, ...]:
        kinds = channels(spec).items()
        return tuple(
            map_output(name, kind, spec.strides[0], count)
            for name, (kind, count) in zip(names, kinds, strict=False)
        )

    return outputs


def _rows(spec: ModelSpec) -> tuple[Output, ...]:
    return tuple(
        row_output(f'{kind}_{stride}', kind, stride, count, spec.num_priors)
        for kind, count in channels(spec).items()
        for stride in spec.strides
    )


def _boxes(spec: ModelSpec) -> tuple[Output, ...]:
    total = _candidates(spec.strides, spec.num_priors)
    several = spec.num_classes > 1
    found = (
        Output('boxes', 'boxes', 0, (total, 4)),
        Output('scores', 'scores', 0, (total, spec.num_classes) if several else (total,)),
        Output('keypoints', 'keypoints', 0, (total, spec.num_keypoints, 2)),
    )
    return found if spec.num_keypoints else found[:2]


def _proposals(spec: ModelSpec) -> tuple[Output, ...]:
    total = _candidates(spec.strides, 1, spec.num_candidates)
    return (
        Output('boxes', 'boxes', 0, (total, 4)),
        Output('scores', 'scores', 0, (total,)),
        *(map_output(f'feat_{stride}', 'feat', stride, None) for stride in spec.strides),
    )


def _rois(spec: ModelSpec) -> tuple[Output, ...]:
    return (
        Output('boxes', 'boxes', 0, (4,)),
        Output('scores', 'scores', 0, (spec.num_classes,)),
    )


def _candidates(strides: Sequence[int], num_priors: int, limit: int | None = None) -> Axis:
    """Return the axis of the candidates of all levels, at most ``limit`` from each level."""

    def length(height: int, width: int) -> int:
        levels = [num_priors * cells(height, s) * cells(width, s) for s in strides]
        return sum(levels if limit is None else [min(level, limit) for level in levels])

    return Axis('candidates', length)


_TABLE = (
    Layout('raw', ('scrfd', 'centerface'), ('image',), _maps, about='maps, by their names'),
    # As the insightface package reads it.
    Layout(
        'insightface',
        ('scrfd',),
        ('input.1',),
        _rows,
        form='rows',
        about='as the package of that name reads SCRFD',
    ),
    # The layout of chenjun2hao and of the Ascend recipe.
    Layout(
        'centerface',
        ('centerface',),
        ('image',),
        _named_maps('output1', 'output2', 'output3', 'output4'),
        convention='centernet',
        about="as Ascend's recipe",
    ),
    # The file that Star-Clouds published.
    Layout(
        'starclouds',
        ('centerface',),
        ('input.1',),
        _named_maps('537', '538', '539', '540'),
        convention='star_clouds',
        about="as that project's file",
    ),
    Layout(
        'decoded',
        ('scrfd', 'centerface'),
        ('image',),
        _boxes,
        form='boxes',
        convention='centernet',
        about='boxes',
    ),
    Layout('proposals', ('centernet2',), ('image',), _proposals, form='proposals'),
    # Its inputs follow the maps of 'proposals'.
    Layout(
        'rois',
        ('centernet2',),
        ('proposals', 'proposal_scores', 'limits'),
        _rois,
        form='rois',
    ),
)
#: All layouts by name.
LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _TABLE}


def layout_names(family: str | None = None) -> tuple[str, ...]:
    """Return the layouts that users can choose, for one family or for all."""
    return tuple(
        layout.name
        for layout in LAYOUTS.values()
        if layout.about and (family is None or family in layout.families)
    )
