# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The report in a real browser: the numbers follow the slider, the filters filter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from browser import Page, find_browser
from mmface.evaluation.report.examples import first_bins
from mmface.evaluation.report.study import study
from mmface.evaluation.report.writer import write_report
from mmface.evaluation.wider_ap import evaluate_matched, match_rows

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason='needs Chromium (Debian: apt-get install chromium)'
)


@pytest.fixture(scope='module')
def report(drawn_study, drawn_images, tmp_path_factory):
    folder = tmp_path_factory.mktemp('page') / 'my report'
    write_report(drawn_study, folder, drawn_images, count=30)
    return folder


@pytest.fixture
def page(report, tmp_path):
    with Page(tmp_path / 'profile', (1280, 900)) as page:
        page.open(report / 'index.html')
        yield page
        assert page.problems == []
        assert all(url.startswith(('file:', 'data:')) for url in page.requests)


def tiles(page, detector: int) -> dict[str, str]:
    return page.run(
        f'Object.fromEntries([...document.querySelectorAll("#tiles-{detector} .tile")]'
        '.map((tile) => [tile.dataset.key, tile.querySelector("b").textContent]))'
    )


def slide(page, detector: int, place: int) -> None:
    page.run(
        f'(() => {{ const own = document.getElementById("slider-{detector}"); '
        f'own.value = 999 - {place}; own.dispatchEvent(new Event("input")); }})()'
    )
    page.settle()


def press_subset(page, subset: str) -> None:
    page.run(f'document.querySelector("#subsets [data-value={subset}]").click()')
    page.settle()


def test_page__slider_and_subset_give_the_numbers_of_the_study(page, drawn_study):
    for subset in ('hard', 'easy'):
        press_subset(page, subset)
        for number, own in enumerate(drawn_study.detectors.values()):
            operation = own.operation[subset]
            for place in (100, 640, 999):
                slide(page, number, place)
                shown = tiles(page, number)
                recalled = round(operation.recall[place] * own.result.faces[subset])
                assert int(shown['found'].replace(',', '')) == recalled
                assert shown['precision'] == f'{100 * operation.precision[place]:.1f} %'
                assert shown['recall'] == f'{100 * operation.recall[place]:.1f} %'
                assert shown['F1'] == f'{operation.f1[place]:.3f}'
                per_image = float(shown['false finds per image'])
                assert per_image == pytest.approx(operation.false_per_image[place], abs=0.00501)


def test_page__breakdown_is_the_recall_at_the_threshold(page, drawn_study):
    slide(page, 0, 700)
    own = next(iter(drawn_study.detectors.values()))
    for group in ('occlusion', 'height', 'event'):
        page.run(f'document.querySelector("#groups [data-value={group}]").click()')
        rows = page.run(
            '[...document.querySelectorAll("#bars .row")].map((row) => [row.firstChild.firstChild'
            '.data, row.querySelector(".value b").textContent])'
        )
        expected = {
            piece.value: f'{100 * piece.recall_at(700):.1f} %'
            for piece in own.slices['hard']
            if piece.group == group and piece.faces
        }
        assert dict(rows) == expected


def test_page__breakdown_has_the_errors_of_known_keypoints(drawn_gt, drawn_rows, tmp_path):
    rng = np.random.default_rng(2)
    corners = drawn_gt.boxes[:, None, :2] + drawn_gt.boxes[:, None, 2:] * rng.random((1, 5, 2))
    truth = np.dstack([corners, rng.random(corners.shape[:2]) < 0.9])
    gt = replace(drawn_gt, keypoints=truth)
    points = corners + rng.normal(0, 1, corners.shape)
    matched = {'own': replace(match_rows(gt, drawn_rows), points=points)}
    results = {'own': evaluate_matched(matched['own'])}
    own = study(gt, matched, results, draws=5)
    write_report(own, tmp_path / 'report')
    with Page(tmp_path / 'profile', (1280, 900)) as page:
        page.open(tmp_path / 'report/index.html')
        rows = page.run(
            '[...document.querySelectorAll("#bars .row")].map((row) => [row.firstChild.firstChild'
            '.data, row.querySelector(".value").textContent])'
        )
        note = page.run('document.getElementById("slicenote").textContent')
        fits = page.run('document.documentElement.scrollWidth <= innerWidth')
        assert page.problems == []
    pieces = {p.value: p for p in own.detectors['own'].slices['hard'] if p.group == 'height'}
    assert rows
    for value, text in rows:
        piece = pieces[value]
        assert piece.measured
        assert text.endswith(f', NME {piece.nme:.4f} ({piece.measured})')
    nme, faces = results['own'].nme['hard']
    assert f'own: {nme:.4f} ({faces})' in note
    assert fits


def test_page__presets_choose_thresholds(page, drawn_study):
    for number, own in enumerate(drawn_study.detectors.values()):
        operation = own.operation['hard']
        buttons = f'document.querySelectorAll("#sliders .slider")[{number}]'
        slide(page, number, 999)
        page.run(f'{buttons}.querySelector("button").click()')
        page.settle()
        assert tiles(page, number)['F1'] == f'{operation.f1[operation.best_f1]:.3f}'
        place = operation.for_precision(0.9)
        page.run(f'{buttons}.querySelectorAll("button")[1].click()')
        page.settle()
        if place is not None:
            assert tiles(page, number)['precision'] == f'{100 * operation.precision[place]:.1f} %'


def grid(page, name: str) -> int:
    return int(page.run(f'document.getElementById("{name}-grid").dataset.count'))


