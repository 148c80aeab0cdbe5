# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The Python interface to the detectors.

Only the inferencer needs torch. Torch is therefore imported only when ``FaceInferencer`` is
requested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmface.apis.inferencer import FaceInferencer

__all__ = ['FaceInferencer']


def __getattr__(name: str) -> Any:
    if name != 'FaceInferencer':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from mmface.utils.quiet import import_mmdet_quietly

    import_mmdet_quietly()
    from mmface.apis.inferencer import FaceInferencer

    globals()[name] = FaceInferencer  # so that this is not called again
    return FaceInferencer
