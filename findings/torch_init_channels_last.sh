#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# One seed gives other initial weights in channels_last
#
# Versions:  torch 2.13.0 (CPU)
# Expected:  The memory format says where values lie, not which. With one seed nn.init gives equal
#            weights whether network.to(memory_format=torch.channels_last) comes before it or after.
# Seen:      uniform_ puts the same values in another order. normal_ and what is built on it
#            (kaiming_normal_, trunc_normal_) give other values, not even the same set.
# Matters:   Convolutions run faster in channels_last, so a detector is trained with and without it
#            and the losses are compared. They start from different networks and say nothing. Make
#            the weights first, then change the format.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6 || exit 2
env/bin/python - << 'PY'
import torch
from torch import nn


def weights(memory_format, init, late=False):
    conv = nn.Conv2d(8, 16, 3)
    if not late:
        conv.to(memory_format=memory_format)
    torch.manual_seed(0)
    init(conv.weight)
    conv.to(memory_format=memory_format)
    assert conv.weight.is_contiguous(memory_format=memory_format)
    return conv.weight.detach()


for init in (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_normal_, nn.init.trunc_normal_):
    plain = weights(torch.contiguous_format, init)
    last = weights(torch.channels_last, init)
    late = weights(torch.channels_last, init, late=True)
    equal = torch.equal(plain, last)
    same_set = torch.equal(plain.flatten().sort()[0], last.flatten().sort()[0])
    print(f'{init.__name__}: equal {equal}, the same set of values {same_set},',
          f'equal if the format is changed later {torch.equal(plain, late)}')
    assert not equal and same_set == (init is nn.init.uniform_)
    assert torch.equal(plain, late)
    assert torch.equal(last, weights(torch.channels_last, init))
PY