def choose_option(page, identity: str, value: str) -> None:
    page.run(
        f'(() => {{ const own = {identity}; own.value = {value!r}; '
        'own.dispatchEvent(new Event("change")); })()'
    )


def test_page__galleries_follow_thresholds_and_filters(page, drawn_study, read_data, report):
    data = read_data(report)
    bins = {name: first_bins(own) for name, own in drawn_study.detectors.items()}
    first, second = bins.values()
    hard = drawn_study.gt.keep['hard']
    faces = np.array(data['examples']['faces'])
    for place in (300, 800):
        slide(page, 0, place)
        slide(page, 1, place)
        finds = data['examples']['false_finds']['first']
        assert grid(page, 'false') == sum(find['bin'] <= place for find in finds)
        choose_option(page, 'document.getElementById("false-kind")', 'localisation')
        assert grid(page, 'false') == sum(
            find['bin'] <= place and find['kind'] == 1 for find in finds
        )
        choose_option(page, 'document.getElementById("false-kind")', '')
        mode = 'document.getElementById("faces-mode")'
        choose_option(page, mode, 'missed 1')
        assert grid(page, 'faces') == (hard[faces] & (second[faces] > place)).sum()
        choose_option(page, mode, 'only 0 1')
        alone = (first <= place) & (second > place)
        assert grid(page, 'faces') == (hard & alone)[faces].sum()
        choose_option(page, mode, 'missed 0')
        group = 'document.querySelectorAll("#faces-tools select")[1]'
        choose_option(page, group, 'occlusion')
        choose_option(page, 'document.querySelectorAll("#faces-tools select")[2]', 'heavy')
        heavy = next(
            own.faces
            for own in drawn_study.slices
            if (own.group, own.value) == ('occlusion', 'heavy')
        )
        assert grid(page, 'faces') == (hard & (first > place) & heavy)[faces].sum()
        choose_option(page, group, '')
        page.settle()


def test_page__viewer_opens_the_original_and_obeys_keys(page, read_data, report):
    data = read_data(report)
    page.run('document.querySelector("#worst-grid button").click()')
    page.run('document.querySelector("#view-image img").decode()')
    shown = 'document.querySelector("#view-image img")'
    assert page.run(f'{shown}.naturalWidth') == 1024
    first = page.run('document.getElementById("view-name").textContent')
    assert first == data['images'][data['examples']['images']['first'][0]]
    assert page.run('document.querySelectorAll("#view-image rect").length') > 0
    page.press('b')
    assert page.run('document.querySelectorAll("#view-image rect").length') == 0
    page.press('ArrowRight')
    second = page.run('document.getElementById("view-name").textContent')
    assert second == data['images'][data['examples']['images']['first'][1]]
    page.press('Escape')
    assert not page.run('document.getElementById("viewer").open')


def test_page__names_are_text(page):
    assert page.run('document.querySelectorAll("main b b, section script").length') == 0
    names = page.run(
        '[...document.querySelectorAll("#ap td:first-child")].map((c) => c.textContent)'
    )
    assert names == ['first', '<b>x</b>&amp;</script>']


@pytest.mark.parametrize('dark', [False, True])
def test_page__fits_a_phone(report, tmp_path, dark):
    with Page(tmp_path / 'profile', (390, 844), dark) as page:
        page.open(report / 'index.html')
        assert page.run('document.documentElement.scrollWidth') == 390
        light = page.run('getComputedStyle(document.body).backgroundColor')
        assert light == ('rgb(20, 23, 26)' if dark else 'rgb(250, 250, 248)')
        assert page.problems == []


def test_page__without_images_leaves_the_galleries_out(drawn_study, tmp_path):
    write_report(drawn_study, tmp_path / 'out')
    with Page(tmp_path / 'profile', (900, 700)) as page:
        page.open(tmp_path / 'out' / 'index.html')
        assert page.run('document.querySelectorAll("section").length') == 5
        assert page.problems == []


@pytest.mark.parametrize('case', ['one', 'nothing found', 'no easy face', 'sizes', 'seven'])
def test_page__odd_studies_show_without_an_error(
    drawn_gt, drawn_rows, drawn_images, tmp_path, case
):
    keep = dict(drawn_gt.keep)
    if case == 'no easy face':
        keep['easy'] = np.zeros(len(drawn_gt.boxes), bool)
    if case == 'sizes':
        keep = dict(
            zip(('small', 'medium', 'large', 'all'), [*keep.values(), keep['hard']], strict=True)
        )
    gt = replace(drawn_gt, keep=keep)
    rows = [{} if case == 'nothing found' else drawn_rows] * (7 if case == 'seven' else 1)
    matched = {f'd{number}': match_rows(gt, own) for number, own in enumerate(rows)}
    results = {name: evaluate_matched(own) for name, own in matched.items()}
    write_report(study(gt, matched, results, draws=5), tmp_path / 'out', drawn_images, count=5)
    with Page(tmp_path / 'profile', (1000, 800)) as page:
        page.open(tmp_path / 'out' / 'index.html')
        for subset in gt.subsets:
            press_subset(page, subset)
            slide(page, 0, 500)
        for group in ('height', 'event'):
            page.run(f'document.querySelector("#groups [data-value={group}]").click()')
        assert page.run('document.querySelectorAll("#pr svg").length') == len(gt.subsets)
        assert page.run('document.querySelectorAll("#sliders input").length') == len(rows)
        text = page.run('document.querySelector("main").innerText')
        assert 'NaN' not in text and 'undefined' not in text and 'null' not in text
        assert page.problems == []
