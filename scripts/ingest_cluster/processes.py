"""Start, watch, kill and stop processes with their children."""

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

_GRACE = 10.0  # seconds between SIGTERM and SIGKILL


class Processes:
    """Processes in their own sessions, with log files.

    :param logs: directory of the log files
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        logs.mkdir(exist_ok=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], **options: Any) -> None:
        """Start a process.

        :param name: name of the process and its log file
        :param command: command with its arguments
        :param environment: all environment variables
        :param options: options of `subprocess.Popen`
        """
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **{"stdin": subprocess.DEVNULL, **options},
            )

    def family(self, name: str) -> list[psutil.Process]:
        """Return a process and its descendants."""
        try:
            process = psutil.Process(self._running[name].pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self, name: str) -> None:
        """Kill a process and its descendants, as a crash of its machine would."""
        _signal(self.family(name), signal.SIGKILL)
        self._running.pop(name).wait()

    def stop(self) -> None:
        """Terminate all processes in reverse order of their start; kill those that do not exit in time."""
        for name in reversed(list(self._running)):
            family = self.family(name)
            _signal(family[:1], signal.SIGTERM)
            _, alive = psutil.wait_procs(family, timeout=_GRACE)
            _signal(alive, signal.SIGKILL)
            self._running.pop(name).wait()

    def wait_for(self, name: str, condition: Callable[[], Any], seconds: float) -> Any:
        """Wait until a condition is true, and return its value.

        :param name: name of the condition, for the error
        :param condition: returns a true value when it is fulfilled
        :param seconds: timeout in seconds
        :raises RuntimeError: when the timeout expires, or a process has exited
        """
        end = time.monotonic() + seconds
        while not (result := condition()):
            for running, process in self._running.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{running} exited with {process.returncode}: {self._tail(running)}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited {seconds:.0f} s for {name}; running: {', '.join(self._running)}")
            time.sleep(0.2)
        return result

    def _tail(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text(errors="replace")[-2000:]


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:  # the parent first: it could replace its children
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def free_ports(count: int) -> list[int]:
    """Return free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def listens(port: int) -> bool:
    """Return whether a port accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
