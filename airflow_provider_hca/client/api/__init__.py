"""All calls of the DSS v1 interface, as generators without I/O.

A call yields requests, is sent the responses, and returns its result, so both transports can run it::

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
from airflow_provider_hca.exceptions import DSSAuthError, DSSError, DSSResponseError

log = logging.getLogger(__name__)

_NO_BUNDLE = derive_uuid("a bundle that does not exist")


class DSSAPI(BundleChanges, CollectionChanges, SearchCalls, SubscriptionCalls, EventCalls):
    """Calls of one DSS. `DSSClient` has methods of the same names, and documents their parameters.

    :param url: URL of the API, with scheme and base path, such as `https://dss.example.org/v1`
    :param auth: Token source (see `airflow_provider_hca.client.auth`); None sends no token
    :param creator_uid: Creator of files and bundles, unless a call names another
    :param retry: Limits for repeating idempotent requests
    :param connect_timeout: Time to wait for a connection, in seconds
    :param read_timeout: Time to wait for each part of a response, in seconds; a DSS's gateway gives up after 25 to 30 s
    :raises ValueError: if the URL is invalid
    """

    def check_reachable(self) -> Call[None]:
        """Check that this is a DSS by reading a bundle that does not exist, which needs no token (`GET /bundles`)."""
        try:
            yield from self.find_bundle(_NO_BUNDLE, replica="aws")
        except DSSResponseError as error:
            if error.status != 400:  # a DSS without that replica
                raise

    def authenticate(self) -> Call[None]:
        """Create or renew a token if there are credentials, without a request to the DSS.

        :raises DSSCredentialsError: if that fails
        """
        if self.auth is not None:
            yield from self.auth.token()

    def check_token(self) -> Call[None]:
        """Check whether the DSS accepts this token for registering files, without changes.

        `GET /collections` requires the same of a token as a registration. It may fail for other reasons (a DSS without
        collections, a token without an e-mail): then a registration decides that is always refused, as its version is
        invalid.

        :raises DSSAuthError: if the token is missing or refused
        :raises DSSCredentialsError: if no token can be created
        """
        yield from self.authenticate()
        query = self._request("GET", "/collections", {"per_page": "10"})
        brief = Exchange(self._exchange.home, self.auth, RetryPolicy(attempts=2, seconds=2))
        try:
            yield from brief.send(query, accept=PAGE, authorize=True)
        except DSSError as error:
            log.debug("GET /collections did not accept the token: %s", error)
        else:
            return
        body = {"source_url": "s3://none/none", "creator_uid": 0}
        request = self._request("PUT", f"/files/{_NO_BUNDLE}", {"version": "none"}, body)
        try:
            yield from self._exchange.send(request, accept=frozenset({400}), authorize=True)
        except DSSAuthError as error:  # without the UUID, which no user gave
            path = self._request("PUT", "/files", {}).path
            raise DSSAuthError("PUT", path, error.status, error.code, error.title, error.request_id) from None
