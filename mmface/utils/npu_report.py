# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Report what a host has for Ascend NPUs and what of it works, for a bug report.

Needs only the standard library. Torch and the other packages are imported step by step, so that
the report shows which import fails and why.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from mmface.utils.environment import check_mmdet, check_ops, installed

#: Folders where the driver and CANN are installed, as root and as a user.
ROOTS = (Path('/usr/local/Ascend'), Path.home() / 'Ascend')
#: Folders of CANN in a root. The name is ``cann`` since CANN 8.5.
CANN_FOLDERS = ('cann', 'ascend-toolkit/latest', 'nnae/latest')
#: Files with a line ``version=...``, in the folder of CANN.
CANN_FILES = ('ascend_*_install.info', '*-linux/ascend_*_install.info', 'version.cfg')
VARIABLES = re.compile(
    r'(ASCEND_|HCCL_|NPU|TASK_QUEUE_ENABLE$|CPU_AFFINITY_CONF$|PYTORCH_\w*ALLOC_CONF$'
    r'|TORCH_DEVICE_BACKEND_AUTOLOAD$)'
)
WORKS = 'works'
WIDTH = 16  # of the names in the report


def read_version(path: Path) -> str:
    """Return the version that a file of the driver or of CANN states, and its path."""
    try:
        text = path.read_text(encoding='utf-8', errors='replace')
    except OSError as error:
        return f'{path}: {error.strerror}'
    found = re.search(r'^\w*version\w*\s*[=:]\s*(\S.*)$', text, re.MULTILINE | re.IGNORECASE)
    return f'{found[1].strip() if found else "no line with a version"} ({path})'


def version_files(roots: tuple[Path, ...] = ROOTS) -> Iterator[tuple[str, str]]:
    """Yield names and versions of the driver, the firmware and CANN; one row says what lacks."""
    for part in ('driver', 'firmware'):
        files = [root / part / 'version.info' for root in roots]
        found = [read_version(file) for file in files if file.is_file()]
        yield part, ', '.join(found) or f'not found: no {files[0]}'
    homes = [Path(home)] if (home := os.environ.get('ASCEND_HOME_PATH')) else []
    homes += [root / folder for root in roots for folder in CANN_FOLDERS]
    seen: set[Path] = set()
    for home_path in homes:
        files = [file for pattern in CANN_FILES for file in sorted(home_path.glob(pattern))]
        for file in files[:1]:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield 'CANN', read_version(file)
    if not seen:
        yield 'CANN', f'not found in {", ".join(map(str, homes))}'


def device_files(folder: Path = Path('/dev')) -> str:
    """List the files of the cards, which the driver makes."""
    names = sorted(path.name for path in folder.glob('davinci*'))
    if not names:
        return (
            'none in /dev: no driver, or a container that was started without --device '
            '/dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm '
            '--device /dev/hisi_hdc'
        )
    return ' '.join(names)


