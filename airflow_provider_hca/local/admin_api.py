"""The admin API under `/_local/`, which a real DSS does not have: faults, settings, tokens, stored records."""

import base64
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from .auth import Authority
from .dependencies import Services
from .faults import Fault, FaultRegistry
from .keys import Secrets
from .responses import ApiResponse
from .settings import MAX_PROCESSES


class TokenRequest(BaseModel):
    """Request for a token."""

    model_config = ConfigDict(extra="forbid")

    user: bool = False  # issued by the OIDC provider to a user, not by the developer's service account
    expires_in: float = 3600
    claims: dict[str, Any] = Field(default_factory=dict)  # override the default claims; null removes a claim
    kid: str | None = None


class ProcessSettings(BaseModel):
    """Processes that cache manifests, and which of them answers a request; see `manifests.Processes.start`."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(ge=0, le=MAX_PROCESSES)
    seed: int | None = None
    order: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)


class TokenLifetime(BaseModel):
    """Lifetime of the access tokens that the token endpoint issues, in seconds."""

    model_config = ConfigDict(extra="forbid")

    expires_in: float


def admin_router(faults: FaultRegistry, services: Services) -> APIRouter:
    """Return the routes for faults, counted requests, settings and stored records."""
    router = APIRouter(prefix="/_local")

    @router.post("/faults", status_code=201)
    async def add_fault(fault: Fault) -> list[Fault]:
        faults.faults.append(fault)
        return faults.faults

    @router.get("/faults")
    async def list_faults() -> list[Fault]:
        return faults.faults

    @router.delete("/faults")
    async def clear_faults() -> list[Fault]:
        faults.faults.clear()
        return faults.faults

    @router.post("/processes")
    async def start_processes(settings: ProcessSettings) -> ProcessSettings:
        services.processes.start(settings.count, settings.seed, settings.order)
        return settings

    @router.get("/requests")
    async def list_requests() -> list[dict[str, Any]]:
        return faults.counted_requests()

    @router.delete("/requests")
    async def clear_requests() -> list[dict[str, Any]]:
        faults.requests.clear()
        return []

    @router.get("/store")
    def show_store() -> ApiResponse:
        return ApiResponse(services.store.dump() | {"collections": services.collections.dump()})

    return router


def token_router(authority: Authority, secrets: Secrets) -> APIRouter:
    """Return the routes that issue tokens, among them an OAuth2 token endpoint."""
    router = APIRouter(prefix="/_local")

    @router.post("/tokens")
    async def issue_token(body: TokenRequest) -> dict[str, str]:
        return {"token": authority.issue(**body.model_dump())}

    @router.post("/oauth/settings")
    async def set_token_lifetime(lifetime: TokenLifetime) -> TokenLifetime:
        authority.user_lifetime = lifetime.expires_in
        return lifetime

    @router.post("/oauth/token")
    async def refresh(request: Request) -> JSONResponse:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        form |= _basic_credentials(request.headers.get("authorization", ""))
        if (form.get("client_id"), form.get("client_secret")) != (secrets.client_id, secrets.client_secret):
            return JSONResponse({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "refresh_token":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        if form.get("refresh_token") != secrets.refresh_token:
            return JSONResponse({"error": "invalid_grant"}, 400)
        lifetime = authority.user_lifetime
        body = {
            "access_token": authority.issue(user=True, expires_in=lifetime),
            "expires_in": int(lifetime),
            "token_type": "Bearer",
            "scope": "openid email offline_access",
        }
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    return router


def _basic_credentials(header: str) -> dict[str, str]:
    """Return client id and secret from a Basic authorization: OAuth2 allows them there as well as in the form."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return {}
    name, _, secret = base64.b64decode(value).decode().partition(":")
    return {"client_id": name, "client_secret": secret}
