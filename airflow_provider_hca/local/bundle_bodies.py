"""What is said of bundles in requests and in answers."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .names import refusal
from .responses import FQID
from .services import UUID_PATTERN

# As the definition tells the rules of `names`; pydantic has no regular expressions that look ahead.
_NAME = r"^(?!/|~/|\.\.?$)(?![\s\S]*(\./|/\.|\\|\n))[\s\S]*$"


def _acceptable(name: str) -> str:
    why = refusal(name)
    if why:
        raise ValueError(f"the name {name!r} {why}")
    return name


class BundleFile(BaseModel):
    """A file as a bundle lists it."""

    model_config = ConfigDict(strict=True)

    uuid: str = Field(pattern=UUID_PATTERN, description="Which file.")
    version: str = Field(description="Which version of it, a DSS_VERSION.")
    name: Annotated[str, AfterValidator(_acceptable)] = Field(
        description="Its name in the bundle.", json_schema_extra={"pattern": _NAME}
    )
    indexed: bool = Field(description="Whether its content can be searched for.")


class NewBundle(BaseModel):
    """The body of PUT bundle."""

    model_config = ConfigDict(strict=True)

    files: list[BundleFile] = Field(description="The files, in order.")
    creator_uid: int = Field(ge=-(2**63), lt=2**63, description="A number for whoever creates the bundle.")


class BundleChange(BaseModel):
    """The body of PATCH bundle."""

    model_config = ConfigDict(strict=True)

    add_files: list[BundleFile] = Field(default=[], max_length=1000, description="Files to add.")
    remove_files: list[BundleFile] = Field(default=[], max_length=1000, description="Files to take away.")


class Deletion(BaseModel):
    """The body of DELETE bundle."""

    model_config = ConfigDict(strict=True)

    reason: str = Field(description="Why it is deleted.")


class BundleStored(BaseModel):
    """The answer of PUT bundle."""

    version: str = Field(description="A DSS_VERSION.")
    manifest: dict[str, Any] = Field(description="What the bundle says of its files. It spells s3-etag.")


class FileShown(BaseModel):
    """A file in the answer of GET bundle."""

    name: str
    uuid: str
    version: str = Field(description="A DSS_VERSION.")
    content_type: str = Field(alias="content-type")
    size: int = Field(description="In bytes.")
    indexed: bool
    crc32c: str
    s3_etag: str
    sha1: str
    sha256: str
    url: str = Field(default_factory=str, description="Where its content is, if asked for.")


class BundleShown(FQID):
    """A bundle in the answer of GET bundle."""

    files: list[FileShown]
    creator_uid: int


class BundleAnswer(BaseModel):
    """The answer of GET bundle."""

    bundle: BundleShown


class BundleList(BaseModel):
    """The answer of GET bundles."""

    bundles: list[FQID]
    event_timestamp: str
    has_more: bool
    object: str
    page_count: int
    per_page: int
    search_prefix: str
    search_after: str = Field(default_factory=str, description="Of a page that is not the last.")
    token: str = Field(default_factory=str, description="Of a page that is not the last.")
    link: str = Field(default_factory=str, description="Of a page that is not the last.")