def npu_smi() -> str:
    """Return the table of ``npu-smi info``, or why there is none."""
    command = shutil.which('npu-smi')
    if command is None:
        return 'not found in PATH'
    try:
        done = subprocess.run(
            [command, 'info'], capture_output=True, text=True, timeout=60, errors='replace'
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f'fails: {error}'
    text = (done.stdout + done.stderr).strip()
    return (f'fails with status {done.returncode}\n' if done.returncode else '\n') + text


def environment_rows() -> Iterator[tuple[str, str]]:
    """Yield the variables that change how CANN and torch_npu behave."""
    if not os.environ.get('ASCEND_HOME_PATH'):
        yield 'set_env.sh', 'not sourced: ASCEND_HOME_PATH is not set'
    for name in sorted(filter(VARIABLES.match, os.environ)):
        yield name, os.environ[name]
    paths = os.environ.get('LD_LIBRARY_PATH', '').split(os.pathsep)
    ours = ' '.join(path for path in paths if 'scend' in path)
    yield 'LD_LIBRARY_PATH', ours or 'contains no folder of Ascend'


def import_version(name: str) -> str:
    """Import a package. Return its version.

    Raises:
        RuntimeError: It is not installed, or cannot be imported.
    """
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        raise RuntimeError(f'not installed ({error}): bash build_mmcv.sh --device npu') from None
    except Exception as error:  # libraries of CANN raise many types
        remedy = '' if '.so' not in str(error) else '; source the set_env.sh of CANN'
        raise RuntimeError(f'{type(error).__name__}: {error}{remedy}') from None
    return str(getattr(module, '__version__', WORKS))


def check_pair() -> str:
    """Check that torch and torch_npu have the same version, but for the last number.

    Raises:
        RuntimeError: They differ.
    """
    import torch
    import torch_npu  # type: ignore[import-not-found]

    if getattr(torch_npu, 'IS_SIMULATED', False):
        return 'the simulated device of test/npu_sim, not an NPU'
    pair = [str(module.__version__).split('.')[:2] for module in (torch, torch_npu)]
    if pair[0] != pair[1]:
        raise RuntimeError(
            f'torch {torch.__version__} and torch_npu {torch_npu.__version__} do not fit: the '
            'first two numbers must be equal; bash build_mmcv.sh --device npu installs a pair'
        )
    return 'fit each other'


def list_devices() -> str:
    """Name the devices that torch_npu sees.

    Raises:
        RuntimeError: It sees none.
    """
    import torch

    backend = getattr(torch, 'npu', None)
    if backend is None or not backend.is_available() or not backend.device_count():
        visible = os.environ.get('ASCEND_RT_VISIBLE_DEVICES')
        why = 'the driver works (npu-smi info)' + (
            f' and ASCEND_RT_VISIBLE_DEVICES={visible} names a card of this host' if visible else ''
        )
        raise RuntimeError(f'none: check that {why}')
    count = backend.device_count()
    return ', '.join(f'npu:{number} {backend.get_device_name(number)}' for number in range(count))


def multiply() -> str:
    """Multiply two matrices on the device.

    Raises:
        RuntimeError: The product is wrong.
    """
    import torch

    product = (torch.ones(4, 4, device='npu') @ torch.ones(4, 4, device='npu')).sum().item()
    if product != 64:
        raise RuntimeError(f'ones(4, 4) @ ones(4, 4) has the sum {product}, expected 64')
    return WORKS


def _nms() -> str:
    check_ops('npu')
    return WORKS


def _mmdet() -> str:
    check_mmdet()
    return WORKS


#: Checks with the check that each of them needs.
CHECKS: dict[str, tuple[Callable[[], str], str]] = {
    'import torch': (lambda: import_version('torch'), ''),
    'import torch_npu': (lambda: import_version('torch_npu'), 'import torch'),
    'their versions': (check_pair, 'import torch_npu'),
    'NPUs': (list_devices, 'import torch_npu'),
    'matrix product': (multiply, 'NPUs'),
    'import mmcv.ops': (lambda: import_version('mmcv.ops'), 'import torch'),
    'NMS on the NPU': (_nms, 'NPUs'),
    'import mmdet': (_mmdet, 'import torch'),
    'import mmface': (lambda: import_version('mmface.registry'), 'import mmdet'),
}


def run_checks() -> list[str]:
    """Run the checks and print a row for each. Return the rows of those that fail.

    The name is printed before the check, so that it is seen if a library ends the process.
    """
    failed: dict[str, str] = {}
    for name, (check, needs) in CHECKS.items():
        print(f'{name:{WIDTH}} ', end='', flush=True)
        if needs in failed:
            failed[name] = f'not tried: needs "{needs}"'
            print(failed[name])
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # packages greet, or miss others
                text = check()
        except Exception as error:  # any error of a library is part of the report
            text = 'fails: ' + ' '.join(str(error).split())[:600]
            failed[name] = f'{name} {text}'
        print(text, flush=True)
    return list(failed.values())


def print_report() -> None:
    """Print the report, each row as soon as it is known."""
    packages = {'torch_npu': 'not installed', **installed()}
    rows = [
        ('system', platform.platform()),
        ('python', f'{platform.python_version()} at {sys.prefix}'),
        *packages.items(),
        ('card files', device_files()),
        ('npu-smi', npu_smi()),
        *version_files(),
        *environment_rows(),
    ]
    for name, text in rows:
        print(f'{name:{WIDTH}} {text}')
    # Otherwise `import torch` imports torch_npu, and the two reasons are mixed up.
    os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'] = '0'
    failed = run_checks()
    print(f'{"result":{WIDTH}} {failed[0] if failed else "all checks passed"}')
