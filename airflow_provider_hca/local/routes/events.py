"""Routes of events."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from airflow_provider_hca.local.dependencies import Ctx, Replica, Token, Uuid, url_with_query
from airflow_provider_hca.local.errors import ProblemError
from airflow_provider_hca.local.event_records import LAST, microseconds
from airflow_provider_hca.local.journals import MAX_EVENTS
from airflow_provider_hca.local.responses import (
    ApiResponse,
    page_docs,
    page_headers,
    response_doc,
)

router = APIRouter(redirect_slashes=False)
_EventDate = Annotated[str | None, Query(description="Time, a DSS_VERSION.")]


class JournalEntry(BaseModel):
    """Position of an event in its journal."""

    event_id: str
    timestamp: str = Field(description="Time of the event, a DSS_VERSION.")
    offset: int = Field(description="Offset in bytes.")
    size: int = Field(description="Size in bytes.")


class Journal(BaseModel):
    """Description of a journal."""

    journal_id: str
    from_date: str = Field(description="Time of the first event, a DSS_VERSION.")
    to_date: str = Field(description="Time of the last event, a DSS_VERSION.")
    size: int = Field(description="Size in bytes.")
    events: list[JournalEntry]
    stream_url: str = Field(description="URL of the content; ranges are supported.")


class ListEventsResponse(BaseModel):
    """Response of GET events."""

    event_streams: list[Journal]


@router.get(
    "/events",
    summary="Replay events",
    responses=page_docs(ListEventsResponse),
)
def list_events(
    services: Ctx,
    request: Request,
    replica: Replica,
    from_date: _EventDate = None,
    to_date: _EventDate = None,
    per_page: Annotated[int, Query(ge=1, le=10, description="Maximum number of journals per page.")] = 1,
    token: Token = None,
) -> ApiResponse:
    """List journals of the events from `from_date`, inclusive, to `to_date`, exclusive; by default of all events."""
    begin = _time(token or from_date, 0)
    end = _time(to_date, LAST)
    if begin > end:
        raise ProblemError(400, "bad_request", "to_date must be later than from_date")
    limit = per_page * MAX_EVENTS
    selected = services.journals.events.between(replica, begin, end, limit + 1)
    page = [selected[start : start + MAX_EVENTS] for start in range(0, min(len(selected), limit), MAX_EVENTS)]
    streams: list[dict[str, Any]] = [
        services.journals.describe(events)
        | {"stream_url": services.presigner.journal_url(replica, events[0].at, events[-1].at)}
        for events in page
    ]
    if len(selected) <= limit:
        return ApiResponse({"event_streams": streams}, 200, page_headers("event_streams"))
    link = url_with_query(request, token=selected[-1].timestamp)
    return ApiResponse({"event_streams": streams}, 206, page_headers("event_streams", link))


def _time(version: str | None, default: int) -> int:
    if version is None:
        return default
    try:
        return microseconds(version)
    except ValueError as error:
        raise ProblemError(400, "bad_request", str(error)) from None


@router.get(
    "/events/{uuid}",
    summary="Get the last event of a bundle version",
    responses=response_doc(200, "Document of the event") | response_doc(404, "not_found"),
)
def get_event(
    services: Ctx,
    uuid: Uuid,
    replica: Replica,
    version: Annotated[str, Query(description="Version of the bundle, a DSS_VERSION.")],
) -> ApiResponse:
    """Return manifest and metadata of a created bundle, or the reason of its deletion."""
    event = services.journals.events.latest_of(replica, uuid, version)
    if event is None:
        raise ProblemError(404, "not_found", f"There is no event of bundle {uuid} in version {version}")
    return ApiResponse(services.journals.document(event))
