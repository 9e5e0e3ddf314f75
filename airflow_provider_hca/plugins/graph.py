"""Graph of `links.json` with positions for drawing: processes, their inputs and their outputs. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from airflow_provider_hca.plugins.text import plain_text

MAX_TEXT = 200  # characters; fitting longer texts into nodes keeps a browser busy for seconds
_MAX_NODES = 400
_MAX_DETAILS = 4_000  # drawn edges and protocols
_MAX_READ = 20_000  # processes, edges and protocols, repeated ones too
_GROUP_SIZE = 6  # siblings of one kind that are drawn as one node, such as the 96 reads of a plate
_SWEEPS = 3  # in each direction
_Neighbours = defaultdict[str, list[str]]  # by node; empty for a node without any


class Protocol(BaseModel):
    """Protocol of a process."""

    id: str
    type: str


class Node(BaseModel):
    """Process, or entity that is an input or output of processes.

    :ivar type: Type in the links, such as `cell_suspension` or `biomaterial`; may be empty
    :ivar members: Ids of the entities that the node represents; several if siblings are grouped
    :ivar protocols: Protocols of a process
    :ivar x: Column, from the left
    :ivar y: Row, from the top; fractional between rows
    """

    id: str
    kind: Literal["entity", "process"]
    type: str
    members: list[str]
    protocols: list[Protocol] = []
    x: int = 0
    y: float = 0.0


class Edge(BaseModel):
    """Edge from an input to a process, or from a process to an output."""

    source: str
    target: str


class Graph(BaseModel):
    """Graph with positions.

    :ivar columns: Number of columns
    :ivar rows: Number of rows of the longest column
    :ivar omitted: Number of nodes, edges and protocols if they are too many to draw; then there are no nodes
    """

    nodes: list[Node]
    edges: list[Edge]
    columns: int = 0
    rows: int = 0
    omitted: int = 0


def read_links(document: Any) -> Graph:
    """Return the graph of a `links.json` with positions.

    Supports both forms of the Human Cell Atlas: ids with one common type, and ids with a type each.

    :param document: Parsed JSON
    :raises ValueError: if the document has no list of links
    """
    links = document.get("links") if isinstance(document, Mapping) else None
    if not isinstance(links, list) or not all(isinstance(link, Mapping) for link in links):
        raise ValueError("links.json has no list of links")
    reader = _Reader()
    for number, link in enumerate(links):
        reader.add_link(link, number)
        if reader.count > _MAX_READ:
            return Graph(nodes=[], edges=[], omitted=reader.count)
    graph = _group_siblings(reader.nodes, list(reader.edges))
    details = len(graph.edges) + sum(len(node.protocols) for node in graph.nodes)
    if len(graph.nodes) > _MAX_NODES or details > _MAX_DETAILS:
        return Graph(nodes=[], edges=[], omitted=len(graph.nodes) + details)
    return _lay_out(graph)


class _Reader:
    """Collector of nodes and edges that stops at a maximum.

    :ivar count: Number of links, edges and protocols read
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.count = 0
        self._protocols: set[tuple[str, str]] = set()

    def add_link(self, link: Mapping[str, Any], number: int) -> None:
        self.count += 1
        if "entity" in link:  # a supplementary file, without a process
            for owner in self._entities([link["entity"]], "entity", ""):
                for file in self._entities(link.get("files"), "file", "file"):
                    self.edges[self._entity(*owner), self._entity(*file)] = None
            return
        process_id = _text(link.get("process_id")) or _text(link.get("process")) or str(number)
        process = self.nodes.setdefault(
            f"p:{process_id}",
            Node(id=f"p:{process_id}", kind="process", type=_text(link.get("process_type")), members=[process_id]),
        )
        for id_, type_ in self._entities(link.get("protocols"), "protocol", ""):
            if (process.id, id_) not in self._protocols:
                self._protocols.add((process.id, id_))
                process.protocols.append(Protocol(id=id_, type=type_))
        for entity in self._entities(link.get("inputs"), "input", link.get("input_type")):
            self.edges[self._entity(*entity), process.id] = None
        for entity in self._entities(link.get("outputs"), "output", link.get("output_type")):
            self.edges[process.id, self._entity(*entity)] = None

    def _entities(self, entities: Any, prefix: str, default_type: Any) -> Iterator[tuple[str, str]]:
        """Yield id and type of entities up to the maximum.

        :param entities: List of ids, or of objects
        :param prefix: Prefix of the keys of objects, as in `input_id`
        :param default_type: Type of entities without one
        """
        default = _text(default_type)
        for entity in entities if isinstance(entities, list) else []:
            if self.count > _MAX_READ:
                return
            self.count += 1
            if isinstance(entity, Mapping):
                id_, type_ = _text(entity.get(f"{prefix}_id")), _text(entity.get(f"{prefix}_type"))
            else:
                id_, type_ = _text(entity) if isinstance(entity, str) else "", ""
            if id_:
                yield id_, type_ or default

    def _entity(self, id_: str, type_: str) -> str:
        node = self.nodes.get(f"e:{id_}")
        if node is None:
            node = self.nodes[f"e:{id_}"] = Node(id=f"e:{id_}", kind="entity", type=type_, members=[id_])
        node.type = node.type or type_
        return node.id


