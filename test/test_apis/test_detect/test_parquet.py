# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of bulk runs: mmface/apis/detect/shards.py and parquet.py, and detect --parquet."""

from __future__ import annotations

import gzip
import io
import signal
import tarfile

import cv2
import numpy as np
import PIL.Image
import pytest

from mmface.apis.detect import shards as shards_module
from mmface.apis.detect.shards import Shard, find_shards, read_list, read_tar
from mmface.structures import Face
from mmface.utils.image_decoding import decode_image

pq = pytest.importorskip('pyarrow.parquet')
from mmface.apis.detect.parquet import SCHEMA, detect_shard, read_faces  # noqa: E402

TOOL = 'tools/detect.py'


def jpeg(number, side=40):
    rng = np.random.default_rng(number)
    return cv2.imencode('.jpg', rng.integers(0, 256, (side, side + 8, 3), np.uint8))[1].tobytes()


def write_tar(path, members):
    with tarfile.open(path, 'w') as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def find_faces(images):
    (image,) = images
    count = int(image[0, 0, 0]) % 3
    box = np.array([1, 2, 30.5, 20.25], np.float32)
    return [[Face(box + i, 0.5 + i / 10, np.full((5, 2), i, np.float32)) for i in range(count)]]


@pytest.fixture
def tar(tmp_path):
    """Write a WebDataset shard with a text, a damaged and an animated image in it."""
    frames = io.BytesIO()
    moving = [PIL.Image.new('RGB', (8, 6), (90 * i, 0, 0)) for i in range(2)]
    moving[0].save(frames, 'GIF', save_all=True, append_images=moving[1:])
    members = [(f'a/{number:03}.jpg', jpeg(number)) for number in range(12)]
    members[3:3] = [
        ('a/000.json', b'{}'),
        ('a/cut.jpg', jpeg(1)[:900]),
        ('m.gif', frames.getvalue()),
    ]
    members.append(('../../up.jpg', jpeg(50)))  # a name is only a name
    return write_tar(tmp_path / 'shard.v1.tar', members)


def test_detect_shard__a_row_for_every_image(tar, tmp_path):
    shard = Shard('shard.v1', tar)
    report = detect_shard(shard, tmp_path / 'out.parquet', find_faces)
    assert (report.images, report.failed, report.others) == (15, 2, 1)
    table = pq.read_table(tmp_path / 'out.parquet')
    assert table.schema.equals(SCHEMA)
    rows = {row['image']: row for row in table.to_pylist()}
    assert list(rows)[:5] == ['a/000.jpg', 'a/001.jpg', 'a/002.jpg', 'a/cut.jpg', 'm.gif']
    assert list(rows)[-1] == '../../up.jpg'
    assert 'is cut before its end' in rows['a/cut.jpg']['error']
    assert rows['m.gif']['error'] == 'several frames'
    good = [row for row in rows.values() if row['error'] is None]
    assert {(row['width'], row['height']) for row in good} == {(48, 40)}
    assert report.faces == sum(len(row['scores']) for row in good) > 0

    contents = {entry.name: entry.content for entry in read_tar(tar, [])}
    for name, faces, error in read_faces(tmp_path / 'out.parquet'):
        if error is None:
            (expected,) = find_faces([decode_image(contents[name], name)])
            assert [face.to_dict() for face in faces] == [face.to_dict() for face in expected]


@pytest.mark.parametrize('workers', [1, 4])
def test_detect_shard__the_same_bytes_with_any_number_of_workers(workers, tar, tmp_path):
    shard = Shard('shard.v1', tar)
    detect_shard(shard, tmp_path / 'a.parquet', find_faces)
    detect_shard(shard, tmp_path / 'b.parquet', find_faces, workers)
    assert (tmp_path / 'a.parquet').read_bytes() == (tmp_path / 'b.parquet').read_bytes()


@pytest.mark.parametrize('kind', ['tar', 'list'])
def test_detect_shard__says_that_further_pages_are_not_read(kind, tmp_path):
    pages = [PIL.Image.new('RGB', (30, 20), (60 * i, 0, 0)) for i in range(3)]
    file = tmp_path / 'pages.tif'
    pages[0].save(file, save_all=True, append_images=pages[1:])
    if kind == 'tar':
        given = str(write_tar(tmp_path / 'a.tar', [('pages.tif', file.read_bytes())]))
    else:
        (tmp_path / 'a.txt').write_text(f'{file}\n')
        given = f'@{tmp_path / "a.txt"}'
    (shard,) = find_shards([given])
    detect_shard(shard, tmp_path / 'a.parquet', find_faces)
    (row,) = pq.read_table(tmp_path / 'a.parquet').to_pylist()
    assert (row['width'], row['error']) == (30, None)
    assert row['damage'] == '3 pages, only the first one is read'


