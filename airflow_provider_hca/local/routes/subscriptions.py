"""Routes of subscriptions."""

import uuid as uuids
from typing import Annotated, Any, Literal

import jmespath
from fastapi import APIRouter, Depends, Query
from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from airflow_provider_hca.client.identifiers import make_version
from airflow_provider_hca.local.auth import email_of, require_group
from airflow_provider_hca.local.dependencies import Caller, Ctx, JsonBody, Replica, Services, Uuid
from airflow_provider_hca.local.errors import ProblemError
from airflow_provider_hca.local.queries import UnsupportedQueryError, parse
from airflow_provider_hca.local.responses import ApiResponse, response_doc
from airflow_provider_hca.local.strict_json import check_json
from airflow_provider_hca.local.subscription_records import Subscription

router = APIRouter(redirect_slashes=False)
_MAX_SUBSCRIPTIONS = 100  # per owner and replica
_Type = Annotated[
    Literal["elasticsearch", "jmespath"], Query(alias="subscription_type", description="Type of the query.")
]


async def _subscriber(claims: Caller) -> str:
    require_group(claims, "hca", "public")
    return email_of(claims)


Subscriber = Annotated[str, Depends(_subscriber)]


class Attachment(BaseModel):
    """An attachment of notifications."""

    model_config = ConfigDict(strict=True)

    type: Literal["jmespath"] = Field(description="Type of the expression.")
    expression: str = Field(description="Expression that selects a part of the bundle's metadata.")


class PutSubscriptionRequest(BaseModel):
    """Body of PUT subscription."""

    model_config = ConfigDict(strict=True, extra="forbid")

    es_query: Annotated[dict[str, Any], AfterValidator(check_json)] = Field(
        default_factory=dict, description="Elasticsearch query that selects bundles."
    )
    jmespath_query: str = Field(
        default_factory=str, description="JMESPath expression that selects events, if there is no es_query."
    )
    callback_url: str = Field(pattern="^https?://", description="URL to notify.")
    method: Literal["POST", "PUT"] = Field(default="POST", description="HTTP method of notifications.")
    encoding: Literal["application/json", "multipart/form-data"] = Field(
        default="application/json", description="Content type of notifications."
    )
    form_fields: dict[str, str] = Field(default={}, description="Additional fields of a form.")
    payload_form_field: str = Field(default="payload", description="Form field of the payload.")
    attachments: dict[str, Attachment] = Field(default_factory=dict, description="Attachments by name.")


class GetSubscriptionResponse(PutSubscriptionRequest):
    """Response of GET subscription."""

    uuid: str
    replica: str
    owner: str = Field(description="E-mail address of the owner.")


class ListSubscriptionsResponse(BaseModel):
    """Response of GET subscriptions."""

    subscriptions: list[GetSubscriptionResponse]


class PutSubscriptionResponse(BaseModel):
    """Response of PUT subscription."""

    uuid: str


class DeleteSubscriptionResponse(BaseModel):
    """Response of DELETE subscription."""

    timeDeleted: str = Field(description="Time of the deletion, a DSS_VERSION.")  # noqa: N815 - name in the DSS API


@router.get(
    "/subscriptions",
    summary="List your subscriptions",
    responses=response_doc(200, "All of this type in this replica", ListSubscriptionsResponse),
)
def list_subscriptions(services: Ctx, owner: Subscriber, replica: Replica, kind: _Type = "jmespath") -> ApiResponse:
    """List the caller's subscriptions."""
    subscriptions = services.subscriptions.owned_by(owner, replica, kind)
    return ApiResponse({"subscriptions": [_body(subscription) for subscription in subscriptions]})


def _body(subscription: Subscription) -> dict[str, Any]:
    fields = {"uuid": subscription.uuid, "replica": subscription.replica, "owner": subscription.owner}
    return subscription.body | fields


@router.put(
    "/subscriptions",
    summary="Subscribe to events",
    status_code=201,
    responses=response_doc(201, "Subscribed", PutSubscriptionResponse)
    | response_doc(406, "not_acceptable: you have too many"),
    dependencies=[JsonBody],
)
def put_subscription(services: Ctx, owner: Subscriber, replica: Replica, body: PutSubscriptionRequest) -> ApiResponse:
    """Notify a URL of later events that a query selects."""
    kind = "elasticsearch" if "es_query" in body.model_fields_set else "jmespath"
    _check_queries(body, kind)
    uuid = str(uuids.uuid4())
    fields = body.model_dump(exclude_unset=True)
    if not services.subscriptions.add(uuid, replica, kind, owner, fields, _MAX_SUBSCRIPTIONS):
        raise ProblemError(406, "not_acceptable", f"A user can have at most {_MAX_SUBSCRIPTIONS} subscriptions")
    return ApiResponse({"uuid": uuid}, 201)


def _check_queries(body: PutSubscriptionRequest, kind: str) -> None:
    if kind == "elasticsearch":
        try:
            parse(body.es_query)
        except UnsupportedQueryError as error:
            raise ProblemError(400, "elasticsearch_error", str(error)) from None
    _check_expression(body.jmespath_query or "@", "invalid_jmespath", "The jmespath_query")
    for name, attachment in body.attachments.items():
        if name.startswith("_"):
            raise ProblemError(400, "invalid_attachment_name", f"The attachment {name!r} starts with an underscore")
        _check_expression(attachment.expression, "invalid_attachment_expression", f"The attachment {name!r}")


def _check_expression(expression: str, code: str, name: str) -> None:
    try:
        jmespath.compile(expression)
    except (JMESPathError, RecursionError):
        raise ProblemError(400, code, f"{name} is not a valid JMESPath expression") from None


@router.get(
    "/subscriptions/{uuid}",
    summary="Get one of your subscriptions",
    responses=response_doc(200, "The subscription", GetSubscriptionResponse) | response_doc(404, "not_found"),
)
def get_subscription(
    services: Ctx, owner: Subscriber, uuid: Uuid, replica: Replica, kind: _Type = "jmespath"
) -> ApiResponse:
    """Return a subscription and its owner."""
    return ApiResponse(_body(_get_owned(services, owner, uuid, replica, kind)))


def _get_owned(services: Services, owner: str, uuid: str, replica: str, kind: str) -> Subscription:
    subscription = services.subscriptions.find(uuid, replica, kind)
    if subscription is None or (kind == "jmespath" and subscription.owner != owner):
        raise ProblemError(404, "not_found", f"There is no {kind} subscription {uuid} in {replica}")
    if subscription.owner != owner:
        raise ProblemError(403, "Forbidden", f"Subscription {uuid} has another owner")
    return subscription


@router.delete(
    "/subscriptions/{uuid}",
    summary="Delete one of your subscriptions",
    responses=response_doc(200, "Deleted", DeleteSubscriptionResponse) | response_doc(404, "not_found"),
)
def delete_subscription(
    services: Ctx, owner: Subscriber, uuid: Uuid, replica: Replica, kind: _Type = "jmespath"
) -> ApiResponse:
    """Delete a subscription and its pending notifications."""
    services.subscriptions.remove(_get_owned(services, owner, uuid, replica, kind).uuid)
    return ApiResponse({"timeDeleted": make_version()})
