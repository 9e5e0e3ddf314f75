"""The endpoints of checkouts."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from .errors import ProblemError
from .responses import Answer, says
from .services import UUID_PATTERN, Ctx, JsonBody, LatestVersion, Replica, Uuid

router = APIRouter(redirect_slashes=False)


class CheckoutWish(BaseModel):
    """The body of POST checkout, which may be left out."""

    model_config = ConfigDict(strict=True)

    destination: str = Field(default_factory=str, description="A bucket to put the files into.")
    email: str = Field(
        default_factory=str,
        pattern="^[^@]+@[^@]+$",
        description="Whom a DSS tells about it by e-mail. The local DSS sends none.",
    )


class CheckoutJob(BaseModel):
    """The answer of POST checkout."""

    checkout_job_id: str = Field(description="What to ask about.")


class CheckoutStatus(BaseModel):
    """The answer of GET checkout."""

    status: Literal["RUNNING", "SUCCEEDED", "FAILED", "UNKNOWN_JOB_ID"]
    location: str = Field(default_factory=str, description="Of what succeeded: the URL the files' keys begin with.")
    cause: str = Field(default_factory=str, description="Of what failed: why.")


@router.post(
    "/bundles/{uuid}/checkout",
    summary="Check a bundle out",
    responses=says(200, "Will be done", CheckoutJob) | says(404, "not_found"),
    dependencies=[JsonBody],
)
def post_checkout(
    services: Ctx,
    request: Request,
    uuid: Uuid,
    replica: Replica,
    body: Annotated[CheckoutWish, Body(default_factory=CheckoutWish)],
    version: LatestVersion = None,
) -> Answer:
    """Have the files put into a bucket under their names in the bundle; every call makes another job."""
    if "/" in body.destination:
        raise ProblemError(400, "illegal_arguments", "The destination is a bucket, without a key")
    manifest = services.manifests.find(replica, uuid.lower(), version)
    if manifest is None:
        raise ProblemError(404, "not_found", f"There is no bundle {uuid} in version {version or 'latest'}")
    doomed = bool(request.scope.get("dss.fail_checkout", False))
    bucket = body.destination if "destination" in body.model_fields_set else None
    job = services.checkouts.add(replica, uuid.lower(), manifest["version"], bucket, doomed=doomed)
    return Answer({"checkout_job_id": job})


@router.get(
    "/bundles/checkout/{checkout_job_id}",
    summary="Ask about a checkout",
    responses=says(200, "How it stands", CheckoutStatus),
)
def get_checkout(
    services: Ctx,
    checkout_job_id: Annotated[str, Path(pattern=UUID_PATTERN, description="What POST checkout answered.")],
    replica: Replica,
) -> Answer:
    """Give the status of a job. One that nobody knows has the status UNKNOWN_JOB_ID."""
    return Answer(services.checkouts.status(replica, checkout_job_id))
