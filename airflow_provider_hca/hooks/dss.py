"""The DSS hook: from an Airflow connection to calls that a DSS answers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.get_provider_info import get_provider_info
from airflow_provider_hca.utils.hook_lineage import Role, report_bundle

if TYPE_CHECKING:
    # The client is imported when the hook is first used: parsing a DAG imports this module and never needs it.
    from airflow_provider_hca.client.api import DSSAPI
    from airflow_provider_hca.client.sansio import Call
    from airflow_provider_hca.client.transport import RequestsTransport

P = ParamSpec("P")
T = TypeVar("T")


def _api() -> type[DSSAPI]:
    from airflow_provider_hca.client.api import DSSAPI

    return DSSAPI


class _Delegated(Generic[P, T]):
    """A method that runs a call of the client: with its name, its parameters, its documentation and its result.

    :param find: returns the call; used when the method is, so that a class that nobody uses imports nothing
    :param bundle: what the bundle in the result is to the task, for lineage; None if it is about no bundle
    """

    def __init__(
        self, find: Callable[[], Callable[Concatenate[DSSAPI, P], Call[T]]], *, bundle: Role | None = None
    ) -> None:
        self._find = find
        self._bundle = bundle

    def __get__(self, hook: DSSHook | None, owner: type[DSSHook]) -> Callable[P, T]:
        call = self._find()

        @functools.wraps(call)
        def method(*arguments: P.args, **options: P.kwargs) -> T:
            if hook is None:
                raise TypeError(f"{owner.__name__}.{call.__name__} is a method of a hook: make one first")
            result = hook.get_conn().run(call(hook.api, *arguments, **options))
            if self._bundle is not None:
                told: Any = result
                uuid, version = (told["uuid"], told["version"]) if isinstance(told, dict) else (told.uuid, told.version)
                report_bundle(
                    hook, hook.api.url, self._bundle, uuid=uuid, version=version, replica=str(options["replica"])
                )
            return result

        return method


class DSSHook(BaseHook):
    """Calls a Data Storage System (DSS) with the address and the credentials of an Airflow connection.

    The connection, of type `hca_dss`, has:

    - host: the full URL of the API, such as `https://dss.example.org/v1`
    - password: a long-lived token (JWT), if you have one
    - extra (JSON), for tokens that are renewed by themselves, either of

      - `key_path`, the path of a Google service account's key file on the worker, or `keyfile_dict`, its content; with
        `audience` and `group`, the claims that the DSS expects
      - `refresh_token`, `token_uri`, `client_id`, `client_secret`: a person's OAuth2 login

    - extra, all optional: `creator_uid` (0), `connect_timeout` (10 s), `read_timeout` (40 s), `retry_attempts` (10),
      `retry_seconds` (50), `verify` (true, false, or the path of a CA bundle)

    Methods are named as in the DSS's original Python bindings, and are those of the client: see
    `airflow_provider_hca.client.api.DSSAPI` for each. All raise a `DSSError` (see
    `airflow_provider_hca.exceptions`; an answer of the DSS has status, code, title and request id), or a `ValueError`
    for an argument that is not well-formed.

    Bundles that are read with `get_bundle`, or made with `put_bundle`, `patch_bundle` or `change_bundle`, are told to
    Airflow's collector of lineage, as inputs and outputs of the task that calls.

    :param dss_conn_id: the Airflow connection
    :param pool_size: connections kept open; as many as there are threads
    :param stop: when set, running calls end at once with a `DSSAbortedError`
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

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow before 3.2 shows the connection's form; newer ones read the provider's description."""
        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the further fields of the connection's form for Airflow before 3.2, as `get_ui_field_behaviour`."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import PasswordField, StringField
        from wtforms.validators import Optional

        widgets = {}
        for name, told in get_provider_info()["connection-types"][0]["conn-fields"].items():
            secret = told["schema"].get("format") == "password"
            kind, widget = (PasswordField, BS3PasswordFieldWidget()) if secret else (StringField, BS3TextFieldWidget())
            # Text also for numbers: Airflow 2 would show, and store, a default for a number that nobody gave.
            widgets[name] = kind(
                lazy_gettext(told["label"]), validators=[Optional()], description=told["description"], widget=widget
            )
        return widgets

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
        """The connection's `creator_uid`: who creates files and bundles, unless a call says otherwise."""
        return self.api.creator_uid

    def get_conn(self) -> RequestsTransport:
        """Return what runs the calls of `api`: `hook.get_conn().run(hook.api.get_bundle(...))`.

        :raises ValueError: when the connection is not well-formed
        """
        return self._open()[1]

    # Files
    put_file = _Delegated(lambda: _api().put_file)
    head_file = _Delegated(lambda: _api().head_file)
    get_file = _Delegated(lambda: _api().get_file)
    wait_for_file = _Delegated(lambda: _api().wait_for_file)

    # Bundles
    put_bundle = _Delegated(lambda: _api().put_bundle, bundle="output")
    get_bundle = _Delegated(lambda: _api().get_bundle, bundle="input")
    find_bundle = _Delegated(lambda: _api().find_bundle)
    get_bundles_all = _Delegated(lambda: _api().get_bundles_all)
    patch_bundle = _Delegated(lambda: _api().patch_bundle, bundle="output")
    change_bundle = _Delegated(lambda: _api().change_bundle, bundle="output")
    delete_bundle = _Delegated(lambda: _api().delete_bundle)
    post_bundles_checkout = _Delegated(lambda: _api().post_bundles_checkout)
    get_bundles_checkout = _Delegated(lambda: _api().get_bundles_checkout)

    # Collections
    get_collections = _Delegated(lambda: _api().get_collections)
    put_collection = _Delegated(lambda: _api().put_collection)
    get_collection = _Delegated(lambda: _api().get_collection)
    patch_collection = _Delegated(lambda: _api().patch_collection)
    change_collection = _Delegated(lambda: _api().change_collection)
    delete_collection = _Delegated(lambda: _api().delete_collection)

    # Search, subscriptions, events
    post_search = _Delegated(lambda: _api().post_search)
    get_subscriptions = _Delegated(lambda: _api().get_subscriptions)
    put_subscription = _Delegated(lambda: _api().put_subscription)
    get_subscription = _Delegated(lambda: _api().get_subscription)
    delete_subscription = _Delegated(lambda: _api().delete_subscription)
    get_events = _Delegated(lambda: _api().get_events)
    get_event = _Delegated(lambda: _api().get_event)

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
            # Airflow's form tests a copy of the connection, under a name made of random letters.
            return False, str(error).replace(f"connection {self.dss_conn_id!r}", "this connection")
        return True, f"{api.url} answers and takes the token"

    def _run(self, call: Call[T]) -> T:
        return self.get_conn().run(call)

    def _open(self, *, patient: bool = True) -> tuple[DSSAPI, RequestsTransport]:
        if self._api is None or self._transport is None:
            from airflow_provider_hca.hooks.connection import AdvisingTransport, Settings

            settings = Settings.of(self.get_connection(self.dss_conn_id), self.dss_conn_id)
            self._api = settings.api(patient=patient)
            self._transport = AdvisingTransport(
                self.dss_conn_id,
                has_credentials=self._api.auth is not None,
                pool_size=self._pool_size,
                verify=settings.verify,
                stop=self._stop,
            )
        return self._api, self._transport
