"""The DSS hook: from an Airflow connection to calls that a DSS answers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.get_provider_info import get_provider_info

if TYPE_CHECKING:
    # The client is imported when the hook is first used: parsing a DAG imports this module and never needs it.
    from airflow_provider_hca.client.messages import Call
    from airflow_provider_hca.client.model import Bundle, FileMetadata, PutBundle, PutFile
    from airflow_provider_hca.client.protocol import DSSAPI
    from airflow_provider_hca.client.transports import RequestsTransport

T = TypeVar("T")


class DSSHook(BaseHook):
    """Calls a Data Storage System (DSS) with the address and the credentials of an Airflow connection.

    The connection, of type `hca_dss`, has:

    - host: the full URL of the API, such as `https://dss.example.org/v1`
    - password: a token (JWT), if you have one that lasts
    - extra (JSON), for tokens that are renewed by themselves, either of
        - `key_path`, the path of a Google service account's key file on the worker, or `key_json`, its content; with
          `audience` and `group`, the claims that the DSS expects
        - `refresh_token`, `token_uri`, `client_id`, `client_secret`: a person's OAuth2 login
    - extra, all optional: `creator_uid` (0), `connect_timeout` (10 s), `read_timeout` (40 s), `retry_attempts` (10),
      `retry_seconds` (50), `verify` (true, false, or the path of a CA bundle)

    Methods are named as in the DSS's original Python bindings. All raise a `DSSError` with status, code, title and
    request id (see `airflow_provider_hca.exceptions`), or a `ValueError` for an argument that is not well-formed.

    :param dss_conn_id: the Airflow connection
    :param pool_size: connections kept open; as many as there are threads
    :param stop: when set, running calls end at once with an `UploadAbortedError`
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
        self._api: DSSAPI | None = None
        self._transport: RequestsTransport | None = None
        self._creator_uid = 0

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow before 3.2 shows the connection's form; newer ones read the provider's description."""
        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in behaviour.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the DSS; the hook can be used again."""
        if self._transport is not None:
            self._transport.close()
        self._api = self._transport = None

    @property
    def api(self) -> DSSAPI:
        """The calls, bound to the connection's address and credentials."""
        return self._open()[0]

    @property
    def creator_uid(self) -> int:
        """The connection's `creator_uid`."""
        self._open()
        return self._creator_uid

    def get_conn(self) -> RequestsTransport:
        """Return what runs the calls of `api`: `hook.get_conn().run(hook.api.get_bundle(...))`.

        :raises ValueError: when the connection is not well-formed
        """
        return self._open()[1]

    def put_file(self, uuid: str, version: str, *, source_url: str, creator_uid: int | None = None) -> PutFile:
        """Register a staged object as a version of a file (`PUT /files/{uuid}`).

        :param uuid: of the file
        :param version: of the file, a DSS_VERSION
        :param source_url: `s3://bucket/key` or `gs://bucket/key`, staged with its four checksums
        :param creator_uid: who creates it; the connection's if None
        :return: its `outcome` is `created`, `identical`, or `copying`: then call `wait_for_file`
        :raises DSSConflictError: when that version exists with other content
        """
        creator = self.creator_uid if creator_uid is None else creator_uid
        return self._run(self.api.put_file(uuid, version, source_url=source_url, creator_uid=creator))

    def head_file(self, uuid: str, *, replica: str, version: str | None = None) -> FileMetadata:
        """Return size, type and checksums of a file (`HEAD /files/{uuid}`).

        :param uuid: of the file
        :param replica: `aws` or `gcp`
        :param version: of the file; the latest if None
        :raises DSSNotFoundError: when it is not there, or not yet
        """
        return self._run(self.api.head_file(uuid, replica=replica, version=version))

    def wait_for_file(self, uuid: str, version: str, *, replica: str, sha256: str, seconds: float) -> FileMetadata:
        """Wait until an asynchronous copy is done, and check that the stored content is the staged one.

        :param uuid: of the file
        :param version: of the file
        :param replica: `aws` or `gcp`
        :param sha256: of the staged content
        :param seconds: how long to wait at most
        :raises DSSConflictError: when the stored content is another
        :raises DSSCopyError: when the copy failed or took too long
        """
        return self._run(self.api.wait_for_file(uuid, version, replica=replica, sha256=sha256, seconds=seconds))

    def put_bundle(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        files: Iterable[Mapping[str, Any]],
        creator_uid: int | None = None,
    ) -> PutBundle:
        """Make a version of a bundle of registered files (`PUT /bundles/{uuid}`).

        :param uuid: of the bundle
        :param version: of the bundle, a DSS_VERSION
        :param replica: `aws` or `gcp`
        :param files: members with `uuid`, `version`, `name`, `indexed`, in a stable order
        :param creator_uid: who creates it; the connection's if None
        :return: its `outcome` is `created` or `identical`
        :raises DSSConflictError: when that version exists with another manifest
        """
        creator = self.creator_uid if creator_uid is None else creator_uid
        return self._run(self.api.put_bundle(uuid, version, replica=replica, files=files, creator_uid=creator))

    def get_bundle(self, uuid: str, *, replica: str, version: str | None = None) -> Bundle:
        """Return a bundle's manifest, all pages of it (`GET /bundles/{uuid}`).

        :param uuid: of the bundle
        :param replica: `aws` or `gcp`
        :param version: of the bundle; the latest if None
        :raises DSSNotFoundError: when it is not there, or deleted
        """
        return self._run(self.api.get_bundle(uuid, replica=replica, version=version))

    def find_bundle(self, uuid: str, *, replica: str, version: str | None = None) -> str | None:
        """Return the version of a bundle if it is available in a replica, else None.

        :param uuid: of the bundle
        :param replica: `aws` or `gcp`
        :param version: of the bundle; the latest if None
        """
        return self._run(self.api.find_bundle(uuid, replica=replica, version=version))

    def get_bundles_all(self, *, replica: str, prefix: str = "") -> list[dict[str, str]]:
        """Return `uuid` and `version` of all bundles of a replica (`GET /bundles/all`).

        :param replica: `aws` or `gcp`
        :param prefix: of the uuids
        """
        return self._run(self.api.get_bundles_all(replica=replica, prefix=prefix))

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the DSS answers and takes the token, and what is wrong if not."""
        try:
            with self:
                api = self._open(patient=False)[0]
                self._run(api.check_reachable())
                if api.auth is None:
                    return True, f"{api.url} answers. The connection has no credentials, so it can only read"
                self._run(api.check_token())
        except (DSSError, ValueError, AirflowNotFoundException) as error:
            return False, str(error)
        return True, f"{api.url} answers and takes the token"

    def _run(self, call: Call[T]) -> T:
        return self.get_conn().run(call)

    def _open(self, *, patient: bool = True) -> tuple[DSSAPI, RequestsTransport]:
        if self._api is None or self._transport is None:
            from airflow_provider_hca.hooks.connection import AdvisingTransport, Settings

            settings = Settings.of(self.get_connection(self.dss_conn_id), self.dss_conn_id)
            self._creator_uid = settings.creator_uid
            self._api = settings.api(patient=patient)
            self._transport = AdvisingTransport(
                self.dss_conn_id,
                has_credentials=self._api.auth is not None,
                pool_size=self._pool_size,
                verify=settings.verify,
                stop=self._stop,
            )
        return self._api, self._transport
