from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import OneBundle


@pytest.fixture
def served() -> Iterator[OneBundle]:
    """Give a server of one bundle, empty at first."""
    with OneBundle() as bundle:
        yield bundle


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Give a directory inside another one, in which nothing else is to appear."""
    return tmp_path / "outside" / "target"
