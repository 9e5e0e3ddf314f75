"""The soak that `scripts/soak` runs for half an hour, on three directories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def test_a_short_soak() -> None:
    """Whatever the DSS answers and whenever the upload is killed, each bundle is made, and each file is stored once."""
    command = [sys.executable, "-m", "tests.soak", "--directories", "3", "--seed", "5"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 directories" in done.stdout
    assert "badly did none" in done.stdout
