"""Directories of metadata are validated against small schemas, and real ones if they are next to the project."""

from __future__ import annotations

import json
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage

from airflow_provider_hca.exceptions import DSSAbortedError, InvalidDirectoryError, InvalidMetadataError
from airflow_provider_hca.validation.report import ValidationReport
from airflow_provider_hca.validation.schemas import open_schemas
from airflow_provider_hca.validation.validator import validate
from tests.local.server import LocalDSS, new_uuid
from tests.upload.support import plan
from tests.validation.samples import CELL, HOST, PROCESS, SCHEMAS, bundle, document, encoded, write, write_schemas

# Real bundles and schemas, if they are next to the project; they are not part of the repository.
_SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    return write_schemas(tmp_path / "schemas")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle", bundle())


def report_of(directory: Path | str, schemas: Path | str, **options: Any) -> ValidationReport:
    planned = plan(directory, **{name: options.pop(name) for name in ("indexed", "exclude") if name in options})  # type: ignore[arg-type]  # URLs, too
    return validate(planned, open_schemas(schemas), **options)


def counts(report: ValidationReport) -> tuple[int, int, int]:
    return report.documents_valid, report.documents_invalid, report.documents_unchecked


def found(report: ValidationReport) -> set[tuple[str, str, str]]:
    return {(finding.check, finding.file, finding.path) for finding in report.findings}


def reason(report: ValidationReport, file: str) -> str:
    (finding,) = (finding for finding in report.findings if finding.file == file)
    return finding.reason


def test_valid_bundle_has_no_findings(directory: Path, schemas: Path) -> None:
    report = report_of(directory, schemas)
    assert (counts(report), report.findings) == ((5, 0, 0), [])
    report.raise_errors()


BROKEN: dict[str, Any] = {
    "cell_0.json": document("type/biomaterial/1.0.0/cell", CELL, biomaterial_core={"taxon": "human"}, more=1),
    "cell_1.json": document("type/biomaterial/9.9.9/cell", biomaterial_core={}),
    "cell_2.json": b"",
    "cell_3.json": b'{"describedBy": ',
    "cell_4.json": {"biomaterial_core": {}},
    "cell_5.json": document("type/biomaterial/1.0.0/cell") | {"describedBy": "https://example.org/type/x/1.0.0/cell"},
    "cell_6.json": b'{"a": "\xff"}',
    "cell_7.json": [1, 2],
    "sequence_file_1.json": document("type/file/1.0.0/sequence_file", file_core={"file_name": "r2.gz"}),
    "sequence_file_2.json": document("type/file/1.0.0/sequence_file", file_core={"file_name": "r3.gz"}),
    "reads/r3.gz": b"ACGT",
    "r4.gz": b"",
    "links.json": document("system/1.0.0/links", links=[{"process": PROCESS, "inputs": [CELL, "unknown"]}]),
}
FINDINGS = {
    ("required", "project_0.json", ""),
    ("schema", "cell_0.json", "$"),
    ("schema", "cell_0.json", "$.biomaterial_core.taxon"),
    ("schema-version", "cell_1.json", "$.describedBy"),
    ("empty", "cell_2.json", ""),
    ("json", "cell_3.json", ""),
    ("described-by", "cell_4.json", "$"),
    ("described-by", "cell_5.json", "$.describedBy"),
    ("json", "cell_6.json", ""),
    ("described-by", "cell_7.json", "$"),
    ("data-file", "sequence_file_1.json", "$.file_core.file_name"),
    ("data-file", "sequence_file_2.json", "$.file_core.file_name"),
    ("empty", "r4.gz", ""),
    ("links", "links.json", "$.links[0].inputs[1]"),
}


def broken() -> dict[str, Any]:
    files = {**bundle(), **BROKEN}
    del files["project_0.json"]
    return files


def test_all_kinds_of_findings_are_in_one_report(tmp_path: Path, schemas: Path) -> None:
    report = report_of(write(tmp_path / "broken", broken()), schemas)
    assert (found(report), counts(report), report.error_count) == (FINDINGS, (5, 8, 0), len(FINDINGS))
    assert "type/biomaterial/9.9.9/cell.json" in reason(report, "cell_1.json")
    assert "its name in the bundle is 'reads/r3.gz'" in reason(report, "sequence_file_2.json")
    assert "got 'https://example.org/type/x/1.0.0/cell'" in reason(report, "cell_5.json")
    with pytest.raises(InvalidMetadataError) as raised:
        report.raise_errors()
    assert {(file, path) for file, path, _ in raised.value.findings} == {(file, path) for _, file, path in FINDINGS}
    for _, file, path in FINDINGS:
        assert any(file in line and path in line for line in str(raised.value).splitlines()), file


