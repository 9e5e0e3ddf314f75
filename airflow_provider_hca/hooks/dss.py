"""Hook for a Data Storage System (DSS)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.get_provider_info import get_provider_info
from airflow_provider_hca.utils.hook_lineage import Role, report_bundle

if TYPE_CHECKING:
    # The client is imported when the hook is first used: parsing a DAG imports this module and does not need it.
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Literal

    from airflow_provider_hca.client.api import DSSAPI
    from airflow_provider_hca.client.api.collection_changes import OnVersion
    from airflow_provider_hca.client.api.subscriptions import SubscriptionType
    from airflow_provider_hca.client.client import DSSClient
    from airflow_provider_hca.client.downloads import Writable
    from airflow_provider_hca.client.models import FQID, Bundle, Change, Checkout, FileMetadata, PutBundle, PutFile


class DSSHook(BaseHook):
    """Call a Data Storage System (DSS) with the address and the credentials of an Airflow connection.

    The connection, of type `hca_dss`, has:

    - host: full URL of the API, such as `https://dss.example.org/v1`
    - password: long-lived token (JWT), if you have one
    - extra (JSON), for tokens that are renewed automatically, one of

      - `key_path`, the path of a Google service account's key file on the worker, or `keyfile_dict`, its content; with
        `audience` and `group`, the claims that the DSS expects
      - `refresh_token`, `token_uri`, `client_id`, `client_secret`: OAuth2 login of a person

    - extra, optional: `creator_uid` (0), `connect_timeout` (10 s), `read_timeout` (40 s), `retry_attempts` (10),
      `retry_seconds` (50), `verify` (true, false, or the path of a CA bundle)

    Methods are those of `airflow_provider_hca.client.client.DSSClient`, which documents parameters, results and errors.
    The hook's `get_bundle`, `put_bundle`, `patch_bundle` and `change_bundle` also report the bundle as an input or
    output of the running task (hook-level lineage); those of `get_conn()` do not.

    :param dss_conn_id: Airflow connection
    :param pool_size: Connections kept open; as many as there are threads
    :param stop: Event that ends running calls with a `DSSAbortedError`
    """

    conn_name_attr = "dss_conn_id"
    default_conn_name = "hca_dss_default"
    conn_type = "hca_dss"
    hook_name = "HCA Data Storage System (DSS)"

    def __init__(
        self,
        dss_conn_id: str = default_conn_name,
        *,
        pool_size: int = 10,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__()
        self.dss_conn_id = dss_conn_id
        self._pool_size = pool_size
        self._stop = stop
        self._client: DSSClient | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the behaviour of the connection form; Airflow 3.2 and later read it from the provider info."""
        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return further fields of the connection form; Airflow 3.2 and later read them from the provider info."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import PasswordField, StringField
        from wtforms.validators import Optional

        widgets = {}
        for name, field in get_provider_info()["connection-types"][0]["conn-fields"].items():
            secret = field["schema"].get("format") == "password"
            kind, widget = (PasswordField, BS3PasswordFieldWidget()) if secret else (StringField, BS3TextFieldWidget())
            # Text also for numbers: Airflow 2 would show, and store, a default for a number that was not entered.
            widgets[name] = kind(
                lazy_gettext(field["label"]), validators=[Optional()], description=field["description"], widget=widget
            )
        return widgets

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the DSS; the hook can be used again."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def get_conn(self) -> DSSClient:
        """Return a client with the address and the credentials of the connection.

        :raises ValueError: if the connection is not defined or not valid
        """
        return self._open()

    @property
    def api(self) -> DSSAPI:
        """Calls with the address and the credentials of the connection, for `get_conn().run()`."""
        return self.get_conn().api

    @property
    def creator_uid(self) -> int:
        """`creator_uid` of the connection: the creator of files and bundles, unless a call names another."""
        return self.api.creator_uid

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the DSS answers and accepts the token, and a message."""
        try:
            with self:
                client = self._open(patient=False)
                client.run(client.api.check_reachable())
                if client.api.auth is None:
                    return True, f"{client.api.url} answers. The connection has no credentials, so it can only read"
                client.run(client.api.check_token())
        except (DSSError, ValueError) as error:
            # Airflow's form tests a copy of the connection, whose ID consists of random letters.
            return False, str(error).replace(f"connection {self.dss_conn_id!r}", "this connection")
        return True, f"{client.api.url} answers and accepts the token"

    def _open(self, *, patient: bool = True) -> DSSClient:
        if self._client is None:
            from airflow_provider_hca.client.client import DSSClient
            from airflow_provider_hca.hooks.connection import AdvisingTransport, Settings, undefined_connection

            try:
                connection = self.get_connection(self.dss_conn_id)
            except AirflowNotFoundException:
                raise undefined_connection(self.dss_conn_id) from None
            if not patient and connection.conn_type != self.conn_type:
                raise ValueError(
                    f"connection {self.dss_conn_id!r} must be of type {self.conn_type!r}, got {connection.conn_type!r}"
                )
            settings = Settings.from_connection(connection, self.dss_conn_id)
            api = settings.api(patient=patient)
            transport = AdvisingTransport(
                self.dss_conn_id,
                has_credentials=api.auth is not None,
                pool_size=self._pool_size,
                verify=settings.verify,
                stop=self._stop,
            )
            self._client = DSSClient(api, transport)
        return self._client

    def _report_bundle(self, role: Role, uuid: str, version: str, replica: str) -> None:
        report_bundle(self, self.api.url, role, uuid=uuid, version=version, replica=replica)

    # Files

    def put_file(self, uuid: str, version: str, *, source_url: str, creator_uid: int | None = None) -> PutFile:
        """Register a staged object as a version of a file (`PUT /files/{uuid}`).

        See `DSSClient.put_file`.
        """
        return self.get_conn().put_file(uuid, version, source_url=source_url, creator_uid=creator_uid)

    def head_file(self, uuid: str, *, replica: str, version: str | None = None) -> FileMetadata:
        """Return the metadata of a file (`HEAD /files/{uuid}`).

        See `DSSClient.head_file`.
        """
        return self.get_conn().head_file(uuid, replica=replica, version=version)

    def wait_for_file(self, uuid: str, version: str, *, replica: str, sha256: str, seconds: float) -> FileMetadata:
        """Wait until an asynchronous copy (`PUT /files` answered 202) is done, and compare its checksum.

        See `DSSClient.wait_for_file`.
        """
        return self.get_conn().wait_for_file(uuid, version, replica=replica, sha256=sha256, seconds=seconds)

    def get_file(
        self, uuid: str, *, replica: str, version: str | None = None, to: str | Path | Writable
    ) -> FileMetadata:
        """Download a file as a stream (`GET /files/{uuid}`) and verify its SHA-256.

        See `DSSClient.get_file`.
        """
        return self.get_conn().get_file(uuid, replica=replica, version=version, to=to)

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

        See `DSSClient.put_bundle`.
        """
        bundle = self.get_conn().put_bundle(
            uuid, version, replica=replica, files=files, creator_uid=creator_uid, missing_seconds=missing_seconds
        )
        self._report_bundle("output", bundle.uuid, bundle.version, replica)
        return bundle

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

        See `DSSClient.get_bundle`.
        """
        bundle = self.get_conn().get_bundle(
            uuid, replica=replica, version=version, directurls=directurls, presignedurls=presignedurls
        )
        self._report_bundle("input", bundle["uuid"], bundle["version"], replica)
        return bundle

    def find_bundle(self, uuid: str, *, replica: str, version: str | None = None) -> str | None:
        """Return the version of a bundle if a replica has it, else None (`GET /bundles/{uuid}`).

        See `DSSClient.find_bundle`.
        """
        return self.get_conn().find_bundle(uuid, replica=replica, version=version)

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

        See `DSSClient.get_bundles_all`.
        """
        return self.get_conn().get_bundles_all(
            replica=replica, prefix=prefix, newer_than=newer_than, per_page=per_page, at_most=at_most
        )

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

        See `DSSClient.patch_bundle`.
        """
        fqid = self.get_conn().patch_bundle(
            uuid, version, replica=replica, add_files=add_files, remove_files=remove_files
        )
        self._report_bundle("output", fqid.uuid, fqid.version, replica)
        return fqid

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

        See `DSSClient.change_bundle`.
        """
        change = self.get_conn().change_bundle(
            uuid,
            replica=replica,
            version=version,
            add_files=add_files,
            remove_files=remove_files,
            replace_files=replace_files,
        )
        self._report_bundle("output", change.uuid, change.version, replica)
        return change

    def delete_bundle(self, uuid: str, *, replica: str, reason: str, version: str | None = None) -> None:
        """Delete a bundle or one version of it (`DELETE /bundles/{uuid}`); only administrators of the DSS may.

        See `DSSClient.delete_bundle`.
        """
        self.get_conn().delete_bundle(uuid, replica=replica, reason=reason, version=version)

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

        See `DSSClient.post_bundles_checkout`.
        """
        return self.get_conn().post_bundles_checkout(
            uuid, replica=replica, version=version, destination=destination, email=email
        )

    def get_bundles_checkout(self, checkout_job_id: str, *, replica: str) -> Checkout:
        """Return the status of a checkout (`GET /bundles/checkout/{checkout_job_id}`).

        See `DSSClient.get_bundles_checkout`.
        """
        return self.get_conn().get_bundles_checkout(checkout_job_id, replica=replica)

    # Collections

    def get_collections(self, *, per_page: int = 500) -> list[dict[str, str]]:
        """Return `uuid` and `version` of your collections, without versions created by PATCH (`GET /collections`).

        See `DSSClient.get_collections`.
        """
        return self.get_conn().get_collections(per_page=per_page)

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

        See `DSSClient.put_collection`.
        """
        return self.get_conn().put_collection(
            uuid, version, replica=replica, name=name, description=description, details=details, contents=contents
        )

    def get_collection(self, uuid: str, *, replica: str, version: str | None = None) -> dict[str, Any]:
        """Return a collection (`GET /collections/{uuid}`).

        See `DSSClient.get_collection`.
        """
        return self.get_conn().get_collection(uuid, replica=replica, version=version)

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

        See `DSSClient.patch_collection`.
        """
        return self.get_conn().patch_collection(
            uuid,
            version,
            replica=replica,
            add_contents=add_contents,
            remove_contents=remove_contents,
            name=name,
            description=description,
            details=details,
        )

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

        See `DSSClient.change_collection`.
        """
        return self.get_conn().change_collection(
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

    def delete_collection(self, uuid: str, *, replica: str) -> None:
        """Delete a collection permanently: a later one with its UUID stays hidden (`DELETE /collections/{uuid}`).

        See `DSSClient.delete_collection`.
        """
        self.get_conn().delete_collection(uuid, replica=replica)

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

        See `DSSClient.post_search`.
        """
        return self.get_conn().post_search(es_query, replica=replica, output_format=output_format, per_page=per_page)

    # Subscriptions

    def get_subscriptions(
        self, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> list[dict[str, Any]]:
        """Return your subscriptions (`GET /subscriptions`).

        See `DSSClient.get_subscriptions`.
        """
        return self.get_conn().get_subscriptions(replica=replica, subscription_type=subscription_type)

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

        See `DSSClient.put_subscription`.
        """
        return self.get_conn().put_subscription(
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

    def get_subscription(
        self, uuid: str, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> dict[str, Any]:
        """Return a subscription (`GET /subscriptions/{uuid}`).

        See `DSSClient.get_subscription`.
        """
        return self.get_conn().get_subscription(uuid, replica=replica, subscription_type=subscription_type)

    def delete_subscription(self, uuid: str, *, replica: str, subscription_type: SubscriptionType = "jmespath") -> None:
        """Delete a subscription (`DELETE /subscriptions/{uuid}`).

        See `DSSClient.delete_subscription`.
        """
        self.get_conn().delete_subscription(uuid, replica=replica, subscription_type=subscription_type)

    # Events

    def get_events(
        self, *, replica: str, from_date: str | None = None, to_date: str | None = None, per_page: int = 10
    ) -> list[dict[str, Any]]:
        """Return the journals of events, oldest first, all pages (`GET /events`).

        See `DSSClient.get_events`.
        """
        return self.get_conn().get_events(replica=replica, from_date=from_date, to_date=to_date, per_page=per_page)

    def get_event(self, uuid: str, version: str, *, replica: str) -> dict[str, Any]:
        """Return the metadata document of a bundle from its event (`GET /events/{uuid}`).

        See `DSSClient.get_event`.
        """
        return self.get_conn().get_event(uuid, version, replica=replica)
