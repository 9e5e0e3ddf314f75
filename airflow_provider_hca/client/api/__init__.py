"""All calls of the DSS v1 interface, one generator each. No network here: a transport runs them.

A call yields the requests it wants sent and returns its result, so one description serves the synchronous and the
asynchronous world::

    dss = DSSAPI("https://dss.example.org/v1")
    with RequestsTransport() as transport:
        bundle = transport.run(dss.get_bundle("ce55fd51-7833-469b-be0b-5da88ebebfcd", replica="aws"))
"""

from __future__ import annotations

import logging

from airflow_provider_hca.client.api.base import PAGE
from airflow_provider_hca.client.api.bundle_changes import BundleChanges
from airflow_provider_hca.client.api.collection_changes import CollectionChanges
from airflow_provider_hca.client.api.events import EventCalls
from airflow_provider_hca.client.api.search import SearchCalls
from airflow_provider_hca.client.api.subscriptions import SubscriptionCalls
from airflow_provider_hca.client.identifiers import derive_uuid
from airflow_provider_hca.client.retry import Exchange, RetryPolicy
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.exceptions import DSSError, DSSResponseError

log = logging.getLogger(__name__)

_NO_BUNDLE = derive_uuid("a bundle that nobody makes")


class DSSAPI(BundleChanges, CollectionChanges, SearchCalls, SubscriptionCalls, EventCalls):
    """The calls to one DSS.

    They are named as in the DSS's original Python bindings: `put_file` is `PUT /files/{uuid}`, `get_bundles_all` is
    `GET /bundles/all`. Besides there are some that do more: `wait_for_file`, `find_bundle`, `change_bundle`,
    `change_collection` and the checks.

    :param url: of its API, with scheme and base path, such as `https://dss.example.org/v1`
    :param auth: where tokens come from (`airflow_provider_hca.client.auth`); None sends none
    :param creator_uid: who creates files and bundles, unless a call says otherwise
    :param retry: how long to go on with an idempotent request
    :param connect_timeout: seconds to wait for a connection
    :param read_timeout: seconds to wait for an answer; a DSS's gateway gives up after 25 to 30
    :raises ValueError: when the URL is not one
    """

    def check_reachable(self) -> Call[None]:
        """Ask for a bundle that is not there, which needs no token, to see that this is a DSS (`GET /bundles`)."""
        try:
            yield from self.find_bundle(_NO_BUNDLE, replica="aws")
        except DSSResponseError as error:
            if error.status != 400:  # one without that replica is a DSS too
                raise

    def authenticate(self) -> Call[None]:
        """Have a token made or renewed, if there are credentials; the DSS is not asked.

        :raises DSSCredentialsError: when none can be made
        """
        if self.auth is not None:
            yield from self.auth.token()

    def check_token(self) -> Call[None]:
        """See whether the DSS lets this token register files, and change nothing.

        `GET /collections` wants all that a registration wants. Where it fails, which may have other reasons (a DSS
        without collections, a token without an e-mail), a registration decides that no DSS can take, since its version
        is none.

        :raises DSSAuthError: when the token is missing or refused
        :raises DSSCredentialsError: when none can be made
        """
        yield from self.authenticate()
        query = self._request("GET", "/collections", {"per_page": "10"})
        brief = Exchange(self._exchange.home, self.auth, RetryPolicy(attempts=2, seconds=2))
        try:
            yield from brief.send(query, accept=PAGE, authorize=True)
        except DSSError as error:
            log.debug("the token was not taken at /collections: %s", error)
        else:
            return
        body = {"source_url": "s3://none/none", "creator_uid": 0}
        request = self._request("PUT", f"/files/{_NO_BUNDLE}", {"version": "none"}, body)
        yield from self._exchange.send(request, accept=frozenset({400}), authorize=True)
