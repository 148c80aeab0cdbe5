# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Every tool has a help text with an example."""

from __future__ import annotations

from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
# Other scripts source these; users never call them.
HELPERS = {'tools/setup/_common.sh'}
SCRIPTS = sorted(
    str(path.relative_to(REPO))
    for path in [
        *REPO.glob('tools/**/*.py'),
        *REPO.glob('tools/**/*.sh'),
        REPO / 'build_mmcv.sh',
        REPO / 'test' / 'run_tests.sh',
    ]
    if 'mmface_benchmark' not in path.parts  # a package, not scripts
)


@pytest.mark.parametrize('script', [s for s in SCRIPTS if s not in HELPERS])
def test_help__ends_with_an_example(run_tool, script):
    done = run_tool(script, '--help')
    text = done.stdout
    assert 'example' in text.lower(), text
    example = text[text.lower().rindex('example') :]
    assert Path(script).name in example
