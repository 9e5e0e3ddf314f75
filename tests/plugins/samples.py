"""Invented bundle in the form of the Human Cell Atlas: metadata, reads and links."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_hca.client.identifiers import derive_uuid

if TYPE_CHECKING:
    from pathlib import Path

READS = ("R1", "R2", "I1")
NAME_WITH_MARKUP = "<img src=x onerror=alert(1)>.txt"  # a valid file name in a DSS


def write_bundle(directory: Path) -> None:
    """Write the files of a bundle: donor, specimen, suspension, reads and an analysis."""
    directory.mkdir(parents=True, exist_ok=True)
    metadata = {
        "donor_organism_0": _document("biomaterial", "donor_organism", biomaterial_id="donor_17"),
        "specimen_from_organism_0": _document("biomaterial", "specimen_from_organism", biomaterial_id="pancreas_17"),
        "cell_suspension_0": _document("biomaterial", "cell_suspension", biomaterial_id="islets_17"),
        "dissociation_protocol_0": _document("protocol", "dissociation_protocol", protocol_id="collagenase"),
        "enrichment_protocol_0": _document("protocol", "enrichment_protocol", protocol_id="facs_cd45"),
        "library_preparation_protocol_0": _document("protocol", "library_preparation_protocol", protocol_id="10x_v2"),
        "sequencing_protocol_0": _document("protocol", "sequencing_protocol", protocol_id="hiseq_4000"),
        "analysis_protocol_0": _document("protocol", "analysis_protocol", protocol_id="optimus_v1"),
        "project_0": _document("project", "project", project_short_name="Islets of an adult"),
    }
    reads = [f"islets_17_S1_L001_{read}_001.fastq.gz" for read in READS]
    results = ["islets_17.bam", "islets_17.loom"]
    for number, name in enumerate(reads):
        metadata[f"sequence_file_{number}"] = _document("file", "sequence_file", file_name=name)
    for number, name in enumerate(results):
        metadata[f"analysis_file_{number}"] = _document("file", "analysis_file", file_name=name)
    ids = {name: document["provenance"]["document_id"] for name, document in metadata.items()}
    links = [
        _link(0, ids, ["donor_organism_0"], ["specimen_from_organism_0"]),
        _link(
            1, ids, ["specimen_from_organism_0"], ["cell_suspension_0"], "dissociation_protocol", "enrichment_protocol"
        ),
        _link(
            2,
            ids,
            ["cell_suspension_0"],
            [f"sequence_file_{number}" for number in range(len(reads))],
            "library_preparation_protocol",
            "sequencing_protocol",
        ),
        _link(
            3,
            ids,
            [f"sequence_file_{number}" for number in range(len(reads))],
            [f"analysis_file_{number}" for number in range(len(results))],
            "analysis_protocol",
        ),
    ]
    documents = {**metadata, "links": {"describedBy": "invented", "schema_type": "links", "links": links}}
    for name, document in documents.items():
        (directory / f"{name}.json").write_text(json.dumps(document, indent=2))
    for number, name in enumerate([*reads, *results]):
        (directory / name).write_bytes(name.encode() * (3000 * (number + 1)))


def _document(kind: str, type_: str, **core: str) -> dict[str, Any]:
    return {
        "describedBy": f"https://schema.example.org/type/{kind}/1.0.0/{type_}",
        "schema_type": kind,
        f"{kind}_core": core,
        "provenance": {"document_id": derive_uuid("sample", type_, *core.values())},
    }


def _link(number: int, ids: dict[str, str], inputs: list[str], outputs: list[str], *protocols: str) -> dict[str, Any]:
    def typed(names: list[str], kind: str) -> list[dict[str, str]]:
        return [{f"{kind}_type": name.rsplit("_", 1)[0], f"{kind}_id": ids[name]} for name in names]

    return {
        "link_type": "process_link",
        "process_type": "process",
        "process_id": derive_uuid("sample", "process", number),
        "inputs": typed(inputs, "input"),
        "outputs": typed(outputs, "output"),
        "protocols": typed([f"{protocol}_0" for protocol in protocols], "protocol"),
    }
