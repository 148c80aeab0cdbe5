#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# A warm-up of one step in mmengine never ends
#
# Versions:  onedl-mmengine 0.10.12, torch 2.14.1
# Expected:  LinearLR from begin=0 to end=1 has the low rate for one step, and then the full rate.
# Seen:      It sets the low rate and never raises it: the whole run has start_factor times the
#            rate. Two steps and more work.
# Matters:   Warm-ups are shortened for small sets of own faces and for quick trials, and then
#            nothing is learned.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.14.1 onedl-mmengine==0.10.12 numpy==2.2.6 || exit 2
env/bin/python - << 'PY'
import torch
from mmengine.optim import LinearLR

seen = {}
for steps in (1, 2, 4):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.01)
    # end is documented as the step at which the scheduler stops.
    warmup = LinearLR(optimizer, start_factor=0.001, begin=0, end=steps, by_epoch=False)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        warmup.step()
    seen[steps] = rates
    print(f'warm-up of {steps} steps:', ' '.join(f'{rate:.5f}' for rate in rates))
assert abs(seen[2][-1] - 0.01) < 1e-9 and abs(seen[4][-1] - 0.01) < 1e-9
assert all(abs(rate - 1e-5) < 1e-9 for rate in seen[1])
PY
