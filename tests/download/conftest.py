from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import OneBundle


@pytest.fixture
def served() -> Iterator[OneBundle]:
    """Start a server of one bundle without files."""
    with OneBundle() as bundle:
        yield bundle


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the path of a directory inside another one, so that files beside it are noticed."""
    return tmp_path / "outside" / "target"
