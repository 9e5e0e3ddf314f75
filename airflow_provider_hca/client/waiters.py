"""What there is to wait for: for each kind the one decision whether it has come, which everything that waits shares.

A wait is looked at again and again, by a sensor's poke, by an operator that holds its worker, or by a trigger in an
event loop. It can be written down as JSON, to be taken up in another process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import check_replica, check_sha256
from airflow_provider_hca.client.sansio import Call, pause
from airflow_provider_hca.exceptions import DSSCheckoutError, DSSConnectionError, DSSNotFoundError

T = TypeVar("T")

_SHORTEST = 0.1  # seconds; looking without a wait in between would be a hot loop
_SINGLE = ("uuid", "version", "size", "sha256", "content_type")


class Waiter(Protocol):
    """Something to wait for."""

    kind: ClassVar[str]

    def __str__(self) -> str:
        """Return what it is, for people."""
        ...

    def check(self, dss: DSSAPI) -> Call[dict[str, Any] | None]:
        """Return what has come, as JSON has it, or None when it has not come yet.

        :raises DSSError: when it will not come, or cannot be looked at
        """
        ...

    def as_json(self) -> dict[str, Any]:
        """Return what `open_waiter` makes the same wait of."""
        ...


class BundleWaiter:
    """Waiter until a bundle is available in all of some replicas (`GET /bundles/{uuid}`).

    It comes as `uuid`, `version` and `versions`, the version found in each replica.

    :param uuid: of the bundle
    :param version: of the bundle; any version will do if None
    :param replicas: those that must all have it, of `aws` and `gcp`
    :raises ValueError: when one of them is not well-formed
    """

    kind: ClassVar[str] = "bundle"

    def __init__(self, uuid: str, version: str | None, replicas: Sequence[str]) -> None:
        self._uuid = check_uuid(uuid, "bundle uuid")
        self._version = check_version(version, "bundle version") if version else None
        self._replicas = _replicas(replicas)

    def __str__(self) -> str:
        which = f"{self._uuid}.{self._version}" if self._version else self._uuid
        return f"bundle {which} in {' and '.join(self._replicas)}"

    def check(self, dss: DSSAPI) -> Call[dict[str, Any] | None]:
        """Return what has come, or None; see `Waiter`."""
        versions: dict[str, str] = {}
        for replica in self._replicas:
            version = yield from dss.find_bundle(self._uuid, replica=replica, version=self._version)
            if version is None:
                return None
            versions[replica] = version
        return {"uuid": self._uuid, "version": min(versions.values()), "versions": versions}

    def as_json(self) -> dict[str, Any]:
        """Return its arguments."""
        return {"uuid": self._uuid, "version": self._version, "replicas": self._replicas}


class FilesWaiter:
    """Waiter until files, any number of them, are available in all of some replicas (`HEAD /files/{uuid}`).

    They come as `file_count` and `byte_count`; a single one also as `uuid`, `version`, `size`, `sha256` and
    `content_type`.

    :param files: each with `uuid`, and maybe with `version` (any will do if it is missing or None) and `sha256`, when
        it is to be checked that the content is that one
    :param replicas: those that must all have them, of `aws` and `gcp`
    :raises ValueError: when one of them is not well-formed
    """

    kind: ClassVar[str] = "files"

    def __init__(self, files: Iterable[Mapping[str, Any]], replicas: Sequence[str]) -> None:
        self._files = [_file(file) for file in files]
        self._replicas = _replicas(replicas)
        if not self._files:
            raise ValueError("there is no file to wait for")
        self._found: list[dict[str, Any]] = []  # of the first files; what is there stays there

    def __str__(self) -> str:
        which = f"{len(self._files):,} files"
        if len(self._files) == 1:
            which = "file " + ".".join(filter(None, self._files[0][:2]))
        return f"{which} in {' and '.join(self._replicas)}"

    def check(self, dss: DSSAPI) -> Call[dict[str, Any] | None]:
        """Return what has come, or None; see `Waiter`.

        One after the other: the first that is not there ends the look, and is where the next one begins. All have to
        come, so nothing is lost by it, and many files cost few requests.
        """
        while len(self._found) < len(self._files):
            uuid, version, sha256 = self._files[len(self._found)]
            for replica in self._replicas:
                metadata = yield from dss.find_file(uuid, replica=replica, version=version, sha256=sha256)
                if metadata is None:
                    return None
            self._found.append({name: getattr(metadata, name) for name in _SINGLE})
        size = sum(file["size"] for file in self._found)
        single = self._found[0] if len(self._found) == 1 else {}
        return {"file_count": len(self._found), "byte_count": size, **single}

    def as_json(self) -> dict[str, Any]:
        """Return its arguments, of each file as little as can be."""
        files = [dict(zip(("uuid", "version", "sha256"), file, strict=True)) for file in self._files]
        return {"files": files, "replicas": self._replicas}


class CheckoutWaiter:
    """Waiter until a checkout is done (`GET /bundles/checkout/{checkout_job_id}`).

    It comes as `checkout_job_id`, `replica` and `location`.

    :param checkout_job_id: from `POST /bundles/{uuid}/checkout`
    :param replica: `aws` or `gcp`, the same as there
    :raises ValueError: when one of them is not well-formed
    """

    kind: ClassVar[str] = "checkout"

    def __init__(self, checkout_job_id: str, replica: str) -> None:
        self._job, self._replica = checkout_job_id, check_replica(replica)

    def __str__(self) -> str:
        return f"checkout {self._job} in {self._replica}"

    def check(self, dss: DSSAPI) -> Call[dict[str, Any] | None]:
        """Return what has come, or None; see `Waiter`."""
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
        """Return its arguments."""
        return {"checkout_job_id": self._job, "replica": self._replica}


_KINDS: dict[str, type[BundleWaiter | FilesWaiter | CheckoutWaiter]] = {
    wait.kind: wait for wait in (BundleWaiter, FilesWaiter, CheckoutWaiter)
}


def open_waiter(kind: str, arguments: Mapping[str, Any]) -> Waiter:
    """Return the wait that was written down.

    :param kind: its `kind`
    :param arguments: its `as_json()`
    :raises ValueError: when there is none of that kind
    """
    if kind not in _KINDS:
        raise ValueError(f"there is nothing to wait for of the kind {kind!r}")
    return _KINDS[kind](**arguments)


def within(call: Call[T], seconds: float) -> Call[T | None]:
    """Return what a call returns, or None when it is not through by then: so a look at many files does not take hours.

    :param call: one that loses nothing when it ends between two requests, as a look
    :param seconds: how long it may take; the request that is then under way is waited for
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


def wait_for(dss: DSSAPI, wait: Waiter, *, seconds: float, every: float) -> Call[dict[str, Any] | None]:
    """Return what has come, or None when it did not come in time.

    :param wait: what for
    :param seconds: how long to wait at most
    :param every: seconds between two looks
    """
    deadline = time.monotonic() + seconds
    while True:
        result = yield from wait.check(dss)
        left = deadline - time.monotonic()
        if result is not None or left <= 0:
            return result
        yield pause(min(max(every, _SHORTEST), left))


def _replicas(given: Sequence[str]) -> list[str]:
    if isinstance(given, str) or not given:
        raise ValueError(f"replicas must be a list such as ['aws', 'gcp'], not {given!r}")
    return [check_replica(replica) for replica in given]


def _file(file: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    if not isinstance(file, Mapping) or not file.get("uuid"):
        raise ValueError(f"each file needs a uuid, and may have a version and a sha256; {file!r:.200} has none")
    version, sha256 = file.get("version"), file.get("sha256")
    uuid = check_uuid(file["uuid"], "file uuid")
    version = check_version(version, "file version") if version else None
    return uuid, version, check_sha256(sha256) if sha256 else None
