"""Request and response models of bundles."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from airflow_provider_hca.local.dependencies import UUID_PATTERN
from airflow_provider_hca.local.responses import FQID

# The rules of `_check_name`, for the OpenAPI document only: pydantic's regular expressions have no look-ahead.
_NAME = r"^(?!/|~/|\.\.?$)(?![\s\S]*(\./|/\.|\\|\n))[\s\S]*$"


def _check_name(name: str) -> str:
    """Return a file name that a DSS accepts.

    The rules are not those of a file system: `a./b` and `a/.hidden` are rejected, `dir//b` and the empty name are not.
    """
    if name.startswith(("/", "~/")):
        raise ValueError(f"the name {name!r} starts with '/' or '~/'")
    if name in {".", ".."}:
        raise ValueError(f"the name {name!r} is '.' or '..'")
    for part in ("./", "/.", "\\", "\n"):
        if part in name:
            raise ValueError(f"the name {name!r} contains {part!r}")
    return name


class BundleFile(BaseModel):
    """A file of a bundle in a request."""

    model_config = ConfigDict(strict=True)

    uuid: str = Field(pattern=UUID_PATTERN, description="UUID of the file.")
    version: str = Field(description="Version of the file, a DSS_VERSION.")
    name: Annotated[str, AfterValidator(_check_name)] = Field(
        description="Name of the file in the bundle.", json_schema_extra={"pattern": _NAME}
    )
    indexed: bool = Field(description="Whether the content can be searched.")


class PutBundleRequest(BaseModel):
    """Body of PUT bundle."""

    model_config = ConfigDict(strict=True)

    files: list[BundleFile] = Field(description="Files in order.")
    creator_uid: int = Field(ge=-(2**63), lt=2**63, description="Number that identifies the creator.")


class PatchBundleRequest(BaseModel):
    """Body of PATCH bundle."""

    model_config = ConfigDict(strict=True)

    add_files: list[BundleFile] = Field(default=[], max_length=1000, description="Files to add.")
    remove_files: list[BundleFile] = Field(default=[], max_length=1000, description="Files to remove.")


class DeleteBundleRequest(BaseModel):
    """Body of DELETE bundle."""

    model_config = ConfigDict(strict=True)

    reason: str = Field(description="Reason of the deletion.")


class PutBundleResponse(BaseModel):
    """Response of PUT bundle."""

    version: str = Field(description="Version of the bundle, a DSS_VERSION.")
    manifest: dict[str, Any] = Field(description="Stored manifest, in which `s3_etag` is spelled `s3-etag`.")


class ManifestFile(BaseModel):
    """A file in the response of GET bundle."""

    name: str
    uuid: str
    version: str = Field(description="Version of the file, a DSS_VERSION.")
    content_type: str = Field(alias="content-type")
    size: int = Field(description="Size in bytes.")
    indexed: bool
    crc32c: str
    s3_etag: str
    sha1: str
    sha256: str
    url: str = Field(default_factory=str, description="URL of the content, if requested.")


class BundleManifest(FQID):
    """A bundle in the response of GET bundle."""

    files: list[ManifestFile]
    creator_uid: int


class GetBundleResponse(BaseModel):
    """Response of GET bundle."""

    bundle: BundleManifest


class ListBundlesResponse(BaseModel):
    """Response of GET bundles."""

    bundles: list[FQID]
    dss_api: str = Field(description="Origin of the DSS.")
    event_timestamp: str
    has_more: bool
    object: str
    page_count: int
    per_page: int
    search_prefix: str
    search_after: str = Field(default_factory=str, description="Absent on the last page.")
    token: str = Field(default_factory=str, description="Absent on the last page.")
    link: str = Field(default_factory=str, description="Absent on the last page.")
