"""Journals of events: what each event tells, one document after the other, for whoever replays them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .documents import created_event, deleted_event

if TYPE_CHECKING:
    from .blob_store import Blobs
    from .event_records import Event, EventRecords
    from .store import Store

LENGTH = 100  # how many events a journal has at most


@dataclass(frozen=True)
class Journals:
    """Makes journals of the events recorded, whenever they are asked for."""

    events: EventRecords
    store: Store
    blobs: Blobs

    def document(self, event: Event) -> dict[str, Any]:
        """Return what an event tells.

        :param event: the event
        """
        if event.type == "TOMBSTONE":
            return deleted_event(event.uuid, event.version, event.reason or "")
        manifest = self.store.bundle(event.replica, event.uuid, event.version, dead_too=True)
        if manifest is None:
            raise RuntimeError("a bundle vanished after its event was recorded")
        return created_event(self.blobs, event.uuid, manifest)

    def content(self, events: list[Event]) -> list[bytes]:
        """Return what events tell, each as JSON, always in the same bytes.

        :param events: the events
        """
        return [json.dumps(self.document(event)).encode() for event in events]

    def describe(self, events: list[Event]) -> dict[str, Any]:
        """Return the manifest of a journal: what is where in its content.

        :param events: the events of the journal, in order
        """
        listed, offset = [], 0
        for event, content in zip(events, self.content(events), strict=True):
            listed.append({"event_id": event.id, "timestamp": event.timestamp, "offset": offset, "size": len(content)})
            offset += len(content)
        first, last = events[0].timestamp, events[-1].timestamp
        return {
            "journal_id": f"{first}--{last}",
            "from_date": first,
            "to_date": last,
            "size": offset,
            "events": listed,
        }
