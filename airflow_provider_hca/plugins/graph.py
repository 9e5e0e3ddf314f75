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
_SWEEPS = 6


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
    before, after = _neighbours(edges)
    groups: defaultdict[tuple[Any, ...], list[Node]] = defaultdict(list)
    for node in nodes.values():
        own = node.id if node.kind == "process" else ""
        groups[own, node.type, frozenset(before[node.id]), frozenset(after[node.id])].append(node)
    representative = {id_: id_ for id_ in nodes}
    for siblings in groups.values():
        if len(siblings) >= _GROUP_SIZE:
            siblings[0].members = [member for node in siblings for member in node.members]
            representative.update({node.id: siblings[0].id for node in siblings})
    drawn = dict.fromkeys((representative[source], representative[target]) for source, target in edges)
    return Graph(
        nodes=[node for id_, node in nodes.items() if representative[id_] == id_],
        edges=[Edge(source=source, target=target) for source, target in drawn],
    )


def _neighbours(edges: Iterable[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before, after = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    return before, after


def _lay_out(graph: Graph) -> Graph:
    if not graph.nodes:
        return graph
    before, after = _neighbours((edge.source, edge.target) for edge in graph.edges)
    column_of = _columns([node.id for node in graph.nodes], before, after)
    columns: list[list[str]] = [[] for _ in range(max(column_of.values()) + 1)]
    for node in graph.nodes:
        columns[column_of[node.id]].append(node.id)
    y = {id_: float(row) for column in columns for row, id_ in enumerate(column)}
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        for column in columns if forwards else reversed(columns):
            _place(column, y, before if forwards else after)
    top = min(y.values())
    for node in graph.nodes:
        node.x, node.y = column_of[node.id], round(y[node.id] - top, 3)
    rows = int(max(node.y for node in graph.nodes)) + 1
    return Graph(nodes=graph.nodes, edges=graph.edges, columns=len(columns), rows=rows)


def _columns(ids: Sequence[str], before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> dict[str, int]:
    """Return the column of each node, right of all its predecessors. Cycles are cut."""
    column: dict[str, int] = {}
    open_inputs = {id_: len(before.get(id_, ())) for id_ in ids}
    ready = [id_ for id_ in ids if not open_inputs[id_]]
    pending = dict.fromkeys(ids)
    while pending:
        id_ = ready.pop(0) if ready else next(iter(pending))
        if id_ not in pending:
            continue
        del pending[id_]
        column[id_] = max((column[source] + 1 for source in before.get(id_, ()) if source in column), default=0)
        for target in after.get(id_, ()):
            open_inputs[target] -= 1
            if not open_inputs[target]:
                ready.append(target)
    for id_ in ids:  # nodes without inputs go next to their targets, not to the far left
        if not before.get(id_) and after.get(id_):
            column[id_] = max(0, min(column[target] for target in after[id_]) - 1)
    return column


def _place(column: list[str], y: dict[str, float], neighbours: Mapping[str, list[str]]) -> None:
    """Sort a column by the rows of its neighbours, and move nodes towards them, at least one row apart."""
    wanted = {}
    for id_ in column:
        others = [y[neighbour] for neighbour in neighbours.get(id_, ())]
        wanted[id_] = sum(others) / len(others) if others else y[id_]
    column.sort(key=lambda id_: wanted[id_])
    row = float("-inf")
    for id_ in column:
        row = y[id_] = max(wanted[id_], row + 1)
    shift = sum(wanted[id_] - y[id_] for id_ in column) / len(column)
    for id_ in column:
        y[id_] += shift
