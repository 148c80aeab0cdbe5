# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""How command-line tools end."""

from __future__ import annotations

import errno

import pytest

from mmface.utils.cli import main_guard, make_parser, one_line


def _run(error):
    def main():
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as end:
        main_guard(main)
    return end.value.code


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (
            ValueError('labels.txt:3: expected 4 numbers,\n found 7'),
            'labels.txt:3: expected 4 numbers, found 7',
        ),
        (FileNotFoundError('no such thing'), 'no such thing'),
        (
            OSError(errno.ENOSPC, 'No space left on device', 'a.pth'),
            'No space left on device: a.pth',
        ),
    ],
)
def test_main_guard__user_errors_are_one_line_and_exit_2(error, line, capsys):
    assert _run(error) == 2
    assert capsys.readouterr().err == f'error: {line}\n'


def test_main_guard__bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        main_guard(lambda: 1 / 0)


def test_main_guard__missing_framework_names_the_set_up_script(capsys):
    assert _run(ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext')) == 2
    assert 'bash build_mmcv.sh' in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        main_guard(lambda: __import__('no_such_module_here'))


def test_main_guard__ends():
    assert _run(None) == 0
    assert _run(KeyboardInterrupt()) == 130


def test_main_guard__shows_traceback_on_request(capsys, monkeypatch):
    monkeypatch.setenv('MMFACE_TRACEBACK', '1')
    assert _run(ValueError('x')) == 2
    assert 'Traceback' in capsys.readouterr().err


def test_one_line__takes_the_message_of_a_worker():
    text = (
        'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent '
        'call last):\n  File "x.py", line 3, in f\nValueError: a.jpg: cut short\n'
    )
    assert one_line(ValueError(text)) == 'a.jpg: cut short'


def test_one_line__drops_the_registry_prefix():
    error = ValueError('class `A` in mmface/a.py: labels.txt: empty')
    assert one_line(error) == 'labels.txt: empty'


def test_make_parser__help_ends_with_the_example():
    assert make_parser('Does it.', 'python x.py').format_help().endswith('python x.py\n')
