# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A headless Chromium, driven through its debugging pipe. Needs no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

#: Seconds to wait for an answer, on a machine with much else to do.
PATIENCE = 120
NAMES = ('chromium', 'chromium-browser', 'google-chrome')


def find_browser() -> str | None:
    """Return the path of an installed Chromium."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One page; problems of its console and its requests are collected.

    Args:
        profile: Empty folder for the browser.
        size: Width and height in pixels.
        dark: Whether the system prefers dark pages.
    """

    def __init__(self, profile: Path, size: tuple[int, int], dark: bool = False) -> None:
        to_browser, our_write = os.pipe()
        our_read, from_browser = os.pipe()
        self.problems: list[str] = []
        self.requests: list[str] = []
        command = [
            find_browser(), '--headless=new', '--no-sandbox', '--disable-gpu',
            '--disable-dev-shm-usage', '--remote-debugging-pipe', '--no-first-run',
            f'--user-data-dir={profile}', 'about:blank',
        ]  # fmt: skip

        def arrange() -> None:  # the browser reads from 3 and writes to 4
            os.dup2(to_browser, 13)
            os.dup2(from_browser, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        self.process = subprocess.Popen(
            [str(part) for part in command],
            preexec_fn=arrange,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._write, self._read = our_write, our_read
        self._rest, self._number, self._session = b'', 0, None
        targets = self.call('Target.getTargets')['targetInfos']
        page = next(target for target in targets if target['type'] == 'page')
        self._session = self.call('Target.attachToTarget', targetId=page['targetId'], flatten=True)[
            'sessionId'
        ]
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')
        scheme = [{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}]
        self.call('Emulation.setEmulatedMedia', features=scheme)
        width, height = size
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **params: Any) -> dict:
        """Call a method of the debugging protocol and return its result."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']

    def _receive(self) -> dict:
        while b'\0' not in self._rest:
            if not select.select([self._read], [], [], PATIENCE)[0]:
                raise RuntimeError(f'no answer of the browser in {PATIENCE} s')
            part = os.read(self._read, 1 << 16)
            if not part:
                raise RuntimeError('the browser has ended')
            self._rest += part
        first, _, self._rest = self._rest.partition(b'\0')
        answer = json.loads(first)
        event, params = answer.get('method'), answer.get('params', {})
        if event == 'Runtime.exceptionThrown':
            self.problems.append(str(params['exceptionDetails'])[:600])
        elif event == 'Log.entryAdded' and params['entry']['level'] in ('error', 'warning'):
            self.problems.append(str(params['entry']))
        elif event == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'warning'):
            self.problems.append(str(params['args']))
        elif event == 'Network.requestWillBeSent':
            self.requests.append(params['request']['url'])
        return answer

    def open(self, path: Path) -> None:
        """Open a file and wait until it and its images are loaded."""
        self.call('Page.navigate', url=path.resolve().as_uri())
        end = time.monotonic() + PATIENCE
        while not self.run('document.readyState === "complete" && !!window.REPORT'):
            if time.monotonic() > end:
                raise RuntimeError(f'{path} was not loaded in {PATIENCE} s: {self.problems}')
            time.sleep(0.05)
        self.settle()

    def settle(self) -> None:
        """Wait until a change is drawn."""
        self.run('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')

    def run(self, script: str) -> Any:
        """Return the value of an expression on the page."""
        result = self.call(
            'Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True
        )
        if 'exceptionDetails' in result:
            raise RuntimeError(f'{script}: {result["exceptionDetails"]}'[:900])
        return result['result'].get('value')

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = {'Escape': 27, 'ArrowLeft': 37, 'ArrowRight': 39, 'Enter': 13, 'Tab': 9}.get(key, 0)
        text = {'text': key} if len(key) == 1 else {'text': '\r'} if key == 'Enter' else {}
        for kind in ('keyDown', 'keyUp'):
            self.call(
                'Input.dispatchKeyEvent', type=kind, key=key, code=key, **text,
                windowsVirtualKeyCode=code, nativeVirtualKeyCode=code,
            )  # fmt: skip

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a PNG of the window or of the whole page."""
        shot = self.call('Page.captureScreenshot', captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot['data']))
