"""The two tiers of tests: a test without the marker `system` must not start Airflow's processes or a browser."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePath
from typing import Any

import pytest

_PROGRAMS = {"airflow", "chromium", "chromium-browser", "chrome", "google-chrome"}
_SHELLS = {"sh", "bash"}
_FIXTURES = {"airflow", "browser"}  # shared processes, which an earlier system test may have started


def _program_of_the_system_tier(arguments: Iterable[Any]) -> str:
    """Return the program in a command line that only the system tier may start, or an empty string."""
    words = [os.fsdecode(word) for word in arguments]
    programs = words[:3]  # the third one of `/usr/bin/env python .../bin/airflow`
    if words[1:2] == ["-c"] and PurePath(words[0]).name in _SHELLS:
        words = programs = words[2].split()  # any of them may be a program
    if ("-m", "airflow") in pairwise(words):
        return "airflow"
    for word in programs:
        path = PurePath(word)
        if path.name in _PROGRAMS or "playwright" in path.parts:
            return path.name
    return ""


class TierGuard:
    """Pytest plugin that fails a test in the wrong tier."""

    def __init__(self) -> None:
        self._item: pytest.Item | None = None
        self._started: list[str] = []
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "subprocess.Popen" or self._item is None:
            return
        command = arguments[1]
        program = _program_of_the_system_tier([command] if isinstance(command, str | bytes) else command)
        if program:
            self._started.append(program)  # reported at teardown too, if a thread or the code under test swallows this
            pytest.fail(_message(program))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Observe a test of the unit tier and its fixtures."""
        self._item = None if item.get_closest_marker("system") else item
        self._started.clear()
        try:
            return (yield)
        finally:
            self._item = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail a test that uses shared processes."""
        used = _FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if self._item and used:
            pytest.fail(_message(f"the fixture {min(used)}"), pytrace=False)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self) -> None:
        """Fail a test that started a process, even if it swallowed the first failure."""
        if self._started:
            pytest.fail(_message(self._started[0]), pytrace=False)


def _message(used: str) -> str:
    return f"a test of the unit tier uses {used}: mark it with `pytest.mark.system`"
