"""Bundle calls: create, read, list, change, delete, check out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from airflow_provider_hca.client.api.base import (
    DONE,
    MAX_TEXT,
    PAGE,
    Calls,
    new_version,
    objects,
    replica_and_version,
    text,
)
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import (
    CHECKOUT_STATUSES,
    FQID,
    Bundle,
    BundleFile,
    Checkout,
    PutBundle,
    bundle_file,
    check_changes,
    check_replica,
)
from airflow_provider_hca.client.sansio import MAX_LOOP_VALUES, Call, Request, Response, json_object
from airflow_provider_hca.exceptions import (
    DSSConflictError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

log = logging.getLogger(__name__)

_MISSING_INTERVAL = 5.0  # seconds; the DSS itself waits 15 s before it answers file_missing
_MAX_LISTED = 100_000  # bundles in a list: 35 MB
_MAX_NAME = 36  # characters of a UUID; a version has fewer
_READ_ATTEMPTS = 5  # any of the DSS's servers may answer; not all have cached another version


class BundleCalls(Calls):
    """Bundle calls."""

    def put_bundle(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        files: Iterable[Mapping[str, Any]],
        creator_uid: int | None = None,
        missing_seconds: float = 0.0,
    ) -> Call[PutBundle]:
        """Create a version of a bundle from registered files (`PUT /bundles/{uuid}`)."""
        uuid, version = check_uuid(uuid, "bundle uuid"), check_version(version, "bundle version")
        members = [bundle_file(file) for file in files]
        query = {"version": version, "replica": check_replica(replica)}
        creator = self.creator_uid if creator_uid is None else creator_uid
        request = self._request("PUT", f"/bundles/{uuid}", query, {"creator_uid": creator, "files": members})
        try:
            response = yield from self._put_when_complete(request, time.monotonic() + missing_seconds)
        except DSSError as error:
            # 409 is from the store, while a read may be from a cache that a failed PATCH changed.
            may_be_stored = error.maybe_done and not isinstance(error, DSSConflictError)
            if not may_be_stored or not (yield from self._is_stored(uuid, version, replica, creator, members)):
                raise
            log.info("the DSS stored bundle %s.%s despite the error: %s", uuid, version, error)
            return PutBundle(uuid, version, "created")
        stored = json_object(request, response).get("version", version)
        return PutBundle(uuid, str(stored), "created" if response.status == 201 else "identical")

    def get_bundle(
        self,
        uuid: str,
        *,
        replica: str,
        version: str | None = None,
        directurls: bool = False,
        presignedurls: bool = False,
    ) -> Call[Bundle]:
        """Return the manifest of a bundle, all pages of it (`GET /bundles/{uuid}`)."""
        urls = self._urls(directurls, presignedurls)
        for _ in range(_READ_ATTEMPTS):
            request = self._bundle_request(uuid, replica, version, {**urls, "per_page": "500"})
            bundle, is_whole = yield from self._joined_pages(request)
            if is_whole and version in {None, bundle["version"]}:
                return bundle
            version = version or bundle["version"]  # a newer version was created between two pages of the latest
        raise DSSProtocolError(
            f"{request.method} {request.path}: requested version {version} {_READ_ATTEMPTS} times, got another version "
            "or the same name twice, from the caches of the DSS; retry later",
            permanent=False,
        )

    def find_bundle(self, uuid: str, *, replica: str, version: str | None = None) -> Call[str | None]:
        """Return the version of a bundle if a replica has it, else None (`GET /bundles/{uuid}`)."""
        request = self._bundle_request(uuid, replica, version, {"per_page": "10"})
        try:
            response = yield from self._exchange.send(request, accept=PAGE)
        except DSSNotFoundError:
            return None
        return _bundle(request, json_object(request, response, MAX_LOOP_VALUES))["version"]

    def get_bundles_all(
        self,
        *,
        replica: str,
        prefix: str = "",
        newer_than: str = "",
        per_page: int = 500,
        at_most: int | None = None,
    ) -> Call[list[dict[str, str]]]:
        """Return `uuid` and `version` of all bundles of a replica, ordered by UUID (`GET /bundles/all`)."""
        bundles: list[dict[str, str]] = []
        for page in self.bundle_pages(replica=replica, prefix=prefix, per_page=per_page):
            bundles += [bundle for bundle in (yield from page) if bundle["version"] > newer_than]
            if at_most is not None and len(bundles) >= at_most:
                return bundles[:at_most]
            if at_most is None and len(bundles) > _MAX_LISTED:
                raise DSSProtocolError(
                    f"GET /bundles/all: {replica} has more than {_MAX_LISTED:,} such bundles: give a prefix of their "
                    "UUIDs, or at_most to accept more"
                )
        return bundles

    def bundle_pages(
        self, *, replica: str, prefix: str = "", per_page: int = 500
    ) -> Iterator[Call[list[dict[str, str]]]]:
        """Yield a call for each page of `get_bundles_all`, for a caller that keeps few of the bundles."""
        query = {"replica": check_replica(replica), "per_page": str(per_page), "prefix": prefix.lower() or None}
        request = self._request("GET", "/bundles/all", query)

        def names(page: Call[dict[str, Any]]) -> Call[list[dict[str, str]]]:
            bundles = objects(request, (yield from page), "bundles")
            return [{key: text(request, bundle, key, _MAX_NAME) for key in ("uuid", "version")} for bundle in bundles]

        for page in self._pages(request, joined=False):
            yield names(page)

    def latest_bundle(self, uuid: str, *, replica: str) -> Call[Bundle | None]:
        """Return the manifest of the latest version of a bundle; None if it does not exist, or was deleted.

        `GET /bundles/{uuid}` without a version may return an older one from a cache of the DSS.
        """
        versions = yield from self._versions(check_uuid(uuid, "bundle uuid"), replica)
        return (yield from self.get_bundle(uuid, replica=replica, version=max(versions))) if versions else None

    def _versions(self, uuid: str, replica: str) -> Call[set[str]]:
        """Return the versions of a bundle. No process caches this list."""
        return {bundle["version"] for bundle in (yield from self.get_bundles_all(replica=replica, prefix=uuid))}

    def patch_bundle(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        add_files: Iterable[Mapping[str, Any]] = (),
        remove_files: Iterable[Mapping[str, Any]] = (),
    ) -> Call[FQID]:
        """Create a new version of a bundle by adding and removing files (`PATCH /bundles/{uuid}`)."""
        uuid, version = check_uuid(uuid, "bundle uuid"), check_version(version, "bundle version")
        changes = {"add_files": [*map(bundle_file, add_files)], "remove_files": [*map(bundle_file, remove_files)]}
        check_changes(changes)
        query = {"version": version, "replica": check_replica(replica)}
        request = self._request("PATCH", f"/bundles/{uuid}", query, changes)
        return new_version(request, (yield from self._exchange.send(request, authorize=True)), uuid)

    def delete_bundle(self, uuid: str, *, replica: str, reason: str, version: str | None = None) -> Call[None]:
        """Delete a bundle or one version of it (`DELETE /bundles/{uuid}`); only administrators of the DSS may."""
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"reason must be a non-empty text, got {reason!r}")
        query = replica_and_version(replica, version, "bundle")
        request = self._request("DELETE", f"/bundles/{check_uuid(uuid, 'bundle uuid')}", query, {"reason": reason})
        yield from self._exchange.send(request, authorize=True)

    def post_bundles_checkout(
        self,
        uuid: str,
        *,
        replica: str,
        version: str | None = None,
        destination: str | None = None,
        email: str | None = None,
    ) -> Call[str]:
        """Start to copy the files of a bundle to a bucket (`POST /bundles/{uuid}/checkout`)."""
        given = {"destination": destination, "email": email}
        query = replica_and_version(replica, version, "bundle")
        request = self._request(
            "POST",
            f"/bundles/{check_uuid(uuid, 'bundle uuid')}/checkout",
            query,
            {name: value for name, value in given.items() if value},
        )
        response = yield from self._exchange.send(request)
        return text(request, json_object(request, response), "checkout_job_id")

    def get_bundles_checkout(self, checkout_job_id: str, *, replica: str) -> Call[Checkout]:
        """Return the status of a checkout (`GET /bundles/checkout/{checkout_job_id}`)."""
        path = f"/bundles/checkout/{quote(checkout_job_id, safe='')}"
        request = self._request("GET", path, {"replica": check_replica(replica)})
        answer = json_object(request, (yield from self._exchange.send(request)), MAX_LOOP_VALUES)
        status = text(request, answer, "status")
        if status not in CHECKOUT_STATUSES:
            raise DSSProtocolError(f"{request.method} {request.path}: unexpected checkout status {status!r}")
        cause, location = (str(answer.get(name) or "")[:MAX_TEXT] for name in ("cause", "location"))
        return Checkout(checkout_job_id, status, cause, location)  # type: ignore[arg-type]  # a checked status

    def _put_when_complete(self, request: Request, deadline: float) -> Call[Response]:
        """Send a PUT of a bundle; repeat it until the deadline while files of the bundle are missing."""
        while True:
            try:
                return (yield from self._exchange.send(request, accept=DONE, authorize=True))
            except DSSResponseError as error:
                remaining = deadline - time.monotonic()
                if error.code != "file_missing" or remaining <= 0:
                    raise
                log.info("%s. Retrying for up to %.0f s", error, remaining)
                request = replace(request, delay=min(_MISSING_INTERVAL, remaining))

    def _joined_pages(self, request: Request) -> Call[tuple[Bundle, bool]]:
        """Return the joined pages of a manifest, and whether they fit: one version, and each name once."""
        pages = self._pages(request)
        bundle = _bundle(request, (yield from next(pages)))
        for call in pages:
            page = _bundle(request, (yield from call))
            if page["version"] != bundle["version"]:
                return bundle, False
            bundle["files"].extend(page["files"])
        names = [file["name"] for file in bundle["files"] if isinstance(file.get("name"), str)]
        return bundle, len(set(names)) == len(names)

    def _bundle_request(self, uuid: str, replica: str, version: str | None, query: Mapping[str, str | None]) -> Request:
        query = {**replica_and_version(replica, version, "bundle"), **query}
        return self._request("GET", f"/bundles/{check_uuid(uuid, 'bundle uuid')}", query)

    def _urls(self, directurls: bool, presignedurls: bool) -> dict[str, str | None]:
        if directurls and presignedurls:
            raise ValueError("directurls and presignedurls exclude each other")
        options = {"directurls": directurls, "presignedurls": presignedurls}
        return {name: "true" if value else None for name, value in options.items()}

    def _is_stored(
        self, uuid: str, version: str, replica: str, creator_uid: int, members: list[BundleFile]
    ) -> Call[bool]:
        try:
            bundle = yield from self.get_bundle(uuid, replica=replica, version=version)
            stored = [bundle_file(file) for file in bundle["files"]]
        except (DSSError, ValueError):
            return False  # the caller raises the first error
        return stored == members and bundle.get("creator_uid") == creator_uid


def _bundle(request: Request, answer: dict[str, Any]) -> Bundle:
    bundle = answer.get("bundle")
    bundle = bundle if isinstance(bundle, dict) else {}
    files = bundle.get("files")
    named = all(isinstance(bundle.get(key), str) and len(bundle[key]) <= MAX_TEXT for key in ("uuid", "version"))
    if not named or not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise DSSProtocolError(f"{request.method} {request.path}: the response contains no bundle")
    return bundle  # type: ignore[return-value]  # checked above
