from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_hca.plugins.graph import Graph, read_links


def _link(process: str, inputs: list[str], outputs: list[str], **more: Any) -> dict[str, Any]:
    return {"process": process, "inputs": inputs, "outputs": outputs, "output_type": "file", **more}


def _read(*links: dict[str, Any]) -> Graph:
    return read_links({"links": list(links)})


def _columns(graph: Graph) -> dict[str, int]:
    return {node.members[0]: node.x for node in graph.nodes}


def _overlaps(graph: Graph) -> list[tuple[str, str]]:
    """Return the nodes of one column that are less than a row apart."""
    return [
        (one.id, other.id)
        for one in graph.nodes
        for other in graph.nodes
        if one.id < other.id and one.x == other.x and abs(one.y - other.y) < 0.999
    ]


def test_both_forms_of_links_give_the_same_graph() -> None:
    older = _read(
        {
            "process": "p",
            "inputs": ["a"],
            "input_type": "donor_organism",
            "outputs": ["b"],
            "output_type": "file",
            "protocols": [{"protocol_type": "sequencing_protocol", "protocol_id": "s"}],
        }
    )
    newer = _read(
        {
            "link_type": "process_link",
            "process_id": "p",
            "process_type": "",
            "inputs": [{"input_type": "donor_organism", "input_id": "a"}],
            "outputs": [{"output_type": "file", "output_id": "b"}],
            "protocols": [{"protocol_type": "sequencing_protocol", "protocol_id": "s"}],
        }
    )
    assert older == newer
    assert [(node.kind, node.type, node.x) for node in older.nodes] == [
        ("process", "", 1),
        ("entity", "donor_organism", 0),
        ("entity", "file", 2),
    ]
    assert [protocol.type for protocol in older.nodes[0].protocols] == ["sequencing_protocol"]


def test_outputs_are_right_of_inputs_in_any_order() -> None:
    links = [_link("p1", ["a"], ["b"]), _link("p2", ["b"], ["c"]), _link("p3", ["c"], ["d"])]
    for _ in range(5):
        random.shuffle(links)
        assert _columns(_read(*links)) == {"a": 0, "p1": 1, "b": 2, "p2": 3, "c": 4, "p3": 5, "d": 6}


def test_input_of_the_last_process_is_next_to_it() -> None:
    graph = _read(_link("p1", ["a"], ["b"]), _link("p2", ["b", "reference"], ["c"]))
    assert _columns(graph)["reference"] == 2


def test_cycle_has_all_nodes_and_edges() -> None:
    graph = _read(_link("p1", ["a"], ["b"]), _link("p2", ["b"], ["a"]))
    assert len(graph.nodes) == 4
    assert len(graph.edges) == 4
    assert not _overlaps(graph)


def test_six_or_more_siblings_become_one_node() -> None:
    many = _read(_link("p", ["a"], [f"r{number}" for number in range(96)]))
    few = _read(_link("p", ["a"], [f"r{number}" for number in range(5)]))
    assert sorted(len(node.members) for node in many.nodes) == [1, 1, 96]
    assert len(many.edges) == 2
    assert len(few.nodes) == 7


def test_siblings_with_different_neighbours_are_not_grouped() -> None:
    names = [f"r{number}" for number in range(8)]
    graph = _read(_link("p", ["a"], names), _link("q", ["r0"], ["z"]))
    assert sorted(len(node.members) for node in graph.nodes if node.kind == "entity") == [1, 1, 1, 7]


def test_groups_of_siblings_are_linked_by_one_edge() -> None:
    files = [f"f{number}" for number in range(6)]
    graph = _read(*[{"entity": {"entity_id": f"e{number}"}, "files": files} for number in range(6)])
    assert [len(node.members) for node in graph.nodes] == [6, 6]
    assert [(edge.source, edge.target) for edge in graph.edges] == [("e:e0", "e:f0")]


def test_supplementary_file_is_linked_to_its_entity() -> None:
    graph = _read(
        {
            "link_type": "supplementary_file_link",
            "entity": {"entity_type": "project", "entity_id": "p"},
            "files": [{"file_type": "supplementary_file", "file_id": "f"}],
        }
    )
    assert [(edge.source, edge.target) for edge in graph.edges] == [("e:p", "e:f")]
    assert _columns(graph) == {"p": 0, "f": 1}


def test_process_and_entity_of_the_same_id_are_two_nodes() -> None:
    assert len(_read(_link("x", ["x"], ["y"])).nodes) == 3


def test_more_than_400_nodes_are_only_counted() -> None:
    graph = _read(*[_link(f"p{number}", [f"a{number}"], [f"b{number}"]) for number in range(200)])
    assert (graph.nodes, graph.edges, graph.omitted) == ([], [], 1000)


