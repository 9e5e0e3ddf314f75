"""Kills of the uploading process at random moments: the result, and the cost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.upload.checksums import MIB
from airflow_provider_hca.upload.plan import Plan
from tests.local.server import LocalDSS
from tests.proxy import Proxy, proxies
from tests.upload.interrupted import UploadProcess, assert_nothing_twice, units
from tests.upload.support import assert_stored, open_uploads, plan, stored_of

# One worker starts the stores.
pytestmark = [pytest.mark.system, pytest.mark.xdist_group("stores")]

SMALL = 120
_RATE = 100 * MIB  # bytes a second to the store, so that there is time to be killed in


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make small files, an empty one, one that is sent in one piece and one that is sent in four parts."""
    made = tmp_path_factory.mktemp("kills")
    source = random.Random(3)  # noqa: S311 - content, not a secret
    for number in range(SMALL):
        (made / f"cell {number:03}.json").write_bytes(source.randbytes(source.randrange(20_000)))
    (made / "empty").touch()
    (made / "9.bin").write_bytes(source.randbytes(9 * MIB))
    block = source.randbytes(MIB)
    with (made / "201.bin").open("wb") as file:
        for _ in range(201):
            file.write(source.randbytes(32) + block[32:])
    return made


@dataclass
class _Story:
    """One bundle, from its first try to the one that ends it."""

    dss: LocalDSS
    planned: Plan
    store: Proxy
    service: Proxy
    tries: int = 0

    def start(self) -> UploadProcess:
        """Start the next try, once the proxies have seen that the last one is gone."""
        end = time.monotonic() + 10
        while not (self.store.is_idle and self.service.is_idle):
            assert time.monotonic() < end, "a killed process still holds connections"
            time.sleep(0.01)
        env = {"AWS_ENDPOINT_URL_S3": self.store.url}
        self.tries += 1
        return UploadProcess(self.dss, self.planned, url=self.service.url, env=env, resume=self.tries > 1)

    def end(self) -> int:
        """Check that the result is that of an undisturbed upload; return the number of bytes sent."""
        assert_stored(self.dss, self.planned)
        assert_nothing_twice(self.store, self.service)
        assert open_uploads(self.dss, self.planned) == []
        # The store may have what a killed process sent completely, although it did not read the response.
        whole = {unit: passing.size for unit, passing in units(self.store) if passing.sent == passing.size}
        assert sum(whole.values()) == self.planned.size
        return sum(passing.sent for _, passing in units(self.store))


def _moment(source: random.Random, story: _Story) -> Callable[[], bool]:
    """Return when to kill: after some bytes, after some registrations, or after some time."""
    kind = source.choice(["bytes", "bytes", "registrations", "seconds"])
    if kind == "bytes":
        enough = story.store.sent + source.randrange(story.planned.size // 3)
        return lambda: story.store.sent >= enough
    if kind == "registrations":
        more = len(story.service.requests) + source.randrange(SMALL)
        return lambda: len(story.service.requests) >= more
    end = time.monotonic() + source.uniform(0, 2)
    return lambda: time.monotonic() >= end


def _contents(dss: LocalDSS, planned: Plan) -> dict[str, Any]:
    """Return all that the stores have of a bundle, by its files' names, without uuids."""
    (bundle,) = stored_of(dss, planned)["bundles"]
    files = {file["uuid"]: file for file in stored_of(dss, planned)["files"]}
    names = {file.uuid: file.name for file in planned.files}
    objects = {}
    for listed in dss.s3.get_paginator("list_objects_v2").paginate(Bucket=dss.bucket):
        for each in listed.get("Contents", []):
            name = next((name for uuid, name in names.items() if uuid in each["Key"]), None)
            if name:
                assert name not in objects
                objects[name] = _object(dss, each["Key"])
    return {
        "objects": objects,
        "files": {names[uuid]: _without_names(file) for uuid, file in files.items()},
        "members": [_without_names(file) for file in bundle["manifest"]["files"]],
    }


def _object(dss: LocalDSS, key: str) -> dict[str, Any]:
    head = dss.s3.head_object(Bucket=dss.bucket, Key=key)
    tags = dss.s3.get_object_tagging(Bucket=dss.bucket, Key=key)["TagSet"]
    return {name: head[name] for name in ("ContentLength", "ContentType", "ETag", "Metadata")} | {
        "tags": {tag["Key"]: tag["Value"] for tag in tags}
    }


def _without_names(file: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in file.items() if name not in {"uuid", "version"}}


@pytest.fixture
def story(dss_with_stores: LocalDSS, directory: Path) -> Iterator[Callable[[], _Story]]:
    """Begin stories, each with a new bundle, whose requests pass proxies of their own."""
    with ExitStack() as stack:

        def begin() -> _Story:
            urls = (dss_with_stores.about["env"]["AWS_ENDPOINT_URL_S3"], dss_with_stores.url)
            store, service = stack.enter_context(proxies(*urls, rate=_RATE))
            return _Story(dss_with_stores, plan(directory), store, service)

        yield begin


def test_kills(story: Callable[[], _Story], pytestconfig: pytest.Config) -> None:
    """Killed at random moments, the last try leaves what one undisturbed upload leaves, and little is sent twice.

    What the store or the DSS has answered for is never sent or registered again. So each kill costs at most what was
    just under way: of each worker a file, or a part of 64 MiB.
    """
    kills, seed = pytestconfig.getoption("--kills"), pytestconfig.getoption("--kills-seed")
    source = random.Random(seed)  # noqa: S311 - moments
    undisturbed = story()
    undisturbed.start().finish()
    needed = undisturbed.end()
    assert needed == undisturbed.planned.size
    expected = _contents(undisturbed.dss, undisturbed.planned)
    killed, sent, stories = 0, 0, list[_Story]()
    while killed < kills:
        current = story()
        stories.append(current)
        upload = current.start()
        while killed < kills and upload.kill(_moment(source, current)):
            killed += 1
            upload = current.start()
        upload.finish()
        sent += current.end()
        assert _contents(current.dss, current.planned) == expected
    more = sent - len(stories) * needed
    print(
        f"{killed} kills (seed {seed}) of {len(stories)} uploads of {needed / MIB:,.1f} MiB: {sent / MIB:,.1f} MiB "
        f"sent, {more / MIB:,.1f} MiB more than needed, {more / MIB / killed:,.1f} MiB for each kill"
    )
    cut = [passing for each in stories for _, passing in units(each.store) if passing.status != 200]
    assert any("partNumber" in passing.query for passing in cut), "no kill hit a part"
