"""Arguments that the rules choose from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from .faults import FINAL, KILLED_PATCH, KILLS, LATE_PATCH, PATCH, TRANSIENT, UNUSUAL, Fault
from .staging import STAGING_FAULTS
from .truth import Member

CORRECTIONS = 5  # of files that are only in caches, in one change
BATCH = 3  # items of each list in a PATCH, instead of 1,000
OUTAGE = 50.0 + 40.0 + 25.0  # seconds that one exchange may take

FILES = [f"f{number:07}-0000-4000-8000-000000000000" for number in range(4)]
BUNDLES = [f"b{number:07}-0000-4000-8000-000000000000" for number in range(3)]
COLLECTIONS = [f"c{number:07}-0000-4000-8000-000000000000" for number in range(4)]
VERSIONS = [f"202{year}-01-01T000000.000000Z" for year in (5, 6, 9)]  # before and after those of a PATCH
CONTENTS = [b"", b"a", b"b" * 30, b"{}", b"c" * 65, b"d" * 100]
NAMES = [f"n{number}" for number in range(8)]


_table = random.Random(0)  # noqa: S311 - a fixed table


def _member() -> Member:
    """Return a member of a bundle, whose file exists in most cases."""
    exists = _table.random() < 0.97
    uuid = _table.choice(FILES[:3] if exists else FILES)
    version = _table.choice(VERSIONS[:2] if exists else VERSIONS)
    return _table.choice(NAMES), uuid, version, _table.random() < 0.5


def members_of(limit: int) -> list[tuple[Member, ...]]:
    lists = (tuple(_member() for _ in range(_table.randrange(limit + 1))) for _ in range(500))
    return sorted(lists, key=len)


def numbers_of(limit: int, highest: int) -> list[tuple[int, ...]]:
    lists = (tuple(_table.randrange(highest) for _ in range(_table.randrange(limit + 1))) for _ in range(300))
    return sorted(lists, key=len)


def _fault_lists() -> list[tuple[Fault, ...]]:
    lists: list[tuple[Fault, ...]] = [()] * 120
    lists += [(fault,) for fault in (*TRANSIENT, *FINAL, *KILLS)]
    lists += [tuple(_table.choices(TRANSIENT, k=_table.randrange(2, 5))) for _ in range(80)]
    lists += [(_table.choice(TRANSIENT), _table.choice([*FINAL, *KILLS])) for _ in range(40)]
    return lists


REPLICAS = ["aws", "aws", "gcp"]
ANY_VERSION = [None, *VERSIONS]
SLOTS = [0, 1, 2]
CREATORS = [7, 7, 8]
MEMBERS = members_of(5)
FAULTS = _fault_lists()
PATCH_FAULTS = [*_fault_lists(), *((fault,) for fault in UNUSUAL * 3)]
# Later requests of a call have faults too.
CHANGE_FAULTS = (
    [()] * 60
    + [
        (*[None] * _table.randrange(9), *_table.choices([*TRANSIENT, *KILLS], k=_table.randrange(1, 4)))
        for _ in range(200)
    ]
    + [(*[None] * _table.randrange(9), fault) for fault in (*FINAL, *KILLS * 4)]
    + [(fault,) for fault in (*PATCH, *UNUSUAL * 3, *LATE_PATCH * 40, *KILLED_PATCH * 10)]
    + [tuple(_table.choices([*PATCH, *UNUSUAL], k=2)) for _ in range(80)]
)
UPLOAD_FAULTS = (
    [()] * 40
    + [(*[None] * _table.randrange(14), *_table.choices(TRANSIENT, k=_table.randrange(1, 3))) for _ in range(120)]
    + [(*[None] * _table.randrange(14), fault) for fault in (*FINAL, *KILLS * 6)]
)
STAGING = (
    [()] * 30
    + [(*[None] * number, fault) for number in range(14) for fault in ("killed", "permanent", "lost")]
    + [tuple(_table.choices(STAGING_FAULTS, k=_table.randrange(1, 8))) for _ in range(90)]
)
TREES = [
    {"a.json": b"{}", "b": b"b" * 30},
    {f"n{number}": bytes([number]) * size for number, size in enumerate((0, 10, 100, 700))},
    {"large": b"0" * 1999 + b"1" * 2001, "small": b"s"},
    {"even": b"e" * 4000, "c.csv": b"1,2", "d": b"d" * 64},
]

Faults = Sequence[Fault | None]


def file_dict(member: Member) -> dict[str, Any]:
    """Return a member as the client takes it."""
    return dict(zip(("name", "uuid", "version", "indexed"), member, strict=True))


def unique(members: Sequence[Member]) -> Sequence[Member]:
    """Return members with different names."""
    return [*{member[0]: member for member in members}.values()]
