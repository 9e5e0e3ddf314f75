"""The files of a plan, and the ways in which one differs from its plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_provider_hca.client.models import BundleFile
from airflow_provider_hca.exceptions import DSSError, StagingError


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that is to be a member of the bundle.

    :ivar directory: that is uploaded, or prefix of a bucket; the same text for all, since there may be a hundred
        thousand
    :ivar name: its name in the bundle: the path relative to the directory, with `/`
    :ivar size: in bytes
    :ivar mtime_ns: its modification time; content that changes afterwards is refused
    :ivar revision: of an object in a bucket, by which it is known to be the same; empty for a file
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

    @property
    def path(self) -> Path:
        """Where its content is."""
        return Path(self.location)

    @property
    def location(self) -> str:
        """Where its content is, as text: a `Path` takes as long to make as the file to open."""
        return f"{self.directory}/{self.name}"

    def as_member(self) -> BundleFile:
        """Return it as `PUT /bundles` wants it."""
        return {"uuid": self.uuid, "version": self.version, "name": self.name, "indexed": self.indexed}


@dataclass(frozen=True, slots=True)
class Names:
    """A range of names.

    :ivar first: which it begins with
    :ivar before: which it ends before; None if it has no end
    """

    first: str = ""
    before: str | None = None

    def __contains__(self, name: str) -> bool:
        return self.first <= name and (self.before is None or name < self.before)

    def may_begin_with(self, prefix: str) -> bool:
        """Return whether names that begin so can be in it."""
        return (prefix >= self.first or self.first.startswith(prefix)) and (self.before is None or prefix < self.before)


EVERY_NAME = Names()


class FileChangedError(DSSError):
    """The content is not what was planned."""

    def __init__(self) -> None:
        super().__init__("changed while it was being uploaded: let whatever writes it finish first")


class OtherContentError(StagingError):
    """The store has another content than the sums are of."""
