"""The files of a plan on their way, and what was done so far."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_hca.upload.entries import PlannedFile


@dataclass(slots=True)
class Item:
    """A planned file on its way.

    :ivar sha256: of its content, once it is staged
    :ivar registered: whether the DSS has it
    :ivar copying: whether the DSS copies it
    """

    file: PlannedFile
    sha256: str = ""
    registered: bool = False
    copying: bool = False
