# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The Chinese pages have the numbers and commands of the English ones, and they link to each other.

A section of a Chinese page belongs to the English section whose anchor it repeats
(``<a id="models"></a>``). A page without such anchors has all sections, in the same order.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers import REPO

TWINS = sorted(
    path.relative_to(REPO) for path in REPO.rglob('*.zh-CN.md') if '.venv' not in str(path)
)
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def english_of(twin: Path) -> Path:
    return twin.with_name(twin.name.replace('.zh-CN', ''))


def anchor(title: str) -> str:
    """Return the anchor of a title, as GitHub makes it."""
    return re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-')


def sections(page: str) -> dict[str, str]:
    """Return the texts of the sections by their anchors. What is before the first has none."""
    hidden = FENCE.sub(lambda found: found[0].replace('\n#', '\n\0'), page)
    parts = re.split(r'^(?:<a id="([\w-]+)"></a>\n\n)?(##+ .*)$', hidden, flags=re.MULTILINE)
    found = {}
    for given, title, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        found[given or anchor(title.lstrip('# '))] = text.replace('\0', '#')
    return found


def pairs(twin: Path) -> list[tuple[str, str, str]]:
    """Return name, English text and Chinese text of each section of the Chinese page."""
    english, chinese = (sections((REPO / page).read_text()) for page in (english_of(twin), twin))
    if '<a id=' in (REPO / twin).read_text():
        assert chinese.keys() <= english.keys(), chinese.keys() - english.keys()
        return [(name, english[name], text) for name, text in chinese.items()]
    assert len(chinese) == len(english)
    return [(name, a, b) for (name, a), b in zip(english.items(), chinese.values(), strict=True)]


def code(text: str) -> set[str]:
    return set(re.findall(r'`([^`\n]+)`', FENCE.sub('', text)))


def numbers(text: str) -> set[str]:
    """Return the numbers outside of code and links."""
    prose = re.sub(r'`[^`\n]+`|\]\([^)]*\)', '', FENCE.sub('', text))
    return set(re.findall(r'(?<![\w.])\.?\d[\d.,]*\d|\d', prose))


#: Small numbers are often words: "eight cards", 八卡.
WORDS = {
    '1': ('one', '1p', '一', '单'), '2': ('two', '二', '两'), '3': ('three', '三'),
    '4': ('four', '四'), '5': ('five', '五'), '8': ('eight', '8p', '八'), '9': ('nine', '九'),
}  # fmt: skip


def missing_numbers(text: str, other: str) -> set[str]:
    """Return the numbers of a text that another neither has as digits nor as words."""
    extra = numbers(text) - numbers(other)
    return {n for n in extra if not any(word in other for word in WORDS.get(n, ()))}


def links(text: str) -> list[str]:
    """Return the targets of the links. A Chinese page links to Chinese ones where they exist."""
    return sorted(target.replace('.zh-CN', '') for target in re.findall(r'\]\(([^)]+)\)', text))


@pytest.mark.parametrize('twin', TWINS, ids=str)
def test_twin__has_the_same_commands_numbers_and_links(twin):
    found = pairs(twin)
    assert found
    for name, english, chinese in found:
        assert FENCE.findall(chinese) == FENCE.findall(english), name
        rows = [len(re.findall(r'^\|', text, re.MULTILINE)) for text in (english, chinese)]
        assert rows[0] == rows[1], name
        assert code(chinese) == code(english), name
        assert not missing_numbers(chinese, english), name
        assert not missing_numbers(english, chinese), name
        assert links(chinese) == links(english), name


@pytest.mark.parametrize('twin', TWINS, ids=str)
def test_twin__links_to_the_other_page_and_back(twin):
    english = english_of(twin)
    assert f']({english.name})' in (REPO / twin).read_text()
    assert f']({twin.name})' in (REPO / english).read_text()


# The front page names its pages in English.
@pytest.mark.parametrize('twin', [twin for twin in TWINS if len(twin.parts) > 1], ids=str)
def test_twin__links_to_chinese_pages_where_they_exist(twin):
    text = (REPO / twin).read_text()
    for target in re.findall(r'\]\((?!http)([^)#]+\.md)', text):
        path = Path(target)
        other = path.with_name(f'{path.stem}.zh-CN.md')
        is_english_twin = target == english_of(twin).name
        if not target.endswith('.zh-CN.md') and not is_english_twin:
            assert not ((REPO / twin).parent / other).exists(), f'{target}: {other} exists'
