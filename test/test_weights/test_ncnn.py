# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read ncnn networks. The files are written here, except a published one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers import config_file
from mmface.weights.convert import build_model, convert
from mmface.weights.ncnn import read_ncnn
from mmface.weights.scrfd import from_onnx

FLOAT32, FLOAT16 = bytes(4), (0x01306B47).to_bytes(4, 'little')


class Writer:
    """Write the layers of a model as ncnn's converter does: in execution order, norms folded."""

    def __init__(self, half):
        self.half = half
        self.lines, self.data = [], b''

    def layer(self, kind, **values):
        text = ' '.join(f'{key.lstrip("p")}={value}' for key, value in values.items())
        number = len(self.lines)
        self.lines.append(f'{kind:16} l{number} 1 1 b{number} b{number + 1} {text}')

    def conv(self, weight, bias, groups):
        kind = 'ConvolutionDepthWise' if groups > 1 else 'Convolution'
        out, _, height, width = weight.shape
        values = dict(p0=out, p1=width, p6=weight.numel(), p7=groups, p11=height)
        self.layer(kind, **values, **({} if bias is None else {'p5': 1}))
        if self.half:
            raw = weight.half().numpy().tobytes()
            self.data += FLOAT16 + raw + bytes(-len(raw) % 4)
        else:
            self.data += FLOAT32 + weight.numpy().tobytes()
        if bias is not None:
            self.data += bias.numpy().tobytes()

    def save(self, folder, name='a'):
        head = f'7767517\n{len(self.lines)} {len(self.lines) + 1}\n'
        (folder / f'{name}.param').write_text(head + '\n'.join(self.lines) + '\n')
        (folder / f'{name}.bin').write_bytes(self.data)
        return folder / f'{name}.param'


@torch.no_grad()
def write_model(model, half, folder):
    """Run a model once and write the layers that it executes."""
    writer, waiting = Writer(half), []

    def flush():
        for conv in waiting:
            writer.conv(conv.weight, conv.bias, conv.groups)
        waiting.clear()

    def hook(module, _, __):
        if isinstance(module, nn.BatchNorm2d):  # fold into the convolution before it
            conv = waiting.pop()
            writer.conv(conv.weight, module.bias, conv.groups)
            return
        flush()
        if isinstance(module, nn.Conv2d):
            waiting.append(module)
        elif isinstance(module, nn.GroupNorm):
            values = dict(p0=module.num_groups, p1=module.num_channels, p2=module.eps)
            writer.layer('GroupNorm', **values)
            writer.data += module.weight.numpy().tobytes() + module.bias.numpy().tobytes()
        else:
            writer.layer('BinaryOp', p0=2, p1=1, p2=f'{float(module.scale):.9g}')

    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm)
    for module in model.modules():
        if isinstance(module, kinds) or type(module).__name__ == 'Scale':
            module.register_forward_hook(hook)
    model.eval()(torch.zeros(1, 3, 64, 64), mode='tensor')
    flush()
    return writer.save(folder)


@pytest.fixture
def model():
    """Build scrfd_500m with weights that all differ; its batch norms only add a bias."""
    torch.manual_seed(1)
    made = build_model(config_file('scrfd_500m'))
    for name, value in made.named_parameters():
        norm = made.get_submodule(name.rpartition('.')[0])
        if isinstance(norm, nn.GroupNorm) or name.endswith(('bias', 'scale')):
            value.data = torch.rand_like(value) + 0.5
        elif isinstance(norm, nn.BatchNorm2d):
            norm.running_var.fill_(1 - norm.eps)
        else:
            value.data = value.data.half().float()  # the same in both types
    return made


@pytest.mark.parametrize('half', [False, True])
def test_convert__written_network_gives_the_same_weights(half, model, tmp_path):
    expected = model.state_dict()
    path = write_model(model, half, tmp_path)
    for suffix in ('.param', '.bin'):
        found = convert(
            path.with_suffix(suffix), [config_file('scrfd_1g'), config_file('scrfd_500m')]
        )
        assert found.config.stem == 'scrfd_500m'
        assert found.source == 'ncnn SCRFD'
        for key, value in expected.items():
            torch.testing.assert_close(found.state_dict[key], value, rtol=0, atol=0, msg=key)


def test_convert__copies_of_a_shared_head_must_be_equal(model, tmp_path):
    path = write_model(model, False, tmp_path)
    weights = path.with_suffix('.bin')
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1  # the bias of the last convolution, which three strides share
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r'reg_convs\.0 is shared by the strides'):
        convert(path, [config_file('scrfd_500m')])


def test_from_onnx__bias_before_a_group_norm_is_refused(model, tmp_path):
    network = read_ncnn(write_model(model, False, tmp_path))
    convs = [conv._replace(bias=np.ones(len(conv.weight), np.float32)) for conv in network.convs]
    with pytest.raises(ValueError, match=r'towers\.0\.0\.\S+ has a bias in the file, but not in'):
        from_onnx(network._replace(convs=convs), model)


def _small(folder):
    writer = Writer(False)
    writer.conv(torch.ones(2, 1, 1, 3), torch.ones(2), 1)
    return writer.save(folder)


def test_read__kernels_that_are_not_square(tmp_path):
    network = read_ncnn(_small(tmp_path))
    assert network.convs[0].weight.shape == (2, 1, 1, 3)
    assert np.array_equal(network.convs[0].bias, np.ones(2))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda t, d: (t.replace('7767517', '7767518'), d), 'first line is not 7767517'),
        (lambda t, d: (t.replace('\n1 2', '\n7 2'), d), r"announces \['7'\] layers"),
        (lambda t, d: (t.replace('Convolution', 'LSTM'), d), 'is a LSTM, which cannot'),
        (lambda t, d: (t.replace('0=2', '0=x'), d), '0=x is not an integer'),
        (lambda t, d: (t.replace('0=2', '0=7'), d), '6 weights for 7 kernels of 1x3'),
        (lambda t, d: (t + 'Input in\n', d), "line 4 is not a layer: 'Input in'"),
        (lambda t, d: (t.replace('6=6', '6=600000000'), d), r'needs 24\d+ bytes .* left'),
        (lambda t, d: (t, d[:-1]), r'layer l0 needs 8 bytes of weights, 7 are left'),
        (lambda t, d: (t, d + b'1234'), '4 bytes of weights belong to no layer'),
        (lambda t, d: (t, b'\x38\x4b\x0d\x00' + d[4:]), 'type 0x000d4b38: only float32'),
        (lambda t, d: (t, d[:4] + b'\xff' * 4 + d[8:]), 'that are not finite'),
        (lambda t, d: (t, b'12'), 'weights end before layer l0'),
    ],
)  # fmt: skip
def test_read__damaged_files_are_refused(change, message, tmp_path):
    path = _small(tmp_path)
    text, data = change(path.read_text(), path.with_suffix('.bin').read_bytes())
    path.write_text(text)
    path.with_suffix('.bin').write_bytes(data)
    with pytest.raises(ValueError, match=rf'a\.param with a\.bin: .*{message}'):
        read_ncnn(path)


def test_convert__names_the_file_that_is_missing(door, tmp_path):
    path = _small(tmp_path)
    path.with_suffix('.bin').unlink()
    done = door('tools/weights/convert.py', path, tmp_path / 'o.pth', ok=False)
    assert done.returncode == 2
    assert f'{tmp_path}/a.bin does not exist' in done.stderr
