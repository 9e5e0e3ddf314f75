"""How the objects of a source get into the staging bucket: by copies that the store makes itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_hca.client.models import FileMetadata
from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.checksums import MIB, Checksums, checksum_stream
from airflow_provider_hca.upload.items import FileChangedError, Item, OtherContentError
from airflow_provider_hca.upload.plan import PlannedFile
from airflow_provider_hca.upload.sources.base import Source

if TYPE_CHECKING:
    from airflow_provider_hca.upload.stager import Stager
    from airflow_provider_hca.upload.staging.base import LargeCopy

_SECTION = 8 * MIB  # that is read at once


class Copier:
    """Stages objects of a source; many threads may use it.

    :param stager: whose bucket it is
    :param source: of the objects
    """

    def __init__(self, stager: Stager, source: Source) -> None:
        self.stager, self.source = stager, source

    def stage(self, item: Item) -> None:
        """Stage an object of at most 64 MiB, unless an earlier try did.

        :raises FileChangedError: when it is not as planned
        :raises DSSError: when the store does not take it, or the DSS has another one
        """
        started, file, stager = time.monotonic(), item.file, self.stager
        stored = stager.look_up(file)
        sums = self.labels(file, stored) or self.read(file)
        if not stager.is_done(item, sums, stored):
            key = stager.key(file)
            sums = self.fitting(file, sums, lambda right: stager.staging.copy(key, self.source, file, right))
            stager.on_copied(file.size)
            stager.tally.add(staged_files=1, staged_size=file.size)
        item.sha256 = sums.sha256
        stager.tally.took(time.monotonic() - started, file.name)

    def fitting(self, file: PlannedFile, sums: Checksums, act: Callable[[Checksums], None]) -> Checksums:
        """Do something with the sums of an object; if the copy tells that they are not its, read it and do it again.

        :return: the sums that fit
        """
        fits: list[bool] = []

        def attempt() -> None:
            try:
                act(sums)
            except OtherContentError:
                fits.append(False)

        self.stager.persistently(attempt)
        if fits:
            sums = self.read(file)
            self.stager.persistently(lambda: act(sums))
        return sums

    def labels(self, file: PlannedFile, stored: FileMetadata | None) -> Checksums | None:
        """Return the sums that an object comes with, unless an earlier try found out that they are not its."""
        found: list[Checksums | None] = []
        self.stager.persistently(lambda: found.append(self.source.sums(file)))
        sums = found[0]
        return None if sums and stored and sums.sha256 != stored.sha256 else sums

    def read(self, file: PlannedFile) -> Checksums:
        """Return the sums of an object, which is read for them."""
        return checksum_stream(self._chunks(file), file.size)

    def _chunks(self, file: PlannedFile) -> Iterator[bytes]:
        for offset in range(0, file.size, _SECTION):
            section: list[bytes] = []
            size = min(_SECTION, file.size - offset)
            self.stager.persistently(partial(self._read, file, offset, size, section))
            yield section[0]

    def _read(self, file: PlannedFile, offset: int, size: int, into: list[bytes]) -> None:
        into[:] = [self.source.read(file, offset, size)]
        if len(into[0]) != size:
            raise StagingError(file.location, f"{len(into[0])} bytes came where {size} were to")
        self.stager.on_summed(size)


class LargeObjectCopy:
    """An object above 64 MiB: begun by whoever copies the first part, finished by whoever copies the last.

    :param copier: stages it
    :param item: of the object
    """

    def __init__(self, copier: Copier, item: Item) -> None:
        self._copier, self._stager, self.item = copier, copier.stager, item
        self.part_count = self._stager.staging.part_count(item.file.size)
        self._left = self.part_count
        self._over = False
        self._lock = threading.Lock()
        self._started = 0.0
        self._sums: Checksums | None = None
        self._copy: LargeCopy | None = None

    def stage(self, number: int) -> None:
        """Copy a part; the last one completes the object."""
        try:
            with self._lock:
                if self._copy is None and not self._over:
                    self._begin()
                copy = self._copy
                if self._over or copy is None:
                    return
            self._stager.persistently(lambda: copy.copy(number, self._stager.on_copied))
            with self._lock:
                self._left -= 1
                last = not self._left
            if last:
                self._finish(copy)
        except BaseException as error:
            with self._lock:
                told, self._over = self._over, True
            if told:  # this is but a consequence of what another thread met and told
                return
            if isinstance(error, FileChangedError) and self._copy is not None:
                self._copy.abort()  # what is not worth going on with is not left in the bucket
            raise

    def _begin(self) -> None:
        item, stager, copier = self.item, self._stager, self._copier
        self._started, key = time.monotonic(), stager.key(item.file)
        stored = stager.look_up(item.file)
        self._sums = copier.labels(item.file, stored)
        if self._sums is None and (stored is not None or key in stager.found):
            self._sums = copier.read(item.file)
        if self._sums is not None and stager.is_done(item, self._sums, stored):
            item.sha256, self._over = self._sums.sha256, True
            if stored is None:  # an earlier try may have ended before it gave the object its sums
                sums = self._sums
                stager.persistently(lambda: stager.staging.label(key, sums))
            return

        def begin() -> None:
            self._copy = stager.staging.begin_copy(key, copier.source, item.file)

        stager.persistently(begin)

    def _finish(self, copy: LargeCopy) -> None:
        sums = self._sums or self._copier.read(self.item.file)
        self.item.sha256 = self._copier.fitting(self.item.file, sums, copy.finish).sha256
        self._stager.tally.add(staged_files=1, staged_size=self.item.file.size)
        self._stager.tally.took(time.monotonic() - self._started, self.item.file.name)
