"""The list of collections, which is always empty: clients ask for it to find out whether their token is good."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from .auth import email_of, require_group
from .services import Caller, PerPage

router = APIRouter(redirect_slashes=False)


@router.get(
    "/collections",
    summary="List your collections",
    responses={206: {"description": "One page; the Link header leads to the next"}},
)
def list_collections(
    claims: Caller,
    per_page: PerPage = 500,  # noqa: ARG001 - checked, and in the definition
    start_at: Annotated[int, Query(ge=0, description="Given by the server.")] = 0,  # noqa: ARG001 - same
) -> JSONResponse:
    """Check the token in full and list nothing."""
    require_group(claims)
    email_of(claims)
    headers = {"X-OpenAPI-Pagination": "false", "X-OpenAPI-Paginated-Content-Key": "collections"}
    return JSONResponse({"collections": []}, 200, headers)
