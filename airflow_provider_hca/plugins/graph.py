"""The graph of `links.json`, laid out to be drawn: which process made what from what. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal

from pydantic import BaseModel

_MOST_NODES = 400
_MOST_READ = 20_000  # nodes, edges and protocols; a document of 8 MiB can hold half a million
_LONGEST = 200  # characters; to fit a longer text into a node, a browser is busy for seconds
_GROUPED_FROM = 6  # as many siblings of one kind become one node: the 96 reads of a plate are one thing to look at
_SWEEPS = 6


class Protocol(BaseModel):
    """How a process was done."""

    id: str
    type: str


class Node(BaseModel):
    """A process, or what goes in or out of one.

    :ivar type: such as `cell_suspension` or `biomaterial`, as the links say; may be empty
    :ivar members: ids of the entities it stands for; more than one when siblings are drawn as one
    :ivar protocols: of a process
    :ivar x: column, from the left
    :ivar y: row, from the top; between two rows it is fractional
    """

    id: str
    kind: Literal["entity", "process"]
    type: str
    members: list[str]
    protocols: list[Protocol] = []
    x: int = 0
    y: float = 0.0


class Edge(BaseModel):
    """From what goes in to the process, or from the process to what comes out."""

    source: str
    target: str


class Graph(BaseModel):
    """What is drawn.

    :ivar columns: how many there are
    :ivar rows: how many the longest column has
    :ivar omitted: how many nodes were too many to draw, or of how many nodes, edges and protocols it was seen that they
        are too many; then there are none at all
    """

    nodes: list[Node]
    edges: list[Edge]
    columns: int = 0
    rows: int = 0
    omitted: int = 0


def read_links(document: Any) -> Graph:
    """Return the graph of a `links.json`, laid out.

    Both forms that the Human Cell Atlas has used are read: ids with one type for all of them, and ids with a type each.

    :param document: the parsed JSON
    :raises ValueError: when it is no such document
    """
    links = document.get("links") if isinstance(document, Mapping) else None
    if not isinstance(links, list) or not all(isinstance(link, Mapping) for link in links):
        raise ValueError("links.json holds no list of links")
    read = _Read()
    for number, link in enumerate(links):
        read.add_link(link, number)
        if read.too_much:
            return Graph(nodes=[], edges=[], omitted=read.count)
    graph = _with_siblings_grouped(read.nodes, list(read.edges))
    if len(graph.nodes) > _MOST_NODES:
        return Graph(nodes=[], edges=[], omitted=len(graph.nodes))
    return _laid_out(graph)


def shown(value: Any) -> str:
    """Return a value as text that can be sent and drawn: JSON may hold halves of characters, and whole books."""
    return str(value)[:_LONGEST].encode("utf-8", "replace").decode()


class _Read:
    """What has been read of a document, up to too much."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self._protocols: set[tuple[str, str]] = set()

    @property
    def count(self) -> int:
        return len(self.nodes) + len(self.edges) + len(self._protocols)

    @property
    def too_much(self) -> bool:
        return self.count > _MOST_READ

    def add_link(self, link: Mapping[str, Any], number: int) -> None:
        if "entity" in link:  # a supplementary file: made by no process
            of = [self._entity(*each) for each in _entities([link["entity"]], "entity", "")]
            for id_, type_ in self._up_to_too_much(_entities(link.get("files"), "file", "file")):
                file = self._entity(id_, type_)
                self.edges.update({(one, file): None for one in of})
            return
        process_id = shown(link.get("process_id") or link.get("process") or number)
        process = self.nodes.setdefault(
            f"p:{process_id}",
            Node(
                id=f"p:{process_id}", kind="process", type=shown(link.get("process_type") or ""), members=[process_id]
            ),
        )
        for id_, type_ in self._up_to_too_much(_entities(link.get("protocols"), "protocol", "")):
            if (process.id, id_) not in self._protocols:
                self._protocols.add((process.id, id_))
                process.protocols.append(Protocol(id=id_, type=type_))
        for id_, type_ in self._up_to_too_much(_entities(link.get("inputs"), "input", link.get("input_type"))):
            self.edges[self._entity(id_, type_), process.id] = None
        for id_, type_ in self._up_to_too_much(_entities(link.get("outputs"), "output", link.get("output_type"))):
            self.edges[process.id, self._entity(id_, type_)] = None

    def _up_to_too_much(self, entities: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        return takewhile(lambda _: not self.too_much, entities)

    def _entity(self, id_: str, type_: str) -> str:
        node = self.nodes.get(f"e:{id_}")
        if node is None:
            node = self.nodes[f"e:{id_}"] = Node(id=f"e:{id_}", kind="entity", type=type_, members=[id_])
        node.type = node.type or type_
        return node.id


def _entities(listed: Any, what: str, kind: Any) -> Iterator[tuple[str, str]]:
    """Return the id and the type of each; `what` is how its keys begin, `kind` its type if it does not tell."""
    for each in listed if isinstance(listed, list) else []:
        if isinstance(each, str):
            yield shown(each), shown(kind or "")
        elif isinstance(each, Mapping) and each.get(f"{what}_id"):
            yield shown(each[f"{what}_id"]), shown(each.get(f"{what}_type") or kind or "")


def _with_siblings_grouped(nodes: Mapping[str, Node], edges: Sequence[tuple[str, str]]) -> Graph:
    before, after = _neighbours(edges)
    alike: defaultdict[tuple[Any, ...], list[Node]] = defaultdict(list)
    for node in nodes.values():
        own = node.id if node.kind == "process" else ""
        alike[own, node.type, frozenset(before[node.id]), frozenset(after[node.id])].append(node)
    stands_for = {id_: id_ for id_ in nodes}
    for siblings in alike.values():
        if len(siblings) >= _GROUPED_FROM:
            siblings[0].members = [member for node in siblings for member in node.members]
            stands_for.update({node.id: siblings[0].id for node in siblings})
    drawn = dict.fromkeys((stands_for[source], stands_for[target]) for source, target in edges)
    return Graph(
        nodes=[node for id_, node in nodes.items() if stands_for[id_] == id_],
        edges=[Edge(source=source, target=target) for source, target in drawn],
    )


def _neighbours(edges: Iterable[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before, after = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    return before, after


def _laid_out(graph: Graph) -> Graph:
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
    """Return the column of each node: right of all that lead to it. Links may go round in a circle, which is cut."""
    column: dict[str, int] = {}
    waits_for = {id_: len(before.get(id_, ())) for id_ in ids}
    ready = [id_ for id_ in ids if not waits_for[id_]]
    left = dict.fromkeys(ids)
    while left:
        id_ = ready.pop(0) if ready else next(iter(left))
        if id_ not in left:
            continue
        del left[id_]
        column[id_] = max((column[each] + 1 for each in before.get(id_, ()) if each in column), default=0)
        for each in after.get(id_, ()):
            waits_for[each] -= 1
            if not waits_for[each]:
                ready.append(each)
    for id_ in ids:  # what has nothing before it stands beside what it goes into, not far away at the left
        if not before.get(id_) and after.get(id_):
            column[id_] = max(0, min(column[each] for each in after[id_]) - 1)
    return column


def _place(column: list[str], y: dict[str, float], neighbours: Mapping[str, list[str]]) -> None:
    """Order a column by where its neighbours are, and move each node towards them, one row apart at least."""
    wanted = {}
    for id_ in column:
        others = [y[each] for each in neighbours.get(id_, ())]
        wanted[id_] = sum(others) / len(others) if others else y[id_]
    column.sort(key=lambda id_: wanted[id_])
    row = float("-inf")
    for id_ in column:
        row = y[id_] = max(wanted[id_], row + 1)
    shift = sum(wanted[id_] - y[id_] for id_ in column) / len(column)
    for id_ in column:
        y[id_] += shift
