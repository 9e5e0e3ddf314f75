"""Journals: the documents of consecutive events, from which clients replay them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .documents import created_event, deleted_event

if TYPE_CHECKING:
    from .blob_store import BlobStore
    from .event_records import Event, EventRecords
    from .store import Store

MAX_EVENTS = 100  # per journal


@dataclass(frozen=True)
class Journals:
    """Build journals from the recorded events on request."""

    events: EventRecords
    store: Store
    blobs: BlobStore

    def document(self, event: Event) -> dict[str, Any]:
        """Return the document of an event."""
        if event.type == "TOMBSTONE":
            return deleted_event(event.uuid, event.version, event.reason or "")
        manifest = self.store.bundle(event.replica, event.uuid, event.version, include_deleted=True)
        if manifest is None:
            raise RuntimeError("a bundle vanished after its event was recorded")
        return created_event(self.blobs, event.uuid, manifest)

    def content(self, events: list[Event]) -> list[bytes]:
        """Return the document of each event as JSON; the bytes are the same each time."""
        return [json.dumps(self.document(event)).encode() for event in events]

    def describe(self, events: list[Event]) -> dict[str, Any]:
        """Return the manifest of a journal: where each event is in its content.

        :param events: events of the journal, in order
        """
        entries, offset = [], 0
        for event, content in zip(events, self.content(events), strict=True):
            entries.append({"event_id": event.id, "timestamp": event.timestamp, "offset": offset, "size": len(content)})
            offset += len(content)
        first, last = events[0].timestamp, events[-1].timestamp
        return {
            "journal_id": f"{first}--{last}",
            "from_date": first,
            "to_date": last,
            "size": offset,
            "events": entries,
        }