@pytest.mark.parametrize(
    "make",
    [
        lambda ids: _link("p", ["a"], ids),
        lambda ids: _link("p", ids, ["b"]),
        lambda ids: _link("p", ["a"], ["b"], protocols=[{"protocol_id": protocol_id} for protocol_id in ids]),
        lambda ids: {"entity": {"entity_id": "a"}, "files": ids},
    ],
    ids=["outputs", "inputs", "protocols", "files"],
)
def test_reading_stops_after_20000_nodes_and_links(make: Callable[[list[str]], dict[str, Any]]) -> None:
    graph = _read(make([f"r{number}" for number in range(100_000)]))
    assert graph.nodes == []
    assert 20_000 < graph.omitted < 20_010


@pytest.mark.parametrize(
    "links",
    [
        [_link("p", ["a"] * 100_000, [])],
        [_link("p", [], ["a"] * 100_000)],
        [_link("p", ["a"], ["b"], protocols=["s"] * 100_000)],
        [{"entity": {"entity_id": "a"}, "files": ["b"] * 100_000}],
        [_link("p", ["a"], ["b"])] * 50_000,
        [_link("p", [{}] * 100_000, [None] * 100_000)],  # type: ignore[list-item]  # wrong on purpose
        [{}] * 100_000,
    ],
    ids=["inputs", "outputs", "protocols", "files", "links", "unreadable", "empty"],
)
def test_reading_stops_after_20000_repetitions(links: list[dict[str, Any]]) -> None:
    assert 20_000 < _read(*links).omitted < 20_010


class Unprintable(dict[str, Any]):
    """Object whose text would have megabytes."""

    def __str__(self) -> str:
        raise AssertionError("converted to text")

    __repr__ = __str__


def test_objects_in_place_of_texts_are_not_converted() -> None:
    wrong = Unprintable(a=1)
    ids = [{"input_id": wrong}, {"input_id": "a", "input_type": wrong}, wrong, [wrong]]
    protocols = [{"protocol_id": "s", "protocol_type": wrong}, {"protocol_id": wrong}]
    link = _link("p", ids, ["b"], output_type=wrong, process_type=wrong, protocols=protocols)  # type: ignore[arg-type]
    supplement = {"entity": {"entity_id": wrong}, "files": [wrong]}
    graph = _read(link, {**link, "process": wrong}, supplement)
    assert [node.members for node in graph.nodes if node.kind == "entity"] == [["a"], ["b"]]
    assert {node.type for node in graph.nodes} == {""}


def test_more_than_4000_edges_and_protocols_are_only_counted() -> None:
    names = [f"n{number}" for number in range(90)]
    different = [_link(f"of {name}", [name], []) for name in names]  # else they would be one node
    drawn = _read(*different, *[_link(f"p{number}", names, []) for number in range(43)])
    assert len(drawn.edges) == 44 * 90
    counted = _read(*different, *[_link(f"p{number}", names, []) for number in range(44)])
    assert (counted.nodes, counted.omitted) == ([], 2 * 90 + 44 + 45 * 90)
    protocols = [{"protocol_id": str(number)} for number in range(4_000)]
    assert _read(_link("p", ["a"], ["b"], protocols=protocols)).omitted == 3 + 4_002


def test_ids_and_types_are_cut_to_200_characters_without_surrogates() -> None:
    graph = _read(_link("p" * 1000, ["a" * 1000], ["\ud800"], output_type="t" * 1000))
    process, before, after = graph.nodes
    assert (len(process.members[0]), len(before.members[0]), len(after.type)) == (200, 200, 200)
    assert after.members == ["?"]
    assert graph.model_dump_json()


@pytest.mark.parametrize("seed", range(20))
def test_nodes_of_random_graphs_do_not_overlap(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    names = [f"n{number}" for number in range(25)]
    links = [
        _link(f"p{number}", chance.sample(names, chance.randint(0, 4)), chance.sample(names, chance.randint(0, 4)))
        for number in range(chance.randint(1, 25))
    ]
    graph = _read(*links)
    assert not _overlaps(graph)
    assert all(0 <= node.x < graph.columns and 0 <= node.y < graph.rows for node in graph.nodes)
    ids = {node.id for node in graph.nodes}
    assert all(edge.source in ids and edge.target in ids for edge in graph.edges)


@pytest.mark.parametrize("document", [None, [], {}, {"links": None}, {"links": ["x"]}, {"links": {"a": {}}}])
def test_document_without_a_list_of_links_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="no list of links"):
        read_links(document)


@pytest.mark.parametrize(
    "link", [{}, {"process": None, "inputs": 3}, {"inputs": [None, 3, {}, {"input_id": ""}], "outputs": {"a": 1}}]
)
def test_unreadable_parts_of_a_link_are_skipped(link: dict[str, Any]) -> None:
    graph = _read(link, _link("p", ["a"], ["b"]))
    assert len([node for node in graph.nodes if node.kind == "process"]) == 2
    assert len(graph.edges) == 2


def test_document_with_no_links_is_an_empty_graph() -> None:
    assert _read() == Graph(nodes=[], edges=[])
