"""Conditions to wait for: one class per kind, shared by sensors, operators and triggers.

A waiter is checked repeatedly, by a sensor's poke, by an operator on its worker, or by a trigger in an event loop. It
can be stored as JSON and restored in another process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.identifiers import check_sha256, check_uuid, check_version
from airflow_provider_hca.client.models import check_replica
from airflow_provider_hca.client.sansio import Call, pause
from airflow_provider_hca.exceptions import DSSCheckoutError, DSSConnectionError, DSSNotFoundError

T = TypeVar("T")

_MIN_INTERVAL = 0.1  # seconds
_FILE_KEYS = ("uuid", "version", "size", "sha256", "content_type")


class Waiter(Protocol):
    """A condition to wait for."""

    kind: ClassVar[str]

    def __str__(self) -> str:
        """Return a description for log messages."""
        ...

    def check(self, dss: DSSAPI) -> Call[dict[str, Any] | None]:
        """Return the result as JSON if the condition is met, else None.

        :raises DSSError: if it cannot be met, or not be checked
        """
        ...

    def as_json(self) -> dict[str, Any]:
        """Return the arguments with which `open_waiter` restores the waiter."""
        ...


class BundleWaiter:
    """Waits until a bundle is available in all given replicas (`GET /bundles/{uuid}`).

    The result has `uuid`, `version` and `versions`, the version in each replica.

    :param uuid: UUID of the bundle
    :param version: Version of the bundle; any version if None
    :param replicas: Replicas that must have it, of `aws` and `gcp`
    :raises ValueError: if an argument is invalid
    """

    kind: ClassVar[str] = "bundle"

    def __init__(self, uuid: str, version: str | None, replicas: Sequence[str]) -> None:
        self._uuid = check_uuid(uuid, "bundle uuid")
        self._version = check_version(version, "bundle version") if version else None
        self._replicas = _replicas(replicas)

    def __str__(self) -> str:
        fqid = f"{self._uuid}.{self._version}" if self._version else self._uuid
        return f"bundle {fqid} in {' and '.join(self._replicas)}"

    def check(self, dss: DSSAPI) -> Call[dict[str, Any] | None]:
        """Return the result or None; see `Waiter`."""
        versions: dict[str, str] = {}
        for replica in self._replicas:
            version = yield from dss.find_bundle(self._uuid, replica=replica, version=self._version)
            if version is None:
                return None
            versions[replica] = version
        return {"uuid": self._uuid, "version": min(versions.values()), "versions": versions}

    def as_json(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"uuid": self._uuid, "version": self._version, "replicas": self._replicas}


class FilesWaiter:
    """Waits until files are available in all given replicas (`HEAD /files/{uuid}`).

    The result has `file_count` and `byte_count`; for a single file also `uuid`, `version`, `size`, `sha256` and
    `content_type`.

    :param files: Files, each with `uuid`, and optionally with `version` (any version if missing or None) and `sha256`
        (compared with the content)
    :param replicas: Replicas that must have them, of `aws` and `gcp`
    :raises ValueError: if an argument is invalid
    """

    kind: ClassVar[str] = "files"

    def __init__(self, files: Iterable[Mapping[str, Any]], replicas: Sequence[str]) -> None:
        self._files = [_file(file) for file in files]
        self._replicas = _replicas(replicas)
        if not self._files:
            raise ValueError("files must not be empty")
        self._count, self._size = 0, 0  # of the first files, which stay available
        self._last: dict[str, Any] = {}

    def __str__(self) -> str:
        files = f"{len(self._files):,} files"
        if len(self._files) == 1:
            files = "file " + ".".join(filter(None, self._files[0][:2]))
        return f"{files} in {' and '.join(self._replicas)}"

    def check(self, dss: DSSAPI) -> Call[dict[str, Any] | None]:
        """Return the result or None; see `Waiter`.

        The first file that is not available ends the check, and the next check starts with it. All files are necessary,
        so this costs no time, and few requests for many files.
        """
        while self._count < len(self._files):
            uuid, version, sha256 = self._files[self._count]
            for replica in self._replicas:
                metadata = yield from dss.find_file(uuid, replica=replica, version=version, sha256=sha256)
                if metadata is None:
                    return None
                self._last = {name: getattr(metadata, name) for name in _FILE_KEYS}
            self._count += 1
            self._size += self._last["size"]
        single = self._last if self._count == 1 else {}
        return {"file_count": self._count, "byte_count": self._size, **single}

    def as_json(self) -> dict[str, Any]:
        """Return the arguments."""
        files = [dict(zip(("uuid", "version", "sha256"), file, strict=True)) for file in self._files]
        return {"files": files, "replicas": self._replicas}


class CheckoutWaiter:
    """Waits until a checkout is done (`GET /bundles/checkout/{checkout_job_id}`).

    The result has `checkout_job_id`, `replica` and `location`.

    :param checkout_job_id: ID from `POST /bundles/{uuid}/checkout`
    :param replica: `aws` or `gcp`, the same as for the POST
    :raises ValueError: if an argument is invalid
    """

    kind: ClassVar[str] = "checkout"

    def __init__(self, checkout_job_id: str, replica: str) -> None:
        self._job, self._replica = checkout_job_id, check_replica(replica)

    def __str__(self) -> str:
        return f"checkout {self._job} in {self._replica}"

    def check(self, dss: DSSAPI) -> Call[dict[str, Any] | None]:
        """Return the result or None; see `Waiter`."""
        try:
            checkout = yield from dss.get_bundles_checkout(self._job, replica=self._replica)
        except DSSNotFoundError:
            raise DSSCheckoutError(self._job, "UNKNOWN_JOB_ID") from None
        if checkout.status == "RUNNING":
            return None
        if checkout.status != "SUCCEEDED":
            raise DSSCheckoutError(self._job, checkout.status, checkout.cause)
        return {"checkout_job_id": self._job, "replica": self._replica, "location": checkout.location}

    def as_json(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"checkout_job_id": self._job, "replica": self._replica}


_KINDS: dict[str, type[BundleWaiter | FilesWaiter | CheckoutWaiter]] = {
    waiter.kind: waiter for waiter in (BundleWaiter, FilesWaiter, CheckoutWaiter)
}


def open_waiter(kind: str, arguments: Mapping[str, Any]) -> Waiter:
    """Restore a waiter.

    :param kind: Its `kind`
    :param arguments: Its `as_json()`
    :raises ValueError: if the kind is unknown
    """
    if kind not in _KINDS:
        raise ValueError(f"the kind of a waiter must be one of {', '.join(_KINDS)}, got {kind!r}")
    return _KINDS[kind](**arguments)


def within(call: Call[T], seconds: float) -> Call[T | None]:
    """Return the result of a call, or None if it takes too long: checking many files must not take hours.

    :param call: Call that may end between two requests, such as a check
    :param seconds: Time limit in seconds; a request that is then in progress is waited for
    """
    end = time.monotonic() + seconds
    try:
        request = next(call)
        while True:
            try:
                response = yield request
            except DSSConnectionError as error:
                request = call.throw(error)
            else:
                request = call.send(response)
            if time.monotonic() >= end:
                return None
    except StopIteration as result:
        value: T = result.value
        return value
    finally:
        call.close()


def wait_for(dss: DSSAPI, waiter: Waiter, *, seconds: float, every: float) -> Call[dict[str, Any] | None]:
    """Return the result of a waiter, or None if its condition is not met in time.

    :param waiter: Waiter
    :param seconds: Time to wait at most, in seconds
    :param every: Interval between two checks, in seconds
    """
    deadline = time.monotonic() + seconds
    while True:
        result = yield from waiter.check(dss)
        remaining = deadline - time.monotonic()
        if result is not None or remaining <= 0:
            return result
        yield pause(min(max(every, _MIN_INTERVAL), remaining))


def _replicas(given: Sequence[str]) -> list[str]:
    if isinstance(given, str) or not given:
        raise ValueError(f"replicas must be a list such as ['aws', 'gcp'], got {given!r}")
    return [check_replica(replica) for replica in given]


def _file(file: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    if not isinstance(file, Mapping) or not file.get("uuid"):
        raise ValueError(f"a file must have a uuid, and may have a version and a sha256, got {file!r:.200}")
    version, sha256 = file.get("version"), file.get("sha256")
    uuid = check_uuid(file["uuid"], "file uuid")
    version = check_version(version, "file version") if version else None
    return uuid, version, check_sha256(sha256) if sha256 else None
