# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Every common layout of WIDER FACE becomes the canonical one, or there is a clear error."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmface.datasets.annotations import read_annotations
from mmface.datasets.face_annotation import FaceAnnotation
from mmface.datasets.prepare import Preparation
from mmface.toys.widerface import make_toy_widerface
from mmface.utils.image_names import read_part
from wider_layouts import (
    LAYOUTS,
    SPLITS,
    centerface_layout,
    copy_files,
    official_archives,
    official_folders,
    scrfd_layout,
)

TOOL = 'tools/data/prepare_widerface.py'


@pytest.fixture(scope='module')
def toy(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('toy') / 'set'
    return make_toy_widerface(root, num_train=7, num_val=5, image_size=(160, 120))


@pytest.fixture(scope='module')
def faces(toy) -> dict[str, list[FaceAnnotation]]:
    return {split: read_annotations(toy / split / 'labelv2.txt').images for split in SPLITS}


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.__name__)
def layout(request, toy, tmp_path) -> Path:
    root = tmp_path / 'source'
    request.param(toy, root)
    return root


def prepare(out: Path, *sources: Path, part: Path | None = None, copy: bool = False) -> None:
    with Preparation(sources, out, part) as found:
        found.write(copy)


def test_layout__becomes_canonical(layout, toy, faces, tmp_path):
    out = tmp_path / 'out'
    prepare(out, layout)
    coco = any(layout.rglob('*.json'))
    official = (layout / 'wider_face_split').exists() or list(layout.glob('*.zip'))
    for split in SPLITS:
        got = {item.path: item for item in read_annotations(out / split / 'labelv2.txt').images}
        want = [i for i in faces[split] if len(i.bboxes) or not (coco and split == 'train')]
        assert got.keys() == {item.path for item in want}
        for item in want:
            mine = got[item.path]
            assert (mine.width, mine.height) == (item.width, item.height)
            image = out / split / 'images' / item.path
            assert image.read_bytes() == (toy / split / 'images' / item.path).read_bytes()
            boxes, points = item.bboxes, item.keypoints
            if official and split == 'train':
                whole = (boxes % 1 == 0).all(axis=1)  # the official text has no half pixels
                boxes = boxes[whole]
                assert (mine.keypoints[..., 2] == 0).all()
            elif split == 'train' or any(layout.rglob('val/labelv2.txt')):
                np.testing.assert_allclose(mine.keypoints, points, atol=1e-4)
            else:  # ground truth of the evaluation, which has boxes only
                assert (mine.keypoints[..., 2] == 0).all()
            np.testing.assert_allclose(mine.bboxes, boxes, atol=1e-4)
    for name in ('face', 'easy', 'medium', 'hard'):
        file = f'wider_{name}_val.mat'
        assert (out / 'val/gt' / file).read_bytes() == (toy / 'val/gt' / file).read_bytes()


def test_second_run__changes_nothing(layout, tmp_path):
    out = tmp_path / 'out'
    prepare(out, layout)
    before = {f: (f.lstat().st_mtime_ns, f.lstat().st_ino) for f in out.rglob('*')}
    prepare(out, layout)
    assert {f: (f.lstat().st_mtime_ns, f.lstat().st_ino) for f in out.rglob('*')} == before


def test_images__are_linked_unless_copies_are_wanted(toy, tmp_path):
    scrfd_layout(toy, tmp_path / 'source')
    prepare(tmp_path / 'linked', tmp_path / 'source')
    prepare(tmp_path / 'copied', tmp_path / 'source', copy=True)
    assert all(f.is_symlink() for f in (tmp_path / 'linked').rglob('*.jpg'))
    assert not any(f.is_symlink() for f in (tmp_path / 'copied').rglob('*'))
    prepare(tmp_path / 'linked', tmp_path / 'source', copy=True)
    assert not any(f.is_symlink() for f in (tmp_path / 'linked').rglob('*'))


