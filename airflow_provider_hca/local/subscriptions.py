"""The endpoints of subscriptions."""

import uuid as uuids
from typing import Annotated, Any, Literal

import jmespath
from fastapi import APIRouter, Depends, Query
from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from airflow_provider_hca.client.identifiers import make_version

from .auth import email_of, require_group
from .errors import ProblemError
from .plain_json import check
from .queries import UnsupportedQueryError, parse
from .responses import Answer, says
from .services import Caller, Ctx, JsonBody, Replica, Services, Uuid
from .subscription_records import Subscription

router = APIRouter(redirect_slashes=False)
_MOST = 100  # subscriptions a user may have
_Type = Annotated[
    Literal["elasticsearch", "jmespath"], Query(alias="subscription_type", description="Which kind of query.")
]


async def _subscriber(claims: Caller) -> str:
    require_group(claims, "hca", "public")
    return email_of(claims)


Subscriber = Annotated[str, Depends(_subscriber)]


class Attachment(BaseModel):
    """Something to be sent along with a notification."""

    model_config = ConfigDict(strict=True)

    type: Literal["jmespath"] = Field(description="How it is selected.")
    expression: str = Field(description="What to select of the bundle's metadata.")


class NewSubscription(BaseModel):
    """The body of PUT subscription."""

    model_config = ConfigDict(strict=True, extra="forbid")

    es_query: Annotated[dict[str, Any], AfterValidator(check)] = Field(
        default_factory=dict, description="Which bundles, by Elasticsearch query."
    )
    jmespath_query: str = Field(default_factory=str, description="Which events, by JMESPath, if there is no es_query.")
    callback_url: str = Field(pattern="^https?://", description="Where to be notified.")
    method: Literal["POST", "PUT"] = Field(default="POST", description="How to be notified.")
    encoding: Literal["application/json", "multipart/form-data"] = Field(
        default="application/json", description="The content type of a notification."
    )
    form_fields: dict[str, str] = Field(default={}, description="Fields of a form besides the notification.")
    payload_form_field: str = Field(default="payload", description="The field of a form for the notification.")
    attachments: dict[str, Attachment] = Field(default_factory=dict, description="What to be sent along.")


class SubscriptionAnswer(NewSubscription):
    """The answer of GET subscription."""

    uuid: str
    replica: str
    owner: str = Field(description="The e-mail address of whoever put it.")


class SubscriptionList(BaseModel):
    """The answer of GET subscriptions."""

    subscriptions: list[SubscriptionAnswer]


class SubscriptionMade(BaseModel):
    """The answer of PUT subscription."""

    uuid: str


class SubscriptionDeleted(BaseModel):
    """The answer of DELETE subscription."""

    timeDeleted: str = Field(description="When that was done, a DSS_VERSION.")  # noqa: N815 - the definition's name


@router.get(
    "/subscriptions",
    summary="List your subscriptions",
    responses=says(200, "All of this kind in this replica", SubscriptionList),
)
def list_subscriptions(services: Ctx, owner: Subscriber, replica: Replica, kind: _Type = "jmespath") -> Answer:
    """List what you have put and not deleted."""
    found = services.subscriptions.of(owner, replica, kind)
    return Answer({"subscriptions": [_shown(subscription) for subscription in found]})


def _shown(found: Subscription) -> dict[str, Any]:
    return {**found.body, "uuid": found.uuid, "replica": found.replica, "owner": found.owner}


@router.put(
    "/subscriptions",
    summary="Subscribe to events",
    status_code=201,
    responses=says(201, "Subscribed", SubscriptionMade) | says(406, "not_acceptable: you have too many"),
    dependencies=[JsonBody],
)
def put_subscription(services: Ctx, owner: Subscriber, replica: Replica, body: NewSubscription) -> Answer:
    """Have an endpoint notified of the events from now on that a query selects."""
    kind = "elasticsearch" if "es_query" in body.model_fields_set else "jmespath"
    _check_queries(body, kind)
    uuid = str(uuids.uuid4())
    kept = body.model_dump(exclude_unset=True)
    if not services.subscriptions.add(uuid, replica, kind, owner, kept, _MOST):
        raise ProblemError(406, "not_acceptable", f"Nobody can have more than {_MOST} subscriptions")
    return Answer({"uuid": uuid}, 201)


def _check_queries(body: NewSubscription, kind: str) -> None:
    if kind == "elasticsearch":
        try:
            parse(body.es_query)
        except UnsupportedQueryError as error:
            raise ProblemError(400, "elasticsearch_error", str(error)) from None
    _check_expression(body.jmespath_query or "@", "invalid_jmespath", "The jmespath_query")
    for name, attachment in body.attachments.items():
        if name.startswith("_"):
            raise ProblemError(400, "invalid_attachment_name", f"The attachment {name!r} begins with an underscore")
        _check_expression(attachment.expression, "invalid_attachment_expression", f"The attachment {name!r}")


def _check_expression(expression: str, code: str, what: str) -> None:
    try:
        jmespath.compile(expression)
    except (JMESPathError, RecursionError):
        raise ProblemError(400, code, f"{what} is no JMESPath expression") from None


@router.get(
    "/subscriptions/{uuid}",
    summary="Get a subscription of yours",
    responses=says(200, "The subscription", SubscriptionAnswer) | says(404, "not_found"),
)
def get_subscription(
    services: Ctx, owner: Subscriber, uuid: Uuid, replica: Replica, kind: _Type = "jmespath"
) -> Answer:
    """Give what was put, and whose it is."""
    return Answer(_shown(_find(services, owner, uuid, replica, kind)))


def _find(services: Services, owner: str, uuid: str, replica: str, kind: str) -> Subscription:
    found = services.subscriptions.find(uuid, replica, kind)
    if found is None or (kind == "jmespath" and found.owner != owner):
        raise ProblemError(404, "not_found", f"There is no {kind} subscription {uuid} in {replica}")
    if found.owner != owner:
        raise ProblemError(403, "Forbidden", f"Subscription {uuid} is somebody else's")
    return found


@router.delete(
    "/subscriptions/{uuid}",
    summary="Delete a subscription of yours",
    responses=says(200, "Deleted", SubscriptionDeleted) | says(404, "not_found"),
)
def delete_subscription(
    services: Ctx, owner: Subscriber, uuid: Uuid, replica: Replica, kind: _Type = "jmespath"
) -> Answer:
    """Send no more notifications, not even those that were tried in vain so far."""
    services.subscriptions.remove(_find(services, owner, uuid, replica, kind).uuid)
    return Answer({"timeDeleted": make_version()})
