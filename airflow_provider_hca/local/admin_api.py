"""The switches and windows of the local DSS under `/_local/`, which no real DSS has."""

import base64
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from .auth import Authority
from .faults import Fault, FaultBook
from .keys import Secrets
from .responses import Answer
from .services import Services


class TokenWish(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    user: bool = False  # a user's token of the OIDC provider rather than one of the developer's key
    expires_in: float = 3600
    claims: dict[str, Any] = Field(default_factory=dict)  # over the usual ones; null takes a claim away
    kid: str | None = None


class Remembering(BaseModel):
    """Whether manifests are remembered as a process of a DSS remembers them."""

    model_config = ConfigDict(extra="forbid")

    stale: bool


class Lifetime(BaseModel):
    """How long the tokens of the token endpoint last."""

    model_config = ConfigDict(extra="forbid")

    expires_in: float


def window_router(book: FaultBook, services: Services) -> APIRouter:
    """Return the routes that switch faults on and show what happened.

    :param book: the faults and the requests seen
    :param services: what is shown and switched
    """
    router = APIRouter(prefix="/_local")

    @router.post("/faults", status_code=201)
    async def add_fault(fault: Fault) -> list[Fault]:
        book.faults.append(fault)
        return book.faults

    @router.get("/faults")
    async def show_faults() -> list[Fault]:
        return book.faults

    @router.delete("/faults")
    async def clear_faults() -> list[Fault]:
        book.faults.clear()
        return book.faults

    @router.post("/manifests/settings")
    async def remember_manifests(remembering: Remembering) -> Remembering:
        services.manifests.remember(on=remembering.stale)
        return remembering

    @router.get("/requests")
    async def show_requests() -> list[dict[str, Any]]:
        return book.seen()

    @router.delete("/requests")
    async def clear_requests() -> list[dict[str, Any]]:
        book.requests.clear()
        return []

    @router.get("/store")
    def show_store() -> Answer:
        return Answer(services.store.everything() | {"collections": services.collections.everything()})

    return router


def token_router(authority: Authority, secrets: Secrets) -> APIRouter:
    """Return the routes that give out tokens.

    :param authority: makes tokens
    :param secrets: the OAuth2 client the token endpoint knows
    """
    router = APIRouter(prefix="/_local")

    @router.post("/tokens")
    async def make_token(wish: TokenWish) -> dict[str, str]:
        return {"token": authority.issue(**wish.model_dump())}

    @router.post("/oauth/settings")
    async def change_lifetime(lifetime: Lifetime) -> Lifetime:
        authority.user_lifetime = lifetime.expires_in
        return lifetime

    @router.post("/oauth/token")
    async def refresh(request: Request) -> JSONResponse:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        form |= _basic(request.headers.get("authorization", ""))
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


def _basic(header: str) -> dict[str, str]:
    """Return the client id and secret of a Basic authorization, the other way OAuth2 lets a client name itself."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return {}
    name, _, secret = base64.b64decode(value).decode().partition(":")
    return {"client_id": name, "client_secret": secret}
