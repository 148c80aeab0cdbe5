# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""``mmface info --npu`` on the simulated device."""

from __future__ import annotations


def test_report__says_that_the_device_is_simulated_and_what_works(on_npu):
    text = on_npu(
        "import sys; sys.argv = ['mmface', 'info', '--npu']; from mmface.__main__ import run; run()"
    )
    rows = dict(line.split(None, 2)[::2] for line in text.splitlines() if line.startswith('import'))
    assert rows['import'] == 'works'  # the last import, of mmface
    assert 'import torch_npu 0+sim\n' in text
    assert 'the simulated device of test/npu_sim, not an NPU' in text
    assert 'npu:0 simulated NPU, npu:1 simulated NPU' in text
    assert 'matrix product   works\n' in text
    # The CPU build of mmcv has no NMS for it.
    (nms,) = (line for line in text.splitlines() if line.startswith('NMS on the NPU'))
    assert 'implementation for device npu:0 not found' in nms
    assert text.splitlines()[-1] == f'result           {nms.replace("   fails", " fails")}'