def url(dss: LocalDSS, cloud: str, files: dict[str, Any]) -> str:
    """Put files under a new prefix of a bucket; return its URL."""
    prefix = new_uuid()
    gcs = storage.Client(project="p", credentials=None).bucket(dss.bucket) if cloud == "gs" else None
    for name, content in files.items():
        key, body = f"{prefix}/{name}", encoded(content)
        if gcs is not None:
            gcs.blob(key).upload_from_string(body)
        else:
            dss.s3.put_object(Bucket=dss.bucket, Key=key, **({"Body": body} if body else {}))
    return f"{cloud}://{dss.bucket}/{prefix}"


@pytest.mark.parametrize("cloud", ["s3", "gs"])
def test_buckets_give_the_report_of_directories(dss: LocalDSS, tmp_path: Path, schemas: Path, cloud: str) -> None:
    expected = report_of(write(tmp_path / "broken", broken()), schemas).as_json()
    source = url(dss, cloud, broken())
    stored = url(dss, cloud, {f"{name}.json": schema for name, schema in SCHEMAS.items()})
    for report in (report_of(source, schemas), report_of(source, stored)):
        assert report.as_json() == expected


def test_many_objects_are_read_in_batches(dss: LocalDSS, schemas: Path) -> None:
    cells = {
        f"cell_{number}.json": document("type/biomaterial/1.0.0/cell", biomaterial_core={}) for number in range(200)
    }
    report = report_of(url(dss, "s3", {**cells, **bundle()}), schemas)
    assert (counts(report), report.findings) == ((204, 0, 0), [])


def test_object_that_is_replaced_is_a_temporary_error(dss: LocalDSS, schemas: Path) -> None:
    place = url(dss, "s3", bundle())
    planned = plan(place)  # type: ignore[arg-type]  # a URL
    dss.s3.put_object(Bucket=dss.bucket, Key=f"{place.rpartition('/')[2]}/cell_0.json", Body=b"{}")
    with pytest.raises(InvalidDirectoryError, match=r"'cell_0\.json': changed") as raised:
        validate(planned, open_schemas(schemas))
    assert not raised.value.permanent


@pytest.mark.parametrize(("level", "numbers"), [("error", (4, 1, 0)), ("warning", (4, 0, 1))])
def test_missing_schema_is_of_the_level_asked(
    directory: Path, schemas: Path, level: Any, numbers: tuple[int, int, int]
) -> None:
    (schemas / "type/process/1.0.0/process.json").unlink()
    report = report_of(directory, schemas, missing_schemas=level)
    assert [(finding.check, finding.file, finding.level) for finding in report.findings] == [
        ("schema-version", "process_0.json", level)
    ]
    assert (counts(report), report.error_count) == (numbers, int(level == "error"))


def test_unknown_level_is_refused(directory: Path, schemas: Path) -> None:
    with pytest.raises(ValueError, match="missing_schemas must be one of error, warning, got 'ignore'"):
        report_of(directory, schemas, missing_schemas="ignore")


@pytest.mark.parametrize(
    ("files", "message", "check"),
    [
        ({"core/biomaterial/1.0.0/biomaterial_core.json": None}, "refers to https://schema.human", "schema-version"),
        (
            {"core/biomaterial/1.0.0/biomaterial_core.json": {"type": 5}},
            "core.json is invalid",
            "schema-version",
        ),
        ({"type/biomaterial/1.0.0/cell.json": b"{"}, "cell.json is not JSON", "schema-version"),
        ({"type/biomaterial/1.0.0/cell.json": {"pattern": "("}}, "cell.json is invalid: $.pattern", "schema-version"),
        (
            {"type/biomaterial/1.0.0/cell.json": {"$ref": "http://127.0.0.1:1/type/x/1.0.0/cell"}},
            "refers to http://127.0.0.1:1/type",
            "schema-version",
        ),
        (
            {"type/biomaterial/1.0.0/cell.json": {"allOf": [{"$ref": f"{HOST}/type/biomaterial/1.0.0/cell"}]}},
            "RecursionError",
            "schema",
        ),
    ],
    ids=["missing", "invalid", "not JSON", "regular expression", "other host", "loop"],
)
def test_unusable_schema_is_a_finding(
    directory: Path, schemas: Path, files: dict[str, Any], message: str, check: str
) -> None:
    for name, content in files.items():
        if content is None:
            (schemas / name).unlink()
        else:
            write(schemas, {name: content})
    report = report_of(directory, schemas)
    assert {(finding.check, finding.file) for finding in report.findings} == {(check, "cell_0.json")}
    assert message in reason(report, "cell_0.json")
    assert counts(report) == (4, 1, 0)


