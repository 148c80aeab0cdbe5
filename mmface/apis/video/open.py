# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Open a source of frames by its kind."""

from __future__ import annotations

from pathlib import Path

from mmface.apis.video.base import VideoSource
from mmface.utils.file_kinds import kind_of
from mmface.utils.images import PathLike


def open_source(origin: PathLike | int) -> VideoSource:
    """Open a video, an animated image, or the camera of a number.

    Raises:
        ModuleNotFoundError: PyAV is not installed. The message contains the pip command.
        ValueError: The source cannot be opened.
    """
    # Imported here: only files of videos need PyAV.
    if isinstance(origin, int):
        from mmface.apis.video.camera import Camera

        return Camera(origin)
    if Path(origin).is_file() and kind_of(origin) == 'animation':
        from mmface.apis.video.animation import AnimationReader

        return AnimationReader(origin)
    from mmface.apis.video.reader import VideoReader

    return VideoReader(origin)
