"""Processes that are started, watched, killed, and all ended in the end, with whatever they started themselves."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

_GRACE = 10.0  # seconds between being asked to end and being ended


class Processes:
    """Processes of their own sessions, whose output goes into files.

    :param logs: the directory for these files
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        logs.mkdir(exist_ok=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], **options: Any) -> None:
        """Start a process.

        :param name: for the log
        :param command: with its arguments
        :param environment: all of it
        :param options: of `subprocess.Popen`
        """
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )

    def family(self, name: str) -> list[psutil.Process]:
        """Return a process and all that it and its children started."""
        try:
            process = psutil.Process(self._running[name].pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self, name: str) -> None:
        """End a process and its family as the crash of a machine does."""
        _signal(self.family(name), signal.SIGKILL)
        self._running.pop(name).wait()

    def stop(self) -> None:
        """Ask all to end, in the reverse order of their start, and end by force what does not."""
        for name in reversed(list(self._running)):
            family = self.family(name)
            _signal(family[:1], signal.SIGTERM)
            _, alive = psutil.wait_procs(family, timeout=_GRACE)
            _signal(alive, signal.SIGKILL)
            self._running.pop(name).wait()

    def wait_for(self, what: str, condition: Callable[[], Any], seconds: float) -> Any:
        """Wait until something is true, and return it.

        :param what: is waited for, for the error
        :param condition: returns what counts as true when it is so
        :param seconds: how long at most
        :raises RuntimeError: when it takes longer, or a process has ended
        """
        end = time.monotonic() + seconds
        while not (result := condition()):
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} has ended: {self._tail(name)}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited {seconds:.0f} s for {what}; {', '.join(self._running)} are running")
            time.sleep(0.2)
        return result

    def _tail(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text(errors="replace")[-2000:]


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:  # the parent first, which could start others in place of its children
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def listens(port: int) -> bool:
    """Return whether somebody listens on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
