"""A smaller state machine over HTTP: both drivers and the operators, against a DSS that is killed.

Each step is a task with retries: attempts while there are faults, then one without. So each step ends well, and the
DSS must have exactly what was acknowledged, also after `kill -9`.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import ServiceAccountKey
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.operators.dss import (
    DSSDeleteBundleOperator,
    DSSPatchBundleOperator,
    DSSPutBundleOperator,
    DSSPutCollectionOperator,
    DSSPutFileOperator,
    DSSUploadDirectoryOperator,
)
from tests.client.contract import key_of
from tests.client.drivers import Run
from tests.local.server import VERSION, LocalDSS, new_uuid, new_version, sums
from tests.running import ending, execute, new_context, next_try

OPERATOR = "operator"
MAX_KILLS = 1  # of one example; a start takes seconds
LARGE = 200_000  # bytes; copied asynchronously
_RESTART_SECONDS = 30.0  # for a retry to outlive a restart of the DSS
_NUMBERS = itertools.count()

# Fault, and whether a retry can cure it
_FAULTS: list[tuple[dict[str, Any], bool] | None] = [
    None,
    None,
    ({"status": 500}, True),
    ({"status": 500, "after": True}, True),
    ({"status": 502, "times": 2}, True),
    ({"status": 503, "retry_after": 0.2}, True),
    ({"status": 503, "times": 20}, True),
    ({"status": 504, "after": True}, True),
    ({"status": 504, "after": True, "times": 20}, True),
    ({"status": 429, "retry_after": 0.2}, True),
    ({"status": 401}, True),
    ({"action": "drop"}, True),
    ({"action": "drop", "after": True}, True),
    ({"action": "drop", "after": True, "times": 20}, True),
    ({"action": "slow", "seconds": 0.2}, True),
    ({"status": 400}, False),
    ({"status": 403}, False),
    ({"status": 415}, False),
    ({"status": 409, "after": True}, False),
]
# A PATCH that may still be applied is waited for, for 35 s.
_PATCH_FAULTS = [
    one for one in _FAULTS if one is None or one[0].get("after") or one[0].get("status") in {400, 403, 429}
]

VIAS = st.sampled_from(["requests", "aiohttp", OPERATOR])
FAULTS, PATCH_FAULTS = st.sampled_from(_FAULTS), st.sampled_from(_PATCH_FAULTS)
Fault = tuple[dict[str, Any], bool] | None


class HTTPModel(RuleBasedStateMachine):
    """Tasks that a DSS on this machine executes.

    :cvar dss: DSS of the test
    :cvar drivers: Drivers by name
    :cvar directory: Directory for uploads
    """

    dss: ClassVar[LocalDSS]
    drivers: ClassVar[Mapping[str, Run]]
    directory: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.api = self._api(RetryPolicy(attempts=4, seconds=9.0, first_delay=0.02))
        self.patient = self._api(
            RetryPolicy(attempts=1000, seconds=_RESTART_SECONDS, first_delay=0.05, longest_delay=0.5)
        )
        self.files: dict[str, str] = {}
        self.created: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.deleted: set[tuple[str, str]] = set()
        self.collections: dict[tuple[str, str], list[str]] = {}
        self.kills = 0

    def _api(self, policy: RetryPolicy) -> DSSAPI:
        auth = ServiceAccountKey(key_of(self.dss), audience=self.dss.about["audience"])
        return DSSAPI(self.dss.url, auth=auth, creator_uid=42, retry=policy)

    def teardown(self) -> None:
        """Kill the DSS, start it again, and compare all records."""
        self._restart()
        self._compare()

    # Tasks

    def task(
        self, via: str, fault: Fault, method: str, call: Callable[[], Call[Any]], operator: Callable[[], Any]
    ) -> Any:
        """Run a task until it succeeds; return its result."""
        self.dss.control("DELETE", "faults")
        if fault is not None:
            self.dss.control("POST", "faults", {**fault[0], "method": method})
        context = new_context(task_id="t")
        failure = None
        try:
            return self._attempt(via, call, operator, context)
        except DSSError as error:
            failure = error
        where = f"{via} {method}: {failure!r} after {fault}"
        assert fault is not None, where
        assert failure.permanent != fault[1], where
        self.dss.control("DELETE", "faults")
        return self._attempt(via, call, operator, next_try(context))

    def _attempt(self, via: str, call: Callable[[], Call[Any]], operator: Callable[[], Any], context: Any) -> Any:
        if via != OPERATOR:
            return self.drivers[via](call())
        results: list[Any] = []

        class Recorder:
            def execute(self, context: Any) -> Any:
                results.append(execute(operator(), context))

        state = ending(Recorder(), context)
        if state == "success":
            return results[0]
        error = DSSError(f"{operator.__name__}: {state}")
        error.permanent = state == "failed"
        raise error

    @rule(via=VIAS, large=st.booleans(), fault=FAULTS)
    def put_file(self, via: str, large: bool, fault: Fault) -> None:
        """Register a file, and wait for its copy."""
        content = new_uuid().encode().ljust(LARGE if large else 40, b".")
        url, uuid, sha256 = self.dss.stage(content), new_uuid(), sums(content)["hca-dss-sha256"]

        def call() -> Call[Any]:
            yield from self.api.put_file(uuid, VERSION, source_url=url)
            return (yield from self.api.wait_for_file(uuid, VERSION, replica="aws", sha256=sha256, seconds=30.0))

        def operator() -> Any:
            return DSSPutFileOperator(
                task_id="t", source_url=url, file_uuid=uuid, file_version=VERSION, sha256=sha256, name="n"
            )

        self.task(via, fault, "PUT", call, operator)
        self.files[uuid] = sha256

    def _members(self, count: int) -> list[dict[str, Any]]:
        files = [*self.files] or [self.dss.new_file()]
        for uuid in files:
            self.files.setdefault(uuid, sums(b"content")["hca-dss-sha256"])
        names = [f"n{next(_NUMBERS)}" for _ in range(count)]
        return [
            {"uuid": files[number % len(files)], "version": VERSION, "name": name, "indexed": False}
            for number, name in enumerate(names)
        ]

    @rule(via=VIAS, count=st.sampled_from([1, 3, 12]), fault=FAULTS)
    def put_bundle(self, via: str, count: int, fault: Fault) -> None:
        """Create a bundle."""
        uuid, version, files = new_uuid(), new_version(), self._members(count)
        self.task(
            via,
            fault,
            "PUT",
            lambda: self.api.put_bundle(uuid, version, replica="aws", files=files),
            lambda: DSSPutBundleOperator(task_id="t", files=files, bundle_uuid=uuid, bundle_version=version),
        )
        self.created[uuid, version] = files

    @rule(via=VIAS, count=st.sampled_from([1, 3]), fault=PATCH_FAULTS, number=st.integers(0, 50))
    def change_bundle(self, via: str, count: int, fault: Fault, number: int) -> None:
        """Add files to a bundle, and remove one."""
        known = sorted({*self.created} - self.deleted)
        if not known:
            return
        uuid, version = known[number % len(known)]
        files, old = self._members(count), self.created[uuid, version]
        result = self.task(
            via,
            fault,
            "PATCH",
            lambda: self.api.change_bundle(uuid, replica="aws", version=version, add_files=files, remove_files=old[:1]),
            lambda: DSSPatchBundleOperator(
                task_id="t", bundle_uuid=uuid, bundle_version=version, add_files=files, remove_files=old[:1]
            ),
        )
        changed = result["version"] if via == OPERATOR else result.version
        self.created[uuid, changed] = [*old[1:], *files]

    @rule(via=VIAS, fault=FAULTS, number=st.integers(0, 50))
    def delete_bundle(self, via: str, fault: Fault, number: int) -> None:
        """Delete a version of a bundle."""
        known = sorted({*self.created} - self.deleted)
        if not known:
            return
        uuid, version = known[number % len(known)]
        self.task(
            via,
            fault,
            "DELETE",
            lambda: self.api.delete_bundle(uuid, replica="aws", reason="wrong", version=version),
            lambda: DSSDeleteBundleOperator(task_id="t", bundle_uuid=uuid, bundle_version=version, reason="wrong"),
        )
        self.deleted.add((uuid, version))

    @rule(via=VIAS, fault=FAULTS, count=st.sampled_from([0, 2]))
    def put_collection(self, via: str, fault: Fault, count: int) -> None:
        """Create a collection."""
        uuid, version = new_uuid(), new_version()
        contents = [{"type": "file", "uuid": file["uuid"], "version": VERSION} for file in self._members(count)]
        contents = list({item["uuid"]: item for item in contents}.values())
        named: dict[str, Any] = {"name": "n", "description": "d", "contents": contents}
        self.task(
            via,
            fault,
            "PUT",
            lambda: self.api.put_collection(uuid, version, replica="aws", **named),
            lambda: DSSPutCollectionOperator(
                task_id="t", collection_uuid=uuid, collection_version=version, if_exists="fail", **named
            ),
        )
        self.collections[uuid, version] = [item["uuid"] for item in contents]

    @rule(fault=FAULTS, count=st.sampled_from([1, 4]))
    def upload(self, fault: Fault, count: int) -> None:
        """Upload a directory."""
        directory, uuid, version = self.directory / new_uuid(), new_uuid(), new_version()
        directory.mkdir()
        contents = {f"f{number}": new_uuid().encode() * (1 if number else 4000) for number in range(count)}
        for name, content in contents.items():
            (directory / name).write_bytes(content)

        def operator() -> Any:
            return DSSUploadDirectoryOperator(
                task_id="t",
                directory=str(directory),
                staging_bucket=self.dss.bucket,
                bundle_uuid=uuid,
                bundle_version=version,
            )

        result = self.task(OPERATOR, fault, "PUT", self.api.authenticate, operator)
        assert (result["uuid"], result["version"]) == (uuid, version)
        stored = self._store("bundles", uuid)[0]["manifest"]["files"]
        assert {file["name"]: file["sha256"] for file in stored} == {
            name: sums(content)["hca-dss-sha256"] for name, content in contents.items()
        }
        self.files |= {file["uuid"]: file["sha256"] for file in stored if file["version"] == VERSION}
        self.created[uuid, version] = [
            {key: file[key] for key in ("uuid", "version", "name", "indexed")} for file in stored
        ]

    # The DSS

    @precondition(lambda self: self.kills < MAX_KILLS)
    @rule(via=st.sampled_from(["requests", "aiohttp"]), delay=st.sampled_from([0.0, 0.01, 0.05]))
    def kill_while_registering(self, via: str, delay: float) -> None:
        """Kill the DSS while a file is registered and a bundle created; the calls wait until it is back."""
        self.kills += 1
        content, uuid, version = new_uuid().encode(), new_uuid(), new_version()
        url, files = self.dss.stage(content), self._members(3)
        self.dss.control("DELETE", "faults")

        def restart() -> None:
            time.sleep(delay)
            self._restart()

        thread = threading.Thread(target=restart)
        thread.start()
        try:
            self.drivers[via](self.patient.put_file(uuid, VERSION, source_url=url))
            self.drivers[via](self.patient.put_bundle(uuid, version, replica="aws", files=files))
        finally:
            thread.join()
        self.files[uuid], self.created[uuid, version] = sums(content)["hca-dss-sha256"], files
        self._compare()

    def _restart(self) -> None:
        self.dss.stop(signal.SIGKILL)
        self.dss.start()

    def _store(self, kind: str, uuid: str) -> list[dict[str, Any]]:
        return [row for row in self.dss.control("GET", "store")[kind] if row["uuid"] == uuid]

    def _compare(self) -> None:
        """Check that the DSS has what it acknowledged, and each thing once."""
        store = self.dss.control("GET", "store")
        files = {row["uuid"]: row["sha256"] for row in store["files"]}
        assert files == files | self.files
        bundles = {(row["uuid"], row["version"]): row["manifest"]["files"] for row in store["bundles"]}
        mine = {key for key in bundles if key[0] in {uuid for uuid, _ in self.created}}
        assert mine == {*self.created}, "lost or doubled"
        for key, members in self.created.items():
            stored = [{name: file[name] for name in ("uuid", "version", "name", "indexed")} for file in bundles[key]]
            assert stored == members, key
        tombstones = {(row["uuid"], row["version"]) for row in store["tombstones"]}
        assert tombstones == tombstones | self.deleted
        collections = {
            (row["uuid"], row["version"]): [link["uuid"] for link in row["body"]["contents"]]
            for row in store["collections"]
        }
        assert collections == collections | self.collections
