#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# A resumed run of mmengine ignores the schedule of its config
#
# Versions:  onedl-mmengine 0.10.12, torch 2.14.1
# Expected:  A run that is resumed with more epochs and later milestones follows them.
# Seen:      The scheduler takes all its values, milestones too, from the checkpoint. The rate falls
#            at the old milestones, and the new ones do nothing. There is no message.
# Matters:   Extending a run that was too short is the usual reason to resume with another config.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.14.1 onedl-mmengine==0.10.12 numpy==2.2.6 || exit 2
env/bin/python - << 'PY'
import torch
from mmengine.optim import CosineAnnealingLR, MultiStepLR


def rates(make, epochs, state=None, lr=0.01):
    """Learning rates of a run; state is that of a checkpoint: optimizer, scheduler."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    if state:
        optimizer.load_state_dict(state[0])
        scheduler.load_state_dict(state[1])
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return seen, (optimizer.state_dict(), scheduler.state_dict())


def short(optimizer):
    return MultiStepLR(optimizer, milestones=[2, 3], end=4)


def long(optimizer):
    return MultiStepLR(optimizer, milestones=[5, 7], end=8)


_, checkpoint = rates(short, 1)
resumed, _ = rates(long, 7, checkpoint)
whole, _ = rates(long, 8)
print('milestones 5 and 7, resumed after epoch 1 of a run with 2 and 3:', resumed)
print('the same config from the start:                                ', whole[1:])
assert [round(v, 8) for v in resumed] == [0.01, 0.001, 0.0001, 0.0001, 0.0001, 0.0001, 0.0001]
assert [round(v, 8) for v in whole[1:]] == [0.01] * 4 + [0.001, 0.001, 0.0001]
PY
