"""The services that routes share, and the dependencies and parameters of their requests."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from airflow_provider_hca.client.identifiers import check_version

from .auth import Authority, email_of, require_group
from .blob_store import BlobStore
from .checkout_jobs import CheckoutJobs
from .collection_records import CollectionRecords
from .copies import Copies
from .errors import ProblemError
from .journals import Journals
from .manifests import Manifests, Processes
from .presigned import Presigner
from .staging import StagingStore
from .store import Store
from .strict_json import check_json, needs_check
from .subscription_records import SubscriptionRecords

UUID_PATTERN = "^[A-Za-z0-9]{8}-[A-Za-z0-9]{4}-[A-Za-z0-9]{4}-[A-Za-z0-9]{4}-[A-Za-z0-9]{12}$"
PROCESS_HEADER = "X-Local-Process"


@dataclass(frozen=True)
class Services:
    """Stores and settings of the routes; durations are in seconds, sizes in bytes."""

    store: Store
    processes: Processes
    collections: CollectionRecords
    blobs: BlobStore
    staging_stores: Mapping[str, StagingStore]
    copies: Copies
    checkouts: CheckoutJobs
    journals: Journals
    subscriptions: SubscriptionRecords
    authority: Authority
    presigner: Presigner
    async_above: int
    file_wait: float
    checkout_delay: float
    retry_after: int
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Ctx = Annotated[Services, Depends(_services)]


async def _manifests(services: Ctx, request: Request) -> Manifests:
    process = request.headers.get(PROCESS_HEADER, "")
    return services.processes.manifests(int(process) if process.isdecimal() else None)


CachedManifests = Annotated[Manifests, Depends(_manifests)]  # of the process that answers the request

_bearer = HTTPBearer(auto_error=False, description="A JWT, signed with RS256")


async def _caller(
    services: Ctx, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> dict[str, Any]:
    other_scheme = "" if "authorization" in request.headers else None
    return services.authority.verify(credentials.credentials if credentials else other_scheme)


async def _json_body(request: Request) -> None:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and content_type != "application/json":
        raise WrongContentTypeError(content_type)
    if has_body and needs_check(await request.body()):
        try:
            check_json(await request.json())
        except ValueError as error:
            raise ProblemError(400, "illegal_arguments", f"body: {error}") from None


async def _owner(claims: "Caller") -> str:
    require_group(claims)
    return email_of(claims)


class WrongContentTypeError(Exception):
    """The content type of a body is not JSON: 415."""


Caller = Annotated[dict[str, Any], Depends(_caller)]
Owner = Annotated[str, Depends(_owner)]  # e-mail address of a caller in the group
AnyCaller = Depends(_caller)  # for routes that need a valid token and no more
JsonBody = Depends(_json_body)
Replica = Annotated[Literal["aws", "gcp"], Query(description="Replica to read or write.")]
Uuid = Annotated[str, Path(pattern=UUID_PATTERN, description="UUID of the resource.")]
UuidQuery = Annotated[str, Query(pattern=UUID_PATTERN, description="UUID of the resource.")]
Version = Annotated[str, Query(description="Version, a DSS_VERSION.", json_schema_extra={"format": "DSS_VERSION"})]
LatestVersion = Annotated[str | None, Query(description="Version, a DSS_VERSION; the latest by default.")]
Token = Annotated[str | None, Query(description="Opaque token that the server sets in redirects and links.")]
PerPage = Annotated[int, Query(ge=10, le=500, description="Maximum number of items per page.")]


def require_version(value: str) -> str:
    """Return a valid DSS_VERSION, or raise 400."""
    try:
        return check_version(value)
    except ValueError as error:
        raise ProblemError(400, "illegal_version", str(error)) from None


def url_with_query(request: Request, **query: Any) -> str:
    """Return the URL of a request with the same query, except for some parameters.

    :param query: parameters to add or replace
    """
    return str(request.url.include_query_params(**query))
