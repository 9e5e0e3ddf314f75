"""Planned files, and how they can differ from their plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_provider_hca.client.models import BundleFile
from airflow_provider_hca.exceptions import DSSError, StagingError


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that becomes a member of the bundle.

    :ivar directory: uploaded directory, or prefix of a bucket; one string, shared by perhaps 100,000 files
    :ivar name: name in the bundle: path relative to the directory, with `/`
    :ivar size: size in bytes
    :ivar mtime_ns: modification time; later changes are refused
    :ivar revision: ETag or generation of an object; empty for a file
    :ivar registered: whether the DSS has this content under this UUID and version
    """

    directory: str
    name: str
    size: int
    mtime_ns: int
    content_type: str
    indexed: bool
    uuid: str
    version: str
    revision: str = ""
    registered: bool = False

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(self.location)

    @property
    def location(self) -> str:
        """Path or URL as a string: creating a `Path` takes as long as opening the file."""
        return f"{self.directory}/{self.name}"

    def as_member(self) -> BundleFile:
        """Return the file as an item of `PUT /bundles`."""
        return {"uuid": self.uuid, "version": self.version, "name": self.name, "indexed": self.indexed}


@dataclass(frozen=True, slots=True)
class Names:
    """A range of names.

    :ivar first: first name
    :ivar before: name after the last one; None if the range has no end
    """

    first: str = ""
    before: str | None = None

    def __contains__(self, name: str) -> bool:
        return self.first <= name and (self.before is None or name < self.before)

    def may_begin_with(self, prefix: str) -> bool:
        """Return whether the range can contain names with this prefix."""
        return (prefix >= self.first or self.first.startswith(prefix)) and (self.before is None or prefix < self.before)


EVERY_NAME = Names()


class FileChangedError(DSSError):
    """A file or source object differs from its plan."""

    def __init__(self) -> None:
        super().__init__("changed while it was being uploaded: wait until the program that writes it has finished")


class OtherContentError(StagingError):
    """The store has content with other checksums."""