def test_canonical_folder__is_prepared_in_place(toy, faces, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(toy, root)
    (root / 'val/labelv2.txt').unlink()
    prepare(root, root)
    got = read_annotations(root / 'val/labelv2.txt').images
    assert [(g.path, g.width, g.bboxes.tolist()) for g in got] == [
        (w.path, w.width, w.bboxes.tolist()) for w in faces['val']
    ]


def test_source_around_the_output__does_not_find_its_own_result(toy, tmp_path):
    scrfd_layout(toy, tmp_path / 'data/source')
    for _ in range(2):
        prepare(tmp_path / 'data/out', tmp_path / 'data')
    links = list((tmp_path / 'data/out').rglob('*.jpg'))
    assert links
    assert all('source' in str(link.resolve()) for link in links)


def test_box_only_training_labels__get_rows_with_an_ignore_flag(toy, tmp_path):
    official_folders(toy, tmp_path / 'source')
    text = tmp_path / 'source/wider_face_split/wider_face_train_bbx_gt.txt'
    lines = text.read_text().split('\n')
    row = next(k for k, line in enumerate(lines) if len(line.split()) == 10 and line[0] != '0')
    numbers = lines[row].split()
    lines[row] = ' '.join([*numbers[:7], '1', *numbers[8:], ''])  # invalid
    text.write_text('\n'.join(lines))
    prepare(tmp_path / 'out', tmp_path / 'source')
    rows = [r.split() for r in (tmp_path / 'out/train/labelv2.txt').read_text().split('\n')]
    assert {len(r) for r in rows if r and r[0] != '#'} == {5}
    x, y, w, h = map(int, numbers[:4])
    assert [str(v) for v in (x, y, x + w, y + h, 1)] in rows


def test_ground_truth_alone__gives_the_validation_labels(toy, faces, tmp_path):
    shutil.copytree(toy / 'val/images', tmp_path / 'source/WIDER_val/images')
    shutil.copytree(toy / 'val/gt', tmp_path / 'source/ground_truth')
    prepare(tmp_path / 'out', tmp_path / 'source')
    got = {
        item.path: item.bboxes.tolist()
        for item in read_annotations(tmp_path / 'out/val/labelv2.txt').images
    }
    assert got == {item.path: item.bboxes.tolist() for item in faces['val']}


def test_list_of_names__takes_the_faces_of_the_mat_beside_it(toy, faces, tmp_path):
    source = tmp_path / 'source'
    shutil.copytree(toy / 'val/images', source / 'WIDER_val/images')
    shutil.copytree(toy / 'val/gt', source / 'groud_truth')
    (source / 'labels/val').mkdir(parents=True)
    names = ''.join(f'# {item.path}\n' for item in faces['val'])
    (source / 'labels/val/label.txt').write_text(names)
    with Preparation([source], tmp_path / 'out') as preparation:
        preparation.write()
    assert 'label.txt lists 5 images without faces; the faces of 5 of them' in str(
        preparation.notes
    )
    got = read_annotations(tmp_path / 'out/val/labelv2.txt').images
    assert [(i.path, i.bboxes.tolist()) for i in got] == [
        (i.path, i.bboxes.tolist()) for i in faces['val']
    ]


def test_part__restricts_images_and_labels(layout, faces, tmp_path):
    keys = {split: [i.path for i in faces[split] if len(i.bboxes)][1:3] for split in SPLITS}
    part = tmp_path / 'part.txt'
    part.write_text('\n'.join([*keys['train'], *keys['val'], '']))
    out = tmp_path / 'out'
    prepare(out, layout, part=part)
    for split in SPLITS:
        assert {i.path for i in read_annotations(out / split / 'labelv2.txt').images} == set(
            keys[split]
        )
        folder = out / split / 'images'
        found = {f.relative_to(folder).as_posix() for f in folder.rglob('*.jpg')}
        assert found == set(keys[split])
        for text in (out / split).glob('*bbx_gt.txt'):
            assert {i.path for i in read_annotations(text).images} == set(keys[split])
        assert read_part(out / split / 'part.txt') == keys[split]


def test_tool__prints_a_table_and_explains_missing_keypoints(run_tool, toy, tmp_path):
    official_archives(toy, tmp_path / 'source')
    archives = sorted((tmp_path / 'source').glob('*.zip'))
    done = run_tool(TOOL, *archives, '--out', tmp_path / 'out')
    table = {line.split()[0]: line.split()[1:5] for line in done.stdout.splitlines() if line}
    assert table['train'] == ['7', '7', '0', '0']
    assert table['val'] == ['5', '5', '0', '0']
    assert 'no keypoints: train configs without _bnkps' in done.stdout
    assert (tmp_path / 'out/val/gt/wider_hard_val.mat').is_file()


def test_missing_image__is_named_and_nothing_is_written(door, toy, tmp_path):
    scrfd_layout(toy, tmp_path / 'source')
    gone = next((tmp_path / 'source').rglob('*/train/images/*/*.jpg'))
    gone.unlink()
    done = door(TOOL, tmp_path / 'source', '--out', tmp_path / 'out', ok=False)
    assert done.returncode == 2
    assert f'{gone.name}: missing' in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('error: 1 images are missing')
    assert 'nothing was written' in last
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def source(toy, tmp_path) -> Path:
    scrfd_layout(toy, tmp_path / 'source')
    return tmp_path / 'source'


def test_broken_and_foreign_images__are_problems(source, tmp_path):
    broken, foreign = sorted(source.rglob('*/val/images/*/*.jpg'))[:2]
    broken.write_bytes(b'<html>not found</html>')
    cv2.imwrite(str(foreign), np.zeros((50, 60, 3), np.uint8))
    with Preparation([source], tmp_path / 'out') as found:
        problems = '\n'.join(found.problems)
        assert f'{broken.name}: ' in problems
        assert 'not a readable image' in problems
        assert 'is 60x50, but its labels are for' in problems
        with pytest.raises(ValueError, match='2 problems'):
            found.write()
    assert not (tmp_path / 'out').exists()


def test_decode__lists_what_a_header_does_not_show(source, tmp_path):
    paths = sorted(source.glob('retinaface/*/images/*/*.jpg'))
    for path, part in zip(paths, (slice(None, -200), slice(None, -2)), strict=False):
        path.write_bytes(path.read_bytes()[part])
    data = bytearray(paths[2].read_bytes())
    data[len(data) // 2 : len(data) * 3 // 4] = bytes(len(data) * 3 // 4 - len(data) // 2)
    paths[2].write_bytes(data)
    with Preparation([source], tmp_path / 'out') as found:
        assert not found.problems and not found.notes
    with Preparation([source], tmp_path / 'out', decode=True) as found:
        (problem,) = found.problems
        assert paths[0].name in problem and 'cut before its end' in problem
        (note,) = found.notes
        assert paths[2].name in note and 'damaged data inside' in note


def test_image_that_the_ground_truth_does_not_know__is_a_problem(source, tmp_path):
    labels = source / 'retinaface/val/labelv2.txt'
    image = next(source.rglob('*/val/images/*/*.jpg'))
    shutil.copy(image, image.with_name('new.jpg'))
    height, width = cv2.imread(str(image)).shape[:2]
    labels.write_text(labels.read_text() + f'# {image.parent.name}/new.jpg {width} {height}\n')
    with Preparation([source], tmp_path / 'out') as found:
        assert len(found.problems) == 1
        assert 'new.jpg: not in' in found.problems[0]


def test_unlisted_images__are_counted_and_left_out(source, tmp_path):
    image = next(source.rglob('*/val/images/*/*.jpg'))
    shutil.copy(image, image.with_name('extra.jpg'))
    with Preparation([source], tmp_path / 'out') as found:
        assert [split.unlisted for split in found.splits] == [0, 1]
        found.write()
    assert not list((tmp_path / 'out').rglob('extra.jpg'))


def test_existing_files_with_other_content__are_kept(source, tmp_path):
    labels = tmp_path / 'out/val/labelv2.txt'
    labels.parent.mkdir(parents=True)
    labels.write_text('mine')
    with pytest.raises(ValueError, match='exists with other content'):
        prepare(tmp_path / 'out', source)
    assert labels.read_text() == 'mine'


def test_existing_image_with_other_content__is_kept(source, tmp_path):
    key = next(source.rglob('*/train/images/*/*.jpg')).relative_to(source / 'retinaface')
    image = tmp_path / 'out' / key
    image.parent.mkdir(parents=True)
    image.write_bytes(b'mine')
    with pytest.raises(ValueError, match='differs from'):
        prepare(tmp_path / 'out', source)
    assert image.read_bytes() == b'mine'


@pytest.mark.parametrize(
    'member', ['../../evil.jpg', '/evil.jpg', 'a\\..\\evil.jpg', 'C:/evil.jpg']
)
def test_archive_with_a_path_that_leads_out__is_refused(tmp_path, member):
    with zipfile.ZipFile(tmp_path / 'WIDER_val.zip', 'w') as archive:
        archive.writestr('WIDER_val/images/0--Parade/a.jpg', b'x')
        archive.writestr(member, b'x')
    with pytest.raises(ValueError, match='outside the archive'):
        prepare(tmp_path / 'out', tmp_path / 'WIDER_val.zip')
    assert sorted(f.name for f in tmp_path.rglob('*')) == ['WIDER_val.zip']


def test_label_with_a_path_that_leads_out__is_refused(source, tmp_path):
    labels = source / 'retinaface/val/labelv2.txt'
    labels.write_text('# ../../evil/a.jpg 10 10\n')
    with pytest.raises(ValueError, match='expected the name of an image'):
        prepare(tmp_path / 'out', source)


def test_wrong_input__is_refused_with_the_remedy(source, tmp_path):
    out = tmp_path / 'out'
    with pytest.raises(FileNotFoundError, match='does not exist'):
        prepare(out, tmp_path / 'nowhere')
    part = tmp_path / 'part.txt'
    part.write_text('0--Parade/never_seen.jpg\n')
    with pytest.raises(ValueError, match=r"no label file lists .*'0--Parade/never_seen"):
        prepare(out, source, part=part)
    (source / 'WIDER_val.zip').write_bytes(b'PK\x03\x04 cut off')
    with pytest.raises(ValueError, match=r'WIDER_val\.zip .*zip archive.* get it again'):
        prepare(out, source)
    (tmp_path / 'WIDER_val.tar').write_bytes(b'')
    with pytest.raises(ValueError, match='unpack it'):
        prepare(out, tmp_path / 'WIDER_val.tar')
    assert not out.exists()


@pytest.mark.parametrize(
    'content', ['{}', '[1]', '{"images": [{"id": 1}], "annotations": []}', 'x']
)
def test_json_of_another_kind__is_refused(toy, tmp_path, content):
    centerface_layout(toy, tmp_path / 'source')
    (tmp_path / 'source/data/wider_face/annotations/train_wider_face.json').write_text(content)
    with pytest.raises(ValueError, match='expected COCO-style JSON'):
        prepare(tmp_path / 'out', tmp_path / 'source')


def test_images_without_labels__say_which_archive_is_missing(toy, tmp_path):
    shutil.copytree(toy / 'train/images', tmp_path / 'WIDER_train/images')
    with pytest.raises(ValueError, match=r'wider_face_split\.zip'):
        prepare(tmp_path / 'out', tmp_path / 'WIDER_train')


def test_different_label_files_of_one_kind__are_refused(source, tmp_path):
    other = source / 'old/val/labelv2.txt'
    other.parent.mkdir(parents=True)
    other.write_text('# a/b.jpg 1 1\n')
    with pytest.raises(ValueError, match='several different label files'):
        prepare(tmp_path / 'out', source)


@pytest.mark.reference
def test_real_images__give_the_published_labels(reference_dir, tmp_path):
    wider = reference_dir / 'data/wider'
    source = tmp_path / 'source'
    source.mkdir()
    (source / 'WIDER_val').symlink_to(wider / 'WIDER_val')
    (source / 'ground_truth').symlink_to(wider / 'ground_truth')
    copy_files(wider / 'annotations', source, 'wider_face_val_bbx_gt.txt')
    part = wider / 'val_part.txt'
    prepare(tmp_path / 'out', source, part=part)
    ours = read_annotations(tmp_path / 'out/val/labelv2.txt').images
    keys = set(read_part(part))
    published = read_annotations(wider / 'annotations/labelv2_val.txt').images
    published = [item for item in published if item.path in keys]
    assert len(published) == len(ours) == 610
    for a, b in zip(ours, published, strict=True):
        assert a[:3] == b[:3]
        np.testing.assert_array_equal(a.bboxes, b.bboxes)


@pytest.mark.reference
def test_real_training_images__keep_their_keypoints(reference_dir, tmp_path):
    wider = reference_dir / 'data/wider'
    prepare(tmp_path / 'out', wider, part=wider / 'train_part.txt')
    ours = read_annotations(tmp_path / 'out/train/labelv2.txt').images
    assert len(ours) == 600
    assert sum(int((i.keypoints[..., 2] > 0).any(axis=1).sum()) for i in ours) == 4144
