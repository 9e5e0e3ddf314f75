"""Uploads in processes of their own that are killed, and what is wanted of those that follow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_hca.upload.options import Hidden
from airflow_provider_hca.upload.plan import Plan
from tests.local.server import LocalDSS
from tests.proxy import ProxiedRequest, Proxy

REPOSITORY = Path(__file__).parents[2]
LAST_SECONDS = 120.0  # until an upload that is not killed must have ended


class UploadProcess:
    """An upload, under way.

    :param url: of the DSS's API
    :param env: over that of this process: where the staging store is
    :param hidden: as the plan was made
    :param copy_seconds: how long it waits for the DSS's copies
    """

    def __init__(
        self,
        dss: LocalDSS,
        planned: Plan,
        *,
        url: str,
        env: dict[str, str],
        resume: bool,
        hidden: Hidden = "skip",
        copy_seconds: float = 3600.0,
    ) -> None:
        wish = {
            "directory": str(planned.files[0].directory),
            "bundle": planned.bundle_uuid,
            "version": planned.bundle_version,
            "url": url,
            "token": dss.token(),
            "bucket": dss.bucket,
            "replica": "aws",
            "hidden": hidden,
            "resume": resume,
            "copy_seconds": copy_seconds,
        }
        command = [sys.executable, "-m", "tests.upload.upload_process", json.dumps(wish)]
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self, when: Callable[[], bool]) -> bool:
        """Kill it with SIGKILL at a moment; return whether it was still running, else `wait` returns its result."""
        end = time.monotonic() + LAST_SECONDS
        while not when() and self._process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        return self._process.returncode == -signal.SIGKILL

    def wait(self) -> tuple[dict[str, Any] | None, str]:
        """Wait for its end; return what it reports, or None, and what it complains of."""
        out, errors = self._process.communicate(timeout=LAST_SECONDS)
        return (json.loads(out) if self._process.returncode == 0 else None), errors

    def finish(self) -> dict[str, Any]:
        """Wait for its success, and return its report."""
        report, errors = self.wait()
        assert report is not None, errors
        return report


def units(store: Proxy) -> list[tuple[tuple[str, str], ProxiedRequest]]:
    """Return the objects and parts that were sent, by key and part number, in their order."""
    sent = [each for each in store.requests if each.method == "PUT" and "tagging" not in each.query]
    return [((each.path, each.query.get("partNumber", "")), each) for each in sent]


def assert_nothing_twice(store: Proxy, service: Proxy) -> None:
    """Check that no object or part was sent twice, and no file registered twice."""
    stored = Counter(unit for unit, passing in units(store) if passing.status == 200)
    assert [unit for unit, times in stored.items() if times > 1] == []
    # Each try that gets this far puts the bundle: after a kill between response and end, the next puts it again.
    put = [each for each in service.requests if each.method == "PUT" and "/files/" in each.path]
    done = Counter(each.path for each in put if each.status in {200, 201})
    twice = [path for path, times in done.items() if times > 1]
    assert twice == [], [(each.path, each.status, each.sent) for each in service.requests if each.path in twice]
