"""The endpoint of search: `queries` says what can be searched for, `documents` what in."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .documents import index_document, index_tombstone
from .errors import ProblemError
from .plain_json import check
from .queries import UnsupportedQueryError, parse, values_of
from .responses import LINKED, PAGED, Answer, page_headers, says
from .services import Ctx, JsonBody, PerPage, Replica, Services, this_url

router = APIRouter(redirect_slashes=False)
_RAW_PAGE = 10  # results a page has at most when each comes with its document


class Search(BaseModel):
    """The body of POST search."""

    model_config = ConfigDict(strict=True)

    es_query: Annotated[dict[str, Any], AfterValidator(check)] = Field(description="An Elasticsearch query.")


class SearchResult(BaseModel):
    """A bundle that was found."""

    bundle_fqid: str = Field(description="Its uuid and version, with a dot between them.")
    bundle_url: str = Field(description="Where its manifest is.")
    search_score: None = Field(description="Results are ordered by uuid and version, and have no score.")
    metadata: dict[str, Any] = Field(default_factory=dict, description="The document found, if asked for as raw.")


class SearchResults(BaseModel):
    """The answer of POST search."""

    es_query: dict[str, Any]
    results: list[SearchResult]
    total_hits: int


@router.post(
    "/search",
    summary="Find bundles by their metadata",
    responses=says(200, "All that was found, or the last page", SearchResults, headers=PAGED)
    | says(206, "One page; the Link header leads to the next", SearchResults, headers=PAGED | LINKED),
    dependencies=[JsonBody],
)
def post_search(
    services: Ctx,
    request: Request,
    replica: Replica,
    body: Search,
    output_format: Annotated[
        Literal["summary", "raw"], Query(description="Whether each result comes with its document.")
    ] = "summary",
    per_page: PerPage = 100,
    search_after: Annotated[str | None, Query(description="Given by the server in its links.")] = None,
) -> Answer:
    """Find bundles, greatest uuid first. A page that is exactly full is followed by one more, even if empty."""
    try:
        wanted = parse(body.es_query)
    except UnsupportedQueryError as error:
        raise ProblemError(400, "elasticsearch_bad_request", str(error)) from None
    raw = output_format == "raw"
    limit = _RAW_PAGE if raw else per_page
    after = _place(search_after)
    total = 0
    results: list[dict[str, Any]] = []
    for uuid, version, document in _documents(services, replica):
        if not wanted(values_of(document)):
            continue
        total += 1
        if len(results) < limit and (after is None or (uuid, version) < after):
            results.append(_result(request, replica, uuid, version) | ({"metadata": document} if raw else {}))
    found = {"es_query": body.es_query, "results": results, "total_hits": total}
    if len(results) < limit:
        return Answer(found, 200, page_headers("results"))
    last = results[-1]["bundle_fqid"].replace(".", ",", 1)
    link = this_url(request, replica=replica, output_format=output_format, per_page=per_page, search_after=last)
    # The one link that a DSS writes with double quotes.
    return Answer(found, 206, page_headers("results", link) | {"Link": f'<{link}>; rel="next"'})


def _place(search_after: str | None) -> tuple[str, str] | None:
    """Return uuid and version of the last result of the page before."""
    if search_after is None:
        return None
    uuid, comma, version = search_after.partition(",")
    if not comma:
        raise ProblemError(400, "illegal_arguments", "search_after is not what a link of the server has")
    return uuid, version


def _documents(services: Services, replica: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give the document of each bundle, or of its tombstone, one at a time: all of them would fill the memory."""
    for uuid, version, reason in services.store.bundles_and_reasons(replica):
        if reason is not None:
            yield uuid, version, index_tombstone(uuid, version, reason)
            continue
        manifest = services.store.bundle(replica, uuid, version)
        if manifest is not None:  # it may have been deleted a moment ago
            yield uuid, version, index_document(services.blobs, uuid, manifest)


def _result(request: Request, replica: str, uuid: str, version: str) -> dict[str, Any]:
    url = request.url.replace(path=request.url.path.removesuffix("/search") + f"/bundles/{uuid}", query="")
    bundle_url = str(url.include_query_params(version=version, replica=replica))
    return {"bundle_fqid": f"{uuid}.{version}", "bundle_url": bundle_url, "search_score": None}
