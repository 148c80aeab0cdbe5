# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What CONTRIBUTING.md says about adding parts: a toy part in the one place that it names.

A toy layout is in test_deploy/test_layouts.py.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from helpers import REPO, batch_of, faces, load_config
from mmface.cli import labels
from mmface.datasets import WiderFaceDataset, annotations
from mmface.datasets.annotations import LabelFormat, read_annotations
from mmface.datasets.face_annotation import assemble


@MODELS.register_module(force=True)
class ToyLoss(nn.Module):
    """Absolute error with the contract of the heads: one value for each row, not reduced."""

    def forward(self, found, target, reduction_override):
        assert reduction_override == 'none'
        error = (found - target).abs()
        return error.sum(-1) if error.shape[-1] == 4 else error


@pytest.mark.parametrize(
    ('name', 'part'), [('scrfd_500m_bnkps', 'loss_bbox'), ('scrfd_500m_bnkps', 'loss_kps')]
)
def test_loss__is_one_class(name, part):
    cfg = load_config(name)
    cfg.model.bbox_head[part] = dict(type='ToyLoss')
    model = MODELS.build(cfg.model)
    batch = batch_of([faces([[4, 4, 40, 50]], [[[8, 9]] * 5]), faces([])], 64)
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total = sum(sum(value) for value in losses.values())
    assert torch.isfinite(total)
    assert sum(losses[part]) > 0
    total.backward()


def read_toy(source, text):
    rows = [line.split(',') for line in text.splitlines()[1:]]
    heads = [(row[0], 100, 100) for row in rows]
    boxes = np.array([list(map(float, row[1:])) for row in rows])
    points = np.full((len(rows), 15), -1.0)
    return assemble(heads, np.arange(len(rows)), boxes, points, np.zeros(len(rows), bool))


def test_label_format__is_one_entry(monkeypatch, tmp_path, capsys):
    toy = LabelFormat(lambda source, text: text.startswith('image,x1'), read_toy)
    monkeypatch.setattr(annotations, 'FORMATS', {'toy': toy, **annotations.FORMATS})
    path = tmp_path / 'labels.csv'
    path.write_text('image,x1,y1,x2,y2\ne/a.jpg,1,2,30,40\ne/b.jpg,5,6,70,80\n')
    assert [entry.path for entry in read_annotations(path).images] == ['e/a.jpg', 'e/b.jpg']
    # The data set and the converter know it as well.
    (tmp_path / 'images' / 'e').mkdir(parents=True)
    for name in 'ab':
        (tmp_path / 'images' / 'e' / f'{name}.jpg').touch()
    data = WiderFaceDataset(
        data_root=str(tmp_path), ann_file='labels.csv', data_prefix={'img_path': 'images/'},
        ann_format='toy', pipeline=[],
    )  # fmt: skip
    np.testing.assert_array_equal(data.get_data_info(1)['bboxes'], [[5, 6, 70, 80]])
    monkeypatch.setattr('sys.argv', ['labels', str(path), str(tmp_path / 'out.json')])
    labels.main()
    found = json.loads((tmp_path / 'out.json').read_text())
    assert [image['file_name'] for image in found['images']] == ['e/a.jpg', 'e/b.jpg']


def test_contributing__names_files_that_are_there():
    text = (REPO / 'CONTRIBUTING.md').read_text()
    table = text[text.index('| to add') :]
    named = re.findall(r'`((?:mmface|test|tools|configs)/[^`<>*]+)`', table)
    assert len(named) > 15
    assert [name for name in named if not (REPO / name).exists()] == []


@pytest.mark.parametrize('fence', ['bash', 'python'])
def test_readme__both_languages_have_the_same_commands(fence):
    pages = [(REPO / name).read_text() for name in ('README.md', 'README.zh-CN.md')]
    blocks = [re.findall(rf'```{fence}\n(.*?)```', page, re.DOTALL) for page in pages]
    assert blocks[0] == blocks[1]
    assert len(blocks[0]) >= 2
    assert len(pages[0].splitlines()) <= 150


def test_readme__links_lead_somewhere():
    for page in [*REPO.glob('*.md'), *REPO.glob('[!.]*/**/*.md')]:
        for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', page.read_text()):
            assert (page.parent / target).exists(), f'{page}: {target}'
