"""Run the soak of `scripts/soak` on three directories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def test_soak_of_three_directories_creates_each_bundle_once() -> None:
    command = [sys.executable, "-m", "tests.soak", "--directories", "3", "--seed", "5"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 directories" in done.stdout
    assert "failed directories: none" in done.stdout
