"""Routes of checkouts."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_hca.local.dependencies import (
    UUID_PATTERN,
    CachedManifests,
    Ctx,
    JsonBody,
    LatestVersion,
    Replica,
    Uuid,
)
from airflow_provider_hca.local.errors import ProblemError
from airflow_provider_hca.local.responses import ApiResponse, response_doc

router = APIRouter(redirect_slashes=False)


class CheckoutRequest(BaseModel):
    """Body of POST checkout."""

    model_config = ConfigDict(strict=True)

    destination: str = Field(default_factory=str, description="Bucket for the files.")
    email: str = Field(
        default_factory=str,
        pattern="^[^@]+@[^@]+$",
        description="Address that a DSS notifies by e-mail. The local DSS sends no e-mail.",
    )


class PostCheckoutResponse(BaseModel):
    """Response of POST checkout."""

    checkout_job_id: str = Field(description="Id for GET checkout.")


class GetCheckoutResponse(BaseModel):
    """Response of GET checkout."""

    status: Literal["RUNNING", "SUCCEEDED", "FAILED"]
    location: str = Field(default_factory=str, description="URL prefix of the files, if SUCCEEDED.")
    cause: str = Field(default_factory=str, description="Cause of the failure, if FAILED.")


@router.post(
    "/bundles/{uuid}/checkout",
    summary="Check out a bundle",
    responses=response_doc(200, "Accepted", PostCheckoutResponse) | response_doc(404, "not_found"),
    dependencies=[JsonBody],
)
def post_checkout(
    services: Ctx,
    manifests: CachedManifests,
    request: Request,
    uuid: Uuid,
    replica: Replica,
    body: CheckoutRequest,
    version: LatestVersion = None,
) -> ApiResponse:
    """Copy the files of a bundle to a bucket, under their names in the bundle; every call creates a job."""
    if "/" in body.destination:
        raise ProblemError(400, "illegal_arguments", "The destination must be the name of a bucket, without a key")
    manifest = manifests.get(replica, uuid.lower(), version)
    if manifest is None:
        raise ProblemError(404, "not_found", f"There is no bundle {uuid} in version {version or 'latest'}")
    must_fail = bool(request.scope.get("dss.fail_checkout", False))
    bucket = body.destination if "destination" in body.model_fields_set else None
    job = services.checkouts.add(replica, uuid.lower(), manifest["version"], bucket, must_fail=must_fail)
    return ApiResponse({"checkout_job_id": job})


@router.get(
    "/bundles/checkout/{checkout_job_id}",
    summary="Get the status of a checkout",
    responses=response_doc(200, "Status of the job", GetCheckoutResponse) | response_doc(404, "not_found"),
)
def get_checkout(
    services: Ctx,
    checkout_job_id: Annotated[str, Path(pattern=UUID_PATTERN, description="Id from POST checkout.")],
    replica: Replica,
) -> ApiResponse:
    """Return the status of a job; an unknown one is a 404, although the definition has a status for it."""
    status = services.checkouts.status(replica, checkout_job_id)
    if status is None:
        raise ProblemError(404, "not_found", f"There is no checkout {checkout_job_id} in {replica}")
    return ApiResponse(status)
