"""The client that a hook returns: the calls of one DSS with their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.api.collection_changes import OnVersion
from airflow_provider_hca.client.api.subscriptions import SubscriptionType
from airflow_provider_hca.client.downloads import Writable
from airflow_provider_hca.client.models import FQID, Bundle, Change, Checkout, FileMetadata, PutBundle, PutFile
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.client.transport import RequestsTransport

T = TypeVar("T")


class DSSClient:
    """Runs the calls of a DSS and returns their results.

    Methods are named as in the DSS's original Python bindings: `put_file` is `PUT /files/{uuid}`, `get_bundles_all` is
    `GET /bundles/all`. Four more combine requests: `wait_for_file`, `find_bundle`, `change_bundle` and
    `change_collection`.

    All methods raise a `DSSError` (see `airflow_provider_hca.exceptions`), or a `ValueError` for an invalid argument::

        with DSSClient(DSSAPI("https://dss.example.org/v1"), RequestsTransport()) as dss:
            bundle = dss.get_bundle("ce55fd51-7833-469b-be0b-5da88ebebfcd", replica="aws")

    :param api: Calls, with the address and the credentials
    :param transport: Runs them; closed with the client
    """

    def __init__(self, api: DSSAPI, transport: RequestsTransport) -> None:
        self.api, self.transport = api, transport

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        self.transport.close()

    def run(self, call: Call[T]) -> T:
        """Run a call and return its result: `client.run(client.api.find_file(...))`.

        :param call: Call of `api`, or a generator that combines several
        :raises DSSAbortedError: if the transport's stop event is set
        """
        return self.transport.run(call)

    # Files

    def put_file(self, uuid: str, version: str, *, source_url: str, creator_uid: int | None = None) -> PutFile:
        """Register a staged object as a version of a file (`PUT /files/{uuid}`).

        :param uuid: UUID of the file
        :param version: Version of the file
        :param source_url: URL of the staged object, `s3://bucket/key` or `gs://bucket/key`, which has the four
            checksums as tags or metadata
        :param creator_uid: Creator of the file; that of the connection if None
        :return: Whether the file is stored, or is being copied: then call `wait_for_file`
        :raises DSSConflictError: if that version exists with other content
        """
        return self.run(self.api.put_file(uuid, version, source_url=source_url, creator_uid=creator_uid))

    def head_file(self, uuid: str, *, replica: str, version: str | None = None) -> FileMetadata:
        """Return the metadata of a file (`HEAD /files/{uuid}`).

        :param uuid: UUID of the file
        :param replica: `aws` or `gcp`
        :param version: Version of the file; the latest if None
        :raises DSSNotFoundError: if it does not exist, or not yet
        """
        return self.run(self.api.head_file(uuid, replica=replica, version=version))

    def wait_for_file(self, uuid: str, version: str, *, replica: str, sha256: str, seconds: float) -> FileMetadata:
        """Wait until an asynchronous copy (`PUT /files` answered 202) is done, and compare its checksum.

        :param uuid: UUID of the file
        :param version: Version of the file
        :param replica: `aws` or `gcp`
        :param sha256: SHA-256 of the staged content
        :param seconds: Time to wait at most, in seconds
        :raises DSSConflictError: if the stored content is not the staged content
        :raises DSSCopyError: if the copy failed or took too long
        """
        return self.run(self.api.wait_for_file(uuid, version, replica=replica, sha256=sha256, seconds=seconds))

    def get_file(
        self, uuid: str, *, replica: str, version: str | None = None, to: str | Path | Writable
    ) -> FileMetadata:
        """Download a file as a stream (`GET /files/{uuid}`) and verify its SHA-256.

        A broken connection is resumed where it broke, as long as each attempt gets further.

        :param uuid: UUID of the file
        :param replica: `aws` or `gcp`
        :param version: Version of the file; the latest if None
        :param to: Path, at which the file appears once it is complete; or a file open for writing in binary mode, which
            may hold a part of the content after an error
        :return: Metadata of the file
        :raises DSSNotFoundError: if it does not exist
        :raises DSSContentError: if the content does not match the metadata
        :raises OSError: if the content cannot be written
        """
        return self.run(self.api.get_file(uuid, replica=replica, version=version, to=to))

    # Bundles

    def put_bundle(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        files: Iterable[Mapping[str, Any]],
        creator_uid: int | None = None,
        missing_seconds: float = 0.0,
    ) -> PutBundle:
        """Create a version of a bundle from registered files (`PUT /bundles/{uuid}`).

        A DSS stores a large bundle even if it answers 504, so this reads the bundle after such an error.

        :param uuid: UUID of the bundle
        :param version: Version of the bundle
        :param replica: `aws` or `gcp`
        :param files: Files of the bundle, each with `uuid`, `version`, `name` and `indexed`; other keys are ignored.
            Keep their order stable: a repeat in another order is a conflict
        :param creator_uid: Creator of the bundle; that of the connection if None
        :param missing_seconds: Time to retry after `file_missing`, in seconds; a DSS answers it while it copies files
        :raises DSSConflictError: if that version exists with another manifest
        """
        return self.run(
            self.api.put_bundle(
                uuid,
                version,
                replica=replica,
                files=files,
                creator_uid=creator_uid,
                missing_seconds=missing_seconds,
            )
        )

    def get_bundle(
        self,
        uuid: str,
        *,
        replica: str,
        version: str | None = None,
        directurls: bool = False,
        presignedurls: bool = False,
    ) -> Bundle:
        """Return the manifest of a bundle, all pages of it (`GET /bundles/{uuid}`).

        :param uuid: UUID of the bundle
        :param replica: `aws` or `gcp`
        :param version: Version of the bundle; the latest if None
        :param directurls: Whether each file has a `url` in the object store, `s3://` or `gs://`
        :param presignedurls: Whether each file has a `url` to download it from; waits until there is one
        :raises DSSNotFoundError: if it does not exist or was deleted
        """
        call = self.api.get_bundle(
            uuid, replica=replica, version=version, directurls=directurls, presignedurls=presignedurls
        )
        return self.run(call)

    def find_bundle(self, uuid: str, *, replica: str, version: str | None = None) -> str | None:
        """Return the version of a bundle if a replica has it, else None (`GET /bundles/{uuid}`).

        :param uuid: UUID of the bundle
        :param replica: `aws` or `gcp`
        :param version: Version of the bundle; the latest if None
        """
        return self.run(self.api.find_bundle(uuid, replica=replica, version=version))

    def get_bundles_all(
        self,
        *,
        replica: str,
        prefix: str = "",
        newer_than: str = "",
        per_page: int = 500,
        at_most: int | None = None,
    ) -> list[dict[str, str]]:
        """Return `uuid` and `version` of all bundles of a replica, ordered by UUID (`GET /bundles/all`).

        :param replica: `aws` or `gcp`
        :param prefix: First characters of the UUIDs
        :param newer_than: DSS_VERSION; leaves out this version and older ones, which saves memory, not requests
        :param per_page: Bundles per page, 10 to 500. A DSS can lose versions of one UUID between two pages
        :param at_most: Number of bundles after which no further page is requested; all if None
        :raises DSSProtocolError: if a bundle has no UUID or no version; or if there are more than 100,000, without
            `at_most`
        """
        call = self.api.get_bundles_all(
            replica=replica, prefix=prefix, newer_than=newer_than, per_page=per_page, at_most=at_most
        )
        return self.run(call)

    def patch_bundle(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        add_files: Iterable[Mapping[str, Any]] = (),
        remove_files: Iterable[Mapping[str, Any]] = (),
    ) -> FQID:
        """Create a new version of a bundle by adding and removing files (`PATCH /bundles/{uuid}`).

        The request is sent once: after an error only reading the bundle shows whether it was applied. `change_bundle`
        does that, and accepts any number of files.

        :param uuid: UUID of the bundle
        :param version: Version of the bundle to change
        :param replica: `aws` or `gcp`
        :param add_files: Files to add, at most 1,000, each with `uuid`, `version`, `name` and `indexed`
        :param remove_files: Files to remove, at most 1,000, each with `uuid`, `version`, `name` and `indexed`
        :return: The new version, named by the DSS; there is one even if nothing changes
        :raises DSSNotFoundError: if that version does not exist
        """
        call = self.api.patch_bundle(uuid, version, replica=replica, add_files=add_files, remove_files=remove_files)
        return self.run(call)

    def change_bundle(
        self,
        uuid: str,
        *,
        replica: str,
        version: str | None = None,
        add_files: Iterable[Mapping[str, Any]] = (),
        remove_files: Iterable[Mapping[str, Any]] = (),
        replace_files: Iterable[Mapping[str, Any]] = (),
    ) -> Change:
        """Add any number of files to a bundle and remove others, with as many `PATCH /bundles/{uuid}` as necessary.

        A repeat continues the versions that an earlier attempt created. The result is read from the DSS, and corrected
        if an outdated cache of the DSS was the base of a PATCH.

        :param uuid: UUID of the bundle
        :param replica: `aws` or `gcp`
        :param version: Version of the bundle to change; the latest if None
        :param add_files: Files to add, each with `uuid`, `version`, `name` and `indexed`
        :param remove_files: Files to remove, each with `uuid`, `version`, `name` and `indexed`
        :param replace_files: Files to add in place of those of the same names, if any, each with `uuid`, `version`,
            `name` and `indexed`
        :return: The version with all changes
        :raises ValueError: if two files would have one name; nothing is changed
        :raises DSSNotFoundError: if the bundle does not exist
        :raises DSSChangeError: if only a part of the changes was applied
        """
        call = self.api.change_bundle(
            uuid,
            replica=replica,
            version=version,
            add_files=add_files,
            remove_files=remove_files,
            replace_files=replace_files,
        )
        return self.run(call)

    def delete_bundle(self, uuid: str, *, replica: str, reason: str, version: str | None = None) -> None:
        """Delete a bundle or one version of it (`DELETE /bundles/{uuid}`); only administrators of the DSS may.

        :param uuid: UUID of the bundle
        :param replica: `aws` or `gcp`
        :param reason: Reason for the deletion; a repeat with the same reason succeeds
        :param version: Version to delete; all versions if None
        :raises DSSNotFoundError: if it does not exist
        :raises DSSConflictError: if it was deleted for another reason
        """
        self.run(self.api.delete_bundle(uuid, replica=replica, reason=reason, version=version))

    def post_bundles_checkout(
        self,
        uuid: str,
        *,
        replica: str,
        version: str | None = None,
        destination: str | None = None,
        email: str | None = None,
    ) -> str:
        """Start to copy the files of a bundle to a bucket (`POST /bundles/{uuid}/checkout`).

        The request is sent once: each call starts another checkout.

        :param uuid: UUID of the bundle
        :param replica: `aws` or `gcp`
        :param version: Version of the bundle; the latest if None
        :param destination: Bucket that the DSS may write to; a bucket of the DSS if None
        :param email: Address that the DSS notifies at the end
        :return: ID of the checkout, for `get_bundles_checkout`
        :raises DSSNotFoundError: if the bundle does not exist
        """
        call = self.api.post_bundles_checkout(
            uuid, replica=replica, version=version, destination=destination, email=email
        )
        return self.run(call)

    def get_bundles_checkout(self, checkout_job_id: str, *, replica: str) -> Checkout:
        """Return the status of a checkout (`GET /bundles/checkout/{checkout_job_id}`).

        :param checkout_job_id: ID from `post_bundles_checkout`
        :param replica: `aws` or `gcp`, the same as for `post_bundles_checkout`
        :raises DSSNotFoundError: if the DSS answers 404 to an unknown checkout
        """
        return self.run(self.api.get_bundles_checkout(checkout_job_id, replica=replica))

    # Collections

    def get_collections(self, *, per_page: int = 500) -> list[dict[str, str]]:
        """Return `uuid` and `version` of your collections, without versions created by PATCH (`GET /collections`).

        :param per_page: Collections per page, 10 to 500
        """
        return self.run(self.api.get_collections(per_page=per_page))

    def put_collection(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        name: str,
        description: str,
        details: Mapping[str, Any] | None = None,
        contents: Iterable[Mapping[str, Any]] = (),
    ) -> FQID:
        """Create a version of a collection (`PUT /collections`).

        A DSS overwrites an existing version, even one of another owner. `DSSPutCollectionOperator` checks that first.

        :param uuid: UUID of the collection
        :param version: Version of the collection
        :param replica: `aws` or `gcp`
        :param name: Name of the collection
        :param description: Description in Markdown
        :param details: Further properties, as JSON
        :param contents: Links, at most 1,000, each with `type`, `uuid`, `version`, and `fragment` if the type is not
            `file`, `bundle` or `collection`
        :raises DSSResponseError: with code `invalid_link` if a linked item does not exist
        """
        call = self.api.put_collection(
            uuid,
            version,
            replica=replica,
            name=name,
            description=description,
            details=details,
            contents=contents,
        )
        return self.run(call)

    def get_collection(self, uuid: str, *, replica: str, version: str | None = None) -> dict[str, Any]:
        """Return a collection (`GET /collections/{uuid}`).

        :param uuid: UUID of the collection
        :param replica: `aws` or `gcp`
        :param version: Version of the collection; the latest if None
        :return: `owner`, `name`, `description`, `details` and `contents`; a DSS does not return the version
        :raises DSSNotFoundError: if it does not exist or was deleted
        :raises DSSAuthError: if it has another owner
        """
        return self.run(self.api.get_collection(uuid, replica=replica, version=version))

    def patch_collection(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        add_contents: Iterable[Mapping[str, Any]] = (),
        remove_contents: Iterable[Mapping[str, Any]] = (),
        name: str | None = None,
        description: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> FQID:
        """Create a new version of a collection (`PATCH /collections/{uuid}`).

        The request is sent once: after an error only reading the collection shows whether it was applied.
        `change_collection` does that, and accepts any number of links.

        :param uuid: UUID of the collection
        :param version: Version of the collection to change
        :param replica: `aws` or `gcp`
        :param add_contents: Links to add, at most 1,000; existing ones are not added again
        :param remove_contents: Links to remove, at most 1,000, with all keys they have; missing ones are ignored
        :param name: New name; unchanged if None
        :param description: New description; unchanged if None
        :param details: New details; unchanged if None
        :return: The new version, named by the DSS
        :raises DSSNotFoundError: if that version does not exist
        :raises DSSResponseError: with code `invalid_link` if a linked item does not exist; with status 500 if the
            collection has another owner
        """
        call = self.api.patch_collection(
            uuid,
            version,
            replica=replica,
            add_contents=add_contents,
            remove_contents=remove_contents,
            name=name,
            description=description,
            details=details,
        )
        return self.run(call)

    def change_collection(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        add_contents: Iterable[Mapping[str, Any]] = (),
        remove_contents: Iterable[Mapping[str, Any]] = (),
        name: str | None = None,
        description: str | None = None,
        details: Mapping[str, Any] | None = None,
        resume_from: str | None = None,
        on_version: OnVersion | None = None,
    ) -> Change:
        """Change a collection with as many `PATCH /collections/{uuid}` as necessary.

        A DSS does not list the versions that PATCHes create. A repeat therefore starts from `version`, unless
        `resume_from` names the last version of an earlier attempt. Either way the result has each link once.

        :param uuid: UUID of the collection
        :param version: Version of the collection to change
        :param replica: `aws` or `gcp`
        :param add_contents: Links to add, any number
        :param remove_contents: Links to remove, any number, with all keys they have
        :param name: New name; unchanged if None
        :param description: New description; unchanged if None
        :param details: New details; unchanged if None
        :param resume_from: Version that an earlier attempt created; ignored if it has other changes
        :param on_version: Called with each version that is created
        :return: The version with all changes
        :raises DSSNotFoundError: if that version does not exist
        :raises DSSChangeError: if only a part of the changes was applied
        """
        call = self.api.change_collection(
            uuid,
            version,
            replica=replica,
            add_contents=add_contents,
            remove_contents=remove_contents,
            name=name,
            description=description,
            details=details,
            resume_from=resume_from,
            on_version=on_version,
        )
        return self.run(call)

    def delete_collection(self, uuid: str, *, replica: str) -> None:
        """Delete a collection permanently: a later one with its UUID stays hidden (`DELETE /collections/{uuid}`).

        :param uuid: UUID of the collection
        :param replica: `aws` or `gcp`
        :raises DSSNotFoundError: if it does not exist or was deleted
        :raises DSSAuthError: if it has another owner
        """
        self.run(self.api.delete_collection(uuid, replica=replica))

    # Search

    def post_search(
        self,
        es_query: Mapping[str, Any],
        *,
        replica: str,
        output_format: Literal["summary", "raw"] = "summary",
        per_page: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the bundles whose metadata match an Elasticsearch query, all pages (`POST /search`).

        :param es_query: Query, such as `{"query": {"match": {"files.project_json.project_title": "Mouse"}}}`
        :param replica: `aws` or `gcp`
        :param output_format: `summary` for `bundle_fqid`, `bundle_url` and `search_score`, `raw` for `metadata` too
        :param per_page: Bundles per page, 10 to 500; at most 10 with `raw`
        :raises DSSResponseError: if the query is invalid
        """
        call = self.api.post_search(es_query, replica=replica, output_format=output_format, per_page=per_page)
        return self.run(call)

    # Subscriptions

    def get_subscriptions(
        self, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> list[dict[str, Any]]:
        """Return your subscriptions (`GET /subscriptions`).

        :param replica: `aws` or `gcp`
        :param subscription_type: `jmespath` or `elasticsearch`
        """
        return self.run(self.api.get_subscriptions(replica=replica, subscription_type=subscription_type))

    def put_subscription(
        self,
        *,
        replica: str,
        callback_url: str,
        jmespath_query: str | None = None,
        es_query: Mapping[str, Any] | None = None,
        method: Literal["POST", "PUT"] | None = None,
        encoding: Literal["application/json", "multipart/form-data"] | None = None,
        form_fields: Mapping[str, str] | None = None,
        payload_form_field: str | None = None,
        attachments: Mapping[str, Any] | None = None,
        hmac_key_id: str | None = None,
        hmac_secret_key: str | None = None,
    ) -> str:
        """Subscribe a URL to events of bundles (`PUT /subscriptions`).

        The request is sent once: each call creates another subscription. After an error `get_subscriptions` shows
        whether there is one.

        :param replica: `aws` or `gcp`
        :param callback_url: URL that the DSS notifies
        :param jmespath_query: JMESPath query that selects events; all events if None
        :param es_query: Elasticsearch query that selects new bundles, instead of `jmespath_query`
        :param method: HTTP method of notifications; `POST` if None
        :param encoding: Encoding of notifications; `application/json` if None
        :param form_fields: Further form fields, with `multipart/form-data`
        :param payload_form_field: Form field for the notification itself, with `multipart/form-data`
        :param attachments: Metadata to attach, by name, each `{"type": "jmespath", "expression": ...}`
        :param hmac_key_id: Name of the key that signs notifications
        :param hmac_secret_key: Key that signs notifications; a DSS never returns it
        :return: UUID of the subscription
        :raises DSSResponseError: if a query or an attachment is invalid, or there are too many subscriptions
        """
        call = self.api.put_subscription(
            replica=replica,
            callback_url=callback_url,
            jmespath_query=jmespath_query,
            es_query=es_query,
            method=method,
            encoding=encoding,
            form_fields=form_fields,
            payload_form_field=payload_form_field,
            attachments=attachments,
            hmac_key_id=hmac_key_id,
            hmac_secret_key=hmac_secret_key,
        )
        return self.run(call)

    def get_subscription(
        self, uuid: str, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> dict[str, Any]:
        """Return a subscription (`GET /subscriptions/{uuid}`).

        :param uuid: UUID of the subscription
        :param replica: `aws` or `gcp`
        :param subscription_type: `jmespath` or `elasticsearch`
        :raises DSSNotFoundError: if it does not exist
        """
        return self.run(self.api.get_subscription(uuid, replica=replica, subscription_type=subscription_type))

    def delete_subscription(self, uuid: str, *, replica: str, subscription_type: SubscriptionType = "jmespath") -> None:
        """Delete a subscription (`DELETE /subscriptions/{uuid}`).

        :param uuid: UUID of the subscription
        :param replica: `aws` or `gcp`
        :param subscription_type: `jmespath` or `elasticsearch`
        :raises DSSNotFoundError: if it does not exist
        """
        self.run(self.api.delete_subscription(uuid, replica=replica, subscription_type=subscription_type))

    # Events

    def get_events(
        self, *, replica: str, from_date: str | None = None, to_date: str | None = None, per_page: int = 10
    ) -> list[dict[str, Any]]:
        """Return the journals of events, oldest first, all pages (`GET /events`).

        :param replica: `aws` or `gcp`
        :param from_date: DSS_VERSION of the earliest event; no limit if None
        :param to_date: DSS_VERSION of the latest event; no limit if None
        :param per_page: Journals per page, 1 to 10
        :return: Journals, each with `journal_id`, `from_date`, `to_date`, `size` and `events`
        """
        call = self.api.get_events(replica=replica, from_date=from_date, to_date=to_date, per_page=per_page)
        return self.run(call)

    def get_event(self, uuid: str, version: str, *, replica: str) -> dict[str, Any]:
        """Return the metadata document of a bundle from its event (`GET /events/{uuid}`).

        :param uuid: UUID of the bundle
        :param version: Version of the bundle
        :param replica: `aws` or `gcp`
        :raises DSSNotFoundError: if there is no such event
        """
        return self.run(self.api.get_event(uuid, version, replica=replica))