def test_detect_shard__without_faces_the_schema_is_the_same(tmp_path):
    tar = write_tar(tmp_path / 'a.tar', [('a.jpg', jpeg(0))])
    detect_shard(Shard('a', tar), tmp_path / 'a.parquet', lambda images: [[]])
    table = pq.read_table(tmp_path / 'a.parquet')
    assert table.schema.equals(SCHEMA)
    row = table.to_pylist()[0]
    assert (row['bboxes'], row['scores'], row['keypoints'], row['error']) == ([], [], None, None)
    tar = write_tar(tmp_path / 'none.tar', [('a.txt', b'text')])
    report = detect_shard(Shard('none', tar), tmp_path / 'none.parquet', find_faces)
    assert (report.images, report.others) == (0, 1)
    assert pq.read_table(tmp_path / 'none.parquet').schema.equals(SCHEMA)


def test_read_tar__damage_is_never_a_silent_end(tar, tmp_path):
    whole = tar.read_bytes()
    with tarfile.open(tar) as archive:
        offsets = [member.offset for member in archive]
    cuts = {
        'header overwritten': whole[: offsets[4]] + b'\xff' * 512 + whole[offsets[4] + 512 :],
        'zeros in between': whole[: offsets[4]] + bytes(512) + whole[offsets[4] + 512 :],
        'cut in a header': whole[: offsets[4] + 100],
        'cut in data': whole[: offsets[4] + 700],
        'cut between members': whole[: offsets[4]],
        'empty': b'',
        'compressed': gzip.compress(whole),
        'text': b'text' * 500,
    }
    for name, content in cuts.items():
        (tmp_path / 'bad.tar').write_bytes(content)
        with pytest.raises(ValueError, match=r'bad\.tar cannot be read as a tar file'):
            list(read_tar(tmp_path / 'bad.tar', []))
            pytest.fail(name)
        with pytest.raises(ValueError):
            detect_shard(Shard('bad', tmp_path / 'bad.tar'), tmp_path / 'x.parquet', find_faces, 2)
        assert not (tmp_path / 'x.parquet').exists()


