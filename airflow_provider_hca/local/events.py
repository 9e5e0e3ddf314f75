"""The endpoints of events."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from .errors import ProblemError
from .event_records import LAST, microseconds
from .journals import LENGTH
from .responses import LINKED, PAGED, Answer, page_headers, says
from .services import Ctx, Replica, Token, Uuid, this_url

router = APIRouter(redirect_slashes=False)
_EventDate = Annotated[str | None, Query(description="A DSS_VERSION.")]


class EventPlace(BaseModel):
    """Where an event is in its journal."""

    event_id: str
    timestamp: str = Field(description="When it happened, a DSS_VERSION.")
    offset: int = Field(description="Bytes before it.")
    size: int = Field(description="Its length in bytes.")


class EventStream(BaseModel):
    """A journal, and where its content is."""

    journal_id: str
    from_date: str = Field(description="When its first event happened, a DSS_VERSION.")
    to_date: str = Field(description="When its last event happened, a DSS_VERSION.")
    size: int = Field(description="Its length in bytes.")
    events: list[EventPlace]
    stream_url: str = Field(description="Where its content is; a range of it can be asked for.")


class EventStreams(BaseModel):
    """The answer of GET events."""

    event_streams: list[EventStream]


@router.get(
    "/events",
    summary="Replay events",
    responses=says(200, "All journals there are, or the last ones", EventStreams, headers=PAGED)
    | says(206, "Some journals; the Link header leads to the next", EventStreams, headers=PAGED | LINKED),
)
def list_events(
    services: Ctx,
    request: Request,
    replica: Replica,
    from_date: _EventDate = None,
    to_date: _EventDate = None,
    per_page: Annotated[int, Query(ge=1, le=10, description="How many journals a page has at most.")] = 1,
    token: Token = None,
) -> Answer:
    """List journals of the events from a time, inclusive, to another, exclusive, by default of all events."""
    begin = _time(token or from_date, 0)
    end = _time(to_date, LAST)
    if begin > end:
        raise ProblemError(400, "bad_request", "to_date must be later than from_date")
    found = services.journals.events.between(replica, begin, end, per_page * LENGTH + 1)
    page = [found[start : start + LENGTH] for start in range(0, min(len(found), per_page * LENGTH), LENGTH)]
    streams: list[dict[str, Any]] = [
        services.journals.describe(events)
        | {"stream_url": services.presigner.journal_url(replica, events[0].at, events[-1].at)}
        for events in page
    ]
    if len(found) <= per_page * LENGTH:
        return Answer({"event_streams": streams}, 200, page_headers("event_streams"))
    dates = {"from_date": from_date, "to_date": to_date}
    link = this_url(request, replica=replica, **dates, per_page=per_page, token=found[-1].timestamp)
    return Answer({"event_streams": streams}, 206, page_headers("event_streams", link))


def _time(version: str | None, default: int) -> int:
    if version is None:
        return default
    try:
        return microseconds(version)
    except ValueError as error:
        raise ProblemError(400, "bad_request", str(error)) from None


@router.get(
    "/events/{uuid}",
    summary="Get what the last event of a bundle tells",
    responses=says(200, "The document of the event") | says(404, "not_found"),
)
def get_event(
    services: Ctx, uuid: Uuid, replica: Replica, version: Annotated[str, Query(description="A DSS_VERSION.")]
) -> Answer:
    """Give manifest and metadata of a bundle that was created, or the reason of its deletion."""
    found = services.journals.events.latest_of(replica, uuid, version)
    if found is None:
        raise ProblemError(404, "not_found", f"There is no event of bundle {uuid} in version {version}")
    return Answer(services.journals.document(found))
