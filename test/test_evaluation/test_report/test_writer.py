# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from mmface.evaluation.report.examples import choose
from mmface.evaluation.report.thumbnails import CROP, crop
from mmface.evaluation.report.writer import write_report


@pytest.fixture(scope='module')
def report(drawn_study, drawn_images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('reports') / 'one'
    write_report(drawn_study, folder, drawn_images, title='A < B & C', count=12)
    return folder


def test_write_report__numbers_are_those_of_the_study(drawn_study, report, read_data):
    data = read_data(report)
    assert data['title'] == 'A < B & C'
    assert 'A &lt; B &amp; C' in (report / 'index.html').read_text()
    for shown, (name, own) in zip(data['detectors'], drawn_study.detectors.items(), strict=True):
        assert shown['name'] == name
        for subset in drawn_study.subsets:
            assert shown['ap'][subset]['value'] == pytest.approx(own.result.ap[subset], abs=1e-6)
            recall = np.array(shown['recalled'][subset]) / shown['faces'][subset]
            np.testing.assert_allclose(recall, own.operation[subset].recall)
            bit = 1 << data['subsets'].index(subset)
            counts = np.array(data['faces']['bits']) & bit > 0
            found = np.array(shown['found'])[counts]
            for place in (0, 500, 999):  # the page counts faces, the protocol detections
                assert (found <= place).sum() == shown['recalled'][subset][place]
    assert len(data['differences']) == len(drawn_study.subsets)


def test_write_report__everything_shown_is_there(report, read_data, drawn_images):
    data = read_data(report)
    files = {str(path.relative_to(report)) for path in report.rglob('*') if path.is_file()}
    wanted = {f'thumbs/{image}.jpg' for own in data['examples']['images'].values() for image in own}
    wanted |= {f'crops/face_{face}.jpg' for face in data['examples']['faces']}
    for place, own in enumerate(data['examples']['false_finds'].values()):
        wanted |= {f'crops/find_{place}_{find["id"]}.jpg' for find in own}
    page = (report / 'index.html').read_text()
    wanted |= set(re.findall(r'(?:src|href)="([a-z]+\.(?:js|css))"', page)) | {'index.html'}
    assert files == wanted
    for entry in data['shown'].values():
        assert (report / unquote(entry['link'])).resolve().is_file()
        assert entry['size'] == [1024, 700]
    assert max(map(len, data['examples']['images'].values())) == 12


def test_write_report__names_no_server(report):
    for path in report.glob('*.*'):
        text = path.read_text().replace('http://www.w3.org/2000/svg', '')
        assert not re.search(r'https?://|//[a-z]+\.[a-z]', text), path


def test_write_report__copied_images_make_it_movable(
    drawn_study, drawn_images, read_data, tmp_path
):
    write_report(drawn_study, tmp_path / 'a', drawn_images, copy_images=True, count=3)
    shutil.move(tmp_path / 'a', tmp_path / 'b')
    for entry in read_data(tmp_path / 'b')['shown'].values():
        assert not entry['link'].startswith('..')
        assert (tmp_path / 'b' / unquote(entry['link'])).is_file()


def test_write_report__without_images_has_numbers(drawn_study, tmp_path, read_data):
    write_report(drawn_study, tmp_path)
    assert not any('link' in entry for entry in read_data(tmp_path)['shown'].values())
    assert {path.name for path in tmp_path.iterdir()} == {
        'index.html', 'report.css', 'report.js', 'charts.js', 'gallery.js', 'data.js',
    }  # fmt: skip


def test_write_report__a_folder_without_the_images_is_refused(drawn_study, tmp_path):
    with pytest.raises(FileNotFoundError, match='expected the images in'):
        write_report(drawn_study, tmp_path / 'out', tmp_path)


def test_write_report__damaged_images_are_left_out(
    drawn_study, drawn_images, report, read_data, tmp_path
):
    images = tmp_path / 'images'
    shutil.copytree(drawn_images, images)
    data = read_data(report)
    first, second = (images / f'{data["images"][int(key)]}.jpg' for key in list(data['shown'])[:2])
    first.write_bytes(b'no image')
    second.unlink()
    write_report(drawn_study, tmp_path / 'out', images, count=40)
    shown = read_data(tmp_path / 'out')['shown']
    assert sum('link' not in entry for entry in shown.values()) == 2


def test_choose__orders_by_what_each_gallery_promises(drawn_study):
    chosen = choose(drawn_study, 10)
    heights = drawn_study.gt.boxes[chosen.faces, 3]
    assert (np.diff(heights) <= 0).all()
    assert drawn_study.gt.keep['hard'][chosen.faces].all()
    for name, own in drawn_study.detectors.items():
        finds = chosen.false_finds[name]
        assert (np.diff(own.matched.scores[finds]) <= 0).all()
        assert (own.matched.face[finds] < 0).all()


@pytest.mark.parametrize('side', [6, 40, 700])
@pytest.mark.parametrize('place', [(300, 200), (-5, -9), (1000, 650)])
def test_crop__has_the_box_in_its_middle(side, place):
    image = np.zeros((700, 1024, 3), np.uint8)
    x, y = place
    cv2.rectangle(image, (x, y), (x + side - 1, y + side - 1), (255, 255, 255), -1)
    found = crop(image, (x, y, side, side))
    assert found.shape == (CROP, CROP, 3)
    half = CROP * side / max(8, 2.2 * side) / 2
    inside = [
        (CROP / 2 + dx * half, CROP / 2 + dy * half) for dx in (-0.8, 0.8) for dy in (-0.8, 0.8)
    ]
    scale = max(8, 2.2 * side) / CROP
    for column, row in inside:
        px = x + side / 2 + (column - CROP / 2) * scale
        py = y + side / 2 + (row - CROP / 2) * scale
        if 2 <= px < 1022 and 2 <= py < 698:
            assert found[int(row), int(column), 0] > 200, (px, py)