def test_schemas_are_read_once_for_several_bundles(directory: Path, tmp_path: Path, schemas: Path) -> None:
    store = open_schemas(schemas)
    assert counts(validate(plan(directory), store)) == (5, 0, 0)
    for path in list(schemas.rglob("*.json")):
        path.unlink()
    broken_report = validate(plan(write(tmp_path / "broken", broken())), store)
    assert counts(broken_report) == (5, 8, 0)
    assert counts(validate(plan(directory), store)) == (5, 0, 0)


@pytest.mark.parametrize(
    "described",
    [
        "https://schema.humancellatlas.org/../../../../etc/passwd",
        "https://schema.humancellatlas.org/type/../outside",
        "https://schema.humancellatlas.org/type/..",
        "https://schema.humancellatlas.org//outside",
        "https://schema.humancellatlas.org/%2e%2e/outside",
        "https://schema.humancellatlas.org/type\\..\\outside",
        "https://schema.humancellatlas.org@example.org/outside",
        "https://schema.humancellatlas.org.example.org/outside",
        "https://schema.example.org/outside",
        "https://example.org/schema.humancellatlas.org/outside",
        "file:///outside",
        "../outside",
        "",
        "https://schema.humancellatlas.org/" + "a/" * 100_000,
        {"$ref": "../outside"},
        None,
    ],
)
def test_described_by_never_leads_out_of_the_schemas(tmp_path: Path, schemas: Path, described: Any) -> None:
    write(tmp_path, {"outside.json": {}})
    files = bundle() | {"cell_1.json": {"describedBy": described}}
    report = report_of(write(tmp_path / "bundle", files), schemas)
    assert {(finding.check, finding.file) for finding in report.findings} == {("described-by", "cell_1.json")}
    assert (counts(report), len(reason(report, "cell_1.json")) < 500) == ((5, 1, 0), True)


@pytest.mark.parametrize("host", ["https://schema.dev.data.humancellatlas.org", "http://schema.humancellatlas.org"])
def test_other_deployments_have_the_same_schemas(tmp_path: Path, schemas: Path, host: str) -> None:
    files = {name: encoded(content).replace(HOST.encode(), host.encode()) for name, content in bundle().items()}
    report = report_of(write(tmp_path / "bundle", files), schemas)
    assert (counts(report), report.findings) == ((5, 0, 0), [])


def test_deep_json_is_a_finding(tmp_path: Path, schemas: Path) -> None:
    deep = {f"cell_{depth}.json": b"[" * depth + b"]" * depth for depth in (70, 900, 1_000_000)}
    report = report_of(write(tmp_path / "bundle", bundle() | deep), schemas)
    assert found(report) == {("json", name, "") for name in deep}
    assert all("nested" in finding.reason for finding in report.findings)


def test_large_document_is_a_finding_and_is_not_read(directory: Path, schemas: Path) -> None:
    for name in ("cell_1.json", "metrics.json"):
        with (directory / name).open("wb") as file:
            file.truncate(100 * 1024 * 1024)
    tracemalloc.start()
    report = report_of(directory, schemas)
    assert tracemalloc.get_traced_memory()[1] < 20 * 1024 * 1024
    tracemalloc.stop()
    assert found(report) == {("json", "cell_1.json", ""), ("json", "metrics.json", "")}
    assert "104,857,600 bytes; a metadata document has at most 8 MiB" in reason(report, "cell_1.json")
    assert not report_of(
        directory, schemas, indexed=["[!cm]*.json"], exclude=["cell_*", "proc*", "l*"]
    ).documents_invalid


def test_invalid_items_of_a_document_are_bounded(tmp_path: Path, schemas: Path) -> None:
    write_schemas(schemas, {"type/biomaterial/1.0.0/list": {"properties": {"a": {"items": {"type": "string"}}}}})
    files = bundle() | {"list_0.json": document("type/biomaterial/1.0.0/list", a=[*range(100_000)])}
    report = report_of(write(tmp_path / "bundle", files), schemas)
    assert (len(report.findings), report.error_count, counts(report)) == (51, 51, (5, 1, 0))
    assert report.findings[-1].reason == "only the first 50 findings of this file are listed"


