# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""MindSpore checkpoints are read and written as by MindSpore."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmface.weights.mindspore_ckpt import read_mindspore_ckpt, write_mindspore_ckpt

HERE = Path(__file__).parent
# Written by MindSpore 2.10.0 from PyPI:
#
#   serialization.SLICE_SIZE = 1  # KiB; 512 MiB otherwise
#   saved = [dict(name=name, data=Tensor(data)) for name, data in TENSORS.items()]
#   save_checkpoint(saved, 'mindspore_2.10.0.ckpt', append_dict=dict(note='written by MindSpore'))
#   save_checkpoint(saved[:5], 'mindspore_2.10.0_crc.ckpt', crc_check=True)
#
# with 'brain' converted to bfloat16 before saving.
PLAIN = HERE / 'mindspore_2.10.0.ckpt'
WITH_CRC = HERE / 'mindspore_2.10.0_crc.ckpt'
TENSORS = {
    'conv.weight': (np.arange(108) / 7 - 8).reshape(4, 3, 3, 3).astype(np.float32),
    'half': (np.arange(12) / 8).reshape(3, 4).astype(np.float16),
    'brain': np.array([1, -2.5, 3.140625], np.float32),
    'double': np.array([[1 / 3]]),
    'global_step': np.array(7, np.int32),
    'learning_rate': np.array(0.125, np.float32),
    'mask': np.array([True, False, True]),
    'bytes': np.array([0, 255], np.uint8),
    'long': np.array([-(2**40), 3]),
    'split': np.arange(700, dtype=np.float32).reshape(175, 4),
}


def assert_same(found: dict, expected: dict) -> None:
    """Compare names, their order, types, shapes and values."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, str):
            assert found[name] == value
            continue
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        np.testing.assert_array_equal(found[name], value, name)


def field(number: int, payload: bytes) -> bytes:
    """Write a protobuf field of less than 128 bytes."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def entry(tag: str, dims: bytes, type_name: str, content: bytes) -> bytes:
    """Write one value of a checkpoint; ``dims`` are its encoded fields."""
    tensor = dims + field(2, type_name.encode()) + field(3, content)
    return field(1, field(1, tag.encode()) + field(2, tensor))


def test_read__file_of_mindspore():
    assert_same(read_mindspore_ckpt(PLAIN), {**TENSORS, 'note': 'written by MindSpore'})


def test_read__file_of_mindspore_with_checksum():
    assert_same(read_mindspore_ckpt(WITH_CRC), dict(list(TENSORS.items())[:5]))


@pytest.mark.parametrize('name', [name for name in TENSORS if name != 'brain'])
def test_write__same_bytes_as_mindspore(name, tmp_path):
    write_mindspore_ckpt(tmp_path / 'a.ckpt', {name: TENSORS[name]}, slice_bytes=1024)
    assert (tmp_path / 'a.ckpt').read_bytes() in PLAIN.read_bytes()


@pytest.mark.parametrize('slice_bytes', [8, 1024, 2**20])
def test_round_trip(slice_bytes, tmp_path):
    tensors = {**TENSORS, 'none': np.zeros((0, 3), np.float32), 'big': np.arange(4, dtype='>f4')}
    write_mindspore_ckpt(tmp_path / 'a.ckpt', tensors, slice_bytes)
    tensors['big'] = np.arange(4, dtype=np.float32)
    assert_same(read_mindspore_ckpt(tmp_path / 'a.ckpt'), tensors)


def test_read__cut_anywhere_is_refused_or_lacks_whole_tensors(tmp_path):
    tensors = {name: TENSORS[name] for name in ('half', 'global_step', 'double', 'long')}
    write_mindspore_ckpt(tmp_path / 'whole.ckpt', tensors, slice_bytes=8)
    content = (tmp_path / 'whole.ckpt').read_bytes()
    path = tmp_path / 'cut.ckpt'
    fine = []
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            found = read_mindspore_ckpt(path)
        except ValueError as error:
            assert str(path) in str(error)
            assert 'damaged or incomplete' in str(error)
        else:
            fine.append(len(found))
            assert_same(found, dict(list(tensors.items())[: len(found)]))
    # The format does not store the number of tensors: a cut between two cannot be detected.
    assert fine == [1, 2, 3]


def test_read__changed_byte_is_noticed_by_the_checksum(tmp_path):
    content = WITH_CRC.read_bytes()
    path = tmp_path / 'changed.ckpt'
    for place in [*range(0, len(content), 7), *range(len(content) - 17, len(content))]:
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(ValueError, match='not a MindSpore checkpoint'):
            read_mindspore_ckpt(path)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'empty'),
        (b'PK\x03\x04 an archive', 'unknown field 10'),
        (b'\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01', 'more than 64 bits'),
        (b'\x0a\xff\xff\xff\xff\x7f', 'bytes begins where only 0 remain'),
        (field(1, field(1, b'a')), 'no name or no tensor'),
        (field(1, field(1, b'a') + field(2, field(2, b'Float32'))), 'no type or no content'),
        (field(1, field(1, b'a') + field(3, b'')), 'map of an embedding'),
        (field(1, field(1, b'\xff\xfe')), 'not UTF-8'),
        (entry('a', b'\x08\x01', 'Int4', b'\0'), "type 'Int4'"),
        (entry('a', b'\x08\x02', 'Float32', bytes(4)), r'shape \(2,\) and type Float32 has 4'),
        # 2**32 * 2**32 is 0 for 64-bit numbers.
        (entry('a', b'\x08\x80\x80\x80\x80\x10' * 2, 'Float32', b''), 'has 0 bytes'),
        (entry('a', b'\x08' + b'\xff' * 9 + b'\x01', 'Float32', bytes(4)), 'has 4 bytes'),
        (entry('a', b'\x08\x01' * 17, 'Float32', bytes(4)), 'more than 16 dimensions'),
        (entry('a', b'', 'str', b'abc'), 'not text'),
        (
            entry('a', b'', 'Float32', bytes(4))
            + entry('b', b'', 'Float32', bytes(4))
            + entry('a', b'', 'Float32', bytes(4)),
            "'a' occurs twice",
        ),
        (
            entry('a', b'', 'Float32', bytes(4)) + entry('a', b'', 'Int32', bytes(4)),
            'differ in shape or type',
        ),
    ],
)
def test_read__damaged_and_foreign_files_give_one_clear_error(content, reason, tmp_path):
    (tmp_path / 'a.ckpt').write_bytes(content)
    with pytest.raises(ValueError, match=f'a.ckpt is not a MindSpore checkpoint.*{reason}'):
        read_mindspore_ckpt(tmp_path / 'a.ckpt')


def test_read__scalar_of_early_versions(tmp_path):
    (tmp_path / 'a.ckpt').write_bytes(entry('a', b'\x08\x00', 'Int32', b'\x05\0\0\0'))
    assert_same(read_mindspore_ckpt(tmp_path / 'a.ckpt'), dict(a=np.array(5, np.int32)))


def test_read__missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such file'):
        read_mindspore_ckpt(tmp_path / 'a.ckpt')


def test_write__type_without_a_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot hold 'a' of type complex128"):
        write_mindspore_ckpt(tmp_path / 'a.ckpt', dict(a=np.zeros(2, complex)))
