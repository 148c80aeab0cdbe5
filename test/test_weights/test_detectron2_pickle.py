# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A .pkl file is read without running code in it."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mmface.weights.detectron2_pickle import is_pickle, read_detectron2_pickle

TOOL = 'tools/weights/convert.py'
WEIGHTS = {
    'conv1_w': np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    'half': np.array([1.5, -2.0], np.float16),
    'double': np.array([0.1, 1e300]),
    'fortran': np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    'big_endian': np.array([1.0, 2.0], '>f4'),
    'counter': np.array(7, np.int64),
    'flags': np.array([True, False]),
    'bytes': np.array([0, 255], np.uint8),
    'empty': np.zeros((0, 3), np.float32),
}


class Call:
    """Is pickled as a function call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def write(tmp_path):
    def write(content, protocol=2, name='in.pkl'):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content, protocol))
        return path

    return write


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_read__every_protocol_and_kind_of_number(write, protocol):
    found = read_detectron2_pickle(write(WEIGHTS, protocol))
    assert found.author is None
    assert found.arrays.keys() == WEIGHTS.keys()
    for key, expected in WEIGHTS.items():
        array = found.arrays[key]
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype.newbyteorder('=')
        assert torch.equal(torch.from_numpy(array), torch.from_numpy(array.copy()))


def python2_pickle(array: np.ndarray, name: str) -> bytes:
    """Return what Python 2 wrote for {name: array}: names and content are byte strings."""
    raw = array.astype('<f4').tobytes()
    assert len(raw) < 256
    shape = b''.join(b'K' + bytes([size]) for size in array.shape)
    return b''.join(
        (
            b'\x80\x02}q\x00U' + bytes([len(name)]) + name.encode(),
            b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R',
            b'(K\x01(' + shape + b't',
            b'cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb',
            b'\x89U' + bytes([len(raw)]) + raw + b'tbs.',
        )
    )


def test_read__a_file_of_python_2(tmp_path):
    array = np.array([[-1.5, 2e-9, 3e9]], np.float32)  # includes bytes above 127
    content = python2_pickle(array, 'conv1_w')
    # numpy's own reader gives the same bytes.
    np.testing.assert_array_equal(pickle.loads(content, encoding='latin1')['conv1_w'], array)
    (tmp_path / 'in.pkl').write_bytes(content)
    found = read_detectron2_pickle(tmp_path / 'in.pkl').arrays['conv1_w']
    np.testing.assert_array_equal(found, array)


def test_read__layouts(write):
    weights = {'a_w': np.ones(2), 'a_w_momentum': np.zeros(2)}
    assert read_detectron2_pickle(write(weights)).arrays.keys() == {'a_w'}
    nested = dict(blobs=weights, cfg='MODEL: {}')
    assert read_detectron2_pickle(write(nested)).arrays.keys() == {'a_w'}
    own = dict(model={'a.weight': np.ones(2)}, __author__='torchvision', matching_heuristics=True)
    found = read_detectron2_pickle(write(own))
    assert (found.author, list(found.arrays)) == ('torchvision', ['a.weight'])


def calls(mark):
    """Return pickles that create a file, or contain something else than an array of numbers."""
    command = f'touch {mark}'
    return {
        'os.system': Call(os.system, command),
        'eval': Call(eval, f"__import__('os').system('{command}')"),
        'getattr': Call(getattr, 'a', 'upper'),
        'numpy.load': Call(np.load, 'x.npy', None, True),
        'OrderedDict': OrderedDict(a=1),
        'numpy scalar': np.float64(1),
        'array of objects': np.array([Call(os.system, command)], object),
        'empty array of objects': np.array([None, None], object),
        'array of records': np.zeros(2, [('x', 'f4')]),
        'array of text': np.array(['abc']),
    }


@pytest.mark.parametrize('kind', calls(''))
@pytest.mark.parametrize('place', ['weights', 'beside'])
def test_read__anything_else_is_refused_and_does_not_run(write, tmp_path, kind, place):
    mark = tmp_path / 'executed'
    evil = calls(mark)[kind]
    weights = {'conv1_w': np.ones(2)}
    content = (
        {**weights, 'evil': evil}
        if place == 'weights'
        else dict(model=weights, __author__='someone', evil=evil)
    )
    path = write(content)
    with pytest.raises(ValueError, match=r'was not loaded: a \.pkl file may contain only numpy'):
        read_detectron2_pickle(path)
    assert not mark.exists()
    # The attack is real.
    if kind in ('os.system', 'eval'):
        pickle.loads(path.read_bytes())
        assert mark.exists()


def test_read__forged_types_make_no_other_arrays(tmp_path):
    # The dtype claims 4 bytes. A field that numpy does not check is a pointer.
    content = python2_pickle(np.ones((1, 2), np.float32), 'a_w')
    plain = b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
    assert plain in content
    field = b'U\x01xcnumpy\ndtype\nU\x02O8K\x00K\x01\x87RK\x00\x86'
    forged = b'(K\x03U\x01|N(U\x01xt}' + field + b'sK\x08K\x08K\x00tb'
    (tmp_path / 'in.pkl').write_bytes(content.replace(plain, forged))
    with pytest.raises(ValueError, match="an array of 'O8', not of numbers"):
        read_detectron2_pickle(tmp_path / 'in.pkl')


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: content[:-20],
        lambda content: b'nothing of that kind',
        lambda content: b'',
        lambda content: content.replace(b'K\x02K\x03\x86', b'K\x02K\x04\x86'),
        lambda content: b'\x80\x02c_codecs\nencode\nK\x01K\x02\x86R.',
        lambda content: b'\x80\x02cnumpy\nndarray\n}b.',
        lambda content: b'\x80\x02]K\x01a.',
    ],
)
def test_read__damaged_files_are_one_clear_error(tmp_path, damage):
    content = pickle.dumps({'a_w': np.ones((2, 3), np.float32)}, 2)
    (tmp_path / 'in.pkl').write_bytes(damage(content))
    assert damage(content) != content
    with pytest.raises(ValueError, match=r'in\.pkl (is not a pickle|contains)'):
        read_detectron2_pickle(tmp_path / 'in.pkl')


@pytest.mark.parametrize(
    'content', [{}, {'a': 1}, {'a': [1, 2]}, {1: np.ones(1)}, dict(model=3, __author__='me')]
)
def test_read__what_is_no_mapping_of_names_to_arrays(write, content):
    with pytest.raises(ValueError, match='contains no weights'):
        read_detectron2_pickle(write(content))


def test_read__missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such file'):
        read_detectron2_pickle(tmp_path / 'none.pkl')


def test_is_pickle(write, tmp_path):
    assert is_pickle(write(WEIGHTS, 2, 'a.pth'))
    assert is_pickle(write(WEIGHTS, 0, 'a.pkl'))
    for name, new in (('old.pkl', False), ('new.pkl', True)):
        path = tmp_path / name
        torch.save({'a': torch.ones(1)}, path, _use_new_zipfile_serialization=new)
        assert not is_pickle(path)


def test_tool__refuses_code_in_one_line(door, write, tmp_path):
    mark = tmp_path / 'executed'
    evil = Call(os.system, f'touch {mark}')
    path = write(dict(model={'conv1_w': np.ones(2)}, __author__='x', y=evil), name='in.pth')
    done = door(TOOL, path, tmp_path / 'out.pth', '--trust-checkpoint', ok=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f'error: {path} contains a Python object (posix.system) that could run code and was not '
        'loaded: a .pkl file may contain only numpy arrays of numbers, containers, text and numbers'
    )
    assert not mark.exists()
    assert not (tmp_path / 'out.pth').exists()


def test_read__numbers_of_objects_that_would_fill_memory(tmp_path):
    path = tmp_path / 'a.pkl'
    path.write_bytes(b'\x80\x02}r\xff\xff\x00\x00.')  # an empty dict, remembered as number 65535
    with pytest.raises(ValueError, match='object 65535 is remembered by operation 2'):
        read_detectron2_pickle(path)