def _text(value: Any) -> str:
    return plain_text(value, MAX_TEXT)


def _group_siblings(nodes: Mapping[str, Node], edges: Sequence[tuple[str, str]]) -> Graph:
    grouped: set[str] = set()
    for first, *others in _siblings(nodes.values(), edges):
        first.members += [member for node in others for member in node.members]
        grouped.update(node.id for node in others)
    # The first sibling has the edges of the others, too.
    return Graph(
        nodes=[node for node in nodes.values() if node.id not in grouped],
        edges=[Edge(source=source, target=target) for source, target in edges if grouped.isdisjoint((source, target))],
    )


def _siblings(nodes: Iterable[Node], edges: Iterable[tuple[str, str]]) -> list[list[Node]]:
    """Return the groups of entities with the same type and neighbours that are too large to draw each entity."""
    before, after = _neighbours(edges)
    groups: defaultdict[tuple[str, frozenset[str], frozenset[str]], list[Node]] = defaultdict(list)
    for node in nodes:
        if node.kind == "entity":
            groups[node.type, frozenset(before[node.id]), frozenset(after[node.id])].append(node)
    return [group for group in groups.values() if len(group) >= _GROUP_SIZE]


def _neighbours(edges: Iterable[tuple[str, str]]) -> tuple[_Neighbours, _Neighbours]:
    before, after = _Neighbours(list), _Neighbours(list)
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    return before, after


def _lay_out(graph: Graph) -> Graph:
    if not graph.nodes:
        return graph
    ids = [node.id for node in graph.nodes]
    before, after = _neighbours((edge.source, edge.target) for edge in graph.edges)
    column_of = _columns(ids, before, after)
    columns: list[list[str]] = [[] for _ in range(max(column_of.values()) + 1)]
    for id_ in ids:
        columns[column_of[id_]].append(id_)
    row_of = _rows(columns, before, after)
    for node in graph.nodes:
        node.x, node.y = column_of[node.id], row_of[node.id]
    rows = int(max(row_of.values())) + 1
    return Graph(nodes=graph.nodes, edges=graph.edges, columns=len(columns), rows=rows)


def _columns(ids: Sequence[str], before: _Neighbours, after: _Neighbours) -> dict[str, int]:
    """Return the column of each node, right of all its predecessors. Cycles are cut."""
    column: dict[str, int] = {}
    for id_ in _sources_first(ids, before, after):
        column[id_] = max((column[source] + 1 for source in before[id_] if source in column), default=0)
    for id_ in ids:  # nodes without inputs go next to their targets, not to the far left
        if after[id_] and not before[id_]:
            column[id_] = min(column[target] for target in after[id_]) - 1
    return column


def _sources_first(ids: Sequence[str], before: _Neighbours, after: _Neighbours) -> Iterator[str]:
    """Yield nodes after their predecessors; where a cycle prevents that, the first pending node."""
    pending = {id_: len(before[id_]) for id_ in ids}  # number of predecessors that are pending, too
    ready = [id_ for id_ in ids if not pending[id_]]
    while pending:
        id_ = ready.pop(0) if ready else next(iter(pending))
        del pending[id_]
        yield id_
        for target in after[id_]:
            if target in pending:
                pending[target] -= 1
                if not pending[target]:
                    ready.append(target)


def _rows(columns: Sequence[list[str]], before: _Neighbours, after: _Neighbours) -> dict[str, float]:
    """Return the row of each node, near those of its neighbours and at least one row from others of its column."""
    y = {id_: float(row) for column in columns for row, id_ in enumerate(column)}
    for _ in range(_SWEEPS):
        for column in columns:
            _place(column, y, before)
        for column in reversed(columns):
            _place(column, y, after)
    top = min(y.values())
    return {id_: round(row - top, 3) for id_, row in y.items()}


def _place(column: list[str], y: dict[str, float], neighbours: _Neighbours) -> None:
    """Sort a column by the rows of its neighbours, and move nodes towards them, at least one row apart."""
    wanted = {}
    for id_ in column:
        others = [y[neighbour] for neighbour in neighbours[id_]]
        wanted[id_] = sum(others) / len(others) if others else y[id_]
    column.sort(key=lambda id_: wanted[id_])
    row = float("-inf")
    for id_ in column:
        row = y[id_] = max(wanted[id_], row + 1)
    shift = sum(wanted[id_] - y[id_] for id_ in column) / len(column)
    for id_ in column:
        y[id_] += shift
