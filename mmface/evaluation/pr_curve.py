# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw the precision-recall curves of WIDER FACE results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmface.evaluation.wider_result import WiderResult
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette (jfly.uni-koeln.de/color), which most colour-blind people can read.
_COLOURS = ('#0072B2', '#E69F00', '#009E73', '#D55E00', '#CC79A7', '#56B4E9', '#000000')
_STYLES = ('-', '--', '-.')


#: Kinds of figures, by suffix; another suffix gives a PNG.
FIGURES = {'.pdf': 'pdf', '.svg': 'svg'}


def plot_pr_curves(
    results: Mapping[str, WiderResult], path: str | os.PathLike[str], title: str = 'WIDER FACE'
) -> None:
    """Draw one panel with three curves for one result, else one panel per subset.

    Args:
        results: Results by the name shown in the legend or the title, best first.
        path: The file to write: PDF or SVG if its suffix says so, else PNG.
        title: First words of the title.

    Raises:
        ValueError: There is no result.
    """
    # Imported here because it takes half a second. Without pyplot, the caller's backend is kept.
    with optional_imports():
        from matplotlib.figure import Figure

    if not results:
        raise ValueError('expected at least one result to draw, found none')
    some = next(iter(results.values()))
    about = f'{some.protocol} protocol, IoU {some.iou_thr:g}, {some.images} images'
    about += ' (partial)' if some.partial else ''
    if len(results) == 1:
        figure = Figure(figsize=(6.4, 5.2), dpi=120, layout='constrained')
        axes = figure.add_subplot()
        name = next(iter(results))
        _set_up(axes, f'{title}: {name}\n{about}' if name else f'{title}\n{about}')
        for subset, colour in zip(some.ap, _COLOURS, strict=False):
            _draw(axes, some, subset, subset, color=colour)
        _legend(axes)
    else:
        figure = Figure(figsize=(15, 5.2), dpi=110, layout='constrained')
        figure.suptitle(f'{title} ({about})')
        (panels,) = figure.subplots(1, len(some.ap), sharey=True, squeeze=False)
        for axes, subset in zip(panels, some.ap, strict=True):
            _set_up(axes, f'{subset} ({some.faces[subset]:,} faces)')
            looks = cycle((colour, style) for style in _STYLES for colour in _COLOURS)
            for (name, result), (colour, style) in zip(results.items(), looks, strict=False):
                _draw(axes, result, subset, name, color=colour, linestyle=style)
            _legend(axes)
        for axes in panels[1:]:
            axes.set_ylabel('')
    with whole_file(path) as tmp:
        kind = FIGURES.get(Path(path).suffix.lower(), 'png')
        # Without a date, the same numbers give the same file.
        metadata = {'pdf': {'CreationDate': None}, 'svg': {'Date': None}}.get(kind)
        figure.savefig(tmp, format=kind, metadata=metadata)


def _set_up(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel('recall')
    axes.set_ylabel('precision')
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xticks(np.arange(0, 1.01, 0.1))
    axes.set_yticks(np.arange(0, 1.01, 0.1))
    axes.grid(color='0.88', linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def _draw(axes: Axes, result: WiderResult, subset: str, name: str, **look: Any) -> None:
    precision, recall = result.precision[subset], result.recall[subset]
    known = np.isfinite(precision) & np.isfinite(recall)
    axes.plot(
        recall[known],
        precision[known],
        linewidth=1.8,
        label=f'{result.ap[subset]:.4f}  {name}',
        clip_on=False,
        **look,
    )


def _legend(axes: Axes) -> None:
    # Curves of sensible detectors leave the lower left corner free.
    axes.legend(title='AP', loc='lower left', alignment='left', framealpha=0.9, edgecolor='0.8')
