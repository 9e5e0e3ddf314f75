"""Route of search; `queries` defines the query language, `documents` the searched documents."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from airflow_provider_hca.local.dependencies import Ctx, JsonBody, PerPage, Replica, Services, url_with_query
from airflow_provider_hca.local.documents import index_document, index_tombstone
from airflow_provider_hca.local.errors import ProblemError
from airflow_provider_hca.local.queries import UnsupportedQueryError, field_values, parse
from airflow_provider_hca.local.responses import (
    ApiResponse,
    page_docs,
    page_headers,
)
from airflow_provider_hca.local.strict_json import check_json

router = APIRouter(redirect_slashes=False)
_RAW_PAGE = 10  # results per page when documents are included


class SearchRequest(BaseModel):
    """Body of POST search."""

    model_config = ConfigDict(strict=True)

    es_query: Annotated[dict[str, Any], AfterValidator(check_json)] = Field(description="Elasticsearch query.")


class SearchResult(BaseModel):
    """A bundle that matches the query."""

    bundle_fqid: str = Field(description="UUID and version, separated by a dot.")
    bundle_url: str = Field(description="URL of the manifest.")
    search_score: None = Field(description="Always null: results are ordered by uuid and version.")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Search document, if the output format is raw.")


class SearchResponse(BaseModel):
    """Response of POST search."""

    es_query: dict[str, Any]
    results: list[SearchResult]
    total_hits: int


@router.post(
    "/search",
    summary="Find bundles by their metadata",
    responses=page_docs(SearchResponse),
    dependencies=[JsonBody],
)
def post_search(
    services: Ctx,
    request: Request,
    replica: Replica,
    body: SearchRequest,
    output_format: Annotated[
        Literal["summary", "raw"], Query(description="Whether results include their search documents (raw).")
    ] = "summary",
    per_page: PerPage = 100,
    search_after: Annotated[str | None, Query(description="Start of the page; set by the server in links.")] = None,
) -> ApiResponse:
    """Find bundles, the greatest uuid first; a full page is followed by another, which may be empty."""
    try:
        matches = parse(body.es_query)
    except UnsupportedQueryError as error:
        raise ProblemError(400, "elasticsearch_bad_request", str(error)) from None
    raw = output_format == "raw"
    limit = _RAW_PAGE if raw else per_page
    after = _parse_search_after(search_after)
    total = 0
    results: list[dict[str, Any]] = []
    for uuid, version, document in _documents(services, replica):
        if not matches(field_values(document)):
            continue
        total += 1
        if len(results) < limit and (after is None or (uuid, version) < after):
            results.append(_result(request, replica, uuid, version) | ({"metadata": document} if raw else {}))
    response = {"es_query": body.es_query, "results": results, "total_hits": total}
    if len(results) < limit:
        return ApiResponse(response, 200, page_headers("results"))
    last = results[-1]["bundle_fqid"].replace(".", ",", 1)
    link = url_with_query(request, search_after=last)
    # A DSS writes only this link with double quotes.
    return ApiResponse(response, 206, page_headers("results", link) | {"Link": f'<{link}>; rel="next"'})


def _parse_search_after(search_after: str | None) -> tuple[str, str] | None:
    """Return uuid and version of the last result on the previous page."""
    if search_after is None:
        return None
    uuid, comma, version = search_after.partition(",")
    if not comma:
        raise ProblemError(400, "illegal_arguments", "search_after must be UUID,VERSION, as in a link of the server")
    return uuid, version


def _documents(services: Services, replica: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the search documents of bundles and tombstones one at a time: together they may not fit into memory."""
    for uuid, version, reason in services.store.bundles_and_reasons(replica):
        if reason is not None:
            yield uuid, version, index_tombstone(uuid, version, reason)
            continue
        manifest = services.store.bundle(replica, uuid, version)
        if manifest is not None:  # unless it was deleted meanwhile
            yield uuid, version, index_document(services.blobs, uuid, manifest)


def _result(request: Request, replica: str, uuid: str, version: str) -> dict[str, Any]:
    url = request.url.replace(path=request.url.path.removesuffix("/search") + f"/bundles/{uuid}", query="")
    bundle_url = str(url.include_query_params(version=version, replica=replica))
    return {"bundle_fqid": f"{uuid}.{version}", "bundle_url": bundle_url, "search_score": None}
