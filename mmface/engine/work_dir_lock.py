# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A lock that allows only one training at a time in a work dir."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from mmengine.logging import print_log

LOCK_FILE = 'training.lock'
#: Seconds between two signs of life of the holder, and seconds that another host watches for one.
#: NFS shows a new time stamp up to 60 s late.
BEAT, WATCH = 15.0, 90.0


class WorkDirLock:
    """Hold ``training.lock`` in a work dir while a training writes there.

    The file contains the host, the process id and the start time, for people. The exclusion is
    done by a POSIX record lock on it. The system releases that lock when the process ends for any
    reason, and loader workers do not inherit it.

    * The holder is on this host and alive: the lock is refused.
    * The holder is on this host and has ended: the lock is taken over, with a line in the log.
    * The holder is on another host, whose record lock may not be visible here: the file is
      watched for ``watch`` seconds. A living holder updates its time stamp. If it changes, the
      lock is refused, otherwise it is taken over with a line. No clocks are compared.

    The file is removed at the end. Testing takes no lock, because it writes other files.

    Args:
        work_dir: The folder. It is created if it does not exist.
        beat: Seconds between two signs of life.
        watch: Seconds that a file of another host is watched.

    Raises:
        ValueError: On entry, if another training uses the folder.
    """

    def __init__(
        self, work_dir: str | os.PathLike[str], beat: float = BEAT, watch: float = WATCH
    ) -> None:
        self.path = Path(work_dir) / LOCK_FILE
        self.beat = beat
        self.watch = watch
        self._fd = -1
        self._over = threading.Event()

    def __enter__(self) -> WorkDirLock:
        """Take the lock."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            if not self._lock():
                holder = self._holder()
                os.close(self._fd)
                raise ValueError(self._refusal(holder))
            if self._is_current():
                break
            os.close(self._fd)  # its holder removed it between our two calls
        self._check_holder(self._holder())
        mine = {
            'host': socket.gethostname(),
            'pid': os.getpid(),
            'since': time.strftime('%Y-%m-%d %H:%M:%S'),
        }
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f'{json.dumps(mine)}\n'.encode(), 0)
        threading.Thread(target=self._show_life, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the lock and remove the file."""
        self._over.set()
        if self._is_current():
            self.path.unlink()
        os.close(self._fd)

    def _lock(self) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            # No locks on this file system: the content of the file must suffice.
        return True

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), self.path.stat())
        except FileNotFoundError:
            return False

    def _holder(self) -> dict[str, Any]:
        """Read who holds the lock; empty if nobody holds it or the file is incomplete."""
        try:
            holder = json.loads(os.pread(self._fd, 4096, 0))
        except ValueError:
            return {}
        known = isinstance(holder, dict) and isinstance(holder.get('pid'), int)
        return holder if known else {}

    def _check_holder(self, holder: dict[str, Any]) -> None:
        """Take over from a holder that has ended.

        Raises:
            ValueError: The holder is still running.
        """
        if not holder or (holder.get('host'), holder['pid']) == (socket.gethostname(), os.getpid()):
            return
        alive = (
            self._locks_are_missing() and _runs(holder['pid'])
            if holder.get('host') == socket.gethostname()
            else self._shows_life(holder)
        )
        if alive:
            os.close(self._fd)
            raise ValueError(self._refusal(holder))
        _warn(
            f'{self.path}: the training of process {holder["pid"]} on {holder.get("host")} has '
            'ended; its lock was taken over'
        )

    def _locks_are_missing(self) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False

    def _shows_life(self, holder: dict[str, Any]) -> bool:
        """Watch the file for a sign of life of a holder on another host."""
        _warn(f'{self.path} is held by {holder.get("host")}: watching it for {self.watch:g} s')
        first = self.path.stat().st_mtime_ns
        end = time.monotonic() + self.watch
        while time.monotonic() < end:
            time.sleep(min(1.0, self.watch / 10))
            try:
                if self.path.stat().st_mtime_ns != first:
                    return True
            except FileNotFoundError:
                return False
        return False

    def _show_life(self) -> None:
        while not self._over.wait(self.beat):
            try:
                os.utime(self._fd)
            except OSError:  # other code reports a full disk or a lost server
                continue

    def _refusal(self, holder: dict[str, Any]) -> str:
        who = (
            f'process {holder["pid"]} on {holder.get("host")}, since {holder.get("since")}'
            if holder
            else 'another process'
        )
        return (
            f'{self.path.parent} is in use by a training ({who}): wait until it ends, stop it, or '
            f'choose another work_dir; if it has certainly ended, remove {self.path}'
        )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