def test_read_tar__large_members_links_and_devices_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, 'MAX_MEMBER', 2000)
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        for name, kind in (('link.jpg', tarfile.SYMTYPE), ('device.jpg', tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, '/etc/passwd'
            archive.addfile(info)
        info = tarfile.TarInfo('large.jpg')
        info.size = 3000
        archive.addfile(info, io.BytesIO(jpeg(0, 90)))
    others = []
    (entry,) = read_tar(tmp_path / 'a.tar', others)
    assert entry.content is None
    assert entry.problem == '3,000 bytes, more than 2,000'
    assert [item.path.name for item in others] == ['link.jpg', 'device.jpg']


def test_find_shards__parts_are_disjoint_and_complete(tmp_path):
    for number in range(5):
        write_tar(tmp_path / f'{number}.tar', [('a.jpg', jpeg(0))])
    (tmp_path / 'some.txt').write_text('\n'.join(f'/photos/{i}.jpg' for i in range(10)) + '\n\n')
    inputs = [str(tmp_path), f'@{tmp_path / "some.txt"}']
    whole = find_shards(inputs)
    assert [shard.name for shard in whole] == ['0', '1', '2', '3', '4', 'some']
    parts = [find_shards(inputs, part, 3) for part in range(3)]
    assert sorted(s.name for part in parts for s in part if s.tar) == ['0', '1', '2', '3', '4']
    files = [name for part in parts for shard in part for name in shard.files]
    assert files == read_list(tmp_path / 'some.txt')
    assert parts[1][-1].name == 'some.1-of-3'


def test_find_shards__bad_input(tmp_path):
    (tmp_path / 'sub').mkdir()
    for folder in (tmp_path, tmp_path / 'sub'):
        write_tar(folder / 'a.tar', [('a.jpg', jpeg(0))])
    with pytest.raises(ValueError, match=r'would have the same result, a\.parquet'):
        find_shards([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match='expected a tar file, folder or @list'):
        find_shards([str(tmp_path / 'none.tar')])
    (tmp_path / 'list.txt').write_text('http://a.org/a.jpg\n')
    with pytest.raises(ValueError, match='is a URL'):
        find_shards([f'@{tmp_path / "list.txt"}'])
    (tmp_path / 'list.txt').write_text('\n')
    with pytest.raises(ValueError, match='lists no file'):
        find_shards([f'@{tmp_path / "list.txt"}'])


@pytest.fixture
def no_handler():
    """Keep the handler of SIGTERM unchanged."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures('no_handler')
def test_detect__bulk_run_in_parts_and_again(door, tar, tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    from mmface_benchmark.toy_onnx import write_toy_centerface

    network = write_toy_centerface(tmp_path / 'toy.onnx')
    other = write_tar(tmp_path / 'other.tar', [(f'{i}.jpg', jpeg(i)) for i in range(5)])
    args = [tar, other, '--model', network, '--parquet', '--score-thr', 0.3, '--out']
    done = door(TOOL, *args, tmp_path / 'whole', ok=False)
    assert done.returncode == 1  # two images could not be used
    assert 'shard.v1.parquet: 15 images' in done.stdout
    assert '2 could not be used, 1 other members' in done.stdout
    for part in range(2):
        door(TOOL, *args, tmp_path / 'parts', '--shard', f'{part}/2', '--allow-skipped')
    for name in ('shard.v1.parquet', 'other.parquet'):
        assert (tmp_path / 'whole' / name).read_bytes() == (tmp_path / 'parts' / name).read_bytes()
    (tmp_path / 'parts' / 'other.parquet').unlink()
    again = door(TOOL, *args, tmp_path / 'parts', '--allow-skipped')
    assert '1 of 2 shards existed already' in again.stdout
    assert 'other.parquet: 5 images' in again.stdout
    refused = door(TOOL, *args, tmp_path / 'parts', '--score-thr', 0.5, ok=False)
    assert refused.returncode == 2
    assert 'made with other settings (score_thr)' in refused.stderr
    refused = door(TOOL, *args, tmp_path / 'parts', '--size', 64, 64, ok=False)
    assert 'made with other settings (size)' in refused.stderr
    (tmp_path / 'bad.tar').write_bytes(other.read_bytes()[:3000])
    bad = [tmp_path / 'bad.tar', other, *args[2:], tmp_path / 'parts']
    done = door(TOOL, *bad, ok=False)
    assert done.returncode == 1
    assert 'bad.tar cannot be read as a tar file' in done.stderr


def test_find_shards__lists_of_one_name_are_refused(tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'list.txt').write_text('x.jpg\n')
    lists = [f'@{tmp_path / folder / "list.txt"}' for folder in 'ab']
    with pytest.raises(ValueError, match=r'would have the same result, list\.parquet'):
        find_shards(lists)


@pytest.fixture
def folder(tmp_path):
    """Fill a folder with images, and with files that are none or cannot be used."""
    (tmp_path / 'photos' / 'sub').mkdir(parents=True)
    for number, name in enumerate(('a.jpg', 'sub/b.jpg', 'z.jpg')):
        (tmp_path / 'photos' / name).write_bytes(jpeg(number))
    frames = [PIL.Image.new('RGB', (8, 6), (90 * i, 0, 0)) for i in range(2)]
    for name in ('m.gif', 'pages.tif'):
        frames[0].save(tmp_path / 'photos' / name, save_all=True, append_images=frames[1:])
    heic = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(100)
    (tmp_path / 'photos' / 'phone.heic').write_bytes(heic)
    (tmp_path / 'photos' / 'notes.txt').write_text('text')
    (tmp_path / 'photos' / '.hidden.jpg').write_bytes(jpeg(0))
    return tmp_path / 'photos'


@pytest.mark.parametrize('parts', [1, 3])
def test_find_shards__every_file_of_a_folder_is_accounted_for(parts, folder, tmp_path, monkeypatch):
    monkeypatch.setattr('mmface.utils.sources.heif_installed', lambda: False)
    rows = {}
    for part in range(parts):
        others = []
        (shard,) = find_shards([str(folder)], part, parts, others)
        assert sorted((item.path.name, item.reason) for item in others) == [
            ('.hidden.jpg', 'hidden'),
            ('notes.txt', 'not an image'),
        ]
        target = tmp_path / f'{part}.parquet'
        detect_shard(shard, target, find_faces)
        rows |= {row['image']: row for row in pq.read_table(target).to_pylist()}
    names = ['a.jpg', 'm.gif', 'pages.page1.tif', 'pages.page2.tif', 'phone.heic', 'sub/b.jpg']
    assert list(rows) == [str(folder / name) for name in (*names, 'z.jpg')]
    errors = {name.split('/')[-1]: row['error'] for name, row in rows.items() if row['error']}
    assert errors.pop('m.gif') == 'several frames'
    assert 'needs the extra heif: install it with: pip' in errors.pop('phone.heic')
    assert not errors


def test_find_shards__files_beside_tar_files_are_counted(folder):
    write_tar(folder / 'sub' / 'one.tar', [('a.jpg', jpeg(0))])
    others = []
    (shard,) = find_shards([str(folder)], others=others)
    assert shard.name == 'one'
    assert {item.reason for item in others} == {'beside tar files'}
    assert len(others) == 8


@pytest.mark.usefixtures('no_handler')
def test_detect__bulk_run_says_what_is_in_no_shard(door, folder, tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    from mmface_benchmark.toy_onnx import write_toy_centerface

    network = write_toy_centerface(tmp_path / 'toy.onnx')
    done = door(TOOL, folder, '--model', network, '--parquet', '--out', tmp_path / 'out', ok=False)
    assert done.returncode == 1
    assert '2 files of the folders are in no shard: 1 hidden, 1 not an image' in done.stdout
    assert 'photos.parquet: 7 images' in done.stdout
    assert '2 could not be used' in done.stdout  # the GIF, and the HEIC file without an image