def test_json_data_is_no_document(tmp_path: Path, schemas: Path) -> None:
    files = bundle() | {
        "metrics.json": {"reads": 5},
        "qc/counts_1.json": [1, 2],
        "matrix_0.json": {"cells": []},
        "broken_0.json": b"{",
        "sequence_file_1.json": document("type/file/1.0.0/sequence_file", file_core={"file_name": "matrix_0.json"}),
        "sequence_file_2.json": document("type/file/1.0.0/sequence_file", file_core={"file_name": "broken_0.json"}),
        "not_indexed/cell_1.json": b"{",
    }
    report = report_of(write(tmp_path / "bundle", files), schemas, indexed=["[!n]*.json"])
    assert (counts(report), report.findings) == ((7, 0, 0), [])


def test_document_cannot_exempt_itself(tmp_path: Path, schemas: Path) -> None:
    itself = document("type/file/1.0.0/sequence_file", file_core={"file_name": "sequence_file_1.json"}, more=1)
    report = report_of(write(tmp_path / "bundle", bundle() | {"sequence_file_1.json": itself}), schemas)
    assert found(report) == {("schema", "sequence_file_1.json", "$")}


def test_links_of_later_versions_are_followed(tmp_path: Path, schemas: Path) -> None:
    links = [
        {
            "process_id": PROCESS.upper(),
            "inputs": [{"input_type": "cell", "input_id": CELL}, {"input_type": "cell", "input_id": "a"}],
            "outputs": [{"output_type": "file", "output_id": "b"}],
            "protocols": [{"protocol_type": "x", "protocol_id": "c"}],
        },
        {"entity": {"entity_type": "project", "entity_id": "d"}, "files": [{"file_type": "x", "file_id": "e"}]},
    ]
    files = bundle() | {"links.json": document("system/1.0.0/links", links=links)}
    report = report_of(write(tmp_path / "bundle", files), schemas)
    assert [(finding.path, finding.reason[-3:]) for finding in report.findings] == [
        ("$.links[0].inputs[1].input_id", "'a'"),
        ("$.links[0].outputs[0].output_id", "'b'"),
        ("$.links[0].protocols[0].protocol_id", "'c'"),
        ("$.links[1].entity.entity_id", "'d'"),
        ("$.links[1].files[0].file_id", "'e'"),
    ]


def test_changed_file_is_a_temporary_error(directory: Path, schemas: Path) -> None:
    planned = plan(directory)
    (directory / "cell_0.json").write_text("{}")
    with pytest.raises(InvalidDirectoryError, match=r"'cell_0\.json': changed") as raised:
        validate(planned, open_schemas(schemas))
    assert not raised.value.permanent


def test_stopped_validation_is_aborted(dss: LocalDSS, directory: Path, schemas: Path) -> None:
    stop = threading.Event()
    stop.set()
    for place in (directory, url(dss, "s3", bundle())):
        with pytest.raises(DSSAbortedError):
            report_of(place, schemas, stop=stop)


@pytest.mark.parametrize("place", ["missing", "empty", "bundle/r1.gz"])
def test_schemas_have_to_be_a_directory_of_schemas(tmp_path: Path, directory: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=rf"schemas must be a directory.*got '.*{place}': "):
        open_schemas(tmp_path / place)


def test_missing_library_is_named(schemas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ValueError, match=r"pip install 'airflow-provider-hca\[validate\]'"):
        open_schemas(schemas)


def test_report_of_many_findings_is_bounded() -> None:
    report = ValidationReport("/d")
    for number in range(30_000):
        report.add(f"cell_{number}.json", "$", f"{'x' * 10_000} {number % 1_000}", "schema")
    assert (len(report.findings), report.findings_omitted, report.error_count) == (10_000, 20_000, 30_000)
    bounded = report.as_json(40 * 1024)
    assert len(json.dumps(bounded)) < 48 * 1024
    assert len(bounded["findings"]) + bounded["findings_omitted"] == 30_000
    assert len(str(report)) < 100_000


if _SHARED.exists():

    @pytest.mark.parametrize(
        ("name", "valid", "invalid"),
        [
            ("hca_v5_example", 2, 12),
            ("public_beta/1M Immune Cells", 11, 1),
            ("public_beta/CD4+ cytotoxic T lymphocytes", 14, 1),
            ("public_beta/Healthy and type 2 diabetes pancreas", 11, 1),
            ("public_beta/Single cell transcriptome analysis of human pancreas", 11, 1),
            ("public_beta/Tissue stability", 10, 9),
        ],
    )
    def test_real_bundles_have_the_published_numbers(name: str, valid: int, invalid: int) -> None:
        report = report_of(_SHARED / "bundles" / name, _SHARED / "schemas" / "published")
        assert counts(report) == (valid, invalid, 0)
        # The data files are not among the shared ones.
        assert {finding.check for finding in report.findings} == {"schema", "data-file"}
