"""What the parts of the server share, and the form every request has to have."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from airflow_provider_hca.client.identifiers import check_version

from .auth import Authority, email_of, require_group
from .blob_store import Blobs
from .checkout_jobs import CheckoutJobs
from .collection_records import CollectionRecords
from .copies import Copies
from .errors import ProblemError
from .journals import Journals
from .manifests import Manifests
from .objects import Presigner
from .plain_json import check, is_doubtful
from .staging import Staging
from .store import Store
from .subscription_records import SubscriptionRecords

UUID_PATTERN = "^[A-Za-z0-9]{8}-[A-Za-z0-9]{4}-[A-Za-z0-9]{4}-[A-Za-z0-9]{4}-[A-Za-z0-9]{12}$"


@dataclass(frozen=True)
class Services:
    """Everything an endpoint may need."""

    store: Store
    manifests: Manifests
    collections: CollectionRecords
    blobs: Blobs
    stagings: Mapping[str, Staging]
    copies: Copies
    checkouts: CheckoutJobs
    journals: Journals
    subscriptions: SubscriptionRecords
    authority: Authority
    presigner: Presigner
    async_above: int
    file_wait: float
    checkout_delay: float
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Ctx = Annotated[Services, Depends(_services)]

_bearer = HTTPBearer(auto_error=False, description="A JWT, signed with RS256")


async def _caller(
    services: Ctx, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> dict[str, Any]:
    return services.authority.verify(credentials.credentials if credentials else None)


async def _json_body(request: Request) -> None:
    sent = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent and kind != "application/json":
        raise WrongContentTypeError(kind)
    if sent and is_doubtful(await request.body()):
        try:
            check(await request.json())
        except ValueError as error:
            raise ProblemError(400, "illegal_arguments", f"body: {error}") from None


async def _owner(claims: "Caller") -> str:
    require_group(claims)
    return email_of(claims)


class WrongContentTypeError(Exception):
    """A body that does not say it is JSON: 415."""


Caller = Annotated[dict[str, Any], Depends(_caller)]
Owner = Annotated[str, Depends(_owner)]  # the e-mail address of a caller in the group
AnyCaller = Depends(_caller)  # for endpoints that ask no more of a caller than a good token
JsonBody = Depends(_json_body)
Replica = Annotated[Literal["aws", "gcp"], Query(description="The replica to read or write.")]
Uuid = Annotated[str, Path(pattern=UUID_PATTERN, description="A uuid.")]
UuidQuery = Annotated[str, Query(pattern=UUID_PATTERN, description="A uuid.")]
Version = Annotated[str, Query(description="A DSS_VERSION.", json_schema_extra={"format": "DSS_VERSION"})]
LatestVersion = Annotated[str | None, Query(description="A DSS_VERSION; the latest by default.")]
Token = Annotated[str | None, Query(description="Given by the server when it redirects; not to be made up.")]
PerPage = Annotated[int, Query(ge=10, le=500, description="How many items a page has at most.")]


def writable_version(value: str) -> str:
    """Return a version that may be written, or refuse it.

    :param value: what should be a DSS_VERSION
    """
    try:
        return check_version(value)
    except ValueError as error:
        raise ProblemError(400, "illegal_version", str(error)) from None


def this_url(request: Request, **query: Any) -> str:
    """Return the URL of this request with another query; parameters that are None are left out.

    :param request: the request
    :param query: the parameters
    """
    kept = {name: str(value) for name, value in query.items() if value is not None}
    return str(request.url.replace(query="").include_query_params(**kept))
