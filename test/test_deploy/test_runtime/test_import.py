# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The runtime works on machines without torch."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
for name in {blocked}:
    sys.modules[name] = None  # importing it fails
import mmface.deploy.runtime
print(*sorted(name for name in sys.modules if name.partition('.')[0] in ('mmface', *{blocked})))
"""
BLOCKED = ('torch', 'torchvision', 'mmcv', 'mmdet', 'mmengine', 'scipy', 'matplotlib', 'onnx')


def test_import__needs_no_framework(repo):
    done = subprocess.run(
        [sys.executable, '-c', CODE.format(blocked=BLOCKED)],
        capture_output=True,
        text=True,
        cwd=repo,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert 'mmface.deploy.runtime.decode' in loaded
    # From this package it imports only its own folder and pure modules.
    others = {name for name in loaded if not name.startswith('mmface.deploy')}
    pure = (
        'structures',
        'utils',
        'utils.centerface_convention',
        'utils.config_files',
        'utils.extras',
        'utils.files',
        'utils.image_decoding',
        'utils.images',
        'utils.pillow',
        'utils.pipeline',
        'utils.png',
        'weights',
        'weights.fetch',
        'weights.known_files',
    )
    assert others == {'mmface', *(f'mmface.{name}' for name in pure), *BLOCKED}
